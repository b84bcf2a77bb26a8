"""Finds the layers of a model again, when parameters or whole modules were replaced after the watch began."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

from torch import nn

from wstrack.measuring.layers import unmeasurable
from wstrack.runs.names import unwrapped

__all__ = ["Lookup"]


class Lookup:
    """Looks layers up by their names, cheaply while nothing changes. Keeps neither the model nor its modules alive.

    Args:
        model: the model.
        parameters: its layers; those that are not in the model are never looked for.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> lookup = Lookup(model, [model[0].weight, model[1].weight])
        >>> lookup.replaced()
        {}
        >>> model[1] = nn.Linear(2, 2)
        >>> list(lookup.replaced())
        [1]
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._model = weakref.ref(model)
        self._parameters: list[nn.Parameter | None] = list(parameters)
        names: dict[nn.Parameter, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(parameter, name)
        self._names = [names[parameter] for parameter in parameters]
        self._remember()

    def replaced(self) -> dict[int, nn.Parameter | None]:
        """Layers whose parameter is another one since the last call, by number; None if there is none any more."""
        if all(self._as_it_was(*entry) for entry in self._seen):
            return {}
        model = self._model()
        if model is None:
            return {}
        now = dict(model.named_parameters(remove_duplicate=False))
        everywhere = set(now.values())
        replaced: dict[int, nn.Parameter | None] = {}
        for index, (name, before) in enumerate(zip(self._names, self._parameters, strict=True)):
            after = now.get(name)
            if after is None and before in everywhere:  # it goes by another name: a parametrization, a wrapper
                after = before
            if after is not None and unmeasurable(after):
                after = None
            if after is not before:
                replaced[index] = self._parameters[index] = after
        self._remember()
        return replaced

    def named(self, parameters: Iterable[nn.Parameter]) -> dict[str, nn.Parameter]:
        """Those of some parameters that are in the model now, by name. Walks the whole model."""
        model = self._model()
        some = set(parameters)
        there = [] if model is None else model.named_parameters()
        return {unwrapped(name, model): parameter for name, parameter in there if parameter in some}

    def _remember(self) -> None:
        """The modules on the way to each layer, and what each holds there."""
        model = self._model()
        assert model is not None
        seen: dict[nn.Module, tuple[dict[str, int], dict[str, int]]] = {}
        for name in self._names:
            module = model
            *path, own = name.split(".")
            for part in path:
                child = module._modules.get(part)
                seen.setdefault(module, ({}, {}))[0][part] = id(child)
                if child is None:
                    break
                module = child
            else:
                seen.setdefault(module, ({}, {}))[1][own] = id(module._parameters.get(own))
        # Numbers, not references, for a module may refer to its model. A parameter that is remembered stays alive, and
        # a module that died is noticed by its reference, so no number is mistaken for that of a newcomer.
        self._seen = [(weakref.ref(module), *held) for module, held in seen.items()]

    @staticmethod
    def _as_it_was(where: weakref.ref[nn.Module], modules: dict[str, int], parameters: dict[str, int]) -> bool:
        module = where()
        return (
            module is not None
            and all(id(module._modules.get(name)) == known for name, known in modules.items())
            and all(id(module._parameters.get(name)) == known for name, known in parameters.items())
        )
