"""The code of docs/trainers.md, as printed, with each trainer itself."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wstrack
from wstrack.runs.recording import FOLDER

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "trainers.md").read_text()
CODE = {
    re.findall(r"wstrack_integrations\.(\w+)", code)[0]: code
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}
WHERE = {
    "accelerate": "out/run/wstrack",
    "fastai": "runs/*",
    "ignite": "runs/*",
    "keras": "logs/wstrack",
    "lightning": "lightning_logs/version_0/wstrack",
    "skorch": "runs/*",
    "transformers": "out/runs/*/wstrack",
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        out = self.net(x)
        return out if labels is None else {"loss": nn.functional.mse_loss(out, labels)}


def given(trainer: str) -> dict[str, Any]:
    """What the page's reader has already."""
    inputs, targets = torch.randn(2048, 6), torch.randn(2048, 3)
    model = Net()
    have: dict[str, Any] = {
        "model": model,
        "loss_function": nn.MSELoss(),
        "optimizer": torch.optim.AdamW(model.parameters()),
        "loader": DataLoader(TensorDataset(inputs, targets), batch_size=32),
        "inputs": inputs.numpy(),
        "targets": targets.numpy(),
        "dataset": [{"x": x, "labels": y} for x, y in zip(inputs, targets, strict=True)],
    }
    if trainer == "lightning":
        from lightning.pytorch import LightningModule

        class Module(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
                return nn.functional.mse_loss(self.model(batch[0]), batch[1])

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return have["optimizer"]

        have["module"] = Module()
    if trainer == "fastai":
        from fastai.data.core import DataLoaders

        pairs = list(zip(inputs, targets, strict=True))
        have["loaders"] = DataLoaders.from_dsets(pairs, pairs[:8], bs=32, device="cpu")
    return have


@pytest.mark.parametrize("trainer", CODE)
def test_the_code_of_each_trainer(trainer: str) -> None:
    if importlib.util.find_spec(trainer) is None:
        pytest.skip(f"the extra wstrack[{trainer}] is not installed")
    exec(CODE[trainer], given(trainer))
    (recording,) = Path().rglob(FOLDER)
    assert recording.parent.match(WHERE[trainer])
    run = wstrack.pull(recording.parent)
    assert run.steps.tolist() == list(range(50, run.steps[-1] + 1, 50))
    assert (len(run.layers), run.completeness.missing) == (2, 0)


def test_each_trainer_is_on_the_page() -> None:
    modules = (ROOT / "integrations" / "wstrack_integrations").glob("[!_]*.py")
    assert set(CODE) == {module.stem for module in modules}


def test_each_is_installed_from_a_checkout() -> None:
    found = re.findall(r"`pip install (.+?)`", PAGE)
    assert sorted(found) == [f"-e '.[{name}]'" for name in sorted(WHERE)]
