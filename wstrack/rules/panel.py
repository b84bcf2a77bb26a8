"""The rules of one watch: chosen, asked, dropped when they fail, and kept from flooding anybody."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from wstrack.rules.contract import Observed, Rule
from wstrack.runs.alerts import Alert

__all__ = ["Panel", "Rules", "checked"]

log = logging.getLogger("wstrack")

Judge = Rule | Callable[[Observed], Iterable[Alert]]
Rules = Literal["default"] | Judge | Sequence[Judge | Literal["default"]]

_AT_ONCE = 3  # alerts of a rule that are told singly of one sample
_IN_ALL = 20  # and in a whole run


def checked(rules: object, default: Callable[[], Sequence[Rule]]) -> tuple[Judge, ...]:
    """The rules that `rules=` of `wstrack.watch` stands for.

    Raises:
        ValueError: an unknown word, or two rules of one name.
        TypeError: what is no rule.

    Example:
        >>> checked(None, list)
        ()
    """
    if rules is None:
        return ()
    found: list[Judge] = []
    for one in rules if isinstance(rules, list | tuple) else [rules]:
        if isinstance(one, str):
            if one != "default":
                raise ValueError(f"rules={one!r} is unknown; it is 'default', a rule, or a list of rules")
            found += default()
        elif isinstance(one, type) or not callable(one):
            raise TypeError(f"rules: {one!r} is no rule: pass an object of wstrack.rules, as in Band(), or a function")
        else:
            found.append(one)
    twice = [name for name, times in Counter(map(name_of, found)).items() if times > 1]
    if twice:
        raise ValueError(f"rules: two are called {twice[0]!r}; leave one out, or give it another name")
    return tuple(found)


def name_of(rule: Judge) -> str:
    """What a rule is called."""
    name = getattr(rule, "name", None) or getattr(rule, "__name__", None)
    return str(name or type(rule).__name__)


@dataclass
class _Seat:
    rule: Judge
    name: str
    told: int = 0  # alerts so far
    quiet: bool = False


class Panel:
    """Asks rules about each sample.

    Args:
        rules: what `checked` gave.
        hear: is told of all alerts, to act on them.
        passed_over: layers of which nothing is said any more: they were frozen on a rule's word.

    Example:
        >>> def early(seen):
        ...     return [Alert("early", seen.step, None, 1, "has begun")] if seen.step == 50 else []
        >>> panel = Panel([early])
        >>> [len(panel.judge(Observed(step, 50, (), {}, {}))) for step in (50, 100)]
        [1, 0]
    """

    def __init__(
        self,
        rules: Sequence[Judge],
        *,
        hear: Callable[[Sequence[Alert]], None] | None = None,
        passed_over: Container[str | None] = (),
    ) -> None:
        self._seats = [_Seat(rule, name_of(rule)) for rule in rules]
        self._hear = hear
        self._passed_over = passed_over

    def judge(self, seen: Observed) -> list[Alert]:
        """What the rules have to say of a sample, all of it; a rule that raises is reported, and asked no more."""
        alerts: list[Alert] = []
        for seat in list(self._seats):
            try:
                said = list(seat.rule(seen) or ())
                if not all(isinstance(alert, Alert) for alert in said):
                    raise TypeError("it must return wstrack.rules.Alert objects, or nothing")
            except Exception as error:  # noqa: BLE001  whatever a user's rule raises must not cost a sample
                self._seats.remove(seat)
                log.warning(
                    "rule %r failed at step %d and is asked no more: %s: %s",
                    seat.name, seen.step, type(error).__name__, error,
                )  # fmt: skip
                continue
            alerts += (alert for alert in said if alert.layer not in self._passed_over)
        if alerts and self._hear is not None:
            self._hear(alerts)
        return alerts

    def worth_telling(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Of the alerts of one sample those to be told singly, and of each rule one more that counts the others."""
        told: list[Alert] = []
        for seat in self._seats:
            its = [alert for alert in alerts if alert.rule == seat.name] if not seat.quiet else []
            some = its[: max(0, min(_AT_ONCE, _IN_ALL - seat.told))]
            others = its[len(some) :]
            seat.told += len(its)
            told += some
            if others:
                text = f"so it is with {len(others)} more, {', '.join(str(one.layer) for one in others[:3])}"
                text += ", ..." if len(others) > 3 else ""
                if seat.told >= _IN_ALL:
                    seat.quiet = True
                    text += "; this rule has said enough, and says no more"
                told.append(Alert(seat.name, others[0].step, None, len(others), text))
        known = {seat.name for seat in self._seats}
        return told + [alert for alert in alerts if alert.rule not in known][:_AT_ONCE]
