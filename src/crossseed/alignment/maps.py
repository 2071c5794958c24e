"""Maps that carry activations of a target member into the frame of a source member.

Rows are tokens: a map takes b to (b − shift_in) M + shift_out. The orthogonal map minimises
Σ‖(b − b̄) R − (a − ā)‖² over orthogonal R: R = U Vᵀ from the SVD U S Vᵀ of the
cross-covariance of b with a (Schönemann 1966).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.alignment.moments import Moments

ARMS = ("raw", "mean", "random", "shuffled", "procrustes")
IDENTIFIED_ABOVE = 0.9
RANK_TOLERANCE = 1e-6
# Of an affine map that is inverted: its float32 dictionary then still holds three digits.
MOST_CONDITION = 1e4


class AffineMap(NamedTuple):
    """Attributes: matrix_dd (width_in, width_out), shift_in_d (width_in,), shift_out_d (width_out,)."""

    matrix_dd: np.ndarray
    shift_in_d: np.ndarray
    shift_out_d: np.ndarray

    def __call__(self, b_nd: np.ndarray) -> np.ndarray:
        """Activations (tokens, width_in) carried to (tokens, width_out), in b's precision."""
        dtype = b_nd.dtype
        offset = self.shift_out_d - self.shift_in_d @ self.matrix_dd
        return b_nd @ self.matrix_dd.astype(dtype) + offset.astype(dtype)

    def inverse(self) -> AffineMap:
        """The map back.

        Raises:
            ValueError: not square, or so close to singular that the way back would be noise.
        """
        matrix = self.matrix_dd.astype(np.float64)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a map of shape {matrix.shape} has no inverse")
        condition = np.linalg.cond(matrix)
        if not condition < MOST_CONDITION:
            raise ValueError(
                f"the map's largest singular value is {condition:.1e} times its smallest; above "
                f"{MOST_CONDITION:.0e} the way back would be noise"
            )
        # The transpose of a rotation, up to rounding; exactly so, it stays orthogonal.
        scale = float(np.sum(matrix * matrix)) / len(matrix)
        flat = np.allclose(matrix.T @ matrix, scale * np.eye(len(matrix)), atol=1e-9 * scale)
        back = matrix.T / scale if flat else np.linalg.inv(matrix)
        return AffineMap(back, self.shift_out_d, self.shift_in_d)


def procrustes(cross_covariance: np.ndarray) -> np.ndarray:
    """The orthogonal R, (d, d), that maximises tr(Rᵀ C), for C the cross-covariance of b with a, (d, d).

    Where C has no rank (singular values below 1e-6 of the largest) the data do not decide R;
    there it is the rotation closest to the identity, not what the SVD happens to return.

    Raises:
        ValueError: C is not square or not finite.
    """
    return rotation_of(*factors(cross_covariance))


