"""Acting on what rules say: on the training thread, with a sample, at the same one in every process."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from wstrack.rules.stopping import StopTraining
from wstrack.runs.alerts import Alert
from wstrack.runs.names import unwrapped
from wstrack.training.agreement import Agreement

__all__ = ["Act", "Acting", "acts_of", "check_freezing", "freeze", "stopped_by"]

log = logging.getLogger("wstrack")

Act = Literal["stop", "freeze"] | Callable[[Alert], object]
READY = ("stop", "freeze")
ANY = ""  # the rule of what is done whichever speaks


def acts_of(act: object, rules: Sequence[str]) -> dict[str, Act]:
    """What is done when which rule speaks, by `act=` of `wstrack.watch`; of every rule, by the name "".

    Raises:
        ValueError: a word or a rule that there is not, or no rules at all.
        TypeError: what can be no action.

    Example:
        >>> acts_of("stop", ["stopped"]), acts_of({"stopped": "freeze"}, ["stopped"])
        ({'': 'stop'}, {'stopped': 'freeze'})
    """
    if act is None:
        return {}
    if not rules:
        raise ValueError(f"act={act!r} needs rules to act on; pass rules='default' as well")
    asked: dict[str, Any] = dict(act) if isinstance(act, Mapping) else {ANY: act}
    for rule, what in asked.items():
        if isinstance(act, Mapping) and rule not in rules:
            raise ValueError(f"act: there is no rule {rule!r}; there are {', '.join(map(repr, rules))}")
        if isinstance(what, str) and what not in READY:
            raise ValueError(f"act={what!r} is unknown; it is 'stop', 'freeze', or a function of an alert")
        if not isinstance(what, str) and not callable(what):
            raise TypeError(f"act: {what!r} is no action; pass 'stop', 'freeze', or a function of an alert")
    return asked


def stopped_by(act: Any, stop: Callable[[Alert], object]) -> Any:
    """`act` of a trainer that has a way of its own to end a training, which takes the place of "stop".

    Example:
        >>> said = []
        >>> stopped_by({"stopped": "stop", "band": "freeze"}, said.append)["band"]
        'freeze'
    """
    if isinstance(act, Mapping):
        return {rule: stopped_by(what, stop) for rule, what in act.items()}
    return stop if act == "stop" else act


def check_freezing(acts: Mapping[str, Act], model: nn.Module) -> None:
    """Whether what trains the model allows that layers are frozen meanwhile.

    Raises:
        ValueError: it would wait for their gradients for ever.
    """
    if "freeze" not in acts.values():
        return
    for module in model.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if "FullyShardedDataParallel" in kinds:
            raise ValueError(
                "act='freeze': FSDP 1 trains layers as one flat parameter; shard with fully_shard (FSDP 2)"
            )
        if "DistributedDataParallel" in kinds and not (
            getattr(module, "find_unused_parameters", False) and not getattr(module, "static_graph", False)
        ):
            raise ValueError(
                "act='freeze': this DistributedDataParallel waits for the gradients of every layer; pass it "
                "find_unused_parameters=True and not static_graph=True, or leave act out"
            )


class Acting:
    """What one watch does when its rules speak.

    Args:
        acts: of `acts_of`.
        model: what is frozen; only a weak reference to it is kept.
        agreement: of the processes that train it; None = this one alone does.
    """

    def __init__(self, acts: Mapping[str, Act], model: nn.Module, agreement: Agreement | None) -> None:
        self._acts = acts
        self._model = weakref.ref(model)
        self._agreement = agreement
        self._heard: deque[Alert] = deque()
        self.frozen: set[str] = set()

    def begin(self, step: int) -> int:
        """The step at which the run goes on, as all processes have it; see `Agreement.begin`."""
        return step if self._agreement is None else self._agreement.begin(step)

    def hear(self, alerts: Sequence[Alert]) -> None:
        """Keep what is to be acted on until the next sample; called on the thread that delivers."""
        self._heard.extend(alert for alert in alerts if self._act_on(alert) is not None)

    def heard(self) -> list[Alert]:
        """What is to be acted on with the sample that is about to be taken, in this process as in all others."""
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        return heard if self._agreement is None else self._agreement.agree(heard)

    def act(self, heard: Sequence[Alert]) -> list[str]:
        """Act on what was heard, on the training thread.

        Returns:
            The layers that were frozen.

        Raises:
            StopTraining: a rule spoke that stops.
            Exception: whatever a user's function raises.
        """
        frozen: list[str] = []
        ends: list[Alert] = []
        for alert in heard:
            what = self._act_on(alert)
            if what == "freeze":
                frozen += self._freeze(alert)
            elif what == "stop":
                ends.append(alert)
            elif callable(what):
                what(alert)
        self.frozen.update(frozen)
        if ends:
            raise StopTraining(ends[0])
        return frozen

    def close(self) -> None:
        """Keep no other process waiting."""
        if self._agreement is not None:
            self._agreement.close()

    def _act_on(self, alert: Alert) -> Act | None:
        return self._acts.get(alert.rule, self._acts.get(ANY))

    def _freeze(self, alert: Alert) -> list[str]:
        model = self._model()
        if alert.layer is None or model is None or alert.layer in self.frozen:
            return []
        names = freeze(model, alert.layer)
        if not names:
            log.warning(
                "%s is not frozen (rule %r): it is part of a weight, or none, or the last that trains",
                alert.layer,
                alert.rule,
            )
            return []
        log.warning("step %d: froze %s (rule %r)", alert.step, " and ".join(names), alert.rule)
        return [alert.layer]


def freeze(model: nn.Module, layer: str) -> list[str]:
    """Train a layer's weight and its bias no further; what optimizers know of them is kept.

    Returns:
        The names of the parameters that no longer ask for gradients; none if the model has no such weight, or if
        nothing else asks for them, for then `backward` would fail.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> freeze(model, "0.weight"), [parameter.requires_grad for parameter in model.parameters()]
        (['0.weight', '0.bias'], [False, False, True, True])
    """
    *path, own = layer.split(".")
    bias = ".".join((*path, own.replace("weight", "bias")))
    named = [(unwrapped(name, model), one) for name, one in model.named_parameters(remove_duplicate=False)]
    found = {name: one for name, one in named if name in (layer, bias)}
    others = (one for _, one in named if not any(one is frozen for frozen in found.values()))
    if layer not in found or not any(one.requires_grad for one in others):
        return []
    for parameter in found.values():
        parameter.requires_grad_(False)
        parameter.grad = None  # an optimizer passes over what has none, and momentum and decay with it
    return list(found)
