"""The page of a sweep as text: what it says, that nothing in it is markup from outside, and how large it is."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from tests.reporting.fake_sweeps import fake_sweep
from wstrack.runs.listed import Listed
from wstrack.sweeps.columns import Column, about_runs, command, results_of, same_in_all, settings_of
from wstrack.sweeps.map import MISSING, quantised
from wstrack.sweeps.page import render_sweep
from wstrack.sweeps.summary import Summary
from wstrack.sweeps.summed import summed_up
from wstrack.sweeps.words import sentences, verdict


def text_of(page: str) -> str:
    """What a reader sees of the page's own markup, without scripts and styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


def test_the_verdict_says_how_many_runs_what_differs_and_what_the_setting_does() -> None:
    assert verdict(fake_sweep(24, odd=2, unread=1)) == (
        "24 runs over lr, width (1 could not be read, 2 are unlike all others): with lr from 0.001 to 1 the "
        "change goes as lr^0.92; 1 of 6 layers is unlike: blocks.5.weight (0.49)."
    )


def test_the_verdict_where_nothing_differs_is_short() -> None:
    assert verdict(fake_sweep(5, settings=[])) == "5 runs that differ in no setting."


def test_the_verdict_where_a_setting_does_nothing_says_so() -> None:
    rng = np.random.default_rng(1)
    runs = [
        Summary(f"r{i}", name=f"r{i}", metric="rwc", layers=("a", "b"), kinds=("", ""), blocks=("", ""),
                levels=tuple(map(float, rng.normal(-3, 0.1, 2))), settings={"lr": 10.0 ** (i % 4)})
        for i in range(20)
    ]  # fmt: skip
    sweep = summed_up(runs, [Listed(one.reference, one.name, settings=one.settings) for one in runs])
    assert verdict(sweep) == ("20 runs over lr: with lr from 1 to 1e+03 the change of no layer goes beyond chance.")
    assert [one.place for one in sentences(sweep)] == ["by-0"]


def test_each_setting_interaction_odd_run_and_finding_has_its_sentence_and_its_section() -> None:
    sweep = fake_sweep(24, odd=2, unread=1, by=["lr", "width", "lr * width"])
    page = render_sweep(sweep, pages={})
    found = sentences(sweep)
    assert [one.place for one in found] == ["by-0", "by-2", "by-1", "odd", "unread", "runs"]
    assert found[0].layers == ("blocks.5.weight",)
    for one in found:
        assert f'<section id="{one.place}"' in page
        assert one.text in text_of(page)
    assert "How lr and width go together" in text_of(page)
    assert "run 23: its files end in the middle" in text_of(page)


def test_settings_without_a_trend_are_named_in_one_sentence() -> None:
    sweep = fake_sweep(24, settings=["a", "width", "c", "d"], by=["width", "d"])
    assert sentences(sweep)[0].text == (
        "The change of no layer goes with one of these settings beyond chance (false discovery rate 5 %): width, d."
    )


def test_what_was_passed_over_is_named_with_its_reason() -> None:
    page = text_of(render_sweep(fake_sweep(24, settings=["lr", "seed", "act", "data_seed"]), pages={}))
    assert "seed, data_seed: a seed is a name" in page


def test_settings_results_and_what_is_alike_are_told_apart() -> None:
    sweep = fake_sweep(24, settings=["lr", "width", "act"], more={"optimizer": "adam"})
    assert settings_of(sweep) == ["lr", "width", "act"]
    assert results_of(sweep) == ["val_loss", "accuracy"]
    assert same_in_all(sweep) == [("optimizer", "adam")]
    assert "optimizeradam" in text_of(render_sweep(sweep, pages={}))


def test_a_run_without_a_page_shows_the_command_that_makes_one() -> None:
    sweep = replace(fake_sweep(5), match="(?P<layer>.*) norm", metric="norm")
    assert command(sweep, "mlflow:a b") == "wstrack report 'mlflow:a b' --match '(?P<layer>.*) norm' --metric norm"
    column = about_runs(sweep, {"runs/1": "runs/1.html"})["address"]
    assert [column.words[code] for code in column.codes] == ["", "runs/1.html", "", "", ""]  # type: ignore[index]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://x.org/1.html", "//x.org/1", "/etc/1", "\\\\x\\1"])
