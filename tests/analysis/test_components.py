from __future__ import annotations

import numpy as np
import pandas as pd

from wstrack.analysis import describe_components


def test_components_in_words() -> None:
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, 30)
    level, rise = rng.normal(size=(2, 40))
    values = pd.DataFrame(
        level[:, None] + rise[:, None] * np.maximum(time - 0.6, 0) + 0.001 * rng.normal(size=(40, 30))
    )
    first, second = describe_components(values, pd.DataFrame({"component_1": level, "component_2": rise}))
    assert first.meaning == "level"
    assert second.meaning in ("slope (late above early)", "late rise (last third above the middle)")
    (nothing,) = describe_components(values, pd.DataFrame({"component_1": rng.normal(size=40)}))
    assert nothing.meaning == ""
