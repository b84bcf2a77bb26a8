"""The name by which a run knows a parameter of a model."""

from __future__ import annotations

from typing import Any

__all__ = ["unwrapped"]

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrapped(name: str, model: Any = None) -> str:
    """A parameter's name without the prefixes that wrappers put into it.

    `module` is also an ordinary name, so with a `model` it is taken off only where a wrapper (DataParallel,
    DistributedDataParallel, or any module that holds nothing else) put it.

    Args:
        name: as in `model.named_parameters()`.
        model: a torch module; whoever only reads runs has no torch, so it is known by its methods.

    Example:
        >>> unwrapped("_orig_mod.module.layer1.0._checkpoint_wrapped_module.conv1.weight")
        'layer1.0.conv1.weight'
    """
    kept: list[str] = []
    current = model
    for part in name.split("."):
        owner = current
        child = getattr(current, part, None) if current is not None else None
        current = child if hasattr(child, "named_parameters") else None
        wraps = part in _WRAPPERS and (part != "module" or owner is None or _only_wraps(owner))
        if not wraps:
            kept.append(part)
    return ".".join(kept)


def _only_wraps(module: Any) -> bool:
    return len(list(module.children())) == 1 and not list(module.parameters(recurse=False))
