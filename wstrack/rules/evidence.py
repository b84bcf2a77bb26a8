"""Evidence that grows from sample to sample, and how much of it is enough: where false alarms are bounded.

Each of several hypotheses "this layer behaves as it did" is bet against. A sample multiplies what is bet by a factor
whose expectation is at most 1 while the hypothesis holds (an e-value), so what is bet is a supermartingale, and it ever
reaches c with a probability of at most 1/c (Ville's inequality): at no step, however long the training. The stake of 1
is spread over all samples at which the layer may begin to behave otherwise, or those before the fault would have used
it up: n / ((t + n - 1) (t + n)) at the t-th, which is half of it in the first n. (Ramdas, Grünwald, Vovk, Shafer:
Game-theoretic statistics and safe anytime-valid inference, 2023; Shin, Ramdas, Rinaldo: E-detectors, 2023.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence", "against_usual"]

Array = NDArray[np.float64]

SPREAD = 100  # samples, n above
MOST = 1000.0  # that one sample may multiply by: one alone, however odd, is never enough
STAKE = 0.8  # of what is bet, that each sample stakes; the rest is kept


class Evidence:
    """Bets against several hypotheses, one a layer.

    Args:
        hypotheses: how many.
        rate: with which probability any of them is ever rejected while all hold.

    Example:
        >>> evidence = Evidence(2, rate=0.01)
        >>> [evidence.add(np.array([1.0, 30.0])).tolist() for _ in range(3)]
        [[False, False], [False, False], [False, True]]
    """

    def __init__(self, hypotheses: int, *, rate: float) -> None:
        self._enough = hypotheses / rate
        self._bet = np.zeros(hypotheses)
        self._samples = np.zeros(hypotheses)  # that said anything

    def add(self, factors: Array) -> NDArray[np.bool_]:
        """Which are rejected, with this sample's factors; NaN = it says nothing of that one."""
        known = ~np.isnan(factors)
        self._samples += known
        until = self._samples + SPREAD
        self._bet += known * (SPREAD / ((until - 1) * until))
        self._bet *= np.where(known, np.minimum(factors, MOST), 1.0)
        np.minimum(self._bet, self._enough * MOST, out=self._bet)
        rejected: NDArray[np.bool_] = self._bet >= self._enough
        return rejected


def against_usual(away: Array, scale: Array, *, far: float, both: bool) -> Array:
    """The factors of distances from the usual, which would have Student's t distribution of 3 degrees of freedom.

    Bet is on a distance of `far` or more, of density far / distance^2; on a smaller one nothing, so it costs the stake.

    Args:
        away: distances, with their signs.
        scale: of the usual ones.
        far: what matters.
        both: whether either sign counts, or only above.

    Example:
        >>> factors = against_usual(np.array([0.1, 1.2, -1.2]), np.full(3, 0.1), far=1.0, both=False)
        >>> factors.round(1).tolist()
        [0.2, 363.1, 0.2]
    """
    usual = 6 * np.sqrt(3) / (np.pi * (3 + (away / scale) ** 2) ** 2) / scale
    size = np.abs(away) if both else away
    with np.errstate(divide="ignore", invalid="ignore"):
        bet = np.where(size >= far, far / size**2 / (2 if both else 1), 0.0)
    factors: Array = np.where(np.isnan(away), np.nan, 1 - STAKE + STAKE * bet / usual)
    return factors
