"""Statistics of an orthogonal matrix that have a known law under Haar measure.

Spectral ones see the eigenangles alone; entry ones see the matrix in its basis. Under Haar
measure eigenangles repel each other, so their distance from the mean law is of order log d / d,
and no textbook law of independent samples applies: every null here is drawn, never looked up
(`crossseed.haar.null`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.haar.eigenangles import mean_cdf, paired, real_eigenvalues

POWERS = 20
SPECTRAL = ("ks", "kuiper", "watson", "trace_1", "trace_2", "traces_20", "spacing_ratio")
ENTRIES = ("largest_entry", "fourth_moment", "assignment", "participation")


def spectral(angles_rn: np.ndarray, d: int, det: int) -> np.ndarray:
    """All spectral statistics of draws of half-angles.

    With u = F(θ) for the mean law F: Kolmogorov–Smirnov, Kuiper, and Watson's U² of u against the
    uniform law. Z_k = (tr R^k − 1[k even])/√k is close to N(0, 1) (Diaconis & Shahshahani 1994),
    with Σ_{k≤20} Z_k² close to χ²₂₀; Z_1 says the same as ‖R − I‖_F. Spacing ratio: mean of
    min/max over neighbouring gaps between angles.

    Args:
        angles_rn: (draws, n), ascending along n.
        d, det: size and determinant of the matrices.

    Returns:
        (draws, statistics), in the order of `SPECTRAL`.
    """
    u = mean_cdf(angles_rn, d, det)
    n = angles_rn.shape[1]
    grid = np.arange(1, n + 1) / n
    above = (grid - u).max(axis=1)
    below = (u - (grid - 1 / n)).max(axis=1)
    centred = u - (2 * np.arange(1, n + 1) - 1) / (2 * n)
    watson = np.square(centred).sum(axis=1) + 1 / (12 * n) - n * np.square(u.mean(axis=1) - 0.5)
    z = np.stack([trace_z(angles_rn, d, det, k) for k in range(1, POWERS + 1)], axis=1)
    gaps = np.diff(angles_rn, axis=1)
    small, large = np.minimum(gaps[:, 1:], gaps[:, :-1]), np.maximum(gaps[:, 1:], gaps[:, :-1])
    # Equal angles (a permutation has many) leave no gap to compare: no repulsion at all.
    ratio = np.divide(small, large, out=np.zeros_like(small), where=large > 0)
    return np.stack(
        [
            np.maximum(above, below),
            above + below,
            watson,
            z[:, 0],
            z[:, 1],
            np.square(z).sum(axis=1),
            ratio.mean(axis=1) if ratio.shape[1] else np.zeros(len(gaps)),
        ],
        axis=1,
    )


def trace_z(angles_rn: np.ndarray, d: int, det: int, k: int) -> np.ndarray:
    """(tr R^k − 1[k even])/√k of draws of half-angles, (draws,)."""
    trace = 2 * np.cos(k * angles_rn).sum(axis=1)
    trace += sum(value**k for value in real_eigenvalues(d, det))
    standardised: np.ndarray = (trace - (k % 2 == 0)) / np.sqrt(k)
    return standardised


def entries(matrix: np.ndarray) -> np.ndarray:
    """Statistics of the entries of one orthogonal matrix (d, d): the first three of `ENTRIES`, (3,).

    max|R_ij|·√d; Σ R_ij⁴ (mean 3d/(d + 2)); the largest Σ_i |R_{i,π(i)}| over permutations π.
    They do not change when rows or columns change sign or place.
    """
    # Imported here: half a second that the spectral tests do without.
    from scipy.optimize import linear_sum_assignment

    size = np.abs(matrix)
    rows, columns = linear_sum_assignment(size, maximize=True)
    d = len(matrix)
    return np.array(
        [size.max() * np.sqrt(d), np.square(np.square(size)).sum(), size[rows, columns].sum()]
    )


def planes_participation(basis_dk: np.ndarray) -> float:
    """Mean inverse participation of the eigenvectors (x ± iy)/√2 of planes spanned by x and y.

    |v_i|² = (x_i² + y_i²)/2 is the same for every orthonormal basis x, y of the plane. The mean
    under Haar measure is 2/(d + 2).

    Args:
        basis_dk: planes as neighbouring pairs of orthonormal columns, (d, 2 × planes).
    """
    weight = np.square(basis_dk).reshape(len(basis_dk), -1, 2).sum(axis=2) / 2
    return float(np.square(weight).sum(axis=0).mean())


class Spectrum(NamedTuple):
    """Half-angles (n,) ascending, determinant, mean inverse participation of the eigenvectors."""

    angles_n: np.ndarray
    det: int
    participation: float


def spectrum(rotation: np.ndarray) -> Spectrum:
    """Eigenangles, in radians, and eigenvectors of one orthogonal matrix, (d, d), from its symmetric part."""
    values, vectors = np.linalg.eigh((rotation + rotation.T) / 2)
    det = int(np.sign(np.linalg.slogdet(rotation)[0]))
    angles = np.arccos(np.clip(paired(values[::-1], det).mean(axis=1), -1, 1))
    planes = paired(vectors.T[::-1], det)
    return Spectrum(angles, det, planes_participation(planes.reshape(-1, len(rotation)).T))


def all_statistics(rotation: np.ndarray) -> tuple[dict[str, float], int]:
    """Every statistic of one orthogonal matrix, (d, d), by name, and its determinant."""
    found = spectrum(rotation)
    values = dict(
        zip(SPECTRAL, spectral(found.angles_n[None], len(rotation), found.det)[0], strict=True)
    )
    values |= dict(zip(ENTRIES, (*entries(rotation), found.participation), strict=True))
    return {name: float(value) for name, value in values.items()}, found.det
