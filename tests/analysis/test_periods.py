from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter
from sklearn.datasets import load_digits
from torch import nn

import wstrack
from wstrack.analysis import (
    Clustering,
    Finding,
    Repeat,
    collect_findings,
    find_epochs,
    find_period,
    find_phases,
    find_repeat,
)

pytestmark = pytest.mark.slow

EVERY = 50


def layers(common: np.ndarray, seed: int, *, count: int = 10, share: float = 1.0) -> pd.DataFrame:
    """Layers with noise of their own, of which a share follows the common course."""
    rng = np.random.default_rng(seed)
    follow = np.arange(count) < share * count
    logs = np.outer(common, follow) + 0.05 * rng.normal(size=(len(common), count)) + np.linspace(-3, -2, count)
    names = [f"block.{place}.weight" for place in range(count)]
    return pd.DataFrame(10**logs, index=np.arange(1, len(common) + 1) * EVERY, columns=names)


def spikes(samples: int, epoch: float, times: float, start: float = 130) -> np.ndarray:
    """Each epoch of so many steps begins with a sample that is larger; the sample holds the steps up to its own."""
    steps = np.arange(1, samples + 1) * EVERY
    within = (steps - start - 1) % epoch
    return np.log10(times) * ((within < EVERY) & (steps > start))


def told(series: pd.DataFrame, metric: str = "rwc") -> Finding | None:
    one = Clustering(pd.Series(1, index=series.columns), 1, pd.DataFrame(), 0.5, "k-means", "as asked for")
    phases = find_phases(np.log10(series).T)
    found = collect_findings(series, one, None, metric=metric, phases=phases)
    return next((finding for finding in found if finding.kind == "period"), None)


@pytest.mark.parametrize(
    ("samples", "epoch", "times"),
    [
        (60, 8 * EVERY, 2.0),
        (126, 5 * EVERY, 1.5),
        (126, 937, 3.0),
        (300, 937, 1.5),
        (300, 50 * EVERY, 2.0),
        (1000, 937, 1.5),
        (1000, 5 * EVERY + 1, 1.5),
    ],
)
def test_a_planted_period_is_found_within_a_sample(samples: int, epoch: int, times: float) -> None:
    common = spikes(samples, epoch, times)
    for seed in range(5):
        noise = 0.03 * np.random.default_rng(100 + seed).normal(size=samples)
        found = find_period(layers(common + noise, seed))
        assert found is not None
        assert abs(found.length * EVERY - epoch) <= EVERY
        due = np.flatnonzero(common)
        assert np.isin(found.places[found.jumps], due).mean() > 0.8
        assert found.ratio == pytest.approx(times, rel=0.2)
        assert found.p < 0.005


def test_jumps_that_go_back_in_the_course_of_an_epoch() -> None:
    within = np.arange(200) % 20
    found = find_period(layers(np.log10(2) * np.exp(-within / 8), 0))
    assert found is not None
    assert found.length == pytest.approx(20, abs=0.2)
    assert set(found.places % 20) == {0}


def test_an_epoch_with_two_jumps_has_its_own_length() -> None:
    common = 0.5 * (np.arange(300) % 30 == 4) + 0.25 * (np.arange(300) % 30 == 19)
    found = find_period(layers(common, 0))
    assert found is not None
    assert found.length == pytest.approx(30, abs=0.2)
    assert set(found.places % 30) == {4}


