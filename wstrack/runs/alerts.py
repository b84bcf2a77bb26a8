"""What a rule has to say of a run while it trains, and how it is written down: as a mark by a name of its own."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Alert", "is_alert"]

_PREFIX = "alert: "


@dataclass(frozen=True)
class Alert:
    """One thing that a rule noticed.

    Attributes:
        rule: the rule's name.
        step: the optimizer step of the sample in which it was noticed.
        layer: whose it is; None = it is of the run as a whole.
        number: what it comes to: how many times the usual, how many samples; the text says which.
        text: what happened, with the number, and what to look at; without the layer and the step.

    Example:
        >>> alert = Alert("stopped", 120, "0.weight", 5, "has not changed in 5 samples; is it frozen?")
        >>> print(alert)
        step 120: 0.weight has not changed in 5 samples; is it frozen? (rule 'stopped')
        >>> alert.mark
        'alert: stopped: 0.weight has not changed in 5 samples; is it frozen?'
    """

    rule: str
    step: int
    layer: str | None
    number: float
    text: str

    def __post_init__(self) -> None:
        """Half a surrogate pair, which no tracker takes, is written as JSON writes it."""
        object.__setattr__(self, "rule", _encodable(self.rule))
        object.__setattr__(self, "text", _encodable(self.text))

    @property
    def sentence(self) -> str:
        """What happened, and to which layer."""
        return f"{_encodable(self.layer)} {self.text}" if self.layer is not None else self.text

    @property
    def mark(self) -> str:
        """The name of the mark that keeps it in the recording."""
        return f"{_PREFIX}{self.rule}: {self.sentence}"

    def __str__(self) -> str:
        return f"step {self.step}: {self.sentence} (rule {self.rule!r})"


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def is_alert(mark: str) -> str | None:
    """What a mark's name says if it is that of an alert: the rule, a colon and the sentence; else None.

    Example:
        >>> is_alert("alert: stopped: 0.weight has stopped"), is_alert("epoch 3")
        ('stopped: 0.weight has stopped', None)
    """
    return mark.removeprefix(_PREFIX) if mark.startswith(_PREFIX) else None
