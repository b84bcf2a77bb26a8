from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import align, average


def test_average_is_that_of_numpy_whatever_is_missing() -> None:
    rng = np.random.default_rng(0)
    names = [f"l{n}" for n in range(12)]
    runs = [pd.DataFrame(rng.lognormal(0, 0.2, (30, 12)), columns=names) for _ in range(4)]
    runs[0].iloc[3, 2] = np.nan
    runs[1] = runs[1].iloc[:20]
    runs[2].iloc[5, 5] = 0.0
    bands = average(iter(runs))
    cube = np.full((4, 30, 12), np.nan)
    for place, run in enumerate(runs):
        cube[place, : len(run)] = run
    np.testing.assert_allclose(bands.mean, np.nanmean(cube, axis=0))
    with np.errstate(divide="ignore"):
        logs = np.log10(cube)
    logs[np.isinf(logs)] = np.nan
    np.testing.assert_allclose(bands.deviation, np.nanstd(logs, axis=0, ddof=1), atol=1e-7)
    assert bands.runs.iloc[25, 0] == 3


def test_share_stretches_onto_the_longest_run() -> None:
    short = pd.DataFrame({"a": [1.0, 2.0, np.nan, 4.0]}, index=[10, 20, 30, 40])
    long = pd.DataFrame({"a": np.arange(8.0)}, index=np.arange(1, 9) * 100)
    first, second = align([short, long], "share")
    assert second is long
    assert first.index.equals(long.index)
    values = first["a"].to_numpy()
    np.testing.assert_allclose(values[[1, 2, 3, 7]], [1.0, 1.5, 2.0, 4.0])
    assert np.isnan(values[4:7]).all()
    assert align([short, long])[0] is short
    with pytest.raises(ValueError, match=r"unknown align 'epoch'; pass align= \(--align\)"):
        align([short], "epoch")  # type: ignore[arg-type]
