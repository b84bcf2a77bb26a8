"""What a watch was asked for, checked in one place."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from wstrack.measuring.cuts import Parts
from wstrack.measuring.layers import Selection
from wstrack.metrics import METRICS, NODES, PRODUCTS, RANKS, RATES, SUMS, TWINS, sums_needed
from wstrack.rules import default
from wstrack.rules.panel import Judge, checked, name_of
from wstrack.training.acting import Act, acts_of

__all__ = ["Fact", "MeterName", "Place", "Settings", "Window"]

Window = Literal["interval", "step"]
Place = Literal["device", "cpu"]
MeterName = Literal["auto", "cuda", "cpu", "portable"]
Fact = str | float | bool


@dataclass(frozen=True)
class Settings:
    """The arguments of `wstrack.watch` that say what is measured, when, and as what; made by `Settings.checked`.

    Attributes:
        every: steps between samples.
        window: "interval" or "step".
        metrics: names, each once.
        layers, parts: as in `wstrack.watch`.
        name: of the run; None = one is found or made up.
        facts: the user's own.
        start: the steps that the model has seen; None = as many as the run has.
        snapshot, meter, log_parts: as in `wstrack.watch`.
        rules: what looks at each sample; perhaps nothing.
        acts: what is done when which of them speaks.
    """

    every: int
    window: Window
    metrics: tuple[str, ...]
    layers: Selection
    parts: Parts | None
    name: str | None
    facts: Mapping[str, Fact]
    start: int | None
    snapshot: Place
    meter: MeterName | None
    log_parts: bool
    rules: tuple[Judge, ...]
    acts: Mapping[str, Act]

    @classmethod
    def checked(
        cls,
        *,
        every: int,
        window: Window,
        metrics: str | Sequence[str],
        layers: Selection,
        parts: Parts | None,
        name: str | None,
        facts: Mapping[str, Fact] | None,
        start: int | None,
        snapshot: Place,
        meter: MeterName | None,
        log_parts: bool,
        rules: object,
        act: object,
    ) -> Settings:
        """The settings, each in the one form that the rest of the room takes.

        Raises:
            ValueError, TypeError: one that cannot be. What only the model can tell (`layers`, `parts`, `snapshot`,
                `meter`) is checked where the model is looked at.

        Example:
            >>> ours = Settings.checked(every=10, window="step", metrics="rwc", layers=None, parts=None, name=None,
            ...                         facts=None, start=None, snapshot="device", meter=None, log_parts=False,
            ...                         rules=None, act=None)
            >>> ours.metrics, ours.sums, ours.single_step
            (('rwc',), ('abs_change', 'abs_previous'), True)
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if name is not None and not name.strip():
            raise ValueError("name is empty; leave it out to have one made")
        if window not in get_args(Window):
            raise ValueError(f"window={window!r} must be 'interval' or 'step'")
        names = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
        if not names:
            raise ValueError("metrics is empty; name at least one, as in metrics=('rwc',)")
        if of_two := [metric for metric in names if not set(sums_needed([metric])).isdisjoint(TWINS)]:
            raise ValueError(f"metrics: {of_two[0]!r} is of two runs; leave it out, and compare them by wstrack.diff")
        if set(sums_needed(names)) <= set(RATES):
            raise ValueError(
                f"metrics={names!r} are of the optimizer alone; add one of the weights, as in "
                f"metrics={('rwc', *names)!r}"
            )
        if not any(METRICS[metric].charted for metric in names):
            raise ValueError(
                f"metrics={names!r} is kept in the recording, and nothing to look at; add one that is, as in "
                f"metrics={('rwc', *names)!r}"
            )
        return cls(
            every=_steps("every", every, least=1),
            window=window,
            metrics=names,
            layers=layers,
            parts=parts,
            name=name,
            facts=_facts(facts or {}),
            start=None if start is None else _steps("start", start, least=0),
            snapshot=snapshot,
            meter=meter,
            log_parts=log_parts,
            rules=(judges := checked(rules, default)),
            acts=acts_of(act, [name_of(rule) for rule in judges]),
        )

    @property
    def sums(self) -> tuple[str, ...]:
        """The raw sums that the metrics need of the weights; if none does, those of `rwc`, which cost as little.

        Rules look at these too.
        """
        needed = tuple(name for name in sums_needed(self.metrics) if name in SUMS)
        return tuple(dict.fromkeys((*needed, *(METRICS["rwc"].sums if self.rules or not needed else ()))))

    @property
    def products(self) -> tuple[str, ...]:
        """What they need of adapters."""
        return tuple(name for name in sums_needed(self.metrics) if name in PRODUCTS)

    @property
    def rates(self) -> tuple[str, ...]:
        """What they need of the optimizers; rules need the learning rate."""
        metrics = (*self.metrics, "lr") if self.rules else self.metrics
        return tuple(name for name in sums_needed(metrics) if name in RATES)

    @property
    def nodes(self) -> tuple[str, ...]:
        """What they need of the nodes that layers write."""
        return tuple(name for name in sums_needed(self.metrics) if name in NODES)

    @property
    def compared(self) -> tuple[str, ...]:
        """What they need of replicas in other processes."""
        return tuple(name for name in sums_needed(self.metrics) if name in RANKS)

    @property
    def single_step(self) -> bool:
        """Whether the change of the sampled step alone is measured."""
        return self.window == "step"

    def alike_on_all_ranks(self) -> dict[str, Any]:
        """What ranks that measure one model together must have been asked alike; in types that JSON has."""
        return {
            "every": self.every,
            "window": self.window,
            "metrics": list(self.metrics),
            "start": self.start,
            "layers": "a callable" if callable(self.layers) else self.layers,
            "parts": "a callable" if callable(self.parts) else None if self.parts is None else repr(self.parts),
            "log_parts": self.log_parts,
            "rules": [name_of(rule) for rule in self.rules],
            "act": {rule: what if isinstance(what, str) else "a function" for rule, what in self.acts.items()},
        }


def _steps(argument: str, value: int, *, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
        raise ValueError(f"{argument}={value!r} must be a whole number of steps, at least {least}")
    return operator.index(value)


def _facts(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    for name, value in facts.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool):
            raise TypeError(f"facts: {name!r}: {value!r} is no name with a text, a number or a bool")
    return dict(facts)
