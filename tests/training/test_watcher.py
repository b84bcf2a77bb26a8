from __future__ import annotations

import copy
import gc
import logging
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from tests.training.weights import change, weights
from wstrack.runs.recording import FOLDER, last_step
from wstrack.training.watching import _watchers

if TYPE_CHECKING:
    from collections.abc import Callable

Train = "Callable[[nn.Module, torch.optim.Optimizer, int], None]"


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
    "AdamW fused": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, fused=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=1e-2),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 3])
def test_one_line_measures_what_numpy_measures(model: nn.Sequential, train: Train, make: Callable, every: int) -> None:
    optimizer = make(model.parameters())
    watcher = wstrack.watch(model, every=every)
    oracle: dict[int, list[float]] = {}
    before = weights(model)
    for step in range(1, 11):
        train(model, optimizer, 1)
        if step % every == 0:
            oracle[step] = change(weights(model), before)
            before = weights(model)
    watcher.close()
    run = watcher.run()
    frame = run.series["rwc"]
    assert frame.index.tolist() == list(oracle)
    assert list(frame.columns) == ["0.weight", "2.weight", "4.weight"]
    np.testing.assert_allclose(frame.to_numpy(), list(oracle.values()), rtol=1e-6)
    assert set(run.intervals) == {every}
    assert run.completeness.missing == 0


def test_the_window_of_one_step_is_the_change_of_the_sampled_step_alone(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=4, window="step")
    oracle = {}
    for step in range(1, 13):
        before = weights(model)
        train(model, optimizer, 1)
        oracle[step] = change(weights(model), before)
    run = watcher.run()
    np.testing.assert_allclose(run.series["rwc"].to_numpy(), [oracle[4], oracle[8], oracle[12]], rtol=1e-6)
    assert set(run.intervals) == {1}
    assert run.origin["window"] == "step"


def test_the_distance_of_single_steps_is_from_where_watching_began(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = weights(model)
    watcher = wstrack.watch(model, every=3, window="step", metrics=("rwc", "distance"))
    train(model, optimizer, 3)
    frame = watcher.run().series["distance"]
    np.testing.assert_allclose(frame.loc[3], change(weights(model), start), rtol=1e-6)


def test_all_metrics_at_once(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watcher = wstrack.watch(model, every=2, metrics=("rwc", "rwc_l2", "rwc_elementwise", "norm", "cosine", "distance"))
    states = [weights(model)]
    for _ in range(3):
        train(model, optimizer, 2)
        states.append(weights(model))
    series = watcher.run().series
    start, p, w = states[0], states[2], states[3]
    u = [b - a for a, b in zip(states[1], states[2], strict=True)]
    for layer in range(3):
        d = w[layer] - p[layer]
        want = {
            "rwc": np.abs(d).sum() / np.abs(p[layer]).sum(),
            "rwc_l2": np.linalg.norm(d) / np.linalg.norm(p[layer]),
            "rwc_elementwise": np.mean(np.abs(d) / np.abs(p[layer])),
            "norm": np.abs(w[layer]).mean(),
            "cosine": (d * u[layer]).sum() / np.linalg.norm(d) / np.linalg.norm(u[layer]),
            "distance": np.abs(w[layer] - start[layer]).sum() / np.abs(start[layer]).sum(),
        }
        found = {metric: frame.iloc[-1, layer] for metric, frame in series.items()}
        assert found == pytest.approx(want, rel=1e-5)


def test_a_learning_rate_of_zero_is_a_true_zero(model: nn.Sequential, train: Train) -> None:
    watcher = wstrack.watch(model, every=1)
    train(model, torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True), 3)
    frame = watcher.run().series["rwc"]
    assert frame.shape == (3, 3)
    assert (frame == 0).all(axis=None)


def test_loops_without_a_torch_optimizer_count_for_themselves(model: nn.Sequential) -> None:
    watcher = wstrack.watch(model, every=2)
    for _ in range(4):
        with torch.no_grad():
            model[0].weight.mul_(1.1)
        watcher.step()
    frame = watcher.run().series["rwc"]
    np.testing.assert_allclose(frame["0.weight"], [0.21, 0.21], rtol=1e-5)
    with pytest.raises(ValueError, match="window='interval'"):
        wstrack.watch(model, window="step").step()


@pytest.mark.parametrize("window", ["interval", "step"])
def test_steps_go_on_from_a_checkpoint(model: nn.Sequential, train: Train, window: str) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, every=5, name="mine", window=window) as watcher:
        train(model, optimizer, 13)
    for start in (13, 8):  # a checkpoint behind the last sample, and one before it
        with wstrack.watch(model, every=5, name="mine", window=window, start=start) as watcher:
            train(model, optimizer, 9)
        assert watcher.steps == start + 9
    for run in (wstrack.pull("tensorboard:runs/mine"), watcher.run()):
        # 10, 15 and 20 were of the branch that was given up for the older checkpoint; 10 and 15 came anew.
        assert run.series["rwc"].index.tolist() == [5, 10, 15]
        assert run.intervals.tolist() == ([5, 2, 5] if window == "interval" else [1, 1, 1])
        assert "training went on from" in "".join(run.completeness.notes)
        assert run.completeness.missing == 0


