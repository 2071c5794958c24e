"""How the share of latents that are found in one SAE only falls as SAEs are added, and whether it ends above zero.

    offset     a k^b + c (published)
    atom       c + (1 − c) E(1 − p)^(k − 1), p from a beta distribution: a share c is never found again, each other latent
               with a probability of its own in each SAE
    power      a k^b, which falls to zero
    shifted    a (k + d)^b, likewise
    mixture    E(1 − p)^(k − 1), p from a beta distribution: every latent is found again in the end

Least squares of the mean curve, compared by Akaike's criterion with its correction for few points. The points of a curve are of
the same latents, so that the criterion is told more than it knows: a form that loses by little has not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

OFFSET, ATOM, POWER, SHIFTED, MIXTURE = "offset", "atom", "power", "shifted", "mixture"
# Where a curve of each form ends as SAEs are added: at its parameter c, or at zero.
ABOVE, TO_ZERO = (OFFSET, ATOM), (POWER, SHIFTED, MIXTURE)
Curve = Callable[..., np.ndarray]


class Form(NamedTuple):
    """Attributes: curve: of k and parameters. start, low, high: of the parameters. names: of them."""

    curve: Curve
    names: tuple[str, ...]
    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def _mixture(k: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    found: np.ndarray = np.exp(special.betaln(alpha, beta + k - 1) - special.betaln(alpha, beta))
    return found


FORMS = {
    OFFSET: Form(
        lambda k, a, b, c: a * k**b + c, ("a", "b", "c"), (0.5, -1.0, 0.2), (0, -10, 0), (10, 0, 1)
    ),
    ATOM: Form(
        lambda k, alpha, beta, c: c + (1 - c) * _mixture(k, alpha, beta),
        ("alpha", "beta", "c"), (0.5, 0.5, 0.2), (1e-3, 1e-3, 0), (1e3, 1e3, 1),
    ),
    POWER: Form(lambda k, a, b: a * k**b, ("a", "b"), (0.7, -0.5), (0, -10), (10, 0)),
    SHIFTED: Form(
        lambda k, a, b, d: a * (k + d) ** b, ("a", "b", "d"), (0.7, -0.5, 0.0), (0, -10, -1.99), (10, 0, 50)
    ),
    MIXTURE: Form(_mixture, ("alpha", "beta"), (0.5, 0.5), (1e-3, 1e-3), (1e3, 1e3)),
}  # fmt: skip


def told(aicc: Mapping[str, float]) -> bool | None:
    """Whether the curve ends above zero: True where the best form of `ABOVE` beats every other by more than `MARGIN`,
    False where one of `TO_ZERO` beats these; None where neither does, or points are too few for any form.

    Args:
        aicc: by form; infinite, or absent, where it could not be weighed.
    """
    best = [
        min((aicc.get(form, np.inf) for form in forms), default=np.inf)
        for forms in (ABOVE, TO_ZERO)
    ]
    # Without a rival that could be weighed nothing is told.
    if not np.isfinite(best).all() or abs(best[0] - best[1]) <= MARGIN:
        return None
    return bool(best[0] < best[1])


# Differences of the criterion up to which two forms do as well.
MARGIN = 4.0


class Fit(NamedTuple):
    """Attributes: parameters: by name. sse: sum of squared errors. aicc: Akaike's criterion, corrected; infinite
    where there are too few points to correct it."""

    parameters: dict[str, float]
    sse: float
    aicc: float


def fit(form: str, k: np.ndarray, share: np.ndarray) -> Fit | None:
    """The best curve of one form through shares at numbers k of SAEs, (points,) both; None with fewer points than it has parameters, and one, or where none is found."""
    of = FORMS[form]
    n, p = len(k), len(of.names)
    if n <= p:
        return None
    try:
        found, _ = optimize.curve_fit(
            of.curve, k.astype(float), share, p0=of.start, bounds=(of.low, of.high), maxfev=20000
        )
    except (RuntimeError, ValueError):
        # Not in so many steps, or a step on which the derivatives leave the range of floats.
        return None
    sse = float(np.square(share - of.curve(k.astype(float), *found)).sum())
    # The variance is a parameter too.
    q = p + 1
    aicc = float("inf")
    if n > q + 1:
        aicc = n * np.log(max(sse, 1e-300) / n) + 2 * q + 2 * q * (q + 1) / (n - q - 1)
    return Fit(dict(zip(of.names, map(float, found), strict=True)), sse, float(aicc))
