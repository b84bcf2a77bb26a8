"""Acting on what rules say, in one process: stopping, freezing, calling a function, on the training thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import wstrack
from wstrack.rules import Alert, Observed, StopTraining
from wstrack.training.acting import Acting, check_freezing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tell(step: int, place: int | None = 0, name: str = "tell") -> Callable[[Observed], list[Alert]]:
    """A rule that speaks once, of the layer at a place."""

    def rule(seen: Observed) -> list[Alert]:
        return [seen.alert(name, place, 1, "is as planned")] if seen.step == step else []

    rule.__name__ = name
    return rule


class Training:
    """Three linear layers and an optimizer; every second step is sampled, and delivered before the next."""

    def __init__(self, optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.optimizer = optimizer(self.model.parameters(), lr=0.01)
        self.steps = 0

    def run(self, watcher: wstrack.Watcher, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=False)  # so that a gradient that is left goes on to move a weight
            self.model(torch.randn(8, 4)).square().mean().backward()
            self.steps += 1  # before what may raise
            self.optimizer.step()
            if self.steps % 2 == 0:
                watcher._measured.flush(60)

    def watch(self, to: Path, **options: Any) -> wstrack.Watcher:
        return wstrack.watch(self.model, to=to, every=2, **options)


class Later:
    """Processes that agree to act on what is heard a sample later."""

    def __init__(self) -> None:
        self.waiting: list[Alert] = []

    def begin(self, step: int) -> int:
        return step

    def agree(self, heard: list[Alert]) -> list[Alert]:
        heard, self.waiting = self.waiting, heard
        return heard

    def close(self) -> None:
        pass


def test_what_is_heard_is_acted_on_when_all_processes_agree() -> None:
    alert = Alert("tell", 4, "0.weight", 1, "is as planned")
    model = nn.Linear(2, 2)
    alone = Acting({"tell": "freeze"}, model, None)
    alone.hear([alert])
    assert (alone.heard(), alone.heard()) == ([alert], [])
    acting = Acting({"tell": "freeze"}, model, Later())
    acting.hear([alert])
    assert (acting.heard(), acting.heard(), acting.heard()) == ([], [alert], [])


def test_stop_raises_out_of_the_step_of_the_next_sample(tmp_path: Path) -> None:
    training = Training()
    with (
        pytest.raises(StopTraining, match=r"step 4: 2.weight is as planned \(rule 'tell'\)") as caught,
        training.watch(tmp_path, rules=tell(4, 1), act="stop") as watcher,
    ):
        training.run(watcher, 20)
    assert training.steps == watcher.steps == 6
    assert caught.value.alert.layer == "2.weight"
    assert watcher.run().steps.tolist() == [2, 4, 6]  # the sample that was due is not lost


def test_freeze_ends_the_change_of_a_layer_and_keeps_what_its_optimizer_knows(tmp_path: Path) -> None:
    training = Training()
    with training.watch(tmp_path, rules=[tell(24, 1), "default"], act={"tell": "freeze"}) as watcher:
        training.run(watcher, 26)
        before = [parameter.detach().clone() for parameter in training.model.parameters()]
        state = {name: value.clone() for name, value in training.optimizer.state[training.model[2].weight].items()}
        training.run(watcher, 40)
    still = [bool((now == then).all()) for now, then in zip(training.model.parameters(), before, strict=True)]
    assert still == [False, False, True, True, False, False]
    assert training.optimizer.state[training.model[2].weight].keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(training.optimizer.state[training.model[2].weight][name], value, rtol=0, atol=0)
    run = watcher.run()
    assert (run.series["rwc"]["2.weight"].loc[28:] == 0).all()
    # Of what was frozen on purpose no rule says that it has stopped.
    assert run.marks == ((24, "alert: tell: 2.weight is as planned"), (26, "froze 2.weight"))


def test_a_function_is_called_between_steps_on_the_thread_that_trains(tmp_path: Path) -> None:
    training = Training()
    called: list[tuple[int, str, str]] = []

    def lower(alert: Alert) -> None:
        called.append((training.steps, alert.rule, threading.current_thread().name))
        training.optimizer.param_groups[0]["lr"] /= 10

    with training.watch(tmp_path, rules=[tell(4), tell(8, None, "whole")], act=lower) as watcher:
        training.run(watcher, 20)
    assert called == [(6, "tell", "MainThread"), (10, "whole", "MainThread")]
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.0001)


def test_what_a_function_raises_is_raised_by_the_step(tmp_path: Path) -> None:
    training = Training()

    def refuse(alert: Alert) -> None:
        raise ZeroDivisionError(str(alert))

    with (
        pytest.raises(ZeroDivisionError, match="is as planned"),
        training.watch(tmp_path, rules=tell(4), act=refuse) as watcher,
    ):
        training.run(watcher, 20)


def test_each_rule_has_its_own_action_and_others_only_speak(tmp_path: Path) -> None:
    training = Training()
    called: list[str] = []
    rules = [tell(2, 0, "one"), tell(4, 1, "two"), tell(6, 2, "three")]
    acts = {"one": "freeze", "three": lambda alert: called.append(alert.layer)}
    with training.watch(tmp_path, rules=rules, act=acts) as watcher:
        training.run(watcher, 12)
    asks = [parameter.requires_grad for parameter in training.model.parameters()]
    assert asks == [False, False, True, True, True, True]
    assert called == ["4.weight"]


def test_nothing_is_acted_on_when_the_watch_is_closed(tmp_path: Path) -> None:
    """Training is over then; what closes it must not raise."""
    training = Training()
    training.optimizer = torch.optim.AdamW(training.model[:3].parameters(), lr=0.01)  # the last layer may step later,
    with training.watch(tmp_path, rules=tell(2), act="stop") as watcher:  # so each sample waits for the next step,
        training.run(watcher, 3)
        watcher._measured.flush(60)
        training.run(watcher, 1)
        assert watcher._acting is not None
        assert watcher._acting._heard
    assert watcher.run().steps.tolist() == [2, 4]  # or, the last one, for the end


def test_a_part_is_not_frozen_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = Training()
    with training.watch(tmp_path, rules=tell(2, 1), act="freeze", parts={r"^0\.weight$": 2}) as watcher:
        training.run(watcher, 6)
    assert "0.weight[0] is not frozen (rule 'tell'): it is part of a weight" in caplog.text
    assert all(parameter.requires_grad for parameter in training.model.parameters())


def test_the_last_layer_that_trains_is_not_frozen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def all_of_them(seen: Observed) -> list[Alert]:
        return [seen.alert("all_of_them", place, 1, "is as planned") for place in range(3)]

    training = Training()
    with training.watch(tmp_path, rules=all_of_them, act="freeze") as watcher:
        training.run(watcher, 12)  # and backward goes on
    asks = [parameter.requires_grad for parameter in training.model.parameters()]
    assert asks == [False, False, False, False, True, True]
    assert "4.weight is not frozen" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [({"act": "stop"}, ValueError, "act='stop' needs rules"),
     ({"rules": "default", "act": "halt"}, ValueError, "act='halt'"),
     ({"rules": "default", "act": {"stoped": "stop"}}, ValueError, "no rule 'stoped'; there are 'not finite'"),
     ({"rules": "default", "act": 3}, TypeError, "act: 3 is no action")],
)  # fmt: skip
def test_what_is_no_action_is_named(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Training().watch(tmp_path, **options)


def test_a_wrapper_that_waits_for_every_gradient_is_refused(tmp_path: Path) -> None:
    class DistributedDataParallel(nn.Module):
        """As torch's, whose constructor wants processes; the real one is in distributed/test_acting_together.py."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.find_unused_parameters, self.static_graph = module, False, False

    model = DistributedDataParallel(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="find_unused_parameters=True"):
        wstrack.watch(model, to=tmp_path, rules="default", act={"stopped": "freeze"})
    model.find_unused_parameters = model.static_graph = True
    with pytest.raises(ValueError, match="not static_graph=True"):
        check_freezing({"stopped": "freeze"}, model)
    model.static_graph = False
    check_freezing({"stopped": "freeze"}, model)


def test_a_layer_that_is_frozen_is_not_frozen_again(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    acting = Acting({"stopped": "freeze"}, model, None)
    alert = Alert("stopped", 4, "0.weight", 1.0, "is as planned")
    assert acting.act([alert]) == ["0.weight"]
    assert acting.act([alert]) == []
    assert acting.frozen == {"0.weight"}
    assert caplog.text.count("froze 0.weight") == 1