@pytest.mark.parametrize("start", [-1, 1.5, True, "3"])
def test_a_start_that_cannot_be(model: nn.Sequential, start: object) -> None:
    with pytest.raises(ValueError, match="start="):
        wstrack.watch(model, start=start)  # type: ignore[arg-type]


# ---- the handle ----------------------------------------------------------------------------------------------------


def test_off_steps_do_not_touch_the_weights(
    model: nn.Sequential, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wstrack.measuring.meters.meter import Meter

    calls = []
    for name in ("sample", "snapshot", "release"):
        original = getattr(Meter, name)
        monkeypatch.setattr(Meter, name, lambda self, n=name, f=original: calls.append(n) or f(self))
    wstrack.watch(model, every=5)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 9)
    assert calls == ["snapshot", "sample", "sample"]  # the first two when the watch began


def test_watching_again_closes_the_first_watch(model: nn.Sequential, train: Train, tmp_path: Path) -> None:
    first = wstrack.watch(model, to=tmp_path / "first", every=1)
    second = wstrack.watch(model, to=tmp_path / "second", every=1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert (first.steps, second.steps) == (0, 2)
    assert "closed" in repr(first)
    assert _watchers[model] is second


def test_a_mistake_in_watching_again_loses_nothing(model: nn.Sequential, train: Train) -> None:
    first = wstrack.watch(model, every=1)
    with pytest.raises(ValueError, match="every=0"):
        wstrack.watch(model, every=0)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert first.steps == 2


def test_a_closed_handle_holds_no_weights(train: Train) -> None:
    model = nn.Sequential(nn.Linear(6, 4))
    with wstrack.watch(model, every=1) as watcher:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    alive = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert alive() is None
    watcher.step()
    assert watcher.steps == 2
    assert len(watcher.run().steps) == 2


@pytest.mark.parametrize("window", ["interval", "step"])
def test_a_watch_that_is_closed_in_the_middle_of_a_sample(
    model: nn.Sequential, train: Train, window: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a handler of a signal."""
    from wstrack.measuring.meters.meter import Meter

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1, window=window)
    sample = Meter.sample
    monkeypatch.setattr(Meter, "sample", lambda self: (watcher.close(), sample(self))[1])
    train(model, optimizer, 2)
    assert "closed" in repr(watcher)


def test_a_context_manager_that_ends_the_watch(model: nn.Sequential, train: Train, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, to=tmp_path / "run", every=1) as watcher:
        train(model, optimizer, 2)
    train(model, optimizer, 2)
    assert watcher.steps == 2
    watcher.close()
    assert len(watcher.run().steps) == 2
    assert [part.name for part in watcher.recording.iterdir()] == ["0001.arrow"]


def test_the_model_stays_picklable_and_copies_are_not_watched(model: nn.Sequential, train: Train) -> None:
    watcher = wstrack.watch(model, every=1)
    keys = set(vars(model))
    twin = copy.deepcopy(model)
    pickle.loads(pickle.dumps(model))
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.1), 2)
    assert watcher.steps == 0
    assert set(vars(model)) == keys


def test_a_model_that_is_gone_ends_its_watch(train: Train) -> None:
    model = nn.Sequential(nn.Linear(6, 4))
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 3)
    del model, optimizer
    gc.collect()
    assert "closed" in repr(watcher)
    watcher.close()  # waits for what goes on in the background
    assert [part.suffix for part in watcher.recording.iterdir()] == [".arrow"]
    assert len(watcher.run().steps) == 3


def test_a_run_that_is_resumed_by_name_goes_on(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        with wstrack.watch(model, every=3, name="mine") as watcher:
            train(model, optimizer, 7)
    for reference in ("runs/mine", "tensorboard:runs/mine"):
        run = wstrack.pull(reference)
        assert run.name == "mine"
        assert run.series["rwc"].index.tolist() == [3, 6, 9, 12]
    assert watcher.run().intervals.tolist() == [3, 3, 3, 3]


def test_facts_are_what_runs_are_held_against_each_other_by(model: nn.Sequential, train: Train, tmp_path: Path) -> None:
    for data in ("easy", "hard"):
        with wstrack.watch(
            model, to=tmp_path / data, every=1, facts={"data": data, "seed": 1, "warm": True, "model": "mine"}
        ) as watcher:
            train(model, torch.optim.SGD(model.parameters(), lr=0.1 if data == "easy" else 0.2), 8)
        run = watcher.run()
        assert run.facts == {"data": data, "seed": 1, "warm": True, "model": "mine"}
        assert run.origin["model"] == "Sequential"  # what wstrack saw keeps a place of its own
        shutil.rmtree(watcher.recording)  # the tracker keeps them as well
    runs = wstrack.pull_many(tmp_path)
    assert [(run.facts["data"], run.facts["warm"]) for run in runs] == [("easy", True), ("hard", True)]
    compared = wstrack.report(runs, compare="data", k=1).comparison
    assert compared
    assert compared.settings == ("easy", "hard")
    with pytest.raises(TypeError, match=r"facts: 'data': .'a'. is no name with a text, a number or a bool"):
        wstrack.watch(model, to=tmp_path / "no", facts={"data": ["a"]})  # type: ignore[dict-item]


def test_names_and_folders(model: nn.Sequential) -> None:
    assert wstrack.watch(model, name="a").recording.parent == Path("runs/a").absolute()
    assert wstrack.watch(model, to="./b/c").name == "c"
    first, second = wstrack.watch(model), wstrack.watch(nn.Linear(2, 2))
    third = wstrack.watch(nn.Linear(2, 2))
    assert first.name.startswith("Sequential-")
    assert second.recording != third.recording


def test_an_end_without_a_sample_is_said(model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture) -> None:
    with wstrack.watch(model):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 7)
    assert "no sample was taken: 7 steps were counted and the first sample was due at step 50" in caplog.text
    with wstrack.watch(model):
        other = copy.deepcopy(model)
        train(other, torch.optim.SGD(other.parameters(), lr=0.1), 7)
    assert "no optimizer stepped any of the layers" in caplog.text


def test_resuming_is_said(model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with wstrack.watch(model, every=1, name="mine"):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    assert "is there already: it goes on after step 3" in caplog.text


def test_two_models_in_one_folder_are_one_run_with_the_layers_of_both(train: Train) -> None:
    models = [nn.Sequential(nn.Linear(6, 4)), nn.Sequential(nn.Sequential(nn.Linear(6, 4)))]
    watchers = [wstrack.watch(model, to="./gan", every=1) for model in models]
    for model in models:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    for watcher in watchers:
        watcher.close()
    for reference in ("./gan", "tensorboard:gan"):
        run = wstrack.pull(reference)
        assert set(run.series["rwc"].columns) == {"0.weight", "0.0.weight"}
        assert run.series["rwc"].notna().all(axis=None)
        assert (run.completeness.expected, run.completeness.received) == (6, 6)


# ---- what must never reach training --------------------------------------------------------------------------------


class Sink:
    """A third party's sink, as `to` takes it."""

    name = "mine"
    recording_directory, recording_label = None, ""
    reference = None

    def __init__(self) -> None:
        self.steps: list[int] = []

    def bind(self, directory: Path, *_: object) -> None:
        self.recording = directory

    def write(self, samples: list) -> None:
        self.steps += [sample.step for sample in samples]

    def close(self) -> None:
        pass


def test_a_sink_of_ones_own(model: nn.Sequential, train: Train) -> None:
    sink = Sink()
    with wstrack.watch(model, to=sink, every=2) as watcher:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)
    assert sink.steps == [2, 4, 6]
    assert sink.recording == watcher.recording.parent
    assert watcher.recording.parent.parent == Path("runs").absolute()


def test_a_sink_that_fails_is_reported_once_and_the_recording_is_whole(
    model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Sink):
        def write(self, samples: list) -> None:
            raise ConnectionError("no route")

    with caplog.at_level(logging.WARNING), wstrack.watch(model, to=[Failing(), "./good"], every=1) as watcher:
        for _ in range(5):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
            watcher.flush()
    assert sum("no route" in record.message for record in caplog.records) == 1
    assert "mine: 5 of 5 samples did not arrive" in caplog.text
    assert len(watcher.run().steps) == 5
    assert len(wstrack.pull("tensorboard:good").steps) == 5


def test_a_meter_that_fails_does_not_end_training(
    model: nn.Sequential, train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from wstrack.measuring.meters.meter import Meter

    def fails(self: Meter) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory left")

    watcher = wstrack.watch(model, every=1)
    monkeypatch.setattr(Meter, "sample", fails)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    assert watcher.steps == 3
    assert caplog.text.count("no memory left") == 1
    assert watcher.run().origin["failed_samples"] == 3


def test_watches_that_come_and_go_on_other_threads_and_in_garbage_collection_disturb_nobody() -> None:
    failures: list[BaseException] = []

    def trials() -> None:
        try:
            for _ in range(5):
                model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
                model.cycle = [model]
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                wstrack.watch(model, every=3)
                for _ in range(30):
                    optimizer.zero_grad()
                    model(torch.randn(8, 6)).square().mean().backward()
                    optimizer.step()
        except Exception as error:  # noqa: BLE001  a thread's failure is shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=trials) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert failures == []


def test_weights_that_are_not_numbers_are_logged_as_such(model: nn.Sequential, train: Train) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
        model[2].weight[0, 0] = torch.inf
    train(model, optimizer, 1)
    watcher.close()
    for run in (watcher.run(), wstrack.pull(f"tensorboard:{watcher.recording.parent}")):
        row = run.series["rwc"].iloc[0]
        assert np.isnan(row["0.weight"])
        assert np.isinf(row["2.weight"])


# ---- the ends of a process -----------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys, torch, wstrack
model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watcher = wstrack.watch(model, to=sys.argv[1], every=1)
for step in range(100):
    model(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
    if sys.argv[2] == "kill" and step == 49:
        watcher.flush()
        print("flushed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "fork" and step == 49:
        if os.fork() == 0:
            sys.exit()
        os.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "fork"])
def test_closes_itself_when_the_interpreter_exits(tmp_path: Path, end: str) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "run"), end], check=True, timeout=120)
    for reference in (tmp_path / "run", f"tensorboard:{tmp_path / 'run'}"):
        run = wstrack.pull(reference)
        assert run.steps.tolist() == list(range(1, 101))
        assert run.completeness.notes == ()


