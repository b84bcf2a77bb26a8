"""Slopes on settings: planted powers are found, noise brings none beyond the stated share, odd runs are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import wstrack
from wstrack import WstrackError
from wstrack.analysis.odd import odd_runs
from wstrack.analysis.slopes import interaction, level_of, numbers_of, slopes
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run


def swept(
    seed: int, *, runs: int = 24, layers: int = 20, power: float = 0.0, odd: bool = False
) -> tuple[list[pd.DataFrame], Any]:
    """Runs over 8 rates; each has a level of its own, each layer noise with heavy tails; layer 3 goes with the rate."""
    rng = np.random.default_rng(seed)
    rates = np.repeat(np.geomspace(1e-4, 1e-1, 8), runs // 8)
    levels = rng.normal(0, 1, layers) + 0.03 * rng.standard_t(3, (runs, 1)) + 0.04 * rng.standard_t(3, (runs, layers))
    levels[:, 3] += power * np.log10(rates)
    if odd:
        levels[5] += 1.5
        levels[9, 5:14] += 1.5
    names = [f"l{place}" for place in range(layers)]
    return [pd.DataFrame(10 ** (row + 0.05 * rng.normal(size=(12, layers))), columns=names) for row in levels], rates


def found(seed: int, **options: Any) -> Any:
    frames, rates = swept(seed, **options)
    return swept_slopes(frames, rates, kinds=["conv", "linear"] * (frames[0].shape[1] // 2))


def levels_of(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame([level_of(frame) for frame in frames], index=[f"run {at}" for at in range(len(frames))])


def swept_slopes(frames: list[pd.DataFrame], values: Any, *, by: str = "lr", kinds: list[str] | None = None) -> Any:
    return slopes(levels_of(frames), values, by=by, kinds=kinds or [""] * frames[0].shape[1])


def odd_in(seed: int, **options: Any) -> dict[str, str]:
    frames, rates = swept(seed, **options)
    return odd_runs(levels_of(frames), [np.log10(rates)])


def test_noise_brings_no_more_than_the_stated_share() -> None:
    """Of 100 sweeps without any effect 5 may say something at the stated rates; over 10 do in 1 of 90."""
    nulls = [found(seed, runs=8 * (1 + seed % 3), layers=(6, 12, 20)[seed % 3]) for seed in range(100)]
    assert sum(bool(one.layers["goes"].any()) for one in nulls) <= 10
    assert sum(bool(one.layers["unlike"].any()) for one in nulls) <= 10
    odd = [odd_in(seed, runs=8 * (1 + seed % 3), layers=(6, 12, 20)[seed % 3]) for seed in range(100)]
    assert sum(bool(one) for one in odd) <= 10


def test_a_layer_that_goes_with_the_root_of_the_rate_is_found_among_odd_runs() -> None:
    hits = [found(seed, power=0.5, odd=True) for seed in range(20)]
    rows = [one.layers.loc["l3"] for one in hits]
    assert sum(row["goes"] and row["unlike"] and abs(row["slope"] - 0.5) < 0.1 for row in rows) >= 19
    assert sum(row["lower"] <= 0.5 <= row["upper"] for row in rows) >= 17
    false = sum(int(one.layers["goes"].sum()) - 1 for one in hits)
    assert false <= 4  # 5 % of 20 discoveries, and chance
    odd = [odd_in(seed, power=0.5, odd=True) for seed in range(20)]
    assert sum("run 5" in one and "times more" in one["run 5"] for one in odd) >= 18
    assert sum("run 9" in one and "stand otherwise" in one["run 9"] for one in odd) >= 15
    assert sum(len(set(one) - {"run 5", "run 9"}) for one in odd) <= 2


def test_thousands_of_runs_are_no_millions_of_pairs() -> None:
    rng = np.random.default_rng(0)
    rates = 10 ** rng.uniform(-4, -1, 3000)
    frames = [
        pd.DataFrame(10 ** np.array([[0.3 * np.log10(rate) + 0.2 * rng.normal(), rng.normal()]])) for rate in rates
    ]
    got = swept_slopes(frames, rates).layers
    assert got["slope"]["0"] == pytest.approx(0.3, abs=0.05)
    assert got["upper"]["0"] - got["lower"]["0"] < 0.1
    assert got["goes"].tolist() == [True, False]


def test_groups_have_slopes_of_their_own() -> None:
    frames, rates = swept(0)
    scaled = [
        frame.mul([rate if place % 2 else 1 for place in range(20)]) for frame, rate in zip(frames, rates, strict=True)
    ]
    groups = swept_slopes(scaled, rates, kinds=["conv", "linear"] * 10).groups
    assert groups.index.tolist() == ["all", "kind: conv", "kind: linear", "early", "middle", "late"]
    assert groups["slope"]["kind: linear"] == pytest.approx(1, abs=0.1)
    assert groups["slope"]["kind: conv"] == pytest.approx(0, abs=0.1)
    assert groups["slope"]["all"] == pytest.approx(0.5, abs=0.1)


def test_gaps_zeros_and_a_diverged_run_are_left_out_and_named() -> None:
    frames, rates = swept(1, power=1.0)
    frames[2] = frames[2] * np.nan
    frames[3] = frames[3] * 0.0
    frames[4].iloc[:6] = np.inf
    got = swept_slopes(frames, rates)
    odd = odd_runs(levels_of(frames), [np.log10(rates)])
    assert {name: odd[name] for name in ("run 2", "run 3")} == dict.fromkeys(
        ("run 2", "run 3"), "no layer has a finite change"
    )
    assert got.layers["slope"]["l3"] == pytest.approx(1, abs=0.1)


def test_a_setting_over_little_goes_by_itself_and_not_by_its_logarithm() -> None:
    frames, _ = swept(0)
    depth = np.tile([2.0, 3, 4, 5], 6)
    got = swept_slopes(frames, depth, by="depth")
    assert not got.logarithmic
    width = np.tile([1.0, 2, 4, 8], 6)
    assert swept_slopes(frames, width, by="width").logarithmic


def test_blocks_have_slopes_where_they_tell_layers_apart() -> None:
    frames, rates = swept(0)
    got = slopes(levels_of(frames), rates, by="lr", kinds=[""] * 20, blocks=["stem"] * 4 + ["body"] * 16).groups
    assert got.index.tolist() == ["all", "block: stem", "block: body", "early", "middle", "late"]


def test_an_interaction_is_found_where_it_is_and_nowhere_else() -> None:
    """Layer 3 goes with the rate the more, the wider the network: one power at width 1, half as much at 8."""
    rng = np.random.default_rng(0)
    found_there, found_elsewhere = 0, 0
    for _ in range(20):
        rate, width = (each.ravel() for each in np.meshgrid(np.geomspace(1e-4, 1e-1, 8), [64.0, 128, 256, 512]))
        levels = pd.DataFrame(0.05 * rng.standard_t(3, (32, 12)), columns=[f"l{at}" for at in range(12)])
        levels += 0.7 * np.log10(rate)[:, None] - 0.3 * np.log10(width)[:, None]
        levels["l3"] += 0.3 * np.log10(rate) * np.log10(width)
        got = interaction(levels, rate, width, by="lr * width", kinds=[""] * 12).layers
        found_there += bool(got.loc["l3", "goes"]) and abs(got.loc["l3", "slope"] - 0.3) < 0.1
        found_elsewhere += bool(got["goes"].drop("l3").any())
    assert found_there >= 19
    assert found_elsewhere <= 4


def test_settings_that_go_together_have_no_interaction() -> None:
    levels = pd.DataFrame(np.zeros((8, 3)))
    alike = np.tile([1.0, 10.0], 4)
    with pytest.raises(ValueError, match="do not differ apart from each other"):
        interaction(levels, alike, alike, by="lr * width", kinds=[""] * 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([{"lr": 1}, {"seed": 1}], "by='lr' (--by) is no setting of 'b'; settings of these runs: lr, seed"),
        ([{"lr": 1}, {"lr": "adam"}], "takes numbers; hold names against each other with compare='lr'"),
        ([{"lr": 1}, {"lr": 1}], "is 1 in all runs"),
        ([{"lr": 1}, {"lr": float("nan")}], "takes numbers"),
    ],
)
def test_what_is_no_setting_with_numbers_is_refused(settings: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ValueError, match="by='lr'") as caught:
        numbers_of(settings, ["a", "b"], "lr")
    assert said in str(caught.value)


def runs(count: int = 10) -> list[Run]:
    layers = tuple(Layer(f"{name}.weight", kind="linear") for name in "abcdef")
    rng = np.random.default_rng(0)
    made = []
    for place, rate in enumerate(np.geomspace(0.001, 1, count)):
        values = rate ** np.array([1, 1, 1, 1, 0, 1]) * rng.lognormal(sigma=0.05, size=(12, 6))
        manifest = Manifest(f"run {place}", layers, ("rwc",), every=10)
        run = Run.from_values(manifest, range(10, 130, 10), {"rwc": values})
        made.append(run.with_origin(settings={"lr": float(rate)}))
    return made


def test_a_report_by_a_setting_says_it_everywhere(tmp_path: Any) -> None:
    report = wstrack.report(runs(), by="lr", k=2)
    (finding,) = [one for one in report.findings if one.kind == "trend"]
    assert finding.layers == ("e.weight",)
    assert "Over 10 runs with lr from 0.001 to 1" in finding.text
    plain = report.to_dict()
    assert plain["slopes"]["by"] == "lr"
    assert [row["layer"] for row in plain["slopes"]["layers"] if row["unlike"]] == ["e.weight"]
    for name in ("r.html", "r.md", "r.json"):
        report.save(tmp_path / name)
    assert "By lr" in (tmp_path / "r.html").read_text()
    assert "## By lr" in (tmp_path / "r.md").read_text()


def test_few_runs_are_refused_with_the_way_out() -> None:
    with pytest.raises(WstrackError, match=r"needs 5; hold fewer against each other with compare='lr'"):
        wstrack.report(runs(4), by="lr")
