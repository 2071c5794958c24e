"""Whether matched cosines fall into two groups, as they would if latents were either shared or not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

ITERATIONS = 300
# A density has two modes where it falls between them below this share of the lower one; skew alone has no valley.
VALLEY = 0.8


class Modes(NamedTuple):
    """Attributes:
    coefficient: of bimodality, (skewness² + 1) / kurtosis with the usual corrections; above 5/9 for two modes.
    bic_gain: how much smaller the information criterion of two normal distributions is than that of one,
        per value; positive for two.
    low, high: their means. share_high: of the values in the higher one.
    """

    coefficient: float
    valley: float
    bic_gain: float
    low: float
    high: float
    share_high: float


def of(values_n: np.ndarray) -> Modes:
    """Modes of some values, (n,); NaN where fewer than four differ."""
    x = np.asarray(values_n, dtype=np.float64)
    n = len(np.unique(x))
    if n < 4:
        return Modes(*[float("nan")] * 6)
    skew, kurtosis = _shape(x)
    n = len(x)
    coefficient = (skew**2 + 1) / (kurtosis + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))
    means, sds, shares, likelihood = _two(x)
    one = float(_log_normal(x, x.mean(), x.std()).sum())
    # Two parameters against five.
    gain = (2 * (likelihood - one) - 3 * np.log(n)) / n
    between = np.linspace(means[0], means[1], 200)
    density = (shares * np.exp(_log_normal(between[:, None], means, sds))).sum(axis=1)
    valley = density.min() / min(density[0], density[-1])
    return Modes(
        float(coefficient),
        float(valley),
        float(gain),
        float(means[0]),
        float(means[1]),
        float(shares[1]),
    )


def two(found: Modes) -> bool:
    """Whether there are two modes: two normal distributions beat one, and leave a valley."""
    return found.bic_gain > 0 and found.valley < VALLEY


def _shape(x: np.ndarray) -> tuple[float, float]:
    """Skewness and excess kurtosis, corrected for the number of values."""
    n, of_mean = len(x), x - x.mean()
    variance = np.square(of_mean).mean()
    skew = (of_mean**3).mean() / variance**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    raw = (n * n - 1) * (of_mean**4).mean() / variance**2 - 3 * (n - 1) ** 2
    return float(skew), float(raw / ((n - 2) * (n - 3)))


# Not `scipy.stats`, which takes a job as long to import as all else that it does here.
def _log_normal(
    x: np.ndarray, mean: np.ndarray | np.floating[Any], sd: np.ndarray | np.floating[Any]
) -> np.ndarray:
    """Logarithm of normal densities."""
    found: np.ndarray = -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    return found


def _two(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Means, in ascending order, deviations, shares and likelihood of two normal distributions, by expectation
    maximisation from the halves."""
    least = 1e-3 * x.std()
    share = np.array([0.5, 0.5])
    mean, sd = np.quantile(x, [0.25, 0.75]), np.full(2, x.std() / 2)
    for _ in range(ITERATIONS):
        log_p = _log_normal(x[:, None], mean, sd) + np.log(share)
        total = np.logaddexp(*log_p.T)
        weight = np.exp(log_p - total[:, None])
        mass = weight.sum(axis=0).clip(1e-9)
        share, mean = mass / len(x), (weight * x[:, None]).sum(axis=0) / mass
        sd = np.sqrt((weight * (x[:, None] - mean) ** 2).sum(axis=0) / mass).clip(least)
    order = np.argsort(mean)
    return mean[order], sd[order], share[order], float(total.sum())
