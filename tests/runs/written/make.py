"""Makes the recordings beside it, as the wstrack that is checked out in a folder writes them.

    PYTHONPATH=CHECKOUT:CHECKOUT/integrations python tests/runs/written/make.py tests/runs/written/NAME

A small network is trained twice under one name, the second time until it is killed: of the first watch there is a
closed part, of the second an open one. `expected.json` has what was measured, computed by NumPy from the weights as
they were. Those of a release are made once, and never again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from torch import nn

import wstrack

STEPS = 5
METRICS = ("rwc", "norm", "distance")


def weights(model: nn.Module) -> list[np.ndarray]:
    return [weight.detach().double().numpy().copy() for weight in model.parameters() if weight.ndim > 1]


def main(kept: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    known = signature(wstrack.watch).parameters
    said = {name: value for name, value in {"facts": {"seed": 0}, "meter": "portable"}.items() if name in known}
    expected: dict[str, list[list[float]]] = {metric: [] for metric in METRICS}
    kept = kept.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine is in them
        for _ in range(2):
            watcher = wstrack.watch(model, every=1, metrics=METRICS, to="./run", **said)
            if hasattr(watcher, "mark"):
                watcher.mark("begin")
            before = start = weights(model)
            for _ in range(STEPS):
                model(torch.randn(8, 4, dtype=torch.float64)).square().mean().backward()
                optimizer.step()
                now = weights(model)
                pairs = list(zip(now, before, start, strict=True))
                expected["rwc"].append([float(abs(w - p).sum() / abs(p).sum()) for w, p, _ in pairs])
                expected["norm"].append([float(abs(w).mean()) for w in now])
                expected["distance"].append([float(abs(w - s).sum() / abs(s).sum()) for w, _, s in pairs])
                before = now
            if len(expected["rwc"]) == STEPS:
                watcher.close()
        watcher.flush()
        written = next(Path(folder).rglob("wstrack-recording"))
        shutil.copytree(written, kept / "wstrack-recording", ignore=shutil.ignore_patterns("*.lock"))
    (kept / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    os._exit(0)  # killed: nothing is closed


if __name__ == "__main__":
    main(Path(sys.argv[1]))
