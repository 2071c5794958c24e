"""What the study says of a rotation's spectrum and of the nearest permutation (arXiv 2605.24577).

Signed permutations are fitted but called permutations, and their distance is compared with
√(2d − 2); its value under Haar measure is 29.70 at d = 512 (`crossseed.haar.statistics`).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def mean_cosine(rotation: np.ndarray) -> float:
    """Mean cosine of the eigenphases of R, (d, d), which is tr R/d."""
    return float(np.trace(rotation) / len(rotation))


def permutation_distance(rotation: np.ndarray) -> float:
    """‖R − P‖_F, for R of (d, d) and the nearest signed permutation P."""
    size = np.abs(rotation)
    rows, columns = linear_sum_assignment(size, maximize=True)
    return float(np.sqrt(2 * len(rotation) - 2 * size[rows, columns].sum()))