@pytest.mark.slow
def test_kill_leaves_every_flushed_sample_readable(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), "kill"], stdout=subprocess.PIPE, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert b"flushed" in done.stdout
    for reference in (tmp_path / "run", f"tensorboard:{tmp_path / 'run'}"):
        run = wstrack.pull(reference)
        assert run.steps.tolist() == list(range(1, 51))
        assert any("not closed" in note for note in run.completeness.notes)


@pytest.mark.slow
def test_kill_at_any_moment_leaves_a_readable_recording(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("range(100)", "range(10**9)"), str(tmp_path / "run"), "never"]
    )
    try:
        deadline = time.monotonic() + 120
        while last_step(tmp_path / "run" / FOLDER) < 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)  # the processors are for the training
    finally:
        process.kill()
        process.wait()
    steps = wstrack.pull(tmp_path / "run").steps
    assert steps.tolist() == list(range(1, len(steps) + 1))


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "every=0 must be a whole number of steps, at least 1"),
        ({"every": 2.5}, ValueError, "every=2.5 must be a whole number"),
        ({"every": True}, ValueError, "every=True"),
        ({"window": "day"}, ValueError, "window='day' must be 'interval' or 'step'"),
        ({"metrics": "rcw"}, ValueError, "unknown metric 'rcw'; there are rwc"),
        ({"metrics": ()}, ValueError, "metrics is empty"),
        ({"to": "tensorbord"}, ValueError, "to='tensorbord' is no tracker .*tensorboard.*'./tensorbord'"),
        ({"to": []}, ValueError, "to is an empty list"),
        ({"to": 3}, TypeError, "no installed tracker .* knows an object of type int"),
        ({"layers": "nothing"}, ValueError, "layers='nothing'"),
        ({"name": " "}, ValueError, "name is empty"),
        ({"name": 3}, TypeError, "name must be a string"),
        ({"optimizer": 3}, TypeError, "optimizer must be a torch.optim.Optimizer"),
        ({"to": ""}, ValueError, "to is empty"),
        ({"to": "gs://bucket/x"}, ValueError, "is no tracker"),
        (
            {"optimizer": torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)},
            ValueError,
            "none of the model's",
        ),
    ],
)
def test_bad_input_is_said_at_once_and_leaves_nothing(
    model: nn.Sequential, tmp_path: Path, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        wstrack.watch(model, **arguments)
    assert list(tmp_path.iterdir()) == []
    assert model not in _watchers


def test_a_model_that_is_none_is_said() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not list"):
        wstrack.watch([])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused_and_what_it_was_made_of_is_watched(model: nn.Sequential, train: Train) -> None:
    scripted = torch.jit.script(model)
    with pytest.raises(ValueError, match=r"is TorchScript, .* watch the module that was scripted or traced"):
        wstrack.watch(scripted)
    with pytest.raises(ValueError, match="model: 0 is TorchScript"):
        wstrack.watch(nn.Sequential(scripted))
    watcher = wstrack.watch(model, every=1)
    train(scripted, torch.optim.SGD(scripted.parameters(), lr=0.1), 3)
    watcher.close()
    assert (watcher.run().series["rwc"] > 0).all(axis=None)
    assert watcher.steps == 3


def test_a_folder_that_cannot_be_made_is_an_error_at_the_start(model: nn.Sequential, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(wstrack.WstrackError, match="file"):
        wstrack.watch(model, to=tmp_path / "file" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- what is said while training -----------------------------------------------------------------------------------


def test_a_model_of_which_nothing_changes_is_told_of_once(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As where torch.func.functional_call trains other weights, or the learning rate is 0."""
    with wstrack.watch(model, to=tmp_path / "still", every=1) as watcher:
        for _ in range(9):
            watcher.step()
    assert caplog.text.count("no weight of any layer has changed in 3 samples, up to step") == 1
    assert "torch.func.functional_call" in caplog.text
    caplog.clear()
    for metrics in ("norm", "rwc"):  # of which the first measures no change, and the second finds some in the end
        with wstrack.watch(model, to=tmp_path / metrics, every=1, metrics=metrics) as watcher:
            for step in range(9):
                with torch.no_grad():
                    model[0].weight.add_(0.1 * (step == 1))
                watcher.step()
    assert "no weight of any layer" not in caplog.text


def test_flush_tells_that_the_folder_is_gone(model: nn.Sequential, tmp_path: Path) -> None:
    watcher = wstrack.watch(model, to=tmp_path / "run", every=1)
    watcher.step()
    assert watcher.flush()
    shutil.rmtree(tmp_path / "run")
    assert not watcher.flush()
    watcher.step()
    assert not watcher.flush()  # a new part was begun, but what was there before is lost
    assert watcher.run().steps.tolist() == [2]
    assert watcher.run().completeness.missing == 3
