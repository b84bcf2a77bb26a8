from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler

import wstrack
from wstrack.training.delivery import Delivery
from wstrack.training.rates import table_of

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = ("rwc", "lr", "weight_decay")


def step(model: nn.Module, *optimizers: torch.optim.Optimizer) -> torch.Tensor:
    """A step of each optimizer on noise; the loss."""
    model.zero_grad()
    loss = model(torch.randn(32, 6)).square().mean()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.detach()


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 4, 0.1),
    "cosine with warm-up": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(optimizer, 15)],
        [5],
    ),
    "restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, 2),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, [0.5, 0.05], total_steps=20),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, threshold=10.0),
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)
def test_the_rate_is_the_one_that_the_sampled_step_used(
    model: nn.Sequential, schedule: Callable[[torch.optim.Optimizer], Any], tensor: bool, every: int
) -> None:
    first, second = (torch.tensor(rate) if tensor else rate for rate in (0.1, 0.01))
    groups = [
        {"params": model[0].parameters(), "lr": first, "weight_decay": 0.1},
        {"params": [*model[2].parameters(), *model[4].parameters()], "lr": second},
    ]
    optimizer = AdamW(groups, weight_decay=0.0)
    scheduler = schedule(optimizer)
    used = []
    with wstrack.watch(model, every=every, metrics=BOTH) as watcher:
        for _ in range(20):
            used.append([float(group["lr"]) for group in optimizer.param_groups])
            loss = step(model, optimizer)
            scheduler.step(*([loss] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
    run = watcher.run()
    expected = np.array(used)[every - 1 :: every]
    assert len(np.unique(expected[:, 0])) > 1  # or a rate read too late would be the same
    np.testing.assert_array_equal(run.series["lr"].to_numpy(), expected[:, [0, 1, 1]])
    assert run.series["lr"].index.tolist() == run.series["rwc"].index.tolist()
    assert (run.series["weight_decay"].to_numpy() == [0.1, 0.0, 0.0]).all()


def test_the_rate_is_right_where_the_optimizers_own_hook_steps_the_scheduler(model: nn.Sequential) -> None:
    optimizer = SGD(model.parameters(), lr=1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    with wstrack.watch(model, every=2, metrics=BOTH) as watcher:
        for _ in range(4):
            step(model, optimizer)
    assert watcher.run().series["lr"]["0.weight"].tolist() == [0.5, 0.125]


def test_several_optimizers_each_say_what_they_do(model: nn.Sequential) -> None:
    fast, slow = SGD(model[0].parameters(), lr=0.1), SGD(model[2:].parameters(), lr=0.01, weight_decay=0.5)
    schedulers = [lr_scheduler.StepLR(fast, 1, 0.5), lr_scheduler.StepLR(slow, 2, 0.1)]
    with wstrack.watch(model, every=2, metrics=BOTH) as watcher:
        for _ in range(6):
            model.zero_grad()
            model(torch.randn(32, 6)).square().mean().backward()
            for optimizer, scheduler in zip((fast, slow), schedulers, strict=True):
                optimizer.step()
                scheduler.step()  # at once: the round is not over yet
    run = watcher.run()
    np.testing.assert_allclose(run.series["lr"]["0.weight"], [0.05, 0.0125, 0.003125], rtol=1e-12)
    np.testing.assert_allclose(run.series["lr"]["4.weight"], [0.01, 0.001, 0.0001], rtol=1e-12)
    assert run.series["weight_decay"].iloc[0].tolist() == [0.0, 0.5, 0.5]


def test_an_optimizer_that_steps_more_rarely_is_asked_too(model: nn.Sequential) -> None:
    often, rarely = SGD(model[0].parameters(), lr=0.1), SGD(model[2:].parameters(), lr=0.01)
    with wstrack.watch(model, every=1, metrics=BOTH) as watcher:
        for count in range(1, 8):
            step(model, often, *([rarely] if count % 3 == 0 else []))
            often.param_groups[0]["lr"] /= 2
    run = watcher.run()
    np.testing.assert_allclose(run.series["lr"]["0.weight"], 0.1 / 2.0 ** np.arange(len(run.series["lr"])))
    assert (run.series["lr"]["4.weight"].iloc[2:] == 0.01).all()


def test_layers_that_join_a_group_later_have_its_rate_from_then_on(model: nn.Sequential) -> None:
    optimizer = SGD(model[0].parameters(), lr=0.1)
    with wstrack.watch(model, every=1, metrics=BOTH) as watcher:
        for _ in range(3):
            step(model, optimizer)
        optimizer.add_param_group({"params": model[4].parameters(), "lr": 0.7})
        for _ in range(3):
            step(model, optimizer)
    rates = watcher.run().series["lr"]
    assert (rates["0.weight"] == 0.1).all()
    assert rates["2.weight"].isna().all()
    assert rates["4.weight"].isna().tolist() == [True] * 3 + [False] * 3
    assert (rates["4.weight"].iloc[3:] == 0.7).all()


def test_of_an_optimizer_around_another_the_inner_one_counts(model: nn.Sequential) -> None:
    class Outer(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__([parameter for group in inner.param_groups for parameter in group["params"]], {"lr": 9.0})
            self.inner = inner

        def step(self, closure: Any = None) -> None:
            self.inner.step()

    with wstrack.watch(model, every=1, metrics=BOTH) as watcher:
        outer = Outer(SGD(model.parameters(), lr=0.1, weight_decay=0.2))
        for _ in range(3):
            step(model, outer)
    run = watcher.run()
    assert (run.series["lr"].to_numpy() == 0.1).all()
    assert (run.series["weight_decay"].to_numpy() == 0.2).all()


@pytest.mark.parametrize("window", ["interval", "step"])
def test_a_step_without_a_sample_asks_nothing(
    model: nn.Sequential, window: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wstrack.training.rates import Rates

    asked, read = [], Rates._read
    monkeypatch.setattr(Rates, "_read", lambda self, optimizer: (asked.append(1), read(self, optimizer))[1])
    optimizer = SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, every=5, metrics=BOTH, window=window):
        for _ in range(14):
            step(model, optimizer)
    assert len(asked) == 2


def test_a_rate_in_a_tensor_is_that_of_the_step_whenever_it_is_delivered(model: nn.Sequential) -> None:
    rate = torch.tensor(0.5)
    optimizer = SGD(model.parameters(), lr=rate)
    changed, record = threading.Event(), Delivery._record

    def held(self: Delivery, batch: Any) -> None:
        assert changed.wait(60)
        record(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delivery, "_record", held)
        with wstrack.watch(model, every=1, metrics=BOTH) as watcher:
            step(model, optimizer)
            rate.fill_(0.25)  # what a scheduler does
            changed.set()
    assert watcher.run().series["lr"].to_numpy().tolist() == [[0.5] * 3]


def test_without_an_optimizer_it_is_said_once(model: nn.Sequential, caplog: pytest.LogCaptureFixture) -> None:
    with wstrack.watch(model, every=1, metrics=("rwc", "lr")) as watcher:
        for _ in range(3):
            with torch.no_grad():
                model[0].weight.mul_(1.01)
            watcher.step()
    run = watcher.run()
    assert run.series["lr"].isna().all(axis=None)
    assert run.series["rwc"]["0.weight"].gt(0).all()
    said = [record.message for record in caplog.records if "learning rates are not known" in record.message]
    assert len(said) == 1
    assert said[0].startswith(f"{watcher.name}: no torch optimizer holds one of the layers")


def test_a_loop_that_counts_by_itself_may_name_its_optimizer(model: nn.Sequential) -> None:
    optimizer = SGD(model.parameters(), lr=0.3)
    with wstrack.watch(model, optimizer, every=1, metrics=("rwc", "lr")) as watcher:
        watcher.step()
    assert watcher.run().series["lr"].to_numpy().tolist() == [[0.3] * 3]


@pytest.mark.parametrize(
    ("optimizer_of", "factor"),
    [
        (lambda parameters: AdamW(parameters, lr=0.01, betas=(0.8, 0.99), weight_decay=0.5), 0.2 / 1.8),
        (lambda parameters: AdamW(parameters, lr=torch.tensor(0.01), betas=(0.8, 0.99), weight_decay=0.5), 0.2 / 1.8),
        (lambda parameters: SGD(parameters, lr=0.01, momentum=0.8, weight_decay=0.5), 1 / 1.8),
        (lambda parameters: SGD(parameters, lr=0.01, weight_decay=0.5), 1.0),
        (lambda parameters: SGD(parameters, lr=0.01), 0.0),
        (lambda parameters: AdamW(parameters, lr=0.01, weight_decay=0.5, amsgrad=True), np.nan),
        (lambda parameters: SGD(parameters, lr=0.01, momentum=0.8, weight_decay=0.5, nesterov=True), np.nan),
        (lambda parameters: SGD(parameters, lr=0.01, momentum=0.8, weight_decay=0.5, dampening=0.5), np.nan),
        (lambda parameters: Adam(parameters, lr=0.01, weight_decay=0.5), np.nan),
    ],
    ids=["AdamW", "tensor", "momentum", "SGD", "no decay", "amsgrad", "nesterov", "dampening", "Adam"],
)
def test_the_equilibrium_is_known_of_adamw_and_sgd_and_of_none_of_their_variants(
    model: nn.Sequential, optimizer_of: Callable[[Any], torch.optim.Optimizer], factor: float
) -> None:
    optimizer = optimizer_of(model.parameters())
    with wstrack.watch(model, every=1, metrics=("rwc_l2", "equilibrium")) as watcher:
        step(model, optimizer)
    found = watcher.run().series["equilibrium"].to_numpy()
    np.testing.assert_allclose(found, np.full((1, 3), np.sqrt(2 * 0.01 * 0.5 * factor)), rtol=1e-6)


def test_groups_without_a_rate_are_nan(model: nn.Sequential) -> None:
    class Bare(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, {"lr": None})

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(1.01)

    with wstrack.watch(model, every=1, metrics=BOTH) as watcher:
        optimizer = Bare(model.parameters())
        step(model, optimizer)
    run = watcher.run()
    assert run.series["lr"].isna().all(axis=None)
    assert run.series["weight_decay"].isna().all(axis=None)
    assert run.completeness.missing == 0


def test_the_group_and_whether_it_is_sgd_are_kept_beside_the_rate(model: nn.Sequential) -> None:
    groups = [{"params": model[4].parameters()}, {"params": model[2].parameters()}]
    optimizers = SGD(model[0].parameters(), lr=0.1), AdamW(groups, lr=0.01)
    with wstrack.watch(model, every=1, metrics=("rwc", "lr")) as watcher:
        step(model, *optimizers)
    sums = watcher.run().sums
    assert sums["plain"].to_numpy().tolist() == [[1.0, 0.0, 0.0]]
    assert sums["group"].to_numpy().tolist() == [[0.0, 2.0, 1.0]]


def test_sums_over_ranks_are_the_rate_of_one() -> None:
    """What ranks add up, each for the layers that it holds."""
    from wstrack.metrics import compute
    from wstrack.training.rates import GroupRates

    one = table_of([GroupRates([0, 1], {"lr": 0.1})], ["lr", "told"], 2)
    other = table_of([GroupRates([0], {"lr": 0.1})], ["lr", "told"], 1)
    total = one.copy()
    total[:1] += other
    found = compute(["lr"], {"lr": total[:, 0], "told": total[:, 1]}, np.ones(2))
    assert found["lr"].tolist() == [0.1, 0.1]


def test_rates_alone_are_refused(model: nn.Sequential) -> None:
    with pytest.raises(
        ValueError, match=r"metrics=\('lr',\) are of the optimizer alone; .* as in metrics=\('rwc', 'lr'\)"
    ):
        wstrack.watch(model, metrics="lr")


def test_a_watch_that_waits_for_a_sample_keeps_no_optimizer_alive(model: nn.Sequential) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1, metrics=("rwc", "lr"))
    step(model, optimizer)
    watcher._measured.stepping(watcher._steps, optimizer)  # it was about to step, and raised
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    watcher.close()
