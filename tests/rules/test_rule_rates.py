"""How often rules speak where nothing is wrong: no more often than stated, whatever the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.rules.observing import noise, said, samples
from wstrack.rules import Band, Collapse, IdlePart, NotFinite, RateJump, Smooth, Stopped, Surge, default
from wstrack.rules.evidence import Evidence, against_usual

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    World = Callable[[np.random.Generator], tuple[NDArray[np.float64], NDArray[np.float64]]]

COUNT, RATE, RUNS = 150, 0.1, 10


def test_evidence_rejects_what_holds_as_rarely_as_stated() -> None:
    """Bets on the hypothesis that is right, with the heavy tails that are allowed for: Ville's bound holds."""
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(150):
        evidence = Evidence(4, rate=0.2)
        away = rng.standard_t(3, (COUNT, 4)) * 0.3
        rejected += any(evidence.add(against_usual(row, np.full(4, 0.3), far=0.5, both=True)).any() for row in away)
    assert 0 < rejected <= 45  # 30 are the bound; 45 or more come by chance once in 400


def test_one_odd_sample_is_never_enough() -> None:
    evidence = Evidence(1, rate=0.01)
    for factor in [np.nan] * 50 + [0.2] * 50:
        evidence.add(np.array([factor]))
    assert not evidence.add(np.array([1e12]))[0]
    assert evidence.add(np.array([1e12]))[0]


def steady(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return noise(rng, COUNT), np.ones(COUNT)


def trends(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Layers that drift apart for ever, by up to a factor of e in 60 samples, and a shared random walk."""
    own = np.linspace(0, COUNT / 60, COUNT)[:, None] * rng.uniform(-1, 1, 8)
    return noise(rng, COUNT) + own + np.cumsum(0.05 * rng.standard_normal((COUNT, 1)), axis=0), np.ones(COUNT)


def schedule(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A warm-up, a tenfold drop, and restarts from the drop on."""
    rates = np.minimum(np.arange(1, COUNT + 1) / 20, 1.0)
    rates[70:] *= np.geomspace(1, 1e-2, 40)[np.arange(COUNT - 70) % 40]
    return noise(rng, COUNT) + np.log(rates)[:, None], rates


def gaps(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Samples that are missing, and layers that have no value every fourth time, or often stand still."""
    logs = noise(rng, COUNT)
    logs[4 * rng.choice(COUNT // 4, 8, replace=False)] = np.nan
    logs[2::4, 3] = np.nan
    logs[rng.random(COUNT) < 0.3, 4] = -np.inf
    return logs, np.ones(COUNT)


def smooth(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Full batches: hardly any noise, and a fall that slows down."""
    return noise(rng, COUNT) / 100 - 2 * np.log(np.arange(10, COUNT + 10))[:, None], np.ones(COUNT)


def take_off(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All layers change ten times as much within 40 samples, and less and less after that."""
    course = np.interp(np.arange(COUNT), [0, 60, 100, COUNT], [0, 0, 2.3, 1.0])
    return noise(rng, COUNT) + course[:, None], np.ones(COUNT)


@pytest.mark.parametrize("world", [steady, trends, schedule, gaps, smooth, take_off])
def test_the_default_rules_keep_their_rate(world: World) -> None:
    """Ten times the usual rate, so that ten runs tell: one is expected at most, and four come by chance in 1 of 80."""
    rng = np.random.default_rng(3)
    alarmed = 0
    for _ in range(RUNS):
        logs, rates = world(rng)
        alarmed += bool(said([*default(rate=RATE), Collapse(rate=RATE / 5)], samples(np.exp(logs), rates[:, None])))
    assert alarmed <= 3


def test_the_rates_of_the_rules_come_to_the_one_that_is_stated() -> None:
    rates = {type(rule): rule.rate for rule in [*default(), Collapse()] if hasattr(rule, "rate")}
    assert sum(rates.values()) == pytest.approx(0.01)
    assert set(rates) == {Stopped, IdlePart, Band, Surge, Collapse, Smooth}
    assert sum(rule.rate for rule in default(rate=0.1) if hasattr(rule, "rate")) == pytest.approx(0.08)


def test_parts_that_are_seldom_chosen_are_not_idle() -> None:
    """Each part moves in six of ten samples."""
    rng = np.random.default_rng(1)
    change = np.where(rng.random((400, 9)) < 0.6, 1e-3, 0.0)
    change[:, 0] = 1e-3
    assert not said(IdlePart(), samples(change, parts=8))


def test_a_layer_that_often_stands_still_has_not_stopped() -> None:
    moves = np.random.default_rng(1).random((1000, 6)) < 0.3
    assert not said(Stopped(), samples(np.where(moves, 1e-3, 0.0)))


def test_a_gap_is_not_a_weight_that_is_lost() -> None:
    """A process that could not measure makes all sums NaN, for a sample."""
    change = np.full((20, 4), 1e-3)
    change[[5, 9, 12]] = np.nan
    change[:, 3] = np.nan  # a layer that has no such sums at all
    assert not said(NotFinite(), samples(change))


def test_a_rate_that_begins_anew_or_late_does_not_jump() -> None:
    rates = np.full((60, 3), 1.0)
    rates[:, 1] = np.geomspace(1, 1e-3, 20)[np.arange(60) % 20]  # restarts
    rates[:30, 2] = 0.0  # a group that joins late, and warms up
    rates[30:, 2] = np.minimum(np.geomspace(0.01, 100, 30), 1.0)
    assert not said(RateJump(), samples(np.full((60, 3), 1e-3), rates))
