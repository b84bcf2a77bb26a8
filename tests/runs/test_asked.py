"""What of a condition is asked of a tracker: never more than every run must fit that the condition fits."""

from __future__ import annotations

import pytest

from wstrack.runs.asked import Asked, asked_of, comparisons_in
from wstrack.runs.conditions import fitting, settled


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("state = 'finished'", [("state", "=", "finished")]),
        ("state == 'finished' and lr > 1e-4", [("state", "=", "finished"), ("lr", ">", 1e-4)]),
        ("'finished' = state AND -1 <= lr", [("state", "=", "finished"), ("lr", ">=", -1)]),
        ("(state <> 'a' and (model.name = 'it''s'))", [("state", "!=", "a"), ("model.name", "=", "it's")]),
        (
            '"val/loss" < +.5 and [my tag] = 1 and `x` >= 2.',
            [("val/loss", "<", 0.5), ("my tag", "=", 1), ("x", ">=", 2.0)],
        ),
        ("lr between 1 and 2 and a = 3", [("lr", ">=", 1), ("lr", "<=", 2), ("a", "=", 3)]),
        ("not x between 1 and 2 and a = 3", [("a", "=", 3)]),
        ("lr in (0.1, 'auto') and a = 3", [("lr", "in", 0.1, "auto"), ("a", "=", 3)]),
        ("big = 123456789012345678901234567890", [("big", "=", 123456789012345678901234567890.0)]),
        ("not (a = 1) and b = 2", [("b", "=", 2)]),
        ("(a = 1 or b = 2) and c = 3", [("c", "=", 3)]),
        ("text = 'and b = 2 or c' and c = 3", [("text", "=", "and b = 2 or c"), ("c", "=", 3)]),
        ("a = 1 or b = 2", []),
        ("not a = 1", []),
        ("a + 1 = 2", []),
        ("1 + a = 2", []),
        ("a = 1 + 1", []),
        ("a = b", []),
        ("1 = 1", []),
        ("'a' = 'a'", []),
        ("a = 1 is null", []),
        ("a = 1 = 0", []),
        ("a = 'x' collate nocase", []),
        ("a is 1", []),
        ("a = null", []),
        ("a = true", []),
        ("true = 1", []),
        ("current_date > '2026'", []),
        ("a = x'00'", []),
        ("a = 0x10", []),
        ("a = 1_000", []),
        ("a in ()", []),
        ("a in (1, b)", []),
        ("a in (1) = (1)", []),
        ("a not in (1)", []),
        ("a between 1 and b", []),
        ("lower(a) = 'x'", []),
        ("case when x and c = 2 and y then 1 else 0 end", []),
        ("a = 1) or (b = 2", []),
        ("a = 1 -- or b = 2", []),
        ("a = 1 /* or */", []),
        ("a = (select max(a) from runs)", []),
        ("a = 1 and rowid < 3", []),
        ("", []),
        ("a = ", []),
        ("(((", []),
    ],
)
def test_plain_comparisons_and_nothing_else(where: str, found: list[tuple[object, ...]]) -> None:
    comparisons = asked_of(where, limit=None, newest=True).comparisons
    assert [(one.name, one.sign, *one.values) for one in comparisons] == found


def test_every_row_that_fits_a_condition_fits_what_is_asked() -> None:
    rows = [{"a": a, "b": b} for a in (0, 1, 2.5, "1", "x", None) for b in (0, 1, "finished", None)]
    ways = ["a = 1", "a in (1, 'x')", "b between 0 and 1", "not b = 1", "'x' > a", "b != 'finished'", "a + 1 = 2"]
    asked_for_something = 0
    for one in ways:
        for other in ways:
            for where in (f"{one} and {other}", f"({one} and b is not null) and {other}", f"{one} or {other}"):
                fits = fitting(rows, where)
                for each in comparisons_in(where):
                    values = ", ".join(repr(value) for value in each.values)
                    asked = fitting(rows, f"{each.name} {each.sign} {f'({values})' if each.sign == 'in' else values}")
                    assert all(asked[place] for place, fit in enumerate(fits) if fit), (where, each)
                    asked_for_something += sum(asked) < len(rows)
    assert asked_for_something > 100


def test_a_condition_on_other_rows_is_asked_of_nobody() -> None:
    assert asked_of("lr = (select max(lr) from runs)", limit=3, newest=True) == Asked()
    assert asked_of(None, limit=3, newest=True) == Asked((), newest=True, limit=3)
    assert asked_of(None, limit=None, newest=True) == Asked()  # all are read, in whatever order


ROWS = [{"LR": 0.1, "state": "finished"}, {"lr": 0.1, "state": "running"}, {"lr": 0.2, "LR": 5, "a.b": 1}]


def test_names_stand_as_they_are_written() -> None:
    assert fitting(ROWS, "lr = 0.1") == [False, True, False]
    assert fitting(ROWS[::-1], "lr = 0.1") == [False, True, False]
    assert fitting(ROWS, "LR > 0") == [True, False, True]
    assert fitting(ROWS[:1], "lr = 0.1") == [True]
    assert fitting([{"true": 0, "x": 1}], "x = true") == [True]
    assert fitting([{"true": 5, "x": 5}], 'x = "true"') == [True]


@pytest.mark.parametrize(
    ("where", "is_known"),
    [
        ("lr = 0.1", False),  # another run may have it in small letters
        ("LR = 0.1", True),
        ("state = 'finished' and lr = 0.1", False),
        ('LR = 0.1 and "lr" = 0.1', False),
        ("state = 'lr'", True),
        ("rate = 1", False),
        ("a.b = 1", False),
        ("runs.LR = 0.1", False),
        ("state = 'a' or oid = 1", False),
        ("1", True),
    ],
)
def test_what_some_rows_say_of_all(where: str, is_known: bool) -> None:
    assert (settled(ROWS[:1], where) is not None) == is_known
