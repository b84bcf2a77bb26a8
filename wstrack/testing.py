"""A suite for whoever writes a tracker: what `wstrack.trackers.contract` asks for, as tests.

Subclass `TrackerContract` in a test file of your own, name your module, and say how a run is begun; pytest does the
rest. A module that only reads (no sink, push, attach) is held to what it has. Needs pytest.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run
from wstrack.trackers.contract import Attachment, Recorded, Sample, Sink, Tracker, WritingTracker

__all__ = ["TrackerContract", "functions_missing"]

NAMES = ("layer1.0.conv1.weight", "layer1.0.conv2.weight", "w[0]", "w(0)", "größe", "<b>bold</b>", "x" * 300)
LAYERS = tuple(Layer(name, "conv", (4, 3, 3, 3), 108) for name in NAMES)
MANIFEST = Manifest("contract", LAYERS, ("rwc", "norm"), every=5, facts={"data": "cifar10", "seed": 1})


def functions_missing(module: ModuleType) -> list[str]:
    """The functions that a tracker's module lacks; one that only reads needs none of those that write.

    Example:
        >>> from types import ModuleType
        >>> half = ModuleType("half")
        >>> half.open_source = half.recognises = half.push = print
        >>> functions_missing(half)
        ['accepts', 'attach', 'is_active', 'open_sink']
    """
    reads = {name for name in vars(Tracker) if not name.startswith("_")}
    writes = {name for name in vars(WritingTracker) if not name.startswith("_")} - reads
    has = {name for name in reads | writes if callable(getattr(module, name, None))}
    return sorted((reads | writes if has & writes else reads) - has)


def samples(steps: range) -> list[Sample]:
    """A sample at each step, five steps apart and a minute, with NaN and an infinity among the values."""
    rng = np.random.default_rng(steps.start)
    made = [
        Sample(step, 5, 1e9 + 12.0 * step, {metric: rng.random(len(LAYERS)) for metric in MANIFEST.metrics})
        for step in steps
    ]
    made[0].values["rwc"][1] = np.nan
    made[-1].values["norm"][2] = np.inf
    return made


class TrackerContract:
    """The contract of a tracker, as tests. Override what is yours.

    Attributes:
        tracker: the module that the entry point names.
        dtype: in which the tracker keeps values.
        live: whether a run can be read, as far as it got, before it has ended.
    """

    tracker: ModuleType
    dtype: type[np.floating[Any]] = np.float64
    live: bool = True

    def begin_run(self, tmp_path: Path) -> Any:
        """A run of the user's to log to, as `open_sink` takes it; not there before. A new folder unless overridden."""
        return tmp_path / "run"

    def end_run(self, target: Any) -> None:
        """What the user does at the end of that run; nothing unless overridden."""

    def resume_run(self, target: Any) -> Any:
        """The run again, for a second session; the same target unless overridden."""
        return target

    # ---- what the tests are made of ---------------------------------------------------------------------------------

    @pytest.fixture
    def writing(self) -> WritingTracker:
        """The module; skips where it only reads."""
        if not hasattr(self.tracker, "open_sink"):
            pytest.skip("this tracker only reads")
        return self.tracker

    def log(self, target: Any, tmp_path: Path, steps: range, *, close: bool = True) -> Sink:
        """A session: open a sink, write samples, close it."""
        sink: Sink = self.tracker.open_sink(target, MANIFEST)
        sink.bind(tmp_path, MANIFEST, lambda timeout: True)
        made = samples(steps)
        sink.write(made[:2])
        sink.write(made[2:])
        if close:
            sink.close()
        return sink

    def read(self, sink: Sink, **more: Any) -> Run:
        """The run that a sink wrote, from the tracker's own series."""
        assert sink.reference is not None, "a sink names its run, for it to be read back"
        address = sink.reference.partition(":")[2]
        run: Run = self.tracker.open_source(address).read(sink.reference, **more)
        return run

    def expected(self, steps: range, metric: str) -> pd.DataFrame:
        """What the series of a metric must be."""
        values = np.array([sample.values[metric] for sample in samples(steps)])
        values = values.astype(self.dtype).astype(np.float64)
        return pd.DataFrame(values, index=pd.Index(list(steps), name="step"), columns=pd.Index(NAMES, dtype=object))

    # ---- the module -------------------------------------------------------------------------------------------------

    def test_the_module_has_every_function(self) -> None:
        missing = functions_missing(self.tracker)
        assert not missing, f"{self.tracker.__name__} lacks {', '.join(missing)}"

    def test_it_knows_what_is_not_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("nothing of a tracker")
        assert not self.tracker.recognises(tmp_path)
        assert not self.tracker.recognises(tmp_path / "notes.txt")
        if hasattr(self.tracker, "accepts"):
            assert not self.tracker.accepts(object())

    def test_what_is_not_there_is_an_error_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises((WstrackError, ValueError)):
            self.tracker.open_source(str(tmp_path / "nowhere")).read("nowhere")

    # ---- written and read back --------------------------------------------------------------------------------------

    def test_every_value_comes_back(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 45, 5))
        self.end_run(target)
        run = self.read(sink)
        for metric in MANIFEST.metrics:
            pd.testing.assert_frame_equal(run.series[metric], self.expected(range(5, 45, 5), metric))
        assert run.intervals.to_dict() == dict.fromkeys(range(5, 45, 5), 5)
        assert run.layers["kind"].tolist() == ["conv"] * len(NAMES)
        assert run.facts == dict(MANIFEST.facts)
        assert (run.origin["every"], run.origin["window"]) == (5, "interval")
        assert run.completeness.missing == 0
        assert run.completeness.notes == ()

    def test_a_part_of_the_metrics(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5))
        self.end_run(target)
        assert self.read(sink, metrics=["norm"]).metrics == ["norm"]
        with pytest.raises(ValueError, match="nothing_of_the_sort"):
            self.read(sink, metrics=["nothing_of_the_sort"])

    def test_the_run_is_found_once_at_its_address(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5))
        self.end_run(target)
        assert sink.reference is not None
        found = self.tracker.open_source(sink.reference.partition(":")[2]).references()
        assert len(found) == 1
        again = self.tracker.open_source(found[0].partition(":")[2]).read(found[0])
        assert again.steps.tolist() == [5, 10, 15, 20]

    def test_a_pattern_reads_the_same_series_by_their_keys(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5))
        self.end_run(target)
        run = self.read(sink, match="^(?P<metric>rwc)/(?P<layer>layer1/.+)$")
        ours = self.expected(range(5, 25, 5), "rwc")
        assert sorted(run.layers.index) == ["layer1/0/conv1/weight", "layer1/0/conv2/weight"]
        series = run.series["rwc"]["layer1/0/conv1/weight"]
        np.testing.assert_array_equal(series.to_numpy(), ours[NAMES[0]].to_numpy())
        with pytest.raises(ValueError, match="layer"):
            self.read(sink, match="no group")
        with pytest.raises(WstrackError):
            self.read(sink, match="fits/nothing/(?P<layer>.+)")

    def test_a_second_session_goes_on(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        self.log(target, tmp_path, range(5, 25, 5))
        target = self.resume_run(target)
        sink = self.log(target, tmp_path, range(25, 45, 5))
        self.end_run(target)
        run = self.read(sink)
        both = pd.concat([self.expected(range(5, 25, 5), "rwc"), self.expected(range(25, 45, 5), "rwc")])
        pd.testing.assert_frame_equal(run.series["rwc"], both.rename_axis("step"))
        assert run.completeness.missing == 0

    def test_a_run_that_nobody_closed_says_so(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5), close=False)
        if not self.live:
            pytest.skip("a run of this tracker cannot be read while it is going on")
        run = self.read(sink)
        assert set(run.steps.tolist()) <= {5, 10, 15, 20}
        assert run.completeness.notes, "a reader must learn that more may come, or is lost"
        sink.close()
        self.end_run(target)

    # ---- sent later, and attached -----------------------------------------------------------------------------------

    def test_what_is_lacking_is_sent_and_nothing_twice(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5))
        self.end_run(target)
        assert sink.reference is not None
        address = sink.reference.partition(":")[2]
        folder = tmp_path / "elsewhere" / "wstrack-recording"
        folder.mkdir(parents=True)
        whole = Recorded(folder, MANIFEST, [*samples(range(5, 25, 5)), *samples(range(25, 45, 5))])
        assert writing.push(address, whole) == 4
        assert writing.push(address, whole) == 0
        run = self.read(sink)
        both = pd.concat([self.expected(range(5, 25, 5), "norm"), self.expected(range(25, 45, 5), "norm")])
        pd.testing.assert_frame_equal(run.series["norm"], both.rename_axis("step"))

    def test_a_report_is_attached_in_place_of_the_one_before(self, writing: WritingTracker, tmp_path: Path) -> None:
        target = self.begin_run(tmp_path)
        sink = self.log(target, tmp_path, range(5, 25, 5))
        self.end_run(target)
        assert sink.reference is not None
        table = pd.DataFrame({"kind": "conv", "depth": 0, "cluster": 1}, index=pd.Index(NAMES, name="layer"))
        for text in ("first", "second"):
            report = Attachment(f"<p>{text}</p>", text, table, {"overview": PIXEL})
            assert writing.attach(sink.reference.partition(":")[2], report)
        assert self.read(sink).steps.tolist() == [5, 10, 15, 20]


PIXEL = bytes.fromhex(  # a PNG file of one pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645"
    "400000000049454e44ae426082"
)
