"""What the report says of the parts of small real trainings: `python benchmarks/parts_findings.py FOLDER`."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from parts_trainings import OPTIMIZERS, Trained, Training, train
from torch import nn

DEAD, FROZEN, FROM = {1: 3}, 3, 200


def sound() -> Iterator[tuple[str, Training]]:
    """Trainings of which nothing is to be said, or only what is true."""
    for optimizer in OPTIMIZERS:
        for model in ("gpt2", "neox", "encoder", "phi3"):
            slower = 4.0 if (model, optimizer) == ("encoder", "SGD") else 1.0  # else it diverges
            yield f"{model}, {optimizer}", Training(model, optimizer, slower=slower)
            if optimizer not in ("SGD", "AdamW, no decay"):
                yield f"{model}, {optimizer}, warm-up", Training(model, optimizer, seed=1, warm_up=80)
        for model in ("mixtral", "qwen3"):
            for experts in (8, 32):
                for balanced in (True, False):
                    name = f"{model} {experts}{' balanced' * balanced}, {optimizer}"
                    yield name, Training(model, optimizer, experts=experts, balanced=balanced, batch=4)


def freeze_expert(model: nn.Module, step: int) -> None:
    """No gradient for one expert of a layer."""
    for weight in ("gate_up_proj", "down_proj"):
        grad = model.get_parameter(f"model.layers.1.mlp.experts.{weight}").grad
        if grad is not None and step >= FROM:
            grad[FROZEN] = 0


def freeze_key(model: nn.Module, step: int) -> None:
    """No gradient for k of a fused projection."""
    weight = model.get_parameter("transformer.h.2.attn.c_attn.weight")
    if weight.grad is not None and step >= FROM:
        weight.grad[:, weight.shape[0] : 2 * weight.shape[0]] = 0


def planted() -> Iterator[tuple[str, Training]]:
    """Trainings with an expert that is never chosen, one that gets no gradient any more, or such a k."""
    for optimizer in OPTIMIZERS:
        for model in ("mixtral", "qwen3"):
            yield f"dead: {model}, {optimizer}", Training(model, optimizer, seed=2, balanced=True, dead=DEAD)
            yield (
                f"frozen: {model}, {optimizer}",
                Training(model, optimizer, seed=3, balanced=True, change=freeze_expert),
            )
        yield f"frozen: gpt2, {optimizer}", Training("gpt2", optimizer, seed=4, change=freeze_key)


def trained(folder: Path, trainings: Mapping[str, Training]) -> Iterator[tuple[str, Trained]]:
    """Each training by its name; what FOLDER lacks is trained first."""
    for name, training in trainings.items():
        path = folder / f"{name}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps(train(training)))
        yield name, pickle.loads(path.read_bytes())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    for name, _ in trained(folder, dict([*sound(), *planted()])):
        print(name, flush=True)


if __name__ == "__main__":
    main()
