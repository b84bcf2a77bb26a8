"""Many runs summed up: planted effects are found, broken runs named, what stands is not read again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bokeh
import numpy as np
import pandas as pd
import pytest

import wstrack
import wstrack.sweeps.sweep
from tests.sweeps.conftest import CONSTANT, POWERS, ROOT, record
from wstrack import WstrackError
from wstrack.runs.listed import Listed
from wstrack.runs.recording import FOLDER
from wstrack.sweeps.kept import NAME
from wstrack.sweeps.summary import Ask, Summary, summarise
from wstrack.sweeps.summed import Summed, summed_up
from wstrack.sweeps.work import answers

pytestmark = pytest.mark.slow


def test_what_was_planted_is_found_and_the_broken_run_is_named(swept: Callable[..., Path]) -> None:
    folder = swept(32)
    found = wstrack.sweep(folder)
    assert list(found.slopes) == ["lr"]
    assert found.passed_over == {"seed": "a seed is a name"}
    layers = found.slopes["lr"].layers
    np.testing.assert_allclose(layers["slope"], POWERS, atol=0.05)
    assert np.flatnonzero(layers["unlike"]).tolist() == [ROOT, CONSTANT]
    assert np.flatnonzero(~layers["goes"]).tolist() == [CONSTANT]
    assert found.slopes["lr"].groups.index.tolist() == [
        "all",
        "block: block0",
        "block: block1",
        "early",
        "middle",
        "late",
    ]
    assert list(found.odd) == [str(folder / "run005"), str(folder / "run013")]
    assert "times more than the setting has it" in found.odd[str(folder / "run005")]
    assert "stand otherwise to each other" in found.odd[str(folder / "run013")]
    assert list(found.unread) == [str(folder / "run009")]
    assert len(found.runs) == 31
    assert len(found.table) == 32
    assert found.table.loc[str(folder / "run009"), "unread"]
    assert found.table["lr"].nunique() == 8
    (trend, odd) = found.findings
    assert (trend.kind, odd.kind) == ("trend", "odd")
    assert "run005" in odd.text
    assert repr(found) == "<Sweep of 32 runs: rwc, 8 layers; by lr; 2 odd>"


def test_levels_are_those_of_the_series(swept: Callable[..., Path]) -> None:
    folder = swept(6)
    found = wstrack.sweep(folder)
    series = wstrack.pull(folder / "run003").series["rwc"]
    expected = np.log10(series.to_numpy(np.float64)).mean(axis=0)
    np.testing.assert_allclose(found.levels.loc[str(folder / "run003")], expected, rtol=1e-12)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that a sweep read, as opposed to those of which it knew."""
    read: list[str] = []

    def spied(work: Any, asked: Any, **options: Any) -> Iterator[Any]:
        for ask, answer in answers(work, asked, **options):
            if answer is not None:
                read.append(Path(ask.reference).name)
            yield ask, answer

    monkeypatch.setattr(wstrack.sweeps.sweep, "answers", spied)
    return read


def plain(found: Summed) -> list[str]:
    return [one.to_json() for one in found.runs]


def test_only_what_changed_is_read_again(swept: Callable[..., Path], tmp_path: Path, counted: list[str]) -> None:
    folder = swept(8)
    first = wstrack.sweep(folder, to=tmp_path / "sweep")
    assert sorted(counted) == [f"run{place:03d}" for place in range(8)]
    counted.clear()
    assert plain(wstrack.sweep(folder, to=tmp_path / "sweep")) == plain(first)
    assert counted == []
    (part,) = (folder / "run002" / FOLDER).glob("*.arrow")
    part.unlink()
    record(folder / "run002", 0.5, 99)
    changed = wstrack.sweep(folder, to=tmp_path / "sweep")
    assert counted == ["run002"]
    assert [old == new for old, new in zip(plain(first), plain(changed), strict=True)] == [
        place != 2 for place in range(8)
    ]
    counted.clear()
    wstrack.sweep(folder, to=tmp_path / "sweep", metric="rwc")  # asked for otherwise, though it is the same here
    assert len(counted) == 8


def test_interrupted_work_goes_on_where_it_stopped(
    swept: Callable[..., Path], tmp_path: Path, counted: list[str]
) -> None:
    folder, to = swept(8), tmp_path / "sweep"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wstrack.sweep(folder, to=to, progress=stop)
    kept = (to / NAME).read_text()
    assert len(kept.splitlines()) == 4
    (to / NAME).write_text(kept[:-20])  # the last line was cut short as well
    counted.clear()
    whole = wstrack.sweep(folder, to=to)
    assert len(counted) == 6
    assert plain(whole) == plain(wstrack.sweep(folder))
    counted.clear()
    wstrack.sweep(folder, to=to)
    assert counted == []


