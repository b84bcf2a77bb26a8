"""torchvision for tests, also where it is built for CUDA beside a torch for the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from types import ModuleType

_libraries: list[torch.library.Library] = []  # an operator is there as long as its library is


def import_datasets() -> ModuleType:
    """torchvision.datasets; where its operators do not load, they are declared, for no test calls them."""
    try:
        from torchvision import datasets
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        _libraries.append(library)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets
    return datasets
