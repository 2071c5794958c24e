"""How the share of latents that are found in one SAE only falls as SAEs are added, and whether it ends above zero.

    offset       a k^b + c
    power        a k^b, which falls to zero
    exponential  a exp(−b k) + c

Least squares of the mean curve, compared by Akaike's criterion with its correction for few points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize

OFFSET, POWER, EXPONENTIAL = "offset", "power", "exponential"
Curve = Callable[..., np.ndarray]


class Form(NamedTuple):
    """Attributes: curve: of k and parameters. start, low, high: of the parameters. names: of them."""

    curve: Curve
    names: tuple[str, ...]
    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


FORMS = {
    OFFSET: Form(
        lambda k, a, b, c: a * k**b + c, ("a", "b", "c"), (0.5, -1.0, 0.2), (0, -10, 0), (10, 0, 1)
    ),
    POWER: Form(lambda k, a, b: a * k**b, ("a", "b"), (0.7, -0.5), (0, -10), (10, 0)),
    EXPONENTIAL: Form(
        lambda k, a, b, c: a * np.exp(-b * k) + c,
        ("a", "b", "c"), (0.5, 0.5, 0.2), (0, 0, 0), (10, 10, 1),
    ),
}  # fmt: skip


class Fit(NamedTuple):
    """Attributes: parameters: by name. sse: sum of squared errors. aicc: Akaike's criterion, corrected; infinite
    where there are too few points to correct it."""

    parameters: dict[str, float]
    sse: float
    aicc: float


def fit(form: str, k: np.ndarray, share: np.ndarray) -> Fit | None:
    """The best curve of one form; None with fewer points than it has parameters, and one, or where none is found."""
    of = FORMS[form]
    n, p = len(k), len(of.names)
    if n <= p:
        return None
    try:
        found, _ = optimize.curve_fit(
            of.curve, k.astype(float), share, p0=of.start, bounds=(of.low, of.high), maxfev=20000
        )
    except RuntimeError:
        return None
    sse = float(np.square(share - of.curve(k.astype(float), *found)).sum())
    # The variance is a parameter too.
    q = p + 1
    aicc = float("inf")
    if n > q + 1:
        aicc = n * np.log(max(sse, 1e-300) / n) + 2 * q + 2 * q * (q + 1) / (n - q - 1)
    return Fit(dict(zip(of.names, map(float, found), strict=True)), sse, float(aicc))
