"""Which optimizer steps count, whoever takes them, and which samples they bring."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from tests.training.weights import change, weights
from wstrack.training.steps import Steps

Train = Callable[[nn.Module, torch.optim.Optimizer, int], None]


class Counted:
    """Steps on its own, with a record of what it calls."""

    def __init__(self, parameters: list[nn.Parameter], *, due: int, begins: bool = False) -> None:
        self.calls: list[str] = []
        self.steps = Steps(
            parameters,
            None,
            look_up=lambda: self.calls.append("look up"),
            newcomers=lambda those: self.calls.append(f"{len(those)} newcomers"),
            unheld=lambda: self.calls.append("unheld"),
            begins=(lambda: self.calls.append(f"begins after {self.steps.count}")) if begins else None,
            ended=self._ended,
        )
        self.steps.due = due
        self.steps.follow()

    def _ended(self) -> None:
        self.calls.append(f"due at {self.steps.count}")
        self.steps.due += 2


def grown() -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.ones(2, 2)
    return parameters


def test_a_sample_is_due_at_its_step_and_the_optimizer_is_looked_up_once() -> None:
    one, other = grown()
    counted = Counted([one], due=2)
    optimizer = torch.optim.SGD([one, other], lr=0.1)
    for _ in range(4):
        optimizer.step()
    counted.steps.unfollow()
    optimizer.step()
    assert counted.calls == ["look up", "1 newcomers", "due at 2", "due at 4"]
    assert counted.steps.count == 4


def test_what_an_optimizer_holds_is_looked_up_again_when_asked() -> None:
    one, other = grown()
    counted = Counted([one, other], due=99)
    optimizer = torch.optim.SGD([one], lr=0.1)
    optimizer.step()
    optimizer.add_param_group({"params": [other]})
    counted.steps.look_up_again()
    optimizer.step()
    assert counted.calls == ["look up", "0 newcomers"] * 2
    assert counted.steps.seen == 0b11


def test_the_begin_of_a_due_step_is_told_before_the_weights_change() -> None:
    one, _ = grown()
    counted = Counted([one], due=2, begins=True)
    optimizer = torch.optim.SGD([one], lr=0.1)
    for _ in range(4):
        optimizer.step()
    assert [call for call in counted.calls if "begins" in call] == ["begins after 1", "begins after 3"]
    counted.steps.unfollow()


def test_a_round_that_has_begun_can_be_ended() -> None:
    one, other = grown()
    counted = Counted([one, other], due=2)
    first, second = torch.optim.SGD([one], lr=0.1), torch.optim.SGD([other], lr=0.1)
    for optimizer in (first, second, first):  # the second round lacks an optimizer
        optimizer.step()
    assert "due at 2" not in counted.calls
    counted.steps.end_round()
    assert counted.calls[-1] == "due at 2"
    counted.steps.end_round()
    assert counted.calls.count("due at 2") == 1
    counted.steps.unfollow()


def test_another_parameter_in_the_place_of_a_layers() -> None:
    one, other = grown()
    counted = Counted([one], due=99)
    torch.optim.SGD([one], lr=0.1).step()
    counted.steps.replace(0, other)
    torch.optim.SGD([one], lr=0.1).step()
    assert counted.steps.count == 1
    torch.optim.SGD([other], lr=0.1).step()
    assert counted.steps.count == 2
    counted.steps.replace(0, None)
    torch.optim.SGD([other], lr=0.1).step()
    assert counted.steps.count == 2
    counted.steps.unfollow()


def test_steps_of_nobodys_layers_are_told_once_and_only_while_nothing_counts() -> None:
    one, other = grown()
    stranger = torch.optim.SGD([other], lr=0.1)
    counted = Counted([one], due=3)
    for _ in range(24):  # a critic may step a few times before the generator does
        stranger.step()
    assert "unheld" not in counted.calls
    for _ in range(24):
        stranger.step()
    assert counted.calls.count("unheld") == 1
    counted.steps.unfollow()
    counted, beside = Counted([one], due=3), Counted([other], due=99)
    for _ in range(99):
        stranger.step()
    beside.steps.unfollow()
    assert "unheld" not in counted.calls  # they are of another watch
    torch.optim.SGD([one], lr=0.1).step()
    for _ in range(99):
        stranger.step()
    assert "unheld" not in counted.calls
    counted.steps.unfollow()


def test_a_step_of_all_layers_ends_in_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is most of the speed of a step without a sample."""
    one, other = grown()
    counted = Counted([one, other], due=99)
    optimizer = torch.optim.SGD([one, other], lr=0.1)
    optimizer.step()
    monkeypatch.setattr(Steps, "_finish_round", lambda self: pytest.fail("the long way"))
    optimizer.step()
    counted.steps.unfollow()
    assert counted.steps.count == 2


