"""Running anybody's scikit-learn estimator: on a copy, seeded, its failures named."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["one_thread", "run", "seeded_copy"]


@cache
def _threads() -> ThreadpoolController:
    """Looking for the libraries takes two milliseconds, and resampling would look a thousand times."""
    return ThreadpoolController()


def one_thread() -> Any:
    """A context in which linear algebra runs on one thread."""
    return _threads().limit(limits=1)


def seeded_copy(estimator: Any, operation: str, seed: int) -> Any:
    """A copy of the estimator, so that the caller's own is never fitted.

    `seed` goes to every `random_state` that is None, those of a pipeline's parts too.

    Raises:
        TypeError: not an instance of a scikit-learn estimator with that operation.
    """
    if isinstance(estimator, type) or not (hasattr(estimator, operation) and hasattr(estimator, "get_params")):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"{estimator!r:.200}"
        raise TypeError(f"expected an instance of a scikit-learn estimator with {operation}(), got {what}")
    copy = clone(estimator)
    parameters = copy.get_params().items()
    unseeded = [name for name, value in parameters if name.split("__")[-1] == "random_state" and value is None]
    return copy.set_params(**dict.fromkeys(unseeded, seed))


def run(estimator: Any, operation: str, values: NDArray[np.float64]) -> NDArray[Any]:
    """What the estimator's operation returns on `values` (layers x features), computed on one thread.

    Raises:
        ValueError: the estimator failed; the message names it and has its own words.
    """
    try:
        # A second core gains less than half; but beside a training that fills the cores, threads that wait for each
        # other made a report forty times slower.
        with one_thread():
            return np.asarray(getattr(estimator, operation)(values))
    except Exception as error:  # anybody's code: whatever it raises, its settings do not suit these values
        raise ValueError(f"{type(estimator).__name__} failed on {len(values)} layers: {error}") from error
