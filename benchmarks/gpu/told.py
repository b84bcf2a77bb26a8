"""What a step has to tell: tables for people, and what was wrong or left out, for whoever started it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Told"]

MOST = 12  # lines of what is wrong in one case: the first say what the others would


@dataclass
class Told:
    """Prints as it goes, and keeps what counts in the end.

    Attributes:
        step: whose it is.
        wrong: a line for each value or sync that must not be, and each case that failed.
        left_out: a line, with the reason, for what was not done.
    """

    step: str
    wrong: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A Markdown table."""
        lines = [head, ["---"] * len(head), *rows]
        print("\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n", flush=True)

    def say(self, text: str) -> None:
        """A line for people."""
        print(f"\n{text}", flush=True)

    def are_wrong(self, case: str, lines: Sequence[str]) -> str:
        """Keep what is wrong in a case; what its cell of a table says."""
        more = [f"... and {len(lines) - MOST} more"] if len(lines) > MOST else []
        self.wrong += [f"{case}: {line}" for line in (*lines[:MOST], *more)]
        return "right" if not lines else f"**{len(lines)} wrong**"

    def leave_out(self, what: str, why: str) -> str:
        """Keep what is not done, and why; what its cell of a table says."""
        self.left_out.append(f"{what}: {why}")
        return f"left out: {why}"

    def tried(self, case: str, job: Callable[[], str]) -> str:
        """What a case says; if it fails, that it did. The others still run."""
        try:
            return job()
        except Exception as error:  # noqa: BLE001  whatever a driver or a compiler raises is one case's
            print(traceback.format_exc(), flush=True)
            said = next(iter(str(error).splitlines()), "")
            self.wrong.append(f"{case}: {type(error).__name__}: {said}")
            return f"**failed** ({type(error).__name__})"
