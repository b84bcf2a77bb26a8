"""What rules say of faults in made series: which rule, of which layer, how soon, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.rules.observing import noise, said, samples
from wstrack.rules import Collapse, IdlePart, NotFinite, OneStep, RateJump, Smooth, Surge, default
from wstrack.rules.usual import Latest, quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from wstrack.rules import Observed

    Array = NDArray[np.float64]

AT = 100  # the first sample with the fault


def louder(change: Array) -> None:
    change[AT:, 2] *= 10


def quieter(change: Array) -> None:
    change[AT:, 2] /= 10


def fading(change: Array) -> None:
    """As momentum fades when gradients are zero: by 0.9 a step, two steps a sample."""
    change[AT:, 2] *= 0.81 ** np.arange(len(change) - AT)


def still(change: Array) -> None:
    change[AT:, 2] = 0.0


def surge(change: Array) -> None:
    change[AT : AT + 12] *= 5


def collapse(change: Array) -> None:
    change[AT:] *= 0.01


def dying(change: Array) -> None:
    change[AT:] *= 0.81 ** np.arange(len(change) - AT)[:, None]


def same(change: Array) -> None:
    """The noise of one sample, for ever, and a slow fall."""
    change[AT:] = change[AT] * 0.97 ** np.arange(len(change) - AT)[:, None]


@pytest.mark.parametrize(
    ("fault", "rule", "layer", "within", "words"),
    [
        (louder, "band", "l2", 4, "times more than usual beside the other layers; look at its learning rate"),
        (quieter, "band", "l2", 4, "times less than usual beside the other layers; look at whether gradients"),
        (fading, "band", "l2", 20, "times less than usual beside the other layers"),
        (still, "stopped", "l2", 6, "has not changed in"),
        (surge, "surge", None, 5, "the median layer changes"),
        (collapse, "collapse", None, 4, "times less than in the samples before, and the learning rate is not why"),
        (dying, "collapse", None, 20, "dead units"),
        (same, "smooth", None, 25, "look at whether the same batch comes again and again"),
    ],
)
def test_a_fault_is_found_by_its_rule(
    fault: Callable[[Array], None], rule: str, layer: str | None, within: int, words: str
) -> None:
    for seed in range(2):
        change = np.exp(noise(np.random.default_rng(seed)))
        fault(change)
        alerts = said([*default(), Collapse()], samples(change, 1.0))
        assert [(alert.rule, alert.layer) for alert in alerts] == [(rule, layer)]
        assert AT < alerts[0].step <= AT + within
        assert words in alerts[0].text


@pytest.mark.parametrize(("before", "after", "rule"), [(1.0, 0.02, "collapse"), (0.02, 1.0, "surge")])
def test_what_the_learning_rate_explains_is_no_surge_and_no_collapse(before: float, after: float, rule: str) -> None:
    rates = np.where(np.arange(200) < AT, before, after)[:, None]
    change = np.exp(noise(np.random.default_rng(0))) * rates
    assert not said([Surge(), Collapse()], samples(change, rates))
    assert [alert.rule for alert in said([Surge(), Collapse()], samples(change))] == [rule]


def test_full_batches_are_smooth_from_the_start_and_no_news() -> None:
    change = np.exp(noise(np.random.default_rng(0)))
    change[:] = change[0] * 0.97 ** np.arange(len(change))[:, None]
    assert not said(Smooth(), samples(change))


def test_a_part_that_is_never_chosen_is_idle() -> None:
    rng = np.random.default_rng(0)
    change = np.where(rng.random((120, 17)) < 0.8, 1e-3, 0.0)
    change[:, 0] = 1e-3
    change[50:, 4] = 1e-6  # weight decay goes on
    alerts = said(IdlePart(), samples(change, parts=16))
    assert [alert.layer for alert in alerts] == ["l0[3]"]
    assert 50 < alerts[0].step <= 90
    assert f"has not learnt in {alerts[0].number:g} samples, while the other parts of its layer do" in alerts[0].text


def window_of_steps(change: Array) -> list[Observed]:
    """Weights that are lost between two samples: both sums are NaN from then on."""
    change[AT:, 1] = np.nan
    return samples(change)


def interval(change: Array) -> list[Observed]:
    """Weights that are lost within a sample, which then began with finite ones."""
    seen = window_of_steps(change)
    seen[AT].sums["abs_previous"][1] = 1.0
    return seen


def overflow(change: Array) -> list[Observed]:
    seen = samples(change)
    for sample in seen[AT:]:
        sample.sums["abs_previous"][1] = np.inf
    return seen


@pytest.mark.parametrize(("lose", "step"), [(window_of_steps, AT + 2), (interval, AT + 1), (overflow, AT + 1)])
def test_weights_that_are_lost_are_said_once(lose: Callable[[Array], list[Observed]], step: int) -> None:
    alerts = said(NotFinite(), lose(np.full((120, 3), 1e-3)))
    assert [(alert.layer, alert.step) for alert in alerts] == [("l1", step)]
    assert "has weights that are NaN or infinite; go back to a checkpoint" in alerts[0].text


def test_a_rate_that_jumps_is_that_of_a_layer_or_of_the_run() -> None:
    rates = np.ones((40, 4))
    rates[20:, 2] = 10
    one = said(RateJump(), samples(np.full((40, 4), 1e-3), rates))
    assert [(alert.layer, alert.step, alert.number) for alert in one] == [("l2", 21, 10)]
    assert one[0].sentence.startswith("l2 has a learning rate of 10, 10 times its highest before; look at the schedule")
    rates[20:] = 10
    (run,) = said(RateJump(), samples(np.full((40, 4), 1e-3), rates))
    assert run.sentence.startswith("the learning rate is 10, 10 times its highest before; look at the schedule")


def test_the_rule_of_a_thousandth_speaks_after_ten_samples() -> None:
    change = np.full((30, 3), 1e-3)
    change[10:, 0], change[15:, 2] = 0.05, 1e-5
    alerts = said(OneStep(), samples(change))
    assert [(alert.layer, alert.step) for alert in alerts] == [("l0", 20), ("l2", 25)]
    assert "changes by 0.05 in one step, over 0.01 for 10 samples" in alerts[0].text


def test_quantiles_and_lines_are_numpys_and_scipys() -> None:
    from scipy.stats import theilslopes

    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 16))
    missing = np.where(rng.random(values.shape) < 0.3, np.nan, values)
    for share in (0.5, 0.9):
        np.testing.assert_allclose(quantile(missing, share), np.nanquantile(missing, share, axis=1))
    latest = Latest(series=6, length=16)
    for column in values.T:
        latest.add(column)
    slopes = [theilslopes(row).slope for row in values]
    expected = [np.median(row + slope * np.arange(16, 0, -1)) for row, slope in zip(values, slopes, strict=True)]
    np.testing.assert_allclose(latest.ahead(), expected)