@pytest.mark.parametrize("gone", [0, 1])
def test_when_one_of_two_is_replaced_the_other_ends_its_rounds_itself(gone: int) -> None:
    """A new head that no optimizer holds yet; who then steps it for the first time belongs to the step before."""
    parameters, new = grown(), grown()[0]
    counted = Counted(parameters, due=3)
    each = [torch.optim.SGD([parameter], lr=0.1) for parameter in parameters]
    for optimizer in (*each, *each):
        optimizer.step()
    counted.steps.replace(gone, new)
    counted.steps.look_up_again()
    each[gone].step()  # holds no layer any more
    assert counted.steps.count == 2
    each[1 - gone].step()
    counted.steps.end_round()
    assert (counted.steps.count, counted.calls[-1]) == (3, "due at 3")
    torch.optim.SGD([new], lr=0.1).step()
    assert counted.steps.count == 3
    counted.steps.unfollow()


def test_when_one_of_two_has_gone_the_round_ends_with_the_other() -> None:
    """At once, and not when it comes round again: the sample of a step has the weights that the step left."""
    parameters = grown()
    counted = Counted(parameters, due=2, begins=True)
    each = [torch.optim.SGD([parameter], lr=0.1) for parameter in parameters]
    for optimizer in each:
        optimizer.step()
    counted.steps.replace(0, None)
    each[1].step()
    assert counted.calls[-1] == "due at 2"
    counted.steps.unfollow()


def test_layers_that_one_parameter_holds_can_be_replaced_each_for_itself() -> None:
    """As FSDP1 holds them, flat: the old parameter keeps the layers that stay, and a new one can take several."""
    (flat, new), far = grown(), grown()[0]
    counted = Counted([flat, flat, flat, far], due=2, begins=True)
    old, other = torch.optim.SGD([flat], lr=0.1), torch.optim.SGD([new], lr=0.1)
    for index in (1, 2):
        counted.steps.replace(index, new)
    torch.optim.SGD([far], lr=0.1).step()
    for optimizer in (old, other):
        optimizer.step()
    assert counted.steps.count == 1
    assert counted.steps.seen == 0b1111
    counted.steps.replace(3, None)
    old.step()
    assert "due at 2" not in counted.calls
    other.step()  # holds two of the three that are left
    assert counted.calls[-1] == "due at 2"
    counted.steps.unfollow()


def test_the_begin_of_a_due_step_is_told_once_a_round_and_not_to_strangers() -> None:
    (one, other), stranger = grown(), torch.optim.SGD([grown()[0]], lr=0.1)
    counted = Counted([one, other], due=2, begins=True)
    each = [torch.optim.SGD([parameter], lr=0.1) for parameter in (one, other)]
    for optimizer in (*each, stranger, *each, stranger, *each, stranger, *each):
        optimizer.step()
    told = [call for call in counted.calls if "begins" in call or "due" in call]
    assert told == ["begins after 1", "due at 2", "begins after 3", "due at 4"]
    counted.steps.unfollow()


def test_one_that_steps_all_layers_after_one_that_steps_some_ends_their_round() -> None:
    one, other = grown()
    counted = Counted([one, other], due=99)
    some, every = torch.optim.SGD([one], lr=0.1), torch.optim.SGD([one, other], lr=0.1)
    for optimizer in (some, every) * 3:
        optimizer.step()
    assert counted.steps.count == 3
    counted.steps.unfollow()


def test_nobodys_steps_are_told_of_when_a_sample_would_have_been_due() -> None:
    one, other = grown()
    counted, stranger = Counted([one], due=40), torch.optim.SGD([other], lr=0.1)
    for _ in range(39):
        stranger.step()
    assert "unheld" not in counted.calls
    stranger.step()
    assert "unheld" in counted.calls
    counted.steps.unfollow()


