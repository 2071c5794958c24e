"""Whether matched cosines fall into two groups, as they would if latents were either shared or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

# Of the coefficient for a uniform distribution: what is above has two modes or a heavy skew.
UNIFORM = 5 / 9
ITERATIONS = 300


class Modes(NamedTuple):
    """Attributes:
    coefficient: of bimodality, (skewness² + 1) / kurtosis with the usual corrections; above 5/9 for two modes.
    bic_gain: how much smaller the information criterion of two normal distributions is than that of one,
        per value; positive for two.
    low, high: their means. share_high: of the values in the higher one.
    """

    coefficient: float
    bic_gain: float
    low: float
    high: float
    share_high: float


def of(values_n: np.ndarray) -> Modes:
    """Modes of some values; NaN where fewer than four differ."""
    x = np.asarray(values_n, dtype=np.float64)
    n = len(np.unique(x))
    if n < 4:
        return Modes(*[float("nan")] * 5)
    skew, kurtosis = stats.skew(x, bias=False), stats.kurtosis(x, bias=False)
    n = len(x)
    coefficient = (skew**2 + 1) / (kurtosis + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))
    low, high, share, likelihood = _two(x)
    one = float(stats.norm.logpdf(x, x.mean(), x.std()).sum())
    # Two parameters against five.
    gain = (2 * (likelihood - one) - 3 * np.log(n)) / n
    return Modes(float(coefficient), float(gain), low, high, share)


def _two(x: np.ndarray) -> tuple[float, float, float, float]:
    """Means, share of the higher, and likelihood of two normal distributions, by expectation maximisation from the
    halves."""
    least = 1e-3 * x.std()
    share = np.array([0.5, 0.5])
    mean, sd = np.quantile(x, [0.25, 0.75]), np.full(2, x.std() / 2)
    for _ in range(ITERATIONS):
        log_p = stats.norm.logpdf(x[:, None], mean, sd) + np.log(share)
        total = np.logaddexp(*log_p.T)
        weight = np.exp(log_p - total[:, None])
        mass = weight.sum(axis=0).clip(1e-9)
        share, mean = mass / len(x), (weight * x[:, None]).sum(axis=0) / mass
        sd = np.sqrt((weight * (x[:, None] - mean) ** 2).sum(axis=0) / mass).clip(least)
    upper = int(mean.argmax())
    return float(mean.min()), float(mean.max()), float(share[upper]), float(total.sum())