def test_an_address_that_is_not_relative_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not relative"):
        render_sweep(fake_sweep(5), pages={"runs/1": address})


def test_names_of_layers_settings_and_runs_are_text() -> None:
    bad = "</script><script>alert(1)</script>\u202e"
    sweep = fake_sweep(
        12, [bad, "b", "c"], settings=[bad + "s"], names={0: bad}, odd=1, unread=1, more={bad + "m": bad}
    )
    page = render_sweep(replace(sweep, title=bad), pages={})
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_a_word_of_a_column_is_sent_once_and_missing_values_are_none() -> None:
    column = Column.of("act", ["gelu", float("nan"), None, True, "gelu", 3])
    assert [column.words[code] for code in column.codes] == ["gelu", None, None, "True", "gelu", 3.0]  # type: ignore[index]
    assert column.words == ["gelu", None, "True", 3.0]
    assert not column.numeric
    numbers = Column.of("lr", [0.1, None, 0.3])
    assert numbers.numeric
    assert numbers.words is None
    assert np.array_equal(numbers.codes, [0.1, np.nan, 0.3], equal_nan=True)


def test_levels_come_back_from_their_codes_to_a_65000th_of_the_range() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(-3, 1, (50, 20))
    levels[3, 4] = np.nan
    found = quantised(levels)
    back = found.low + found.codes / (MISSING - 1) * (found.high - found.low)
    assert found.codes[3, 4] == MISSING
    there = np.isfinite(levels)
    assert np.abs(back - levels)[there].max() <= (found.high - found.low) / (MISSING - 1) / 2 * 1.001


def test_of_very_many_layers_a_column_is_the_mean_of_neighbours() -> None:
    levels = np.zeros((2000, 4000))
    levels[:, 1::3] = np.nan
    levels[:, 2::3] = 1.0
    found = quantised(levels)
    assert found.places[:2] == [(0, 3), (3, 6)]
    assert found.places[-1] == (3999, 4000)
    assert np.unique(found.codes[:, :-1]).size == 1  # one value: the middle of 0 and 1
    assert abs(found.codes[0, 0] - found.codes[0, -1]) > 0


@pytest.mark.parametrize(
    ("runs", "layers", "settings"), [(1, 1, ["lr"]), (2, 2, []), (5, 2, ["lr"]), (5, 2000, ["lr"]), (600, 3, [])]
)
def test_sweeps_of_all_sizes_have_a_page(runs: int, layers: int, settings: list[str]) -> None:
    sweep = fake_sweep(runs, layers, settings=settings)
    assert verdict(sweep) in text_of(render_sweep(sweep, pages={}))


def test_runs_with_different_layers_and_all_odd_have_a_page() -> None:
    summaries = [
        Summary(f"r{i}", name="same name", metric="rwc", layers=(f"only.{i}", "shared"), kinds=("", ""),
                blocks=("", ""), levels=(None, None if i % 2 else -3.0), settings={"lr": float(i)})
        for i in range(8)
    ]  # fmt: skip
    sweep = summed_up(summaries, [Listed(one.reference, one.name, settings=one.settings) for one in summaries])
    sweep = replace(sweep, odd={one.reference: "all is odd" for one in summaries})
    page = text_of(render_sweep(sweep, pages={}))
    assert page.count("all is odd") >= 8
    assert "same name (r3)" in page


def test_five_thousand_runs_take_less_than_fifteen_megabytes() -> None:
    sweep = fake_sweep(1000, 200, settings=["lr", "width", *(f"setting {place}" for place in range(28))])
    pages = {reference: f"runs/{place}.html" for place, reference in enumerate(sweep.table.index)}
    library = render_sweep(fake_sweep(2, 2, settings=[]), pages={})
    grows = len(render_sweep(sweep, pages=pages)) - len(library)
    assert len(library) + 5 * grows < 15e6
