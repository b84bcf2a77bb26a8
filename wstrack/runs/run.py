"""A run: its series, its table of layers, what is known of it, and how whole it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.runs.manifest import Manifest, layer_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Completeness", "Run"]


@dataclass(frozen=True)
class Completeness:
    """What a run should hold and what came, in values (one metric of one layer at one step).

    `notes` name each loss or repair in a line of its own: a corrupt record, a truncated tail, a step logged twice.
    """

    expected: int
    received: int
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """How many values should be there and are not."""
        return self.expected - self.received

    def __str__(self) -> str:
        if not self.missing:
            return f"all {self.expected:,} values"
        return f"{self.received:,} of {self.expected:,} values ({self.missing:,} missing)"


@dataclass(frozen=True)
class Run:
    """One training run, as a tracker, a recording or a table holds it.

    Attributes:
        series: by metric, a frame of float64: index = step (int64, ascending), columns = layer names in model order,
            NaN = not logged (or logged as NaN). A metric of adapters has the weights that they adapt, and no others.
        layers: by layer name, in model order: kind, shape, numel, depth (0 = nearest the input), block, aliases, of
            (the layer that it is a part of, "" for a whole one; a part follows its layer).
        facts: what the user gave (`watch(facts=...)`), by the user's names.
        completeness: what was expected and what came.
        intervals: by step, how many optimizer steps its change spans; empty where nobody recorded it.
        origin: where the run is from and how it was trained, by names of wstrack's own: `name`, `reference`, `source`
            ("recording", "tensorboard", "table", ...), `every`, `window`, `model`, `started`, `versions`, ..., and what
            its tracker calls it by (`id`, `project`, `tags`, ...).
        marks: named steps (`Watcher.mark`), each a step and a name, in their order; only a recording has them. From the
            steps `origin["resets"]` on, `distance` counts anew.
        sums: by name (`wstrack.metrics`), the raw sums of each layer in frames like those of `series`; only a recording
            has them.
    """

    series: dict[str, pd.DataFrame]
    layers: pd.DataFrame
    facts: dict[str, Any]
    completeness: Completeness
    intervals: pd.Series[int] = field(default_factory=lambda: pd.Series(dtype="int64"))
    origin: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, pd.DataFrame] = field(default_factory=dict)
    marks: tuple[tuple[int, str], ...] = ()

    @property
    def name(self) -> str:
        """The run's name, for people."""
        return str(self.origin.get("name", "run"))

    @property
    def metrics(self) -> list[str]:
        """The metrics that the run holds."""
        return list(self.series)

    @property
    def steps(self) -> NDArray[np.int64]:
        """Every step at which any metric was logged."""
        logged = [frame.index.to_numpy(dtype=np.int64) for frame in self.series.values()]
        return np.unique(np.concatenate(logged)) if logged else np.empty(0, dtype=np.int64)

    def __repr__(self) -> str:
        return (
            f"<Run {self.name!r}: {', '.join(self.metrics)}; {len(self.layers)} layers x {len(self.steps)} samples; "
            f"{self.completeness}>"
        )

    def plot(
        self, metric: str | None = None, *, layers: str | Sequence[str] | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the curve of each layer over the steps, coloured from the input (purple) to the output (orange).

        Args:
            metric: by default `rwc`, or the first that the run holds.
            layers: names of layers, or regular expressions to search names for; by default all.
            ax: where to draw; by default a new figure of `matplotlib.pyplot`.

        Raises:
            ValueError: the run has no such metric, or none of its layers is meant.

        Example:
            >>> from matplotlib.figure import Figure
            >>> from wstrack.runs.manifest import Layer
            >>> manifest = Manifest("demo", (Layer("a.weight"), Layer("b.weight")), ("rwc",), every=1)
            >>> run = Run.from_values(manifest, [1, 2], {"rwc": np.array([[0.1, 0.2], [0.3, 0.4]])})
            >>> len(run.plot(layers="a", ax=Figure().subplots()).lines)
            1
        """
        from wstrack.runs.drawing import draw_courses

        if metric is None:
            metric = "rwc" if "rwc" in self.series else next(iter(self.series), "rwc")
        if metric not in self.series:
            there = ", ".join(self.metrics) or "nothing"
            raise ValueError(f"metric={metric!r} is not in the run {self.name!r}; pass metric= one of: {there}")
        return draw_courses(self.series[metric], metric, layers=layers, ax=ax)

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was made with, by the user's names: what its tracker was told, and the facts, which stand."""
        return {**self.origin.get("settings", {}), **self.facts}

    def with_origin(self, **more: Any) -> Run:
        """The same run, with more known of where it is from."""
        return replace(self, origin={**self.origin, **more})

    def with_notes(self, *notes: str) -> Run:
        """The same run, with notes on how whole it is."""
        whole = self.completeness
        return replace(self, completeness=replace(whole, notes=(*whole.notes, *notes)))

    @classmethod
    def from_values(
        cls,
        manifest: Manifest,
        steps: Sequence[int] | NDArray[np.int64],
        values: Mapping[str, NDArray[np.float64]],
        *,
        intervals: Sequence[int] | NDArray[np.int64] | pd.Series[int] | None = None,
        completeness: Completeness | None = None,
        origin: Mapping[str, Any] | None = None,
        sums: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> Run:
        """A run from arrays (samples x layers), one per metric (and raw sum), which become its series without a copy.

        `intervals` are one a sample, or a Series by step; of a step that it has twice the later stands. `completeness`
        is by default that every value came; `origin` is what is known beside what the manifest says.

        Example:
            >>> from wstrack.runs.manifest import Layer
            >>> manifest = Manifest("demo", (Layer("a.weight"), Layer("b.weight")), ("rwc",), every=1)
            >>> Run.from_values(manifest, [1, 2], {"rwc": np.array([[0.1, 0.2], [0.3, 0.4]])}).series["rwc"]
                  a.weight  b.weight
            step
            1          0.1       0.2
            2          0.3       0.4
        """
        index = pd.Index(np.asarray(steps, dtype=np.int64), name="step")
        columns = pd.Index([layer.name for layer in manifest.layers], dtype=object)

        def frame(array: NDArray[np.float64], ours: NDArray[np.bool_]) -> pd.DataFrame:
            if ours.all():
                return pd.DataFrame(array, index=index, columns=columns, copy=False)
            return pd.DataFrame(array[:, ours], index=index, columns=columns[ours])

        series = {
            metric: frame(values[metric], manifest.has(metric)) for metric in manifest.metrics if metric in values
        }
        spans = pd.Series(dtype="int64")
        if isinstance(intervals, pd.Series):
            spans = intervals[~intervals.index.duplicated(keep="last")].sort_index().rename("interval")
        elif intervals is not None:
            spans = pd.Series(np.asarray(intervals, dtype=np.int64), index=index, name="interval")
        size = sum(frame.size for frame in series.values())
        about = {"name": manifest.name, "every": manifest.every, "window": manifest.window}
        run = cls(
            series=series,
            layers=layer_table(manifest.layers),
            facts=dict(manifest.facts),
            origin={**about, **manifest.origin, **(origin or {})},
            completeness=completeness or Completeness(size, size),
            intervals=spans,
            sums={name: frame(array, manifest.has(name)) for name, array in (sums or {}).items()},
        )
        in_order = index.is_monotonic_increasing and index.is_unique
        return run if in_order else cls.joined([run])

    @classmethod
    def joined(cls, parts: Sequence[Run]) -> Run:
        """One run from the parts in which it was logged, by ascending step: an outer join over steps and layers.

        Of a step that was logged twice (a run resumed from an older checkpoint) the later values stand, and a note says
        so.
        """
        layers = pd.concat([part.layers for part in parts])
        names = pd.Index(list(dict.fromkeys(layers.index)), dtype=object, name=layers.index.name)
        layers = layers[~layers.index.duplicated(keep="last")].reindex(names)
        layers["depth"] = np.arange(len(layers), dtype=np.int64)
        series, superseded = _joined([part.series for part in parts], layers.index)
        grown = [
            part.layers.index[part.layers["numel"] != layers["numel"].reindex(part.layers.index)] for part in parts
        ]
        sums, _ = _joined(
            [_of_a_size(part.sums, names) for part, names in zip(parts, grown, strict=True)], layers.index
        )
        intervals = pd.concat([part.intervals for part in parts])
        said = [note for part in parts for note in part.completeness.notes]
        said += [
            f"{name} had another size before it was watched again" for name in dict.fromkeys(np.concatenate(grown))
        ]
        if superseded:
            said.append(f"{superseded} values were logged at a step that was logged again later; the later ones stand")
        return cls(
            series=series,
            layers=layers,
            facts={key: value for part in parts for key, value in part.facts.items()},
            origin={key: value for part in parts for key, value in part.origin.items()},
            completeness=Completeness(
                sum(part.completeness.expected for part in parts) - superseded,
                sum(part.completeness.received for part in parts) - superseded,
                tuple(said),
            ),
            intervals=intervals[~intervals.index.duplicated(keep="last")].sort_index(),
            sums=sums,
            marks=tuple(sorted({mark for part in parts for mark in part.marks})),
        )


def _of_a_size(sums: dict[str, pd.DataFrame], others: pd.Index[Any]) -> dict[str, pd.DataFrame]:
    """Without the sizes of layers that had another number of elements then, by which they could not be divided."""
    if not len(others) or "abs_current" not in sums:
        return sums
    return {**sums, "abs_current": sums["abs_current"].assign(**dict.fromkeys(others, np.nan))}


def _follow(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether each step is after the one before, in the order of the frames."""
    return bool((np.diff(np.concatenate([frame.index.to_numpy() for frame in frames])) > 0).all())


def _joined(parts: Sequence[Mapping[str, pd.DataFrame]], layers: pd.Index[Any]) -> tuple[dict[str, pd.DataFrame], int]:
    """Frames of one name as one, the later part standing where two overlap, and how many values that replaced."""
    joined: dict[str, pd.DataFrame] = {}
    superseded = 0
    for name in dict.fromkeys(name for part in parts for name in part):
        frames = [part[name] for part in parts if name in part]
        index = pd.Index(np.unique(np.concatenate([frame.index.to_numpy() for frame in frames])), name="step")
        columns = layers[layers.isin(pd.Index(np.concatenate([frame.columns for frame in frames])))].rename(None)
        if all(frame.columns.equals(columns) for frame in frames) and _follow(frames):
            # Of a long run that was restarted this is all the work there is, and it is read again and again.
            values = np.concatenate([frame.to_numpy() for frame in frames], dtype=np.float64)
            joined[name] = pd.DataFrame(values, index=index, columns=columns, copy=False)
            continue
        values = np.full((len(index), len(columns)), np.nan)
        written = np.zeros(values.shape, dtype=bool)
        for frame in frames:
            last = ~frame.index.duplicated(keep="last")
            cells = np.ix_(index.get_indexer(frame.index[last]), columns.get_indexer(frame.columns))
            superseded += int((~last).sum()) * frame.shape[1] + int(written[cells].sum())
            values[cells], written[cells] = frame.to_numpy()[last], True
        joined[name] = pd.DataFrame(values, index=index, columns=columns)
    return joined, superseded
