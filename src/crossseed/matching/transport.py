"""Soft matching: the transport plan with uniform marginals that is best by cosine, smoothed by its entropy.

Sinkhorn's iteration in logarithms. As the smoothing goes to 0 the plan of two dictionaries of one size goes to the
exact assignment; unlike it, it is defined for dictionaries of different sizes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

EPSILON, ITERATIONS, TOLERANCE = 0.01, 2000, 1e-6


def plan(similarity_nm: np.ndarray, epsilon: float = EPSILON) -> tuple[np.ndarray, bool]:
    """The plan, (n, m), its rows sum to 1/n and its columns to 1/m; and whether the iteration converged.

    Args:
        epsilon: weight of the entropy, in units of the similarity.
    """
    n, m = similarity_nm.shape
    scaled = similarity_nm.astype(np.float64) / epsilon
    f, g = np.zeros(n), np.zeros(m)
    for _ in range(ITERATIONS):
        f = -np.log(n) - logsumexp(scaled + g, axis=1)
        g = -np.log(m) - logsumexp(scaled + f[:, None], axis=0)
        found: np.ndarray = np.exp(scaled + f[:, None] + g)
        error = np.abs(found.sum(axis=1) * n - 1).max()
        if error < TOLERANCE:
            return found, True
    return found, False


def cosine(similarity_nm: np.ndarray, epsilon: float = EPSILON) -> tuple[float, bool]:
    """Mean similarity under the plan, and whether the iteration converged."""
    found, converged = plan(similarity_nm, epsilon)
    return float((found * similarity_nm).sum()), converged
