"""Conditions on runs: what they fit, what is refused, and that they reach nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wstrack.runs.conditions import fitting

ROWS: list[dict[str, Any]] = [
    {"lr": 0.1, "model.name": "vit", "state": "finished", "layers": 12, "amp": True, "my-tag": "a", "big": 2**70},
    {"lr": 1e-5, "model.name": "ViT", "state": "running", "layers": 24, "amp": False, "note": "it's"},
    {"model.name": "mlp", "state": "finished", "layers": 2, "lr": "auto", "loss": math.nan},
    {"model.name": "\udcff", "LR": 3},
]


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ("lr > 1e-4 and lr < 1", [0]),
        ("model.name == 'vit'", [0]),
        ("lower(model.name) = 'vit' or layers between 1 and 3", [0, 1, 2]),
        ("state in ('running', 'failed')", [1]),
        ("not amp", [1]),
        ("amp = true", [0]),
        ("lr is null", [3]),
        ("lr = 'auto'", [2]),
        ("loss > 0 or loss <= 0", []),  # NaN is as unknown as what is not there
        ("\"my-tag\" = 'a'", [0]),
        ("[my-tag] = 'a'", [0]),
        ("note = 'it''s'", [1]),
        ("layers / 12 >= 1", [0, 1]),
        ("big > 1e20", [0]),
        ("model.name like 'v%' -- and nothing else", [0, 1]),
        ("'model.name' = 'model.name' and layers = 2", [2]),
        ("MODEL.NAME glob 'v*'", [0]),
    ],
)
def test_a_condition_fits(where: str, fits: list[int]) -> None:
    assert [place for place, fit in enumerate(fitting(ROWS, where)) if fit] == fits


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("rate > 1", "there is no setting rate"),
        ('"rate" > 1', 'there is no setting "rate"'),  # which SQLite would take for a text
        ("lr >", "syntax error"),
        ("", "near"),
        ("lr > 1; drop table runs", "near"),
        ("lr > 1) or (1", None),  # closes what it did not open: SQLite may read it, and it reaches no more
        ("(select count(*) from sqlite_master) > 0 and load_extension('x')", "not authorized"),
        ("lr in (with recursive t(x) as (select 1 union all select x + 1 from t) select x from t)", "not authorized"),
        ("exists (select 1 from pragma_database_list)", "not authorized"),
        ("__import__('os').system('true')", "near"),
    ],
)
def test_what_is_no_condition_is_refused_by_name(where: str, said: str | None) -> None:
    if said is None:
        assert len(fitting(ROWS, where)) == len(ROWS)
        return
    with pytest.raises(ValueError, match=r"where=.*\(--where\)") as caught:
        fitting(ROWS, where)
    assert said in str(caught.value)


def test_a_condition_that_would_compute_for_hours_ends() -> None:
    many = [{"x": number} for number in range(300)]
    with pytest.raises(ValueError, match="interrupted"):
        fitting(many, "(select count(*) from runs a, runs b, runs c, runs d where a.rowid + b.rowid != c.rowid) > 0")


def test_no_rows_and_hostile_names() -> None:
    assert fitting([], "1") == []
    assert fitting([{'a"b': 1, "a'b": 2, "x); drop table runs; --": 3, "": 4, "select": 5}], '"select" = 5') == [True]
