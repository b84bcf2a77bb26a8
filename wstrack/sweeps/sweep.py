"""From a reference to the sweep behind it: its runs are listed, and each is read, summed up and let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from wstrack.analysis.slopes import FEWEST
from wstrack.errors import WstrackError
from wstrack.runs.listed import Listed
from wstrack.sweeps.kept import Kept
from wstrack.sweeps.summary import Ask, Summary, at_home, summarise
from wstrack.sweeps.summed import Summed, numbers_for, parts_of_by, summed_up
from wstrack.sweeps.work import Client, Lost, answers
from wstrack.trackers.listing import listed
from wstrack.trackers.references import at_once

__all__ = ["Sweep", "sweep"]


class Sweep(Summed):
    """Many runs, summed up, which can be written down as a folder of pages; its attributes are those of `Summed`."""

    def save(
        self,
        to: str | Path,
        *,
        pages: int = 200,
        client: Client | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Write a folder: `index.html`, the page of the sweep; `runs.csv`, its table; in `runs/` reports on runs.

        Args:
            to: the folder, that of `sweep(to=)` or another.
            pages: how many runs get a report of their own: the odd ones, then those with findings, then the others.
                Reports that are there already, of the same runs, stand.
            client, progress: as of `wstrack.sweep`.

        Returns:
            Where the page is.

        Raises:
            WstrackError: the folder cannot be written to.
        """
        from wstrack.sweeps.folder import write_folder  # with Bokeh, which reading takes none of

        return write_folder(self, Path(to), pages=pages, client=client, progress=progress)


def sweep(
    reference: str | Path | Sequence[str | Path],
    *,
    by: str | Sequence[str] | None = None,
    metric: str | None = None,
    match: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    newest: bool = False,
    to: str | Path | None = None,
    client: Client | None = None,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """What many runs have in common: each is read, summed up and let go.

    Args:
        reference, match, where, limit, newest: which runs; see `wstrack.pull_many`.
        by: a setting that has numbers, or several; "lr * width" is how the slope with the one goes with the other. By
            default every setting with numbers that differs between the runs, but for seeds; six at most.
        metric: what is summed up; by default `rwc`, or the first metric of a run where there is no `rwc`.
        to: a folder in which summaries are kept: of runs that have not changed since, they are not made again. There
            `Sweep.save` writes pages.
        client: of a Dask cluster (`dask.distributed.Client`) whose workers read the runs; by default each processor
            of this machine does.
        title: for people.
        progress: called with how many runs are done, and of how many.

    Raises:
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: there is no run, or none could be read.

    Example:
        >>> import tempfile, torch, wstrack
        >>> folder = tempfile.mkdtemp()
        >>> for lr in (0.1, 0.2, 0.4, 0.8, 1.6):
        ...     model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        ...     with wstrack.watch(model, every=1, to=f"{folder}/{lr}", facts={"lr": lr}):
        ...         for step in range(4):
        ...             for parameter in model.parameters():
        ...                 parameter.grad = 0.01 * parameter.detach()
        ...             optimizer.step()
        >>> found = sweep(folder, by="lr")
        >>> found.slopes["lr"].layers["slope"].round(2).tolist()
        [1.0, 1.0]
    """
    asked_by = [by] if isinstance(by, str) else list(by or ())
    runs = listed(reference, where=where, limit=limit, newest=newest, match=match)
    folder = None if to is None else Path(to)
    told = {one.reference: one for one in runs}
    for name in asked_by:  # before anything is read, which may take minutes
        _check_by(name, runs)
    home = {one.reference: at_home(one.reference) for one in runs}  # of several ways to write a path one
    with Kept(folder, (metric, match)) as kept:
        asks = {
            there: Ask(there, metric, match, told[here].stamp if match is None else "", _known(kept, there))
            for here, there in home.items()
        }
        found = dict(kept.found)
        with closing(answers(summarise, list(asks.values()), client=client, at_once=at_once(told))) as work:
            for count, (ask, answer) in enumerate(work, 1):
                if isinstance(answer, Lost):
                    answer = Summary(ask.reference, error="the process that read it died, as where memory runs out")
                if answer is not None:  # else it is what was kept
                    found[ask.reference] = answer
                    kept.add(answer)
                if progress is not None:
                    progress(count, len(asks))
        kept.write(found.values())
    ordered = [replace(found[home[one.reference]], reference=one.reference) for one in runs]
    summed = summed_up(ordered, runs, by=asked_by if by is not None else None, title=title, match=match)
    return Sweep(**{field.name: getattr(summed, field.name) for field in fields(summed)})


def _known(kept: Kept, reference: str) -> str:
    return kept.found[reference].stamp if reference in kept.found and not kept.found[reference].error else ""


def _check_by(by: str, runs: Sequence[Listed]) -> None:
    """Refuse what no reading can make right: runs are read for minutes."""
    parts = parts_of_by(by)
    if len(parts) > 2:
        raise ValueError(f"by={by!r} (--by) is of {len(parts)} settings; an interaction is of two, as 'lr * width'")
    known = list(dict.fromkeys(name for run in runs for name in run.settings))
    for name in parts:
        if name not in known:
            shown = ", ".join(known[:20]) or "none"
            raise ValueError(f"by={by!r} (--by): {name!r} is no setting of these runs; they have {shown}")
        count = int(np.isfinite(numbers_for(name, [run.settings for run in runs])).sum())
        if count < FEWEST:
            raise WstrackError(
                f"by={by!r} (--by) is over {count} runs, and needs {FEWEST}; hold fewer against each other with "
                f"wstrack report --compare {name!r}"
            )