def test_whoever_steps_beside_the_one_that_was_named_is_not_told_of(
    model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    with wstrack.watch(model, torch.optim.SGD(model.parameters(), lr=0.1), every=5):
        train(model, torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1), 60)
    assert "none that holds one of the layers" not in caplog.text


class Outer(torch.optim.Optimizer):
    """Steps another within its own step, and may hold fewer layers."""

    def __init__(self, inner: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        self.inner = inner
        super().__init__(parameters, {})

    def step(self, closure: None = None) -> None:
        self.inner.step()


def test_a_sample_is_taken_when_the_outermost_step_ends_and_not_at_the_next() -> None:
    one, other = grown()
    counted = Counted([one, other], due=2)
    outer = Outer(torch.optim.SGD([one, other], lr=0.1), [one, other])
    for _ in range(2):
        outer.step()
    assert counted.calls[-1] == "due at 2"
    counted.steps.unfollow()


def test_one_that_wraps_another_of_more_layers_counts_once() -> None:
    one, other = grown()
    counted = Counted([one, other], due=99)
    outer = Outer(torch.optim.SGD([one, other], lr=0.1), [one])
    outer.inner.step()
    for _ in range(3):
        outer.step()
    assert counted.steps.count == 4
    counted.steps.unfollow()


@pytest.mark.parametrize(
    ("rounds", "skipped"),
    [
        ([(1, 1)], 1),
        ([(1, 0)], 0),
        ([(0, 1)], 0),
        ([(None, 1)], 0),
        ([(1, 1), (0, 0), (1, 1)], 2),
        ([(1, 1), (None, None)], 1),
    ],
)
def test_a_round_counts_as_skipped_if_each_of_its_optimizers_overflowed(
    rounds: list[tuple[int | None, int | None]], skipped: int
) -> None:
    parameters = grown()
    counted = Counted(parameters, due=99)
    each = [torch.optim.SGD([parameter], lr=0.0, fused=True) for parameter in parameters]
    flags = [torch.zeros(1), torch.zeros(1)]  # which the scaler fills anew
    for states in rounds:
        for optimizer, flag, state in zip(each, flags, states, strict=True):
            vars(optimizer).pop("found_inf", None)
            if state is not None:
                optimizer.found_inf = flag.fill_(state)  # type: ignore[attr-defined]
            optimizer.step()
    counted.steps.unfollow()
    assert counted.steps.count == len(rounds)
    assert float(counted.steps.skipped or 0) == skipped


def test_a_flag_of_overflow_is_read_before_it_is_filled_anew() -> None:
    parameters = grown()
    counted = Counted(parameters, due=99)
    optimizer, flag = torch.optim.SGD(parameters, lr=0.0, fused=True), torch.zeros(1)
    optimizer.found_inf = flag  # type: ignore[attr-defined]
    for state in (1, 0, 1, 0):
        flag.fill_(state)
        optimizer.step()
    counted.steps.unfollow()
    assert counted.steps.skipped is not None
    assert float(counted.steps.skipped) == 2


# ---- through watch ---------------------------------------------------------------------------------------------------


def test_other_models_optimizers_do_not_count(model: nn.Sequential, train: Train) -> None:
    other = copy.deepcopy(model)
    watcher = wstrack.watch(model, every=1)
    train(other, torch.optim.SGD(other.parameters(), lr=0.1), 3)
    assert watcher.steps == 0
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert watcher.steps == 2


def test_a_named_optimizer_is_the_only_one_that_counts(model: nn.Sequential, train: Train) -> None:
    first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    watcher = wstrack.watch(model, second, every=1)
    train(model, first, 3)
    train(model, second, 2)
    assert watcher.steps == 2


def test_two_optimizers_that_take_turns_are_one_step(model: nn.Sequential) -> None:
    generator = torch.optim.SGD(model[0].parameters(), lr=0.1)
    critic = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.1)
    watcher = wstrack.watch(model, every=2)
    before, oracle = weights(model), []
    for step in range(1, 7):
        model(torch.randn(8, 6)).square().mean().backward()
        critic.step()
        generator.step()
        if step % 2 == 0:
            oracle.append(change(weights(model), before))
            before = weights(model)
    assert watcher.steps == 6
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle, rtol=1e-6)


