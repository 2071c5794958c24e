"""What the tests can see: rejection rates against stated alternatives, one matrix at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from scipy.linalg import expm

from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.haar.battery import two_sided
from crossseed.haar.null import Null
from crossseed.haar.statistics import all_statistics
from crossseed.seeding import generator

ALPHA = 0.05
COLUMNS = ("d", "alternative", "test", "rejected", "draws", "null_draws", "alpha")
IID = "ks_iid"


def _permutation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.eye(d)[rng.permutation(d)]


def _partly_identity(rng: np.random.Generator, d: int) -> np.ndarray:
    """Haar on d − 8 (d − d/8 for small d) dimensions, the identity on the rest, basis random."""
    fixed = min(8, d // 8)
    inner = np.eye(d)
    inner[fixed:, fixed:] = haar_orthogonal(rng, d - fixed)
    basis = haar_orthogonal(rng, d)
    return basis @ inner @ basis.T


def _two_blocks(rng: np.random.Generator, d: int) -> np.ndarray:
    blocks = np.zeros((d, d))
    half = d // 2
    blocks[:half, :half] = haar_orthogonal(rng, half)
    blocks[half:, half:] = haar_orthogonal(rng, d - half)
    return blocks


def _near_identity(rng: np.random.Generator, d: int) -> np.ndarray:
    """exp of a skew matrix whose eigenphases stay below 1."""
    a = rng.standard_normal((d, d))
    return expm((a - a.T) / (2 * np.sqrt(2 * d)))


def _rows(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with a 1/i spectrum in a basis of their own, and that basis."""
    basis = haar_orthogonal(rng, d)
    scale = 1 / np.sqrt(np.arange(1, d + 1))
    return rng.standard_normal((8 * d, d)) * scale @ basis.T, basis, scale


def _pure_noise(rng: np.random.Generator, d: int) -> np.ndarray:
    """Procrustes between activations that share nothing, each in an eigenbasis of its own."""
    a, b = _rows(rng, d)[0], _rows(rng, d)[0]
    return procrustes((b - b.mean(0)).T @ (a - a.mean(0)))


def _partly_shared(rng: np.random.Generator, d: int) -> np.ndarray:
    """Procrustes where d/8 directions are shared and the rest is noise of each model."""
    shared = rng.standard_normal((8 * d, d // 8)) * 3
    pair = [shared @ haar_orthogonal(rng, d)[: d // 8] + _rows(rng, d)[0] for _ in range(2)]
    a, b = (x - x.mean(axis=0) for x in pair)
    return procrustes(b.T @ a)


ALTERNATIVES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "haar": haar_orthogonal,
    "permutation": _permutation,
    "partly_identity": _partly_identity,
    "two_blocks": _two_blocks,
    "near_identity": _near_identity,
    "pure_noise": _pure_noise,
    "partly_shared": _partly_shared,
}


def table(
    null: Null, draws: int, alternatives: Collection[str] = tuple(ALTERNATIVES)
) -> list[dict[str, Any]]:
    """Share of draws rejected at 5 %, by alternative and test; ``haar`` gives each test's size.

    ``ks_iid`` is the textbook two-sample test of the published protocol, for comparison.
    """
    from crossseed.published import iid_ks

    rows = []
    n_null = len(null.statistics[1]["ks"])
    reference = iid_ks.reference(null.d)
    for alternative in alternatives:
        make = ALTERNATIVES[alternative]
        rng = generator("power", alternative, null.d)
        rejected: dict[str, int] = {}
        for _ in range(draws):
            matrix = make(rng, null.d)
            values, det = all_statistics(matrix)
            p = {k: two_sided(v, null.statistics[det][k]) for k, v in values.items()}
            p[IID] = iid_ks.p_value(matrix, reference)
            for name, value in p.items():
                rejected[name] = rejected.get(name, 0) + (value <= ALPHA)
        for name, count in rejected.items():
            rows.append(
                {
                    "d": null.d,
                    "alternative": alternative,
                    "test": name,
                    "rejected": count / draws,
                    "draws": draws,
                    "null_draws": n_null,
                    "alpha": ALPHA,
                }
            )
    return rows
