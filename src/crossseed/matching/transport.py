"""Soft matching: the transport plan with uniform marginals that is best by cosine, smoothed by its entropy.

Sinkhorn's iteration. As the smoothing goes to 0 the plan of two dictionaries of one size goes to the exact assignment;
unlike it, it is defined for dictionaries of different sizes.
"""

from __future__ import annotations

import numpy as np

# Weight of the entropy, in units of the cosine; rows of the plan may be off by this share.
EPSILON, TOLERANCE = 0.02, 1e-4
ITERATIONS, CHECK_EVERY = 20000, 50


def plan(similarity_nm: np.ndarray, epsilon: float = EPSILON) -> tuple[np.ndarray, bool]:
    """The plan, (n, m), its rows sum to 1/n and its columns to 1/m; and whether the iteration converged.

    Args:
        similarity_nm: cosines, so that exp(similarity / epsilon) stays within double precision.
        epsilon: weight of the entropy, in units of the similarity; at least 0.005.

    Raises:
        ValueError: epsilon is smaller than that.
    """
    if epsilon < 0.005:
        raise ValueError(f"epsilon {epsilon} is below 0.005, where its exponentials overflow")
    n, m = similarity_nm.shape
    kernel = np.exp((similarity_nm.astype(np.float64) - similarity_nm.max()) / epsilon)
    by_row, by_column = np.ones(n), np.ones(m)
    converged = False
    for number in range(1, ITERATIONS + 1):
        by_row = 1 / (n * (kernel @ by_column))
        by_column = 1 / (m * (by_row @ kernel))
        if number % CHECK_EVERY == 0:
            rows = n * by_row * (kernel @ by_column)
            if np.abs(rows - 1).max() < TOLERANCE:
                converged = True
                break
    return by_row[:, None] * kernel * by_column, converged


def cosine(similarity_nm: np.ndarray, epsilon: float = EPSILON) -> float:
    """Mean similarity, of a matrix (n, m), under the plan; NaN where the iteration did not converge."""
    found, converged = plan(similarity_nm, epsilon)
    return float((found * similarity_nm).sum()) if converged else float("nan")