def test_a_critic_that_steps_more_often_sets_the_pace(model: nn.Sequential) -> None:
    generator = torch.optim.SGD(model[0].parameters(), lr=0.1)
    critic = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.1)
    watcher = wstrack.watch(model, every=5)
    before, oracle = weights(model), []
    for _ in range(4):
        model(torch.randn(8, 6)).square().mean().backward()
        for _ in range(5):
            critic.step()
        generator.step()
        oracle.append(change(weights(model), before))
        before = weights(model)
    watcher.close()
    frame = watcher.run().series["rwc"]
    assert frame.index.tolist() == [5, 10, 15, 20]
    np.testing.assert_allclose(frame.to_numpy(), oracle, rtol=1e-6)


def test_an_optimizer_for_each_parameter_in_the_backward_pass(model: nn.Sequential) -> None:
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def update(p: torch.Tensor) -> None:
        optimizers[p].step()
        p.grad = None

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    watcher = wstrack.watch(model, every=1)
    before, oracle = weights(model), []
    for _ in range(4):
        model(torch.randn(8, 6)).square().mean().backward()
        oracle.append(change(weights(model), before))
        before = weights(model)
    assert watcher.steps == 4
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle, rtol=1e-6)


def test_layers_that_no_optimizer_holds_are_sampled_with_the_rest(model: nn.Sequential, train: Train) -> None:
    watcher = wstrack.watch(model, every=2)
    train(model, torch.optim.SGD(model[4].parameters(), lr=0.1), 6)
    watcher.close()
    frame = watcher.run().series["rwc"]
    assert frame.index.tolist() == [2, 4, 6]
    assert (frame[["0.weight", "2.weight"]] == 0).all(axis=None)
    assert (frame["4.weight"] > 0).all()


def test_an_optimizer_of_a_part_of_the_layers_ends_its_step_itself(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=2, window="step")
    oracle = {}
    for step in range(1, 9):
        model(torch.randn(8, 6)).square().mean().backward()
        before = weights(model)
        optimizer.step()
        oracle[step] = change(weights(model), before)
        with torch.no_grad():
            model[4].weight.mul_(0.5)  # not the optimizer's doing
    frame = watcher.run().series["rwc"]
    assert frame.index.tolist() == [2, 4, 6, 8]
    np.testing.assert_allclose(frame.to_numpy(), [oracle[step] for step in (2, 4, 6, 8)], rtol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("window", ["interval", "step"])
def test_an_optimizer_that_wraps_another_counts_once(
    model: nn.Sequential, train: Train, window: str, every: int
) -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner = inner
            super().__init__(inner.param_groups, {})

        def step(self, closure: None = None) -> None:
            self.inner.step()
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.mul_(0.9)

    outer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1))
    watcher = wstrack.watch(model, every=every, window=window)
    states = [weights(model)]
    outer.register_step_post_hook(lambda *arguments: states.append(weights(model)))
    train(model, outer, 6)
    assert watcher.steps == 6
    span = 1 if window == "step" else every
    oracle = [change(states[at], states[at - span]) for at in range(every, 7, every)]
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle, rtol=1e-6)


def test_a_wrapper_of_some_layers_waits_for_who_steps_the_others_for_the_first_time(model: nn.Sequential) -> None:
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner = inner
            super().__init__(inner.param_groups, {})

        def step(self, closure: None = None) -> None:
            self.inner.step()

    often = Wrapper(torch.optim.SGD(model[0].parameters(), lr=0.1))
    rarely = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.1)
    watcher = wstrack.watch(model, every=2)
    states = [weights(model)]
    for step in range(1, 7):
        model(torch.randn(8, 6)).square().mean().backward()
        often.step()
        if step % 2 == 0:
            rarely.step()
            states.append(weights(model))
    oracle = [change(now, before) for before, now in pairwise(states)]
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle, rtol=1e-6)


def test_after_a_step_that_failed_inside_another_counting_goes_on(model: nn.Sequential, train: Train) -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            raise FloatingPointError("as of a check for NaN")

    watcher = wstrack.watch(model, every=2)
    with pytest.raises(FloatingPointError):
        train(model, Failing(model.parameters(), lr=0.1), 1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)
    assert watcher.run().steps.tolist() == [2, 4, 6]


