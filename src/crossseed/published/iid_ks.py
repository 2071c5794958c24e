"""The published eigenphase test (arXiv 2605.24577): two samples, treated as independent.

Differs from `crossseed.haar`: the angles of all d eigenvalues count, so that each conjugate pair
enters twice; the reference is one pool of ten Haar draws; and the two-sample Kolmogorov–Smirnov
p-value is that of independent angles, which repel each other. Its power is zero against nearly
everything (`crossseed.haar.power`).
"""

from __future__ import annotations

import numpy as np

from crossseed.alignment.maps import haar_orthogonal
from crossseed.haar.statistics import Spectrum, spectrum

REFERENCE_DRAWS = 10
REFERENCE_SEED = 31


def all_angles(found: Spectrum, d: int) -> np.ndarray:
    """|arg| of all d eigenvalues in [0, π], (d,): each conjugate pair twice, ±1 once."""
    fixed = d - 2 * len(found.angles_n)
    ends = {0: [], 1: [0.0 if found.det > 0 else np.pi], 2: [0.0, np.pi]}[fixed]
    return np.sort(np.r_[np.repeat(found.angles_n, 2), ends])


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """`all_angles` of an orthogonal matrix, (d, d), in radians."""
    return all_angles(spectrum(rotation), len(rotation))


def reference(d: int) -> np.ndarray:
    """Angles of ten Haar draws on O(d), pooled, (angles,) in radians."""
    rng = np.random.default_rng(REFERENCE_SEED)
    return np.concatenate([angles_of(haar_orthogonal(rng, d)) for _ in range(REFERENCE_DRAWS)])


def test(angles_n: np.ndarray, reference_n: np.ndarray) -> tuple[float, float]:
    """Statistic and p of the published test on the angles, (angles,), of one matrix or of several pooled."""
    # Imported here: a second that the other tests do without.
    from scipy.stats import ks_2samp

    found = ks_2samp(angles_n, reference_n)
    return float(found.statistic), float(found.pvalue)
