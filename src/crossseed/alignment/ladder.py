"""The map ladder: from the identity to an affine map, each rung with what it adds, and its nulls.

Every map carries b (target) into the frame of a (source); all are fitted from second moments of
the `fit` split, so that none needs the activations twice. Rungs, poorest first:

``raw`` (identity), ``mean``, ``permutation``, ``signed_permutation``, ``procrustes``, ``scaled``
(orthogonal with scale), ``ridge`` (affine, penalty chosen on held-out `fit` tokens), and ``top_k``:
the rotation of the target's k leading principal directions alone.

Nulls, in which no token is matched to its own, or only part of each is: ``random`` rotation;
``shuffled`` within position; ``covariance_random`` and ``covariance_skewness``, which match
principal axes by rank, with random signs or with the signs of their skewness; and ``twin_k``, a
Procrustes fit whose pairs agree in the target's k leading principal directions and are shuffled in
the rest: what is shared beyond k directions is what Procrustes has over it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from crossseed.alignment.maps import AffineMap, identity, procrustes
from crossseed.alignment.moments import Moments

RUNGS = ("raw", "mean", "permutation", "signed_permutation", "procrustes", "scaled", "ridge")
# Nulls of the claim rule: none of them knows which target token belongs to which source token.
NULLS = ("random", "shuffled", "covariance_random", "covariance_skewness")
# Penalties tried, as shares of the target's mean variance a dimension.
PENALTIES = tuple(10.0**power for power in range(-8, 3))


def arms_of(directions: Sequence[int]) -> tuple[str, ...]:
    """Names of all arms, where `directions` are the k of twins and restricted rotations."""
    tops = [f"top_{k}" for k in directions]
    twins = [f"twin_{k}" for k in directions]
    return (*RUNGS, *tops, *NULLS, *twins)


def directions_of(arm: str) -> int | None:
    """The k of an arm like ``twin_4``; None for others."""
    found = re.fullmatch(r"(?:top|twin)_(\d+)", arm)
    return int(found[1]) if found else None


def principal_directions(covariance: np.ndarray) -> np.ndarray:
    """Principal directions as columns, (d, d) as the covariance is, largest variance first, each with its largest entry positive.

    A direction has no sign of its own; the convention makes it a function of the covariance alone.
    """
    return signed(np.linalg.eigh(covariance)[1][:, ::-1])


def signed(vectors: np.ndarray) -> np.ndarray:
    """Columns, (d, k), each with its largest entry positive."""
    largest = np.abs(vectors).argmax(axis=0)
    found: np.ndarray = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return found


def permutation(cross_covariance: np.ndarray, signed: bool) -> np.ndarray:
    """The (signed) permutation that is closest in the least-squares sense, (d, d)."""
    # Imported here: half a second that most verbs do without.
    from scipy.optimize import linear_sum_assignment

    gain = np.abs(cross_covariance) if signed else cross_covariance
    rows, columns = linear_sum_assignment(gain, maximize=True)
    found = np.zeros_like(cross_covariance)
    found[rows, columns] = np.sign(cross_covariance[rows, columns]) if signed else 1.0
    # An exact zero has no sign; either will do.
    found[rows, columns] = np.where(found[rows, columns] == 0, 1.0, found[rows, columns])
    return found


def scale(rotation: np.ndarray, moments: Moments) -> float:
    """The s that minimises Σ‖s (b − b̄) R − (a − ā)‖², for R of (width_b, width_a); 0 where b is constant."""
    spread = float(np.trace(moments.covariance_b))
    return float(np.sum(rotation * moments.cross_covariance)) / spread if spread else 0.0


def ridges(moments: Moments, penalties: Sequence[float]) -> list[np.ndarray]:
    """The linear map for each penalty, a share of the target's mean variance a dimension; (width_b, width_a) each."""
    return _mapped(*_ridges(np.linalg.eigh(moments.covariance_b), moments, penalties))


def _mapped(vectors: np.ndarray, rotated: np.ndarray, raised: np.ndarray) -> list[np.ndarray]:
    return [vectors @ (rotated / of_one[:, None]) for of_one in raised]