def test_one_that_steps_more_rarely_belongs_to_the_step_before_from_the_first(model: nn.Sequential) -> None:
    """A critic that steps each time, an actor each fifth, and a sample each fifth: TD3, a GAN with n_critic."""
    often = torch.optim.SGD(model[0].parameters(), lr=0.1)
    rarely = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.1)
    watcher = wstrack.watch(model, every=5)
    states = [weights(model)]
    for step in range(1, 21):
        model(torch.randn(8, 6)).square().mean().backward()
        often.step()
        if step % 5 == 0:
            rarely.step()
            states.append(weights(model))
    oracle = [change(now, before) for before, now in pairwise(states)]
    run = watcher.run()
    assert run.steps.tolist() == [5, 10, 15, 20]
    np.testing.assert_allclose(run.series["rwc"].to_numpy(), oracle, rtol=1e-6)


def test_a_step_that_raised_does_not_count(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1)

    def fails() -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        optimizer.step(fails)
    assert watcher.steps == 0

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 6)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert watcher.steps == 1
    with pytest.raises(MemoryError):
        optimizer.step(fails)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)  # a cell run again, with a new optimizer
    assert watcher.steps == 4


def test_parameter_groups_added_later_are_followed(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1)
    train(model, optimizer, 2)
    optimizer.add_param_group({"params": [*model[2].parameters(), *model[4].parameters()]})
    train(model, optimizer, 3)
    watcher.close()
    frame = watcher.run().series["rwc"]
    assert frame.index.tolist() == [1, 2, 3, 4, 5]
    assert (frame["4.weight"] > 0).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_steps_that_loss_scaling_skips_do_not_count(model: nn.Sequential, fused: bool, every: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watcher = wstrack.watch(model, every=every)
    before, oracle, real = weights(model), {}, 0
    for step in range(8):
        optimizer.zero_grad()
        loss = model(torch.randn(16, 6)).square().mean()
        scaler.scale(loss * (torch.inf if step in (2, 3, 6) else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        real += step not in (2, 3, 6)
        now = weights(model)
        if step not in (2, 3, 6):
            oracle[real] = now
    assert real == 5
    run = watcher.run()
    frame = run.series["rwc"]
    assert (frame > 0).all(axis=None)  # a skipped step never shows as a layer that did not learn
    steps = frame.index.tolist()
    assert set(steps) <= set(oracle)
    assert steps == [1, 2, 3, 4, 5] if every == 1 else steps[-1] <= 5
    np.testing.assert_array_equal(np.diff([0, *steps]), run.intervals)
    for step in steps:
        now = oracle[step]
        np.testing.assert_allclose(frame.loc[step], change(now, before), rtol=1e-6)
        before = now


def test_other_models_optimizers_are_not_kept_alive(model: nn.Sequential, train: Train) -> None:
    wstrack.watch(model, every=10**6)
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    train(other, optimizer, 2)
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None


def test_master_weights_are_told_of_after_as_many_steps_as_a_sample_takes(caplog: pytest.LogCaptureFixture) -> None:
    """As apex O2 and ZeRO do: the optimizer holds copies, which are copied back."""
    model = nn.Linear(16, 8).bfloat16()
    master = [p.detach().float().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.AdamW(master, lr=1e-2)

    def train(steps: int) -> None:
        for _ in range(steps):
            model.zero_grad()
            model(torch.randn(32, 16, dtype=torch.bfloat16)).float().square().mean().backward()
            for copy_of, p in zip(master, model.parameters(), strict=True):
                copy_of.grad = p.grad.float() if p.grad is not None else None
            optimizer.step()
            with torch.no_grad():
                for copy_of, p in zip(master, model.parameters(), strict=True):
                    p.copy_(copy_of)

    watcher = wstrack.watch(model, every=10)
    train(9)
    assert "none that holds one of the layers" not in caplog.text
    train(20)
    assert caplog.text.count("none that holds one of the layers: nothing is measured so far") == 1
    assert "call step() on the watcher after each step" in caplog.text
    assert watcher.steps == 0
