"""Which of two readings of a run stands: its recording, or the series that a tracker has of it."""

from __future__ import annotations

from collections.abc import Callable

from wstrack.errors import WstrackError
from wstrack.runs.run import Run

__all__ = ["wholer"]


def wholer(
    recording: Callable[[], Run | None],
    logged: Callable[[], Run | None],
    *,
    lacks: Callable[[Run], str | None] = lambda recorded: None,
) -> Run | None:
    """The recording if it is whole, or else the reading with more values; a note says why it is not the recording.

    A recording is lossless and read at once, so it comes first, and a tracker's series are read only where it does not
    hold everything. Of two that hold as much the recording stands.

    Args:
        recording: reads it; None where there is none.
        logged: reads the tracker's series; None where there are none.
        lacks: what the tracker knows to be missing in a recording that lacks nothing by itself; None = nothing.

    Returns:
        None where there is neither.

    Raises:
        WstrackError: neither can be read, and why the recording cannot.
    """
    try:
        recorded = recording()
    except WstrackError as error:
        run = logged()
        if run is None:
            raise
        return run.with_notes(f"the recording cannot be read ({error}); this is what the tracker has")
    if recorded is None:
        return logged()
    missing = recorded.completeness.missing
    why = f"{missing} values are not in it" if missing else lacks(recorded)
    if why is None:
        return recorded
    try:
        run = logged()
    except WstrackError as error:
        return recorded.with_notes(f"the recording may not be whole ({why}), and the tracker's series: {error}")
    if run is None or run.completeness.received <= recorded.completeness.received:
        return recorded
    return run.with_notes(f"the recording is not whole ({why}); this is what the tracker has, which is more")
