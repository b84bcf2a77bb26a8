"""Some hundred damaged files of each kind; `python -m tests.checkpoints.damaged --inputs 100000` reads more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints.damaged import KINDS, batch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_gives_another_value_or_another_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the process finds the tests
    outcomes, said = batch(kind, 300, seed=len(kind))
    assert said == ""
    assert outcomes["wrong"] == 0
    assert outcomes["read"] + outcomes["refused"] == 300
    assert outcomes["read"] >= 1
