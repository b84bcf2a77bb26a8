"""Rules on real trainings: what they say of planted faults and of sound ones, and where it goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.reporting.named import about_named
from wstrack.rules import Alert, Band, Observed, OneStep, Stopped, default
from wstrack.runs.manifest import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def trained(
    to: Path, fault: Callable[[nn.Sequential, torch.optim.Optimizer], None], *, at: int = 120, **options: object
) -> wstrack.Run:
    """A classifier of 200 steps, measured at every second; the fault comes upon the gradients from step `at` on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    truth = torch.randn(16, 4)
    with wstrack.watch(model, to=to, **{"every": 2, "rules": "default", **options}) as watcher:
        for step in range(200):
            x = torch.randn(32, 16)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), (x @ truth).argmax(1)).backward()
            if step >= at:
                fault(model, optimizer)
            optimizer.step()
    return watcher.run()


def nothing(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    """No fault."""


def freeze(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    model[2].weight.grad = None


def lose(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    model[4].weight.data[0, 0] = torch.nan


def zero(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    model[2].weight.grad.mul_(1e-4)


def hasten(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] = 0.5


def test_a_sound_training_raises_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert trained(tmp_path, nothing).marks == ()
    assert "rule" not in caplog.text


@pytest.mark.parametrize(
    ("fault", "rule", "layer", "within"),
    [(freeze, "stopped", "2.weight ", 20), (lose, "not finite", "0.weight ", 2), (zero, "band", "2.weight ", 30),
     (hasten, "rate jump", "the learning rate", 2)],
)  # fmt: skip
def test_a_fault_is_said_once_with_its_layer_and_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Callable[..., None], rule: str, layer: str, within: int
) -> None:
    marks = trained(tmp_path, fault).marks
    step, said = marks[0]
    assert said.startswith(f"alert: {rule}: {layer}")
    assert 120 < step <= 120 + within
    assert "look at" in said
    assert sum(name.startswith(f"alert: {rule}: {layer}") for _, name in marks) == 1
    assert caplog.text.count(f"step {step}: {layer}") == 1


def test_an_alert_is_a_finding_of_the_report(tmp_path: Path) -> None:
    found = {finding.kind: finding for finding in wstrack.report(trained(tmp_path, freeze)).findings}
    assert found["alerted"].layers == ("2.weight",)
    assert "2.weight has not changed in" in found["alerted"].text


def test_figures_name_the_rule_at_the_step_of_its_alert(tmp_path: Path) -> None:
    report = wstrack.report(trained(tmp_path, freeze))
    assert "Dotted lines: alert 'stopped' (step 1" in about_named(report)


def test_a_function_is_a_rule_and_sees_each_sample(tmp_path: Path) -> None:
    seen: list[Observed] = []

    def half(sample: Observed) -> list[Alert]:
        seen.append(sample)
        return [sample.alert("half", 1, 7, "is half way")] if sample.step == 100 else []

    run = trained(tmp_path, nothing, rules=[half], metrics="norm")
    assert run.marks == ((100, "alert: half: 2.weight is half way"),)
    assert [sample.step for sample in seen] == list(range(2, 201, 2))
    assert {sample.interval for sample in seen} == {2}
    np.testing.assert_array_equal([sample.values["norm"] for sample in seen], run.series["norm"].to_numpy())
    assert all(np.isfinite(sample.change).all() and (sample.change > 0).all() for sample in seen)
    assert {sample.rate for sample in seen} == {0.05}
    assert {sample.dtype for sample in seen} == {"float32"}


def test_an_alert_that_cannot_be_kept_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wstrack.runs.recorder.append_mark", full)
    run = trained(tmp_path, freeze)
    assert (len(run.series["rwc"]), run.marks) == (100, ())
    assert "2.weight has not changed in" in caplog.text
    assert "recording: this alert cannot be kept: [Errno 28] No space left on device" in caplog.text


@pytest.mark.parametrize("answer", [3, [3], "text", KeyError("missing")])
def test_a_rule_that_fails_is_named_once_and_costs_no_sample(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    def broken(sample: Observed) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    run = trained(tmp_path, freeze, rules=[broken, "default"])
    assert len(run.series["rwc"]) == 100
    assert caplog.text.count("rule 'broken' failed at step 2 and is asked no more") == 1
    assert any("alert: stopped" in name for _, name in run.marks)  # the others go on


def test_a_rule_that_never_ends_to_speak_is_no_flood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def shout(sample: Observed) -> list[Alert]:
        return [sample.alert("shout", place, 1, "shouts") for place in range(4)]

    with caplog.at_level(logging.WARNING, logger="wstrack"):
        run = trained(tmp_path, nothing, rules=shout)
    lines = [record for record in caplog.records if "shout" in record.getMessage()]
    assert len(lines) <= 30
    assert "says no more" in lines[-1].getMessage()
    assert len(run.series["rwc"]) == 100


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [("standard", ValueError, "rules='standard'"), (Band, TypeError, "rules: .*no rule"), (3, TypeError, "rules: 3"),
     ([Band(), Band()], ValueError, "two are called 'band'")],
)  # fmt: skip
def test_what_is_no_rule_is_named(tmp_path: Path, rules: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wstrack.watch(nn.Linear(2, 2), to=tmp_path, rules=rules)  # type: ignore[arg-type]


def test_the_one_step_rule_is_of_single_steps(tmp_path: Path) -> None:
    said = [name for _, name in trained(tmp_path / "one", nothing, rules=OneStep(), window="step").marks]
    assert any("in one step, over 0.01" in name for name in said)
    assert trained(tmp_path / "two", nothing, rules=OneStep()).marks == ()  # samples of two steps


def samples(change: np.ndarray) -> Sequence[Observed]:
    layers = tuple(Layer(f"l{place}", numel=1) for place in range(change.shape[1]))
    return [
        Observed(step, 1, layers, {}, {"abs_change": row, "abs_previous": np.ones(len(row))})
        for step, row in enumerate(change, 1)
    ]


def test_heavy_tailed_noise_keeps_the_rate_of_false_alarms() -> None:
    """Student's t of 3 degrees of freedom, as the band takes it to be; slow trends and steps that all layers share."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(20):
        noise = 0.1 * rng.standard_t(3, (400, 10))
        shared = np.cumsum(0.02 * rng.standard_normal((400, 1)), axis=0) - 2.3 * (np.arange(400)[:, None] > 200)
        own = np.linspace(0, 1, 400)[:, None] * rng.uniform(-2, 2, 10)
        band = Band()
        alarms += any(band(seen) for seen in samples(np.exp(noise + shared + own - 7)))
    assert alarms == 0  # at the stated 1 in 250 none is expected of 20


def test_a_layer_that_often_stands_still_has_not_stopped() -> None:
    rng = np.random.default_rng(1)
    stopped = Stopped()
    moves = rng.random((2000, 6)) < 0.3
    assert not any(stopped(seen) for seen in samples(np.where(moves, 1e-3, 0.0)))


def test_the_default_rules_are_new_each_time() -> None:
    first, second = default(), default()
    assert not any(one is other for one in first for other in second)
