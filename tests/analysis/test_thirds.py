from __future__ import annotations

import numpy as np
import pandas as pd

from wstrack.analysis import early_and_late


def test_medians_of_the_thirds_against_numpy() -> None:
    values = np.random.default_rng(0).lognormal(size=(31, 4))
    values[2, 1] = np.nan
    found = early_and_late(pd.DataFrame(values, columns=list("abcd")))
    early, late = np.nanmedian(values[:10], axis=0), np.nanmedian(values[-10:], axis=0)
    np.testing.assert_allclose(found["early"], early)
    np.testing.assert_allclose(found["late"], late)
    np.testing.assert_allclose(found["ratio"], late / early)


def test_no_ratio_where_there_is_none() -> None:
    assert early_and_late(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [-1.0, 1.0, 1.0]}))["ratio"].isna().all()
    assert early_and_late(pd.DataFrame({"a": np.empty(0)}))["ratio"].isna().all()
    ratio = early_and_late(pd.DataFrame({"stopped": [1.0, 1.0, 0.0], "began": [0.0, 1.0, 1.0], "never": [0.0] * 3}))
    assert ratio["ratio"].tolist()[:2] == [0.0, np.inf]
    assert np.isnan(ratio.loc["never", "ratio"])
