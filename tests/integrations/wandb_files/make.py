"""Makes the `.wandb` files beside it: one with each of these clients, each in a virtual environment of its own.

    python tests/integrations/wandb_files/make.py FOLDER

They are what the clients wrote, byte for byte; nothing of the machine is in them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CLIENTS = {
    "0.12.21": ["protobuf<4", "setuptools<70", "numpy<2"],
    "0.15.12": ["protobuf<5", "setuptools<70", "numpy<2"],
    "0.17.9": ["protobuf<5", "setuptools<70", "numpy<2"],
    "0.18.7": ["protobuf<6", "setuptools<70", "numpy<2"],
    "0.31.0": [],
}

RUN = """
import math, sys, wandb
settings = dict(console="off", disable_code=True, disable_git=True, host="host", program="train.py")
for names in (("_disable_meta", "_disable_stats"), ("x_disable_meta", "x_disable_stats")):
    try:
        chosen = wandb.Settings(**settings, **dict.fromkeys(names, True))
        break
    except Exception:
        continue
run = wandb.init(project="p", id="old", mode="offline", dir=sys.argv[1], settings=chosen, config={"lr": 0.1})
for step in range(12):
    row = {"grad_norm/conv": 0.5 * step, "grad_norm/fc": math.nan if step == 5 else 1.0 / (step + 1)}
    row["nested"] = {"norm": {"fc": step + 0.25}}
    run.log(row, step=3 * step)
run.log({"loss": 1.0})  # with the rows before
run.finish()
"""


def main(folder: Path) -> None:
    for client, with_ in CLIENTS.items():
        home = folder / client
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", f"wandb=={client}", *with_], check=True)
        environment = {**os.environ, "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "HOME": str(home)}
        environment.pop("PYTHONPATH", None)
        subprocess.run([home / "bin/python", "-c", RUN, home], check=True, env=environment, cwd=home)
        (written,) = home.glob("wandb/offline-run-*/run-old.wandb")
        (Path(__file__).parent / f"{client}.wandb").write_bytes(written.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
