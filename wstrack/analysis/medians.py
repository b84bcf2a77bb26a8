"""The medians of a frame, fast: pandas goes through long rows and columns one at a time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

__all__ = ["medians"]


def medians(frame: pd.DataFrame, axis: Literal["index", "columns"] = "index") -> pd.Series[float]:
    """What `frame.median(axis=axis)` gives, NaN left out.

    Example:
        >>> medians(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [np.nan, 3.0, 4.0]})).to_dict()
        {'a': 2.0, 'b': 3.5}
    """
    table = frame if axis == "index" else frame.T
    values = table.to_numpy(dtype=np.float64)
    if not len(values):
        return table.median()
    holed = np.isnan(values).any(axis=0)
    found = np.empty(len(holed))
    found[~holed] = np.median(values[:, ~holed], axis=0)
    found[holed] = table.loc[:, holed].median().to_numpy()
    return pd.Series(found, index=table.columns)