def factors(cross_covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of (d, d): U, S and Vᵀ, (d, d), (d,) and (d, d).

    Raises:
        ValueError: it is not square or not finite.
    """
    if cross_covariance.ndim != 2 or cross_covariance.shape[0] != cross_covariance.shape[1]:
        raise ValueError(f"an orthogonal map needs a square matrix, got {cross_covariance.shape}")
    if not np.isfinite(cross_covariance).all():
        raise ValueError("the cross-covariance is not finite")
    u, s, vt = np.linalg.svd(cross_covariance.astype(np.float64))
    return u, s, vt


def rotation_of(u: np.ndarray, s: np.ndarray, vt: np.ndarray) -> np.ndarray:
    """`procrustes`, (d, d), of a cross-covariance whose `factors`, (d, d), (d,) and (d, d), are known."""
    decided = s > RANK_TOLERANCE * s[0]
    u_free, vt_free = u[:, ~decided], vt[~decided]
    w, _, zt = np.linalg.svd(u_free.T @ vt_free.T)
    rotation: np.ndarray = u[:, decided] @ vt[decided] + u_free @ (w @ zt) @ vt_free
    return rotation


def haar_orthogonal(rng: np.random.Generator, d: int) -> np.ndarray:
    """A draw from the Haar law on O(d), (d, d).

    The Q of a Gaussian matrix, its signs fixed (Mezzadri 2007), is a product of reflections of
    independent Gaussian vectors of lengths d, d − 1, …, 1 (Stewart 1980). Drawing these spares the
    factorisation, more than half of the time.
    """
    # Imported here: a third of a second that many verbs do without.
    from scipy.linalg.lapack import dorgqr

    # Column k holds the vector of length d − k, below and on the diagonal.
    vectors = np.zeros((d, d), order="F")
    vectors.T[np.tri(d, dtype=bool).T] = rng.standard_normal(d * (d + 1) // 2)
    first = vectors.diagonal().copy()
    reflected = -np.copysign(np.sqrt(np.einsum("ik,ik->k", vectors, vectors)), first)
    vectors /= first - reflected
    q, _, info = dorgqr(vectors, 1 - first / reflected, lwork=64 * d, overwrite_a=1)
    assert info == 0
    signed: np.ndarray = q * np.sign(reflected)
    return signed


def shuffle_within_position(rng: np.random.Generator, position_n: np.ndarray) -> np.ndarray:
    """A permutation of rows, (tokens,), that only exchanges rows of equal position, and leaves none in place.

    Rows of a position are put on a circle at random, and each goes one place on: a row left in
    place would be a true pair, and a few of these suffice for Procrustes, which ignores scale.
    A position with one row alone cannot be exchanged.
    """
    order = np.lexsort((rng.random(len(position_n)), position_n))
    position = position_n[order]
    first = np.flatnonzero(np.r_[True, position[1:] != position[:-1]])
    last = np.r_[first[1:], len(order)] - 1
    onward = np.arange(1, len(order) + 1)
    onward[last] = first
    permutation = np.empty(len(order), dtype=np.int64)
    permutation[order] = order[onward]
    return permutation


def identity(width: int) -> AffineMap:
    """The map that changes nothing, of activations `width` wide."""
    return AffineMap(np.eye(width), np.zeros(width), np.zeros(width))


def arms(moments: Moments, shuffled: Moments, random_dd: np.ndarray) -> dict[str, AffineMap]:
    """All arms of a transfer, from b (target) to a (source).

    Args:
        moments: of the paired activations.
        shuffled: of the same activations with the pairing destroyed.
        random_dd: a random orthogonal matrix, (width, width).

    Returns:
        Maps by arm; every arm but ``raw`` gets the same treatment of the mean.
    """
    width = len(moments.mean_b)
    mean_in, mean_out = moments.mean_b, moments.mean_a
    matrices = {
        "mean": np.eye(width),
        "random": random_dd,
        "shuffled": procrustes(shuffled.cross_covariance),
        "procrustes": procrustes(moments.cross_covariance),
    }
    centred = {name: AffineMap(matrix, mean_in, mean_out) for name, matrix in matrices.items()}
    return {"raw": identity(width), **centred}


def rotation_distance(matrix_dd: np.ndarray) -> float:
    """‖R − I‖_F of a matrix (d, d). Its square is 2d − 2 tr R, for a Haar rotation 2d in expectation."""
    return float(np.linalg.norm(matrix_dd - np.eye(len(matrix_dd))))


class Ranks(NamedTuple):
    """How many dimensions a cross-covariance has.

    Attributes:
        effective: exp of the entropy of its normalised singular values (Roy & Vetterli 2007).
        numerical: singular values above 1e-6 of the largest, the precision of float32 products.
    """

    effective: float
    numerical: int


def ranks(cross_covariance: np.ndarray) -> Ranks:
    """Effective rank, by the entropy of the singular values of (d, d), and numerical rank; 0 and 0 where one side is constant."""
    return ranks_of(np.linalg.svd(cross_covariance, compute_uv=False))


def ranks_of(singular_d: np.ndarray) -> Ranks:
    """The same from the singular values, (d,), largest first."""
    s = singular_d
    if not s.sum():
        return Ranks(0.0, 0)  # one side is constant
    p = s[s > 0] / s.sum()
    effective = float(np.exp(-(p * np.log(p)).sum()))
    return Ranks(effective, int((s > RANK_TOLERANCE * s[0]).sum()))


def identified_directions(first: Moments, second: Moments) -> np.ndarray:
    """The target's principal directions on which two half-sample fits agree, as columns, (d, identified).

    A direction v counts where vᵀ R₁ R₂ᵀ v > 0.9 and the target varies along it; elsewhere the
    data do not decide R.

    Args:
        first, second: moments of two disjoint sets of tokens.
    """
    rotations = (procrustes(half.cross_covariance) for half in (first, second))
    return agreed_directions(*np.linalg.eigh(first.merged(second).covariance_b), *rotations)


def agreed_directions(
    variances_d: np.ndarray, directions_dd: np.ndarray, first_dd: np.ndarray, second_dd: np.ndarray
) -> np.ndarray:
    """`identified_directions`, (d, identified), from the target's variances along its principal directions, (d,), smallest first,
    these as columns, and the two rotations, (d, d) each."""
    agree = np.sum((first_dd.T @ directions_dd) * (second_dd.T @ directions_dd), axis=0)
    chosen = (agree > IDENTIFIED_ABOVE) & (variances_d > RANK_TOLERANCE * variances_d[-1])
    found: np.ndarray = directions_dd[:, chosen]
    return found


def gaussian_rows(
    rng: np.random.Generator, mean_d: np.ndarray, covariance_dd: np.ndarray, n: int
) -> np.ndarray:
    """Float32 rows, (n, d), from the normal law with this mean and covariance."""
    values, vectors = np.linalg.eigh(covariance_dd)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    rows = rng.standard_normal((n, len(values)), dtype=np.float32) @ root.T.astype(np.float32)
    return rows + mean_d.astype(np.float32)
