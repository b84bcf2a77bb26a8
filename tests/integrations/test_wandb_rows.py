"""The sink of W&B with the real client, offline: rows of the user's and ours, at the pace that W&B asks for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from wstrack_integrations import wandb as tracker
from wstrack_integrations.wandb.pace import Pace

from tests.integrations.wandb_runs import history_of, manifest_of, read, samples_of, values
from tests.integrations.wandb_written import written
from wstrack.errors import WstrackError
from wstrack.trackers.contract import Sample, Sink

wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_quiet")]


def every_step(run: Any, step: int) -> None:
    run.log({"loss": step})


def every_step_with_step(run: Any, step: int) -> None:
    run.log({"loss": step}, step=step)


def rarely(run: Any, step: int) -> None:
    if step % 25 == 24:
        run.log({"loss": step})


def rarely_with_step(run: Any, step: int) -> None:
    if step % 25 == 24:
        run.log({"loss": step}, step=step // 5)


def epochs_with_step(run: Any, step: int) -> None:
    if step % 10 == 9:
        run.log({"loss": step}, step=step // 10)


def in_two_parts(run: Any, step: int) -> None:
    run.log({"loss": step}, commit=False)
    run.log({"accuracy": step})


def in_two_parts_with_step(run: Any, step: int) -> None:
    run.log({"loss": step}, step=step)
    run.log({"accuracy": step}, step=step)


def never(run: Any, step: int) -> None:
    pass


HABITS = [
    every_step,
    every_step_with_step,
    rarely,
    rarely_with_step,
    epochs_with_step,
    in_two_parts,
    in_two_parts_with_step,
    never,
]
STEPS = 50


def training(run: Any, habit: Callable[[Any, int], None], sink: Sink | None = None) -> list[dict[str, Any]]:
    """The rows after a training with a sample at every step, and what the user logs when it is over."""
    for step, sample in enumerate(samples_of(manifest_of(), range(1, STEPS + 1))):
        if sink is not None:
            sink.write([sample])
        habit(run, step)
    if sink is not None:
        sink.close()
    run.log({"test": 1}, step={every_step_with_step: STEPS, never: 10}.get(habit))
    run.finish()
    return history_of(run)


def of_the_user(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mine = [{key: row[key] for key in ("_step", "loss", "accuracy", "test") if key in row} for row in rows]
    return [row for row in mine if len(row) > 1]


@pytest.mark.parametrize("habit", HABITS)
def test_every_row_of_the_users_and_every_sample_is_there(
    habit: Callable[[Any, int], None], offline: Callable[..., Any]
) -> None:
    alone = training(offline(), habit)
    run = offline()
    rows = training(run, habit, tracker.open_sink(run, manifest_of()))
    assert of_the_user(rows) == of_the_user(alone)
    found = [row for row in rows if "wstrack/step" in row]
    keys = ("layer1/0/conv1/weight", "fc/weight", "w/0", "größe/权重")
    samples = samples_of(manifest_of(), range(1, STEPS + 1))
    assert [row["wstrack/step"] for row in found] == [sample.step for sample in samples]
    assert [[row[f"rwc/{key}"] for key in keys] for row in found] == values(samples).tolist()


class _Plain:
    """What a sink would do that does not know of rows."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            self._run.log({"wstrack/step": sample.step})

    def close(self) -> None:
        pass


@pytest.mark.parametrize("habit", HABITS)
def test_a_plain_log_would_harm(habit: Callable[[Any, int], None], offline: Callable[..., Any]) -> None:
    alone = training(offline(), habit)
    run = offline()
    assert of_the_user(training(run, habit, _Plain(run))) != of_the_user(alone)  # type: ignore[arg-type]


def test_a_row_each_at_once_on_demand(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(tracker.WandbTarget(commit=True), manifest_of())
    sink.write(samples_of(manifest_of(), range(1, 6)))
    run.log({"loss": 1})
    sink.close()
    run.finish()
    rows = history_of(run)
    assert [row.get("wstrack/step") for row in rows] == [1, 2, 3, 4, 5, None]


def test_what_waits_rides_as_rows_come_though_nothing_more_is_put(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    sink.write(samples_of(manifest_of(), range(1, 4)))
    (waiting,) = [thread for thread in threading.enumerate() if thread.name == "wstrack W&B rows"]
    logged = 0
    while waiting.is_alive() and logged < 600:
        run.log({"loss": logged})
        logged += 1
        waiting.join(0.1)
    run.log({"loss": logged})
    sink.close()
    run.finish()
    found = [row for row in history_of(run) if "wstrack/step" in row]
    assert [row["wstrack/step"] for row in found] == [1, 2, 3]
    assert all("loss" in row for row in found)


def test_many_that_wait_are_told_of_once(offline: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    for sample in samples_of(manifest_of(), range(1, 201)):
        sink.write([sample])
    assert [record.message for record in caplog.records if "wait" in record.message] != []
    assert sum("commit=True" in record.message for record in caplog.records) == 1


def test_a_wandb_that_tells_nobody_of_its_end_gets_all_rows_before_it(
    offline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = offline()
    with monkeypatch.context() as older:
        older.delattr("wandb.sdk.wandb_run.TeardownHook")
        sink = tracker.open_sink(run, manifest_of())
        sink.write(samples_of(manifest_of(), range(1, 4)))
    sink.close()
    run.finish()
    assert [row["wstrack/step"] for row in history_of(run) if "wstrack/step" in row] == [1, 2, 3]


def test_a_finished_run_takes_no_more_and_says_so(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    sink.write(samples_of(manifest_of(), [1, 2]))
    run.finish()
    with pytest.raises(WstrackError, match=r"watcher\.close\(\)"):
        sink.write(samples_of(manifest_of(), [3]))
    sink.close()
    written(run.dir)
    assert read(Path(run.dir).parent).steps.tolist() == [1, 2]
    with pytest.raises(WstrackError, match="finished"):
        tracker.open_sink(run, manifest_of())


def test_which_runs_are_taken(offline: Callable[..., Any]) -> None:
    assert not tracker.is_active()
    with pytest.raises(WstrackError, match=r"wandb\.init\(\)"):
        tracker.open_sink(None, manifest_of())
    with pytest.raises(TypeError, match="team/p"):
        tracker.open_sink("team/p", manifest_of())
    run = offline()
    assert tracker.is_active()
    assert tracker.accepts(run)
    assert not tracker.accepts(object())
    assert isinstance(tracker.open_sink(None, manifest_of()), Sink)


def test_a_disabled_run_is_not_active() -> None:
    wandb.init(mode="disabled")
    assert not tracker.is_active()


def test_importing_does_not_import_wandb() -> None:
    code = "import sys, wstrack_integrations.wandb as t; t.is_active(); assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("values", "rate"), [(5, 100), (1_000, 100), (1_000, 1), (30_000, 2), (400_000, 1)])
def test_no_minute_gets_more_than_it_should(values: int, rate: int) -> None:
    pace = Pace(max(1 / 1_000, values / 100_000))
    times = [count / rate for count in range(rate * 600)]
    taken = np.array([time for time in times if pace.takes(time)])
    window = max(60.0, 60.0 * values / 100_000)
    busiest = max(int(((taken >= start) & (taken < start + window)).sum()) for start in taken)
    assert busiest <= max(1, min(1_000, 100_000 // values))
    if values * rate * 60 > 100_000:
        assert len(taken) >= 0.7 * 10 * min(1_000, 100_000 / values)
    gaps = np.diff(taken[taken > 120])
    assert len(gaps) == 0 or gaps.max() <= 1.5 * gaps.min() + 1 / rate
