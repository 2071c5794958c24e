"""What the tests can see: rejection rates against stated alternatives, one matrix at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.claim_rule import ALPHA
from crossseed.haar.battery import two_sided
from crossseed.haar.null import Null
from crossseed.haar.statistics import all_statistics
from crossseed.seeding import generator

COLUMNS = ("d", "alternative", "strength", "test", "rejected", "draws", "null_draws", "alpha")
IID = "ks_iid"
PULL = "pull towards the identity"


def _permutation(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.eye(d)[rng.permutation(d)]


def _partly_identity(rng: np.random.Generator, d: int) -> np.ndarray:
    """Haar on d − 8 (d − d/8 for small d) dimensions, the identity on the rest, basis random."""
    return _fixed_directions(rng, d, min(8, d // 8) / d)


def _two_blocks(rng: np.random.Generator, d: int) -> np.ndarray:
    blocks = np.zeros((d, d))
    half = d // 2
    blocks[:half, :half] = haar_orthogonal(rng, half)
    blocks[half:, half:] = haar_orthogonal(rng, d - half)
    return blocks


def _near_identity(rng: np.random.Generator, d: int) -> np.ndarray:
    """exp of a skew matrix whose eigenphases stay below 1."""
    a = rng.standard_normal((d, d))
    # Imported here: jobs that join tables want the columns alone.
    from scipy.linalg import expm

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


def _fixed_directions(rng: np.random.Generator, d: int, strength: float) -> np.ndarray:
    """The identity on a share of the dimensions, Haar on the rest, basis random."""
    fixed = round(strength * d)
    inner = np.eye(d)
    inner[fixed:, fixed:] = haar_orthogonal(rng, d - fixed)
    basis = haar_orthogonal(rng, d)
    return basis @ inner @ basis.T


def _pulled(rng: np.random.Generator, d: int, strength: float, towards: np.ndarray) -> np.ndarray:
    """The rotation closest to a Gaussian matrix plus a multiple of an orthogonal one."""
    return procrustes(rng.standard_normal((d, d)) + strength * np.sqrt(d) * towards)


# Families from no effect to a large one, each with the strengths it is drawn at.
CURVES: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "share of directions that do not turn": (
        _fixed_directions,
        (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2),
    ),
    PULL: (
        lambda rng, d, strength: _pulled(rng, d, strength, np.eye(d)),
        (0.03, 0.06, 0.12, 0.25, 0.5, 1.0),
    ),
    "pull towards a permutation": (
        lambda rng, d, strength: _pulled(rng, d, strength, _permutation(rng, d)),
        (0.03, 0.06, 0.12, 0.25, 0.5, 1.0),
    ),
}


def table(
    null: Null,
    draws: int,
    alternatives: Collection[str] = tuple(ALTERNATIVES),
    curves: Collection[str] = tuple(CURVES),
) -> list[dict[str, Any]]:
    """Share of draws rejected at 5 %, by alternative and test; ``haar`` gives each test's size.

    ``ks_iid`` is the textbook two-sample test of the published protocol, for comparison. Rows with a
    ``strength`` are points of a power curve, from a quarter of the draws each.
    """
    rows = []
    for alternative in alternatives:
        rows += _rejected(null, draws, alternative, float("nan"), ALTERNATIVES[alternative])
    for alternative in curves:
        make, strengths = CURVES[alternative]
        for strength in strengths:
            drawn = partial(make, strength=strength)
            rows += _rejected(null, max(1, draws // 4), alternative, strength, drawn)
    return rows


def _rejected(
    null: Null,
    draws: int,
    alternative: str,
    strength: float,
    make: Callable[..., np.ndarray],
) -> list[dict[str, Any]]:
    from crossseed.published import iid_ks

    n_null = len(null.statistics[1]["ks"])
    reference = iid_ks.reference(null.d)
    rng = generator("power", alternative, null.d, *([strength] if strength == strength else []))
    rejected: dict[str, int] = {}
    for _ in range(draws):
        matrix = make(rng, null.d)
        values, det = all_statistics(matrix)
        p = {k: two_sided(v, null.statistics[det][k]) for k, v in values.items()}
        p[IID] = iid_ks.test(iid_ks.angles_of(matrix), reference)[1]
        for name, value in p.items():
            rejected[name] = rejected.get(name, 0) + (value <= ALPHA)
    return [
        {
            "d": null.d,
            "alternative": alternative,
            "strength": strength,
            "test": name,
            "rejected": count / draws,
            "draws": draws,
            "null_draws": n_null,
            "alpha": ALPHA,
        }
        for name, count in rejected.items()
    ]
