"""That bad input is refused in one clear line, with nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import wstrack
from wstrack.checkpoints import CheckpointSource
from wstrack.errors import WstrackError

__all__ = ["STATE", "pair", "refusal"]

STATE = {"a.weight": torch.arange(1.0, 13).view(3, 4), "b.weight": torch.ones(2, 2)}


def pair(folder: Path, ending: str = ".safetensors") -> Path:
    """Two sound checkpoints in a folder, each weight of the second twice that of the first; the second's file."""
    folder.mkdir(exist_ok=True)
    for step in (1, 2):
        state = {name: tensor * step for name, tensor in STATE.items()}
        file = folder / f"step_{step}{ending}"
        if ending == ".safetensors":
            save_file(state, file)
        else:
            torch.save(state, file)
    assert wstrack.pull(f"checkpoints:{folder}").series["rwc"].to_numpy().tolist() == [[1.0, 1.0]]
    return file


def refusal(address: object) -> str:
    """What is said of checkpoints that cannot be measured."""
    with pytest.raises((WstrackError, ValueError)) as caught:
        CheckpointSource(str(address)).read(f"checkpoints:{address}", to=Path("recorded"))
    assert not Path("recorded").exists()
    with pytest.raises((WstrackError, ValueError)) as again:
        wstrack.pull(f"checkpoints:{address}")
    said = str(caught.value)
    # The library may name another of two tensors that contradict each other.
    assert said.partition(": ")[0] == str(again.value).partition(": ")[0]
    assert "\n" not in said
    assert len(said) < 1000
    return said
