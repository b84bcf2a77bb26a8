"""How many samples are missing between those that are there, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wstrack.runs.gaps import last_standing, lost_between


def lost(
    steps: list[int],
    intervals: list[int],
    *,
    every: int = 10,
    window: str = "interval",
    elsewhere: tuple[int, ...] = (),
) -> int:
    arrays = (np.array(numbers, dtype=np.int64) for numbers in (steps, intervals, elsewhere))
    steps_, intervals_, elsewhere_ = arrays
    return lost_between(steps_, intervals_, every=every, window=window, elsewhere=elsewhere_)


def test_samples_that_join_up_lost_none() -> None:
    assert lost([10, 20, 30], [10, 10, 10]) == 0
    assert lost([10, 25, 30], [10, 15, 5]) == 0


def test_two_samples_suffice_to_show_a_gap_and_one_does_not() -> None:
    assert lost([10, 40], [10, 10]) == 2
    assert lost([40], [10]) == 0


def test_each_gap_counts_by_what_lies_in_it() -> None:
    assert lost([10, 40, 50, 100], [10, 10, 10, 20]) == 2 + 3


@pytest.mark.parametrize(("every", "missing"), [(10, 3), (20, 2), (50, 1), (1000, 1), (0, 30)])
def test_a_gap_lost_one_at_least(every: int, missing: int) -> None:
    assert lost([10, 50], [10, 10], every=every) == missing


def test_of_the_changes_of_single_steps_nothing_can_be_told() -> None:
    assert lost([10, 40], [1, 1], window="step") == 0


@pytest.mark.parametrize(
    ("elsewhere", "missing"),
    [((20,), 1), ((20, 30), 0), ((20, 20), 1), ((30,), 1), ((10, 31, 40), 2), ((15, 20, 25, 30), 0)],
)
def test_samples_of_another_session_fill_the_gap_in_which_they_lie(elsewhere: tuple[int, ...], missing: int) -> None:
    assert lost([10, 40], [10, 10], elsewhere=elsewhere) == missing


def test_what_fills_one_gap_twice_over_fills_no_other() -> None:
    assert lost([10, 30, 60], [10, 10, 10], elsewhere=(12, 14, 16, 20)) == 2


def test_all_samples_stand_where_nothing_went_on_after_a_step() -> None:
    assert last_standing({"a"}, []) == last_standing({"a"}, [(None, {"a"}), (5, {"b"})]) == np.iinfo(np.int64).max
    assert last_standing({"a"}, [(7, {"a", "b"}), (5, {"a"}), (9, {"a"})]) == 5
