from __future__ import annotations

import pytest

from wstrack.reporting.axes import ticks


@pytest.mark.parametrize(("low", "high"), [(1e-7, 1), (0.02, 3), (0.011, 0.018), (0.0101, 0.0102), (1e-308, 1e308)])
def test_there_are_a_few_ticks_in_sight_whatever_the_range(low: float, high: float) -> None:
    inside = [tick for tick in ticks(low, high) if low <= tick <= high]
    assert len(inside) >= 3
    assert len(inside) <= 12 or high / low > 1e12


def test_decades_are_whole_where_there_are_many() -> None:
    assert [tick for tick in ticks(5e-6, 0.5) if 5e-6 <= tick <= 0.5] == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
