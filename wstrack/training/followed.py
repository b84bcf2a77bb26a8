"""Where the watched layers are now, while their parameters are moved, resharded or replaced by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wstrack.measuring.sharding import LocalShard, local_shard
from wstrack.training.lookup import Lookup

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

    from wstrack.training.steps import Steps

__all__ = ["Followed"]


class Followed:
    """The layers of one watch, as the model holds them now. Holds their weights until `clear`.

    Args:
        model: the model.
        shards: what this process holds of each layer.
        would_be_layer: whether a parameter would have been chosen as a layer; None = nobody asks.
    """

    def __init__(
        self,
        model: nn.Module,
        shards: Sequence[LocalShard],
        would_be_layer: Callable[[str, nn.Parameter], bool] | None,
    ) -> None:
        self._shards = list(shards)
        self._tensors: list[torch.Tensor | None] = [shard.local() for shard in shards]
        self._sharded = [index for index, shard in enumerate(shards) if not shard.whole]
        self._lookup: Lookup | None = Lookup(model, self.parameters)
        self._would_be_layer = would_be_layer
        self._known = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of each layer, what its optimizer holds; some layers may be held as one."""
        return [shard.parameter for shard in self._shards]

    def held_by(self, optimizer: Optimizer) -> bool:
        """Whether an optimizer holds any of the layers."""
        ours = set(map(id, self.parameters))
        return any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"])

    def look(self, steps: Steps) -> dict[int, torch.Tensor | None]:
        """Find the layers again, and have `steps` count for the parameters that took the place of others.

        Parameters are replaced by `load_state_dict(assign=True)`, a new head, `.to()`; shards move when FSDP shards
        anew.

        Returns:
            By number, each layer that lies in another tensor since the last look; None where it is not to be had.
        """
        if self._lookup is None:  # closed meanwhile, on another thread
            return {}
        elsewhere: dict[int, torch.Tensor | None] = {}
        for index, parameter in self._lookup.replaced().items():
            if parameter is not None and local_shard(parameter).ranks != self._shards[index].ranks:
                parameter = None
            steps.replace(index, parameter)
            if parameter is not None:
                self._shards[index] = replace(self._shards[index], parameter=parameter)
            elsewhere[index] = self._tensors[index] = None if parameter is None else self._shards[index].local()
        for index in self._sharded:
            here = self._shards[index].local(self._tensors[index])
            if here is not self._tensors[index]:
                elsewhere[index] = self._tensors[index] = here
        return elsewhere

    def missed(self, parameters: Sequence[nn.Parameter]) -> list[str]:
        """Those of some parameters that began to train after the watch and would have been layers; told only once."""
        news = [one for one in parameters if id(one) not in self._known and one.requires_grad]
        self._known.update(map(id, news))
        if not news or self._would_be_layer is None or self._lookup is None:
            return []
        named = self._lookup.named(news)
        found = [name for name, parameter in named.items() if self._would_be_layer(name, parameter)]
        if found:
            self._would_be_layer = None
        return found

    def clear(self) -> None:
        """Let go of the weights."""
        self._shards.clear()
        self._tensors.clear()
        self._sharded.clear()
        self._lookup = None