def test_a_part_of_the_runs_takes_nothing_from_what_was_kept(
    swept: Callable[..., Path], tmp_path: Path, counted: list[str]
) -> None:
    folder = swept(8)
    wstrack.sweep(folder, to=tmp_path / "sweep")
    counted.clear()
    assert len(wstrack.sweep(folder, to=tmp_path / "sweep", where="lr > 0.1").runs) == 3
    assert len(wstrack.sweep(folder, to=tmp_path / "sweep").runs) == 8
    assert counted == []


def test_a_run_that_is_named_in_two_ways_is_read_once(
    swept: Callable[..., Path], counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = swept(3)
    monkeypatch.chdir(folder)
    found = wstrack.sweep(["run000", str(folder / "run000"), "run001"])
    assert sorted(counted) == ["run000", "run001"]
    assert len(found.runs) == 3


def test_a_name_that_is_no_utf_8_takes_nothing_from_the_others(swept: Callable[..., Path], tmp_path: Path) -> None:
    folder = swept(6)
    try:
        record(folder / "run\udcff", 0.5, 6)
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    found = wstrack.sweep(folder, to=tmp_path / "sweep")
    assert len(found.runs) + len(found.unread) == 7
    assert "udcff" in found.save(tmp_path / "sweep", pages=0).read_text()


def test_keys_among_facts_reach_no_page_and_no_file(swept: Callable[..., Path], tmp_path: Path) -> None:
    folder = swept(5)
    record(folder / "told", 0.7, 7, more={"api_key": "5ecret"})
    found = wstrack.sweep(folder, to=tmp_path / "out")
    assert found.table.loc[str(folder / "told"), "api_key"] == "***"
    found.save(tmp_path / "out", pages=0)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or "5ecret" not in path.read_text(), path


def test_a_broken_run_is_tried_again(swept: Callable[..., Path], tmp_path: Path, counted: list[str]) -> None:
    folder = swept(10)
    assert len(wstrack.sweep(folder, to=tmp_path / "sweep").unread) == 1
    counted.clear()
    assert len(wstrack.sweep(folder, to=tmp_path / "sweep").unread) == 1
    assert counted == ["run009"]


def test_a_dask_cluster_gives_the_same_to_the_bit(swept: Callable[..., Path]) -> None:
    distributed = pytest.importorskip("distributed")
    folder = swept(12)
    here = wstrack.sweep(folder)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = wstrack.sweep(folder, client=client)
    assert plain(there) == plain(here)
    pd.testing.assert_frame_equal(there.levels, here.levels, check_exact=True)
    pd.testing.assert_frame_equal(there.table, here.table, check_exact=True)
    assert there.unread == here.unread


def test_a_script_needs_no_guard(swept: Callable[..., Path], tmp_path: Path) -> None:
    """Processes that are spawned run the script of their parent again, and people write none for that."""
    script = tmp_path / "mine.py"
    script.write_text(f"import wstrack\nprint('once')\nprint(wstrack.sweep({str(swept(6))!r}))\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["once", "<Sweep of 6 runs: rwc, 8 layers; by lr; 1 odd>"]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("rate", "'rate' is no setting of these runs; they have lr, seed, model"),
        ("model", "has no numbers in these runs; hold names against each other with compare='model'"),
        ("lr * seed * model", "an interaction is of two"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(swept: Callable[..., Path], by: str, said: str) -> None:
    with pytest.raises(ValueError, match="by=") as caught:
        wstrack.sweep(swept(6), by=by)
    assert said in str(caught.value)


def test_few_runs_have_no_slopes_and_all_else(swept: Callable[..., Path]) -> None:
    folder = swept(3)
    found = wstrack.sweep(folder)
    assert (len(found.runs), dict(found.slopes), dict(found.odd)) == (3, {}, {})
    assert found.passed_over["lr"] == "3 runs have a number there"
    with pytest.raises(WstrackError, match="is over 3 runs, and needs 5"):
        wstrack.sweep(folder, by="lr")


def test_where_no_run_can_be_read_the_first_says_why(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("layer,1,2\nw.weight,x,y\n")
    with pytest.raises(WstrackError, match="none of the 2 runs could be read"):
        wstrack.sweep([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_a_summary_is_the_same_after_a_line_of_json(swept: Callable[..., Path]) -> None:
    found = summarise(Ask(str(swept(1) / "run000")))
    assert found is not None
    assert Summary.from_json(found.to_json()) == found
    assert "\n" not in found.to_json()


def fake(levels: np.ndarray[Any, Any], settings: list[dict[str, Any]]) -> Summed:
    names = tuple(f"l{place}" for place in range(levels.shape[1]))
    blank = ("",) * len(names)
    summaries = [
        Summary(f"r{at}", metric="rwc", layers=names, kinds=blank, blocks=blank, levels=tuple(map(float, row)))
        for at, row in enumerate(levels)
    ]
    return summed_up(summaries, [Listed(f"r{at}", f"r{at}", settings=one) for at, one in enumerate(settings)])


def test_noise_brings_no_more_than_the_stated_share() -> None:
    """Of 200 sweeps without any effect 5 % may say that a layer goes with a setting, and as many that a run is odd."""
    went, odd = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        levels = rng.normal(-3, 0.3, 10) + 0.05 * rng.standard_t(4, (24, 1)) + 0.05 * rng.standard_t(4, (24, 10))
        found = fake(levels, [{"lr": float(value)} for value in 10 ** rng.uniform(-4, -1, 24)])
        went += bool(found.slopes["lr"].layers["goes"].any())
        odd += bool(found.odd)
    assert went <= 18  # more than 18 of 200 at 5 %: 1 in 100
    assert odd <= 18


def test_settings_are_taken_out_together_before_a_run_is_odd() -> None:
    """Rates and widths vary the levels by far more than the one run that is odd."""
    rng = np.random.default_rng(0)
    rate, width = (each.ravel() for each in np.meshgrid(np.geomspace(1e-4, 1e-1, 8), [64, 128, 256, 512]))
    levels = np.log10(rate)[:, None] - np.log10(width)[:, None] + 0.02 * rng.standard_normal((32, 6))
    levels[7] += 0.5
    found = fake(levels, [{"lr": float(r), "width": int(w)} for r, w in zip(rate, width, strict=True)])
    assert list(found.odd) == ["r7"]
    assert found.slopes["lr"].groups["slope"]["all"] == pytest.approx(1, abs=0.05)
    assert found.slopes["width"].groups["slope"]["all"] == pytest.approx(-1, abs=0.1)


def test_runs_of_other_depths_share_the_layers_that_they_have() -> None:
    summaries = [
        Summary(
            f"r{at}", metric="rwc", layers=tuple("abcd"[: 2 + at % 3]), kinds=("",) * (2 + at % 3),
            blocks=("",) * (2 + at % 3), levels=tuple([-1.0 - at % 3] * (2 + at % 3)),
        )
        for at in range(12)
    ]  # fmt: skip
    found = summed_up(summaries, [Listed(f"r{at}", settings={"depth": 2 + at % 3}) for at in range(12)])
    assert found.layers["runs"].tolist() == [12, 12, 8, 4]
    assert found.levels.isna().sum().tolist() == [0, 0, 4, 8]
    assert np.isnan(found.slopes["depth"].layers["slope"]["d"])  # all that have it are as deep
    assert found.slopes["depth"].layers["slope"]["a"] < 0


def test_the_command_writes_a_folder_and_goes_on_past_what_cannot_be_read(
    swept: Callable[..., Path], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    folder = swept(16)
    code, out, err = call("sweep", str(folder), "-o", str(tmp_path / "out"), "--pages", "3")
    assert code == 0
    assert "run009: " in err
    assert "left out: " in err
    assert "with lr from" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"bokeh-{bokeh.__version__}.js", "index.html", "runs", "runs.csv", "summaries.jsonl",
    ]  # fmt: skip
    pages = list((tmp_path / "out" / "runs").iterdir())
    assert len(pages) == 3
    assert any(path.name.startswith("run005-") for path in pages)  # the odd one comes first
    assert f'<script src="../bokeh-{bokeh.__version__}.js">' in pages[0].read_text()
    assert len(pd.read_csv(tmp_path / "out" / "runs.csv")) == 16
    index = (tmp_path / "out" / "index.html").read_text()
    assert all(f"runs/{path.name}" in index for path in pages)
    before = {path: path.stat().st_mtime_ns for path in pages}
    assert call("sweep", str(folder), "-o", str(tmp_path / "out"), "--pages", "3")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").iterdir()} == before


def test_a_scheduler_that_is_not_there_is_said(swept: Callable[..., Path], call: Callable[..., Any]) -> None:
    pytest.importorskip("distributed")
    code, _, err = call("sweep", str(swept(6)), "--dask", "nowhere://x")
    assert code == 1
    assert "no scheduler of Dask answers at nowhere://x (--dask)" in err