def quiet(kind: str, rng: np.random.Generator, samples: int) -> np.ndarray:
    share, white = np.arange(samples) / samples, 0.05 * rng.normal(size=samples)
    if kind == "slow":
        return np.asarray(lfilter([1.0], [1.0, -0.8], 0.1 * rng.normal(size=samples + 99)))[99:]
    if kind == "heavy":
        return 0.1 * rng.standard_t(3, size=samples)
    if kind == "random spikes":
        return white + np.isin(np.arange(samples), rng.choice(samples, samples // 12, replace=False))
    courses = {
        "white": 0 * share,
        "decay": -2 * share - np.log10(share + 0.01),
        "cosine": np.log10(0.505 + 0.495 * np.cos(np.pi * share)),
        "drops": -1.0 * (share > 0.3) - (share > 0.6),
        "a spike": 1.0 * (np.arange(samples) == samples // 3),
        "waves": 0.5 * np.sin(16 * np.pi * share),
    }
    return courses[kind] + white


@pytest.mark.parametrize("samples", [40, 126, 500])
@pytest.mark.parametrize(
    "kind", ["white", "slow", "heavy", "random spikes", "decay", "cosine", "drops", "a spike", "waves"]
)
def test_nothing_is_made_up(kind: str, samples: int) -> None:
    """With a chance of 0.5 % each, two in 40 or 15 runs would be seen in one of forty such tests at most."""
    rng = np.random.default_rng(7)
    runs = 40 if samples < 500 else 15
    wrong = sum(find_period(layers(quiet(kind, rng, samples), seed)) is not None for seed in range(runs))
    assert wrong <= 1


def test_restarts_that_phases_tell_are_not_told_twice() -> None:
    share = np.arange(126) / 126
    common = np.log10(np.maximum(0.5 + 0.5 * np.cos(np.pi * (share * 5 % 1)), 1e-3))
    assert all(told(layers(common, seed)) is None for seed in range(5))


def test_what_was_told_is_no_news() -> None:
    series = layers(spikes(126, 15 * EVERY, 2.0), 0)
    found = find_period(series)
    assert found is not None
    assert find_period(series, told=series.index[found.places[:6]]) is None


def test_uneven_few_or_empty_samples_say_nothing() -> None:
    series = layers(spikes(126, 10 * EVERY, 3.0), 0)
    assert find_period(series) is not None
    assert find_period(series.drop(series.index[60])) is None
    assert find_period(series.iloc[:24]) is None
    assert find_period(series * 0) is None
    assert find_period(series * np.nan) is None
    assert find_period(series[:0]) is None


def test_a_first_sample_of_another_distance_does_not_matter() -> None:
    series = layers(spikes(126, 10 * EVERY, 3.0), 0)
    earlier = pd.concat([series.iloc[:1].set_axis([1]), series])
    found, same = find_period(earlier), find_period(series)
    assert found is not None
    assert same is not None
    assert earlier.index[found.places].tolist() == series.index[same.places].tolist()


def test_gaps_and_zeros_of_single_layers_do_not_matter() -> None:
    series = layers(spikes(126, 10 * EVERY, 3.0), 0)
    series.iloc[30:60, 2], series.iloc[:, 4] = np.nan, 0.0
    found = find_period(series)
    assert found is not None
    assert found.length == pytest.approx(10, abs=0.1)


def test_the_finding_says_how_often_how_much_and_where() -> None:
    series = layers(spikes(126, 937, 3.0, start=40), 1)
    finding = told(series)
    assert finding is not None
    assert abs(float(finding.numbers["period"]) - 937) <= EVERY
    assert finding.text.startswith("The change jumps up every 9")
    assert "times as large there as just before (median layer)" in finding.text
    assert f"{finding.numbers['jumps']} of {finding.numbers['due']} times, first at step" in finding.text
    assert finding.layers == ()
    assert finding.steps[0] == finding.numbers["first_step"]
    assert len(finding.steps) == finding.numbers["jumps"]
    some = told(layers(spikes(126, 937, 3.0, start=40), 1, share=0.7), metric="norm")
    assert some is not None
    assert some.text.startswith("The value jumps up every 9")
    assert some.layers == tuple(series.columns[:7])
    assert "1.2 times or more in 7 layers from block.0.weight to block.6.weight" in some.text


def test_the_authors_series_have_one_sample_an_epoch_and_no_period(weightscale: Path) -> None:
    for path in sorted(weightscale.glob("*.csv")):
        series = pd.read_csv(path, index_col=0).T
        series.index = np.arange(1, len(series) + 1)
        assert find_period(series.where(np.isfinite(series))) is None


@pytest.mark.parametrize("shuffled", [False, True])
def test_epochs_of_a_small_network_are_seen_by_their_last_and_smallest_batch(shuffled: bool) -> None:
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    data, wanted = torch.tensor(images / 8 - 1, dtype=torch.float32), torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with wstrack.watch(model, to="runs/exp1", every=1):
        for _ in range(20):
            order = torch.randperm(len(data)) if shuffled else torch.arange(len(data))
            for batch in torch.split(order, 128):  # 14 of 128 and one of 5
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(data[batch]), wanted[batch]).backward()
                optimizer.step()
    found = find_period(wstrack.pull("runs/exp1").series["rwc"])
    assert found is not None
    assert found.length == pytest.approx(15, abs=0.2)


def pattern(samples: int, period: int, size: float, seed: int = 0) -> np.ndarray:
    """Noise of so many samples, again and again, without one clear jump."""
    once = np.random.default_rng(seed).normal(size=period)
    return -0.5 * np.arange(samples) / samples + size * once[np.arange(samples) % period]


@pytest.mark.parametrize(("samples", "period", "size"), [(126, 12, 0.1), (300, 50, 0.05), (1000, 47, 0.05)])
def test_a_pattern_that_repeats_is_found_without_a_jump(samples: int, period: int, size: float) -> None:
    for seed in range(5):
        noise = 0.03 * np.random.default_rng(100 + seed).normal(size=samples)
        found = find_repeat(layers(pattern(samples, period, size, seed) + noise, seed))
        assert found is not None
        assert found.length == pytest.approx(period, abs=0.4)
        assert 0.4 < found.correlation < 1
        assert found.p < 0.005


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("kind", ["white", "decay", "cosine", "drops", "a spike"])
def test_slow_noise_does_not_repeat(memory: float, kind: str) -> None:
    rng, wrong = np.random.default_rng(3), 0
    for seed in range(20):
        slow = lfilter([0.1 * np.sqrt(1 - memory**2)], [1.0, -memory], rng.normal(size=225))[99:]
        wrong += find_repeat(layers(quiet(kind, rng, 126) + slow, seed)) is not None
    assert wrong <= 1


def test_what_repeats_is_told_by_its_length_and_likeness() -> None:
    finding = told(layers(pattern(168, 14, 0.08), 0))
    assert finding is not None
    assert finding.text.startswith("The course of the layers repeats every 700 steps (14 samples), as where each epoch")
    assert f"correlation of {finding.numbers['correlation']:.3g} with itself" in finding.text
    assert not finding.steps


def test_jumps_that_are_less_sure_than_a_longer_course_are_part_of_it() -> None:
    common = pattern(224, 28, 0.07) + 0.3 * np.isin(np.arange(224) % 28, (4, 18)) * (np.arange(224) > 60)
    series = layers(common, 0)
    jumps = find_period(series)
    assert jumps is not None
    assert jumps.length == pytest.approx(14, abs=0.2)
    found = find_epochs(series)
    assert isinstance(found, Repeat)
    assert found.length == pytest.approx(28, abs=0.4)


def test_what_repeats_between_phases_that_were_told_is_no_news() -> None:
    series = layers(pattern(126, 18, 0.2), 0)
    assert find_repeat(series) is not None
    assert find_repeat(series, told=series.index[[18, 36, 54, 90]]) is None
    assert find_repeat(series, told=series.index[[20]]) is not None


def test_few_even_or_empty_samples_do_not_repeat() -> None:
    series = layers(pattern(126, 12, 0.1), 0)
    assert find_repeat(series.drop(series.index[60])) is None
    assert find_repeat(series.iloc[:29]) is None
    assert find_repeat(series * 0) is None
    assert find_repeat(series[:0]) is None
