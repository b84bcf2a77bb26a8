"""What stands behind the page: how whole the runs are, what they share, and what differs between them."""

from __future__ import annotations

from wstrack.analysis.analysis import Analysis
from wstrack.reporting.plain import versions
from wstrack.runs.run import Run

__all__ = ["complete", "differing", "settings"]

_LONGEST = 600  # characters of a value that are shown


def complete(analysis: Analysis) -> tuple[bool, str, tuple[str, ...]]:
    """Whether the runs are whole, in one sentence however many they are; with the notes where there is one run."""
    runs = analysis.runs
    many, lacking = len(runs), [run for run in runs if run.completeness.missing]
    if many == 1:
        notes = runs[0].completeness.notes
        return not lacking and not notes, f"{_word(lacking)}: {runs[0].completeness}", notes
    noted = sum(bool(run.completeness.notes) for run in runs)
    also = f"; {noted} of {many} runs {'has' if noted == 1 else 'have'} notes" if noted else ""
    if lacking:
        missing = sum(run.completeness.missing for run in lacking)
        values = f"{missing:,} of {sum(run.completeness.expected for run in runs):,} values missing"
        return False, f"{_word(lacking)}: {values}, in {len(lacking)} of {many} runs{also}", ()
    said = {str(run.completeness) for run in runs}
    return (
        not noted,
        f"{_word(lacking)}: {said.pop() if len(said) == 1 else 'all values'} in each of the {many} runs{also}",
        (),
    )


def _word(lacking: list[Run]) -> str:
    return "Incomplete" if lacking else "Complete"


def _facts(analysis: Analysis) -> list[dict[str, str]]:
    """By run, all that is known of it but its name."""
    return [
        {
            "completeness": str(run.completeness),
            "notes": "\n".join(run.completeness.notes),
            **{f"run: {name}": str(value) for name, value in known_of(run).items()},
        }
        for run in analysis.runs
    ]


def known_of(run: Run) -> dict[str, object]:
    """Where a run is from, how it was trained, and its settings, each by its own name."""
    origin = {name: value for name, value in run.origin.items() if name not in ("name", "settings")}
    return {**origin, **run.settings}


def _differ(facts: list[dict[str, str]]) -> list[str]:
    """The names of what is not the same in all runs, in the order in which they come up."""
    names = dict.fromkeys(name for one in facts for name in one)
    return [name for name in names if len({one.get(name) for one in facts}) > 1]


def differing(analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """The table of runs: its headings, and a row a run; no rows where there is one run."""
    facts = _facts(analysis)
    names = _differ(facts)
    rows = [
        [_shown(value) for value in (run.name, *(one.get(name, "") for name in names))]
        for run, one in zip(analysis.runs, facts, strict=True)
    ]
    return ["run", *(name.removeprefix("run: ") for name in names)], rows if len(rows) > 1 else []


def settings(analysis: Analysis) -> list[tuple[str, str]]:
    """What holds for the whole page as rows: settings, what all runs share, what was replaced and dropped, software."""
    rows = [(name, "none" if value is None else str(value)) for name, value in analysis.settings.items()]
    rows += [("reduction", analysis.reduction.method), ("clustering", analysis.clustering.method)]
    facts = _facts(analysis)
    apart = _differ(facts)
    if len(analysis.runs) == 1:
        rows.append(("run", analysis.runs[0].name))
    rows += [(name, value) for name, value in facts[0].items() if name not in apart and value]
    replaced = analysis.prepared.replaced
    for what in replaced.columns:
        counts = replaced[what][replaced[what] > 0].sort_values(ascending=False, kind="stable")
        worst = ", ".join(f"{layer} ({count:,})" for layer, count in counts.head(5).items())
        others = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
        rows.append(
            (f"replaced: {what.replace('_', '-')}", f"{counts.sum():,}: {worst}{others}" if len(counts) else "none")
        )
    rows += [(f"left out: {layer}", reason) for layer, reason in analysis.prepared.dropped.items()]
    rows += [(f"version: {name}", value) for name, value in versions().items()]
    return [(name, _shown(value)) for name, value in rows]


def _shown(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]} …"
