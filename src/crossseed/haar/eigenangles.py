"""Eigenangles of orthogonal matrices: exact draws under Haar measure, and their mean law.

An orthogonal d × d matrix has eigenvalues e^{±iθ} in pairs, and perhaps +1 or −1. Only the
angles 0 < θ < π of the pairs are random; there are n of them:

    d even, det +1: n = d/2                    d odd, det +1: n = (d − 1)/2, and one +1
    d even, det −1: n = d/2 − 1, +1 and −1     d odd, det −1: n = (d − 1)/2, and one −1

Under Haar measure x = cos θ is a Jacobi ensemble with β = 2: weights (1 − x)^a (1 + x)^b and
(a, b) as in `_WEIGHTS`. Its points are the eigenvalues of a random tridiagonal matrix
(Killip & Nenciu 2004, Theorem 2 and Proposition 5.3), so that a draw takes no d × d matrix.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# (d even, det) -> exponents of (1 − x) and (1 + x) in the law of x = cos θ.
_WEIGHTS = {
    (True, 1): (-0.5, -0.5),
    (True, -1): (0.5, 0.5),
    (False, 1): (0.5, -0.5),
    (False, -1): (-0.5, 0.5),
}
DRAWS_A_BLOCK = 256


def n_pairs(d: int, det: int) -> int:
    """Number of eigenvalue pairs e^{±iθ} of an orthogonal d × d matrix of this determinant."""
    return d // 2 - (1 if d % 2 == 0 and det < 0 else 0)


def real_eigenvalues(d: int, det: int) -> tuple[int, ...]:
    """The eigenvalues that are fixed at +1 or −1."""
    if d % 2:
        return (det,)
    return () if det > 0 else (1, -1)


def paired(descending: np.ndarray, det: int) -> np.ndarray:
    """Rows of two: what belongs to each pair, from one entry an eigenvalue, largest cosine first.

    The fixed eigenvalues +1 and −1 stand at the ends and are left out.

    Args:
        descending: (d, ...), ordered by descending cosine.
    """
    d = len(descending)
    fixed = real_eigenvalues(d, det)
    inner = descending[int(1 in fixed) : d - int(-1 in fixed)]
    return inner.reshape(len(inner) // 2, 2, *inner.shape[1:])


def draws(rng: np.random.Generator, d: int, det: int, size: int) -> Iterator[np.ndarray]:
    """`size` draws of the half-angles of a Haar matrix in O(d) of this determinant.

    Yields:
        blocks of at most `DRAWS_A_BLOCK` draws, each (draws, n), ascending along n.
    """
    for start in range(0, size, DRAWS_A_BLOCK):
        yield _block(rng, d, det, min(DRAWS_A_BLOCK, size - start))


def _block(rng: np.random.Generator, d: int, det: int, size: int) -> np.ndarray:
    n = n_pairs(d, det)
    a, b = _WEIGHTS[d % 2 == 0, det]
    # α_k for k = 0 … 2n − 2, with α_{−1} = α_{2n−1} = −1 at the ends. NumPy's beta law lives on
    # [0, 1]: α = 1 − 2 B for B ~ Beta(s, t) has density ∝ (1 − α)^{s−1} (1 + α)^{t−1}.
    k = np.arange(2 * n - 1)
    even = k % 2 == 0
    s = np.where(even, (2 * n - k - 2) / 2 + a + 1, (2 * n - k - 3) / 2 + a + b + 2)
    t = np.where(even, (2 * n - k - 2) / 2 + b + 1, (2 * n - k - 1) / 2)
    alpha = np.empty((size, 2 * n + 1))
    alpha[:, 0] = alpha[:, -1] = -1
    alpha[:, 1:-1] = 1 - 2 * rng.beta(s, t, size=(size, 2 * n - 1))
    # alpha[:, j + 1] is α_j. Geronimus: for k = 0 … n − 1
    #   diagonal_k = (1 − α_{2k−1}) α_{2k} − (1 + α_{2k−1}) α_{2k−2}
    #   off_k² = (1 − α_{2k−1}) (1 − α_{2k}²) (1 + α_{2k+1})
    before, at = alpha[:, 0:-1:2], alpha[:, 1::2]  # α_{2k−1}, α_{2k}
    two_before = np.zeros_like(at)
    two_before[:, 1:] = at[:, :-1]  # α_{2k−2}; its factor vanishes at k = 0
    diagonal = (1 - before) * at - (1 + before) * two_before
    after = alpha[:, 2::2]  # α_{2k+1}
    off = np.sqrt((1 - before) * (1 - at**2) * (1 + after))[:, :-1]
    # Imported here: jobs that join tables want the columns alone.
    from scipy.linalg import lapack

    angles = np.empty((size, n))
    for i in range(size):
        eigenvalues, info = lapack.dsterf(diagonal[i], off[i])
        if info:
            raise np.linalg.LinAlgError(f"eigenvalues of a tridiagonal matrix: dsterf {info}")
        angles[i] = eigenvalues[::-1]
    return np.arccos(np.clip(angles / 2, -1, 1))


def mean_cdf(theta: np.ndarray, d: int, det: int) -> np.ndarray:
    """Expected share of the n half-angles below θ under Haar measure.

    With S = Σ_{k<d/2} sin(2kθ)/k for even d, and S = Σ_{k≤n} sin((2k−1)θ)/(2k−1) for odd:

        d even, det ±1: [2nθ ± S]/(2πn)
        d odd, det ±1:  [nθ ∓ S]/(πn)

    Args:
        theta: angles in [0, π], any shape.
    """
    n = n_pairs(d, det)
    if d % 2 == 0:
        wave = _sine_sum(2 * theta, 1 / np.arange(1, d // 2))
        return (2 * n * theta + det * wave) / (2 * np.pi * n)
    odd = np.zeros(2 * n - 1)
    odd[::2] = 1 / np.arange(1, 2 * n, 2)
    return (n * theta - det * _sine_sum(theta, odd)) / (np.pi * n)


def _sine_sum(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Σ_k c_k sin(kx), k = 1 … , by Clenshaw's recurrence."""
    twice = 2 * np.cos(x)
    first, second = np.zeros_like(x), np.zeros_like(x)
    for c in coefficients[::-1]:
        first, second = c + twice * first - second, first
    return first * np.sin(x)
