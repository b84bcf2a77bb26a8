"""What rules said while the run was training (`wstrack.watch(rules=...)`), from its marks."""

from __future__ import annotations

from collections.abc import Sequence

from wstrack.analysis.findings.words import MOST_NAMED, Finding
from wstrack.runs.alerts import is_alert

__all__ = ["alerted"]


def alerted(marks: Sequence[tuple[int, str]], layers: Sequence[str]) -> Finding | None:
    """The alerts among the marks of a run, the first ones in full.

    Example:
        >>> marks = [(0, "epoch 1"), (40, "alert: stopped: a.weight has not changed")]
        >>> print(alerted(marks, ["a.weight"]).text)
        While training, rules raised 1 alert. Step 40: a.weight has not changed (rule 'stopped').
    """
    texts = [(step, *text.partition(": ")) for step, name in marks if (text := is_alert(name))]
    said = [(step, rule, text) for step, rule, _, text in texts if text]
    if not said:
        return None
    each = " ".join(f"Step {step:,}: {text} (rule {rule!r})." for step, rule, text in said[:MOST_NAMED])
    more = f" And {len(said) - MOST_NAMED} more." if len(said) > MOST_NAMED else ""
    named = tuple(layer for layer in layers if any(text.startswith(f"{layer} ") for _, _, text in said))
    return Finding(
        "alerted",
        f"While training, rules raised {len(said)} alert{'s' if len(said) > 1 else ''}. {each}{more}",
        "curves",
        {"alerts": len(said), "first_step": said[0][0]},
        named,
    )