def _ridges(
    spectrum_b: tuple[np.ndarray, np.ndarray], moments: Moments, penalties: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V, (width_b, width_b), R, (width_b, width_a), and r of each penalty, (penalties, width_b): its map is V diag(1 / r) R,
    for V the principal directions of b and R = Vᵀ C; where b is constant r is infinite and the map is 0."""
    values, vectors = spectrum_b
    values = np.clip(values, 0, None)
    mean = values.mean()
    raised = np.array([values + penalty * mean for penalty in penalties])
    return vectors, vectors.T @ moments.cross_covariance, raised if mean else raised + np.inf


def ridge_errors(
    fitted: Moments, held_out: Moments, penalties: Sequence[float] = PENALTIES
) -> np.ndarray:
    """Of the map of each penalty, fitted on some tokens, on others: mean ‖(b − b̄) M − (a − ā)‖², less the variance of a;
    (penalties,)."""
    # tr(Mᵀ S M) − 2 tr(Mᵀ C) for M = V diag(w) R is quadratic in w: a penalty more takes no product of matrices.
    vectors, rotated, raised = _ridges(np.linalg.eigh(fitted.covariance_b), fitted, penalties)
    w = 1 / raised
    square = (vectors.T @ held_out.covariance_b @ vectors) * (rotated @ rotated.T)
    shared = np.sum((vectors.T @ held_out.cross_covariance) * rotated, axis=1)
    found: np.ndarray = np.sum((w @ square) * w, axis=1) - 2 * w @ shared
    return found


def ridge(
    halves: tuple[Moments, Moments], spectrum_b: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, float]:
    """The linear map with the penalty that does best on tokens it was not fitted on.

    Each half is fitted, for every penalty, and scored on the other; the map itself is fitted on
    both.

    Args:
        halves: moments of two disjoint sets of tokens.
        spectrum_b: eigenvalues and eigenvectors of b's covariance over both, where they are known.

    Returns:
        (width_b, width_a) matrix, and the penalty as a share of the mean variance.
    """
    first, second = halves
    best = int(np.argmin(ridge_errors(first, second) + ridge_errors(second, first)))
    both = first.merged(second)
    known = np.linalg.eigh(both.covariance_b) if spectrum_b is None else spectrum_b
    (found,) = _mapped(*_ridges(known, both, PENALTIES[best : best + 1]))
    return found, PENALTIES[best]


def restricted(cross_covariance: np.ndarray, directions_dk: np.ndarray) -> np.ndarray:
    """Procrustes on the span of some orthonormal directions of b, nothing outside it, (d, d)."""
    u, _, vt = np.linalg.svd(directions_dk.T @ cross_covariance, full_matrices=False)
    found: np.ndarray = directions_dk @ (u @ vt)
    return found


def twin(
    cross_covariance: np.ndarray, shuffled: np.ndarray, directions_dk: np.ndarray
) -> np.ndarray:
    """Procrustes where pairs agree along some directions of b and are shuffled in the rest.

    The cross-covariance is linear in b, so that of the twin is P C + (1 − P) C_shuffled.

    Args:
        cross_covariance, shuffled: of b with a, (d, d), tokens paired and shuffled.
        directions_dk: unit directions of b as columns.

    Returns:
        The rotation, (d, d).
    """
    kept = directions_dk @ (directions_dk.T @ (cross_covariance - shuffled))
    return procrustes(shuffled + kept)


def covariance_only(axes_b: np.ndarray, axes_a: np.ndarray, signs_d: np.ndarray) -> np.ndarray:
    """The orthogonal map, (d, d), that takes the i-th principal axis of b to that of a, both columns of (d, d), times a sign."""
    return (axes_b * signs_d) @ axes_a.T


def ladder(
    halves: tuple[Moments, Moments],
    shuffled: Moments,
    skewness: tuple[np.ndarray, np.ndarray],
    directions: Sequence[int],
    rng: np.random.Generator,
    random_dd: np.ndarray,
) -> tuple[dict[str, AffineMap], float]:
    """Every rung and null between two members at one site.

    Args:
        halves: moments of two disjoint halves of the `fit` split, pairs (source a, target b).
        shuffled: of all of it, pairs exchanged within their position.
        skewness: third central moments of target and source along their principal directions
            (`principal_directions` of the covariances of both halves together), each (d,).
        directions: the k of ``top_k`` and ``twin_k``.
        rng: draws the random signs.
        random_dd: a random orthogonal matrix.

    Returns:
        Maps by arm (`arms_of`), and the chosen ridge penalty; every arm but ``raw`` gets the same
        treatment of the mean.
    """
    moments = halves[0].merged(halves[1])
    cross = moments.cross_covariance
    variances_b, vectors_b = np.linalg.eigh(moments.covariance_b)
    axes_b = signed(vectors_b[:, ::-1])
    axes_a = principal_directions(moments.covariance_a)
    rotation = procrustes(cross)
    affine, penalty = ridge(halves, (variances_b, vectors_b))
    both = np.sign(skewness[0]) * np.sign(skewness[1])
    matrices = {
        "mean": np.eye(len(cross)),
        "permutation": permutation(cross, signed=False),
        "signed_permutation": permutation(cross, signed=True),
        "procrustes": rotation,
        "scaled": rotation * scale(rotation, moments),
        "ridge": affine,
        "random": random_dd,
        "shuffled": procrustes(shuffled.cross_covariance),
        "covariance_random": covariance_only(axes_b, axes_a, rng.choice([-1.0, 1.0], len(cross))),
        "covariance_skewness": covariance_only(axes_b, axes_a, np.where(both == 0, 1.0, both)),
    }
    for k in directions:
        matrices[f"top_{k}"] = restricted(cross, axes_b[:, :k])
        matrices[f"twin_{k}"] = twin(cross, shuffled.cross_covariance, axes_b[:, :k])
    maps = {
        name: AffineMap(matrix, moments.mean_b, moments.mean_a) for name, matrix in matrices.items()
    }
    maps["raw"] = identity(len(cross))
    return {name: maps[name] for name in arms_of(directions)}, penalty


def shared_rotation(
    cross_covariances: Sequence[np.ndarray], spreads: Sequence[float]
) -> np.ndarray:
    """One rotation for all sites of a pair: Procrustes on their cross-covariances, sites weighted
    equally.

    Args:
        cross_covariances: of each site, (d, d).
        spreads: √(tr Σ_a · tr Σ_b) of each site.
    """
    total = sum(c / s for c, s in zip(cross_covariances, spreads, strict=True) if s > 0)
    return procrustes(np.asarray(total))
