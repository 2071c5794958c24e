"""Calibrated tests of "this matrix is a Haar draw", each with its own Monte-Carlo null.

Wording: a p-value that does not reject says "consistent with Haar", at the power that
`crossseed.haar.power` measures, and no more. If one model's activation law is invariant under
rotation, as at random initialisation, Procrustes returns a Haar matrix with nothing shared:
polar(AᵀBO) = polar(AᵀB) O. Haar-ness describes a gauge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.errors import UserError
from crossseed.haar.null import Null
from crossseed.haar.statistics import ENTRIES, SPECTRAL, all_statistics, entries, spectrum
from crossseed.metrics import holm

# Largest entry of |RᵀR − I| that rounding explains.
ORTHOGONAL_TO = 1e-6
# Draws for each test of a family: the smallest two-sided p is 2/(B + 1), and Holm multiplies it by
# the size of the family, so that with fewer nothing could reject.
DRAWS_PER_TEST = 40


class Result(NamedTuple):
    """One calibrated test.

    Attributes:
        basis: ``neuron``, or ``principal`` where rows and columns are principal directions of
            target and source.
        statistic: one of `SPECTRAL` or `ENTRIES`.
        value: of the matrix.
        null_low, null_median, null_high: 2.5, 50 and 97.5 % quantiles under Haar measure.
        p: two-sided Monte-Carlo p-value. holm: the same after Holm's correction over the matrix's
            tests.
    """

    basis: str
    statistic: str
    value: float
    null_low: float
    null_median: float
    null_high: float
    p: float
    holm: float


def check_orthogonal(rotation: np.ndarray, what: str) -> float:
    """Largest entry of |RᵀR − I|, for R of (d, d).

    Raises:
        UserError: not square, not finite, or not orthogonal.
    """
    if rotation.ndim != 2 or rotation.shape[0] != rotation.shape[1]:
        raise UserError(f"{what}: shape {rotation.shape}, expected a square orthogonal matrix")
    if not np.isfinite(rotation).all():
        raise UserError(f"{what}: holds NaN or infinite values, expected an orthogonal matrix")
    defect = float(np.abs(rotation.T @ rotation - np.eye(len(rotation))).max())
    if defect > ORTHOGONAL_TO:
        raise UserError(
            f"{what}: not orthogonal, the largest entry of |RᵀR − I| is {defect:.2g} (at most "
            f"{ORTHOGONAL_TO:g} is rounding); the tests are about orthogonal maps, so hand them "
            "the orthogonal factor (scipy.linalg.polar) of a map with scale or shear"
        )
    return defect


def two_sided(value: float, null_b: np.ndarray) -> float:
    """Monte-Carlo p of a value among null draws, (B,): twice the smaller tail, at most 1.

    Each tail is (1 + #{null as extreme})/(B + 1). Too regular counts like too irregular.
    """
    above = (1 + np.count_nonzero(null_b >= value)) / (len(null_b) + 1)
    below = (1 + np.count_nonzero(null_b <= value)) / (len(null_b) + 1)
    return float(min(1.0, 2 * min(above, below)))


def battery_of(
    rotation: np.ndarray, null: Null, bases: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[list[Result], int]:
    """The whole battery on one orthogonal matrix.

    Args:
        rotation: (d, d); rows in the target's basis, columns in the source's.
        null: draws for the same d.
        bases: principal directions of target and source as columns, each (d, d); without them
            the entries are tested in the neuron basis alone.

    Returns:
        The tests, and the determinant.

    Raises:
        UserError: not orthogonal, of another size than the null, or too few null draws.
    """
    _check(rotation, null)
    found, det = all_statistics(rotation)
    named = [("neuron", name) for name in SPECTRAL] + [("neuron", name) for name in ENTRIES]
    values = [found[name] for _, name in named]
    dets = [det] * len(named)
    if bases is not None:
        turned = bases[0].T @ rotation @ bases[1]
        spectrum_there = spectrum(turned)
        named += [("principal", name) for name in ENTRIES]
        values += [*entries(turned), spectrum_there.participation]
        dets += [spectrum_there.det] * len(ENTRIES)
    nulls = [null.statistics[d][name] for d, (_, name) in zip(dets, named, strict=True)]
    return _results(named, values, nulls), det


def entries_of(rotation: np.ndarray, null: Null) -> list[Result]:
    """The tests of entries of R, (d, d), that no change of sign and no exchange of rows or columns changes.

    For a rotation between principal directions of target and source, whose signs are arbitrary:
    spectrum, determinant and eigenvectors would depend on them.

    Raises:
        UserError: see `battery_of`.
    """
    _check(rotation, null)
    named = [("principal", name) for name in ENTRIES[:3]]
    nulls = [null.statistics[1][name] for _, name in named]
    return _results(named, list(entries(rotation)), nulls)


def _check(rotation: np.ndarray, null: Null) -> None:
    check_orthogonal(rotation, "the rotation")
    if len(rotation) != null.d:
        raise UserError(
            f"the rotation has {len(rotation)} dimensions, the null draws {null.d}; "
            "draw a null of that size"
        )


def _results(
    named: Sequence[tuple[str, str]], values: Sequence[float], nulls: Sequence[np.ndarray]
) -> list[Result]:
    """p-values of a family of tests, corrected together."""
    if len(nulls[0]) < DRAWS_PER_TEST * len(named):
        raise UserError(
            f"{len(nulls[0])} null draws for a family of {len(named)} tests cannot reject after "
            f"Holm's correction; draw at least {DRAWS_PER_TEST * len(named)}"
        )
    p = [two_sided(value, draws) for value, draws in zip(values, nulls, strict=True)]
    corrected = holm(p)
    tests = []
    for i, (basis, statistic) in enumerate(named):
        low, median, high = (float(q) for q in np.quantile(nulls[i], (0.025, 0.5, 0.975)))
        tests.append(
            Result(basis, statistic, float(values[i]), low, median, high, p[i], float(corrected[i]))
        )
    return tests


# --- across pairs -------------------------------------------------------------------------


def trace_products(rotations: Sequence[np.ndarray]) -> np.ndarray:
    """tr(R_iᵀ R_j) over i < j, (pairs,); under independent Haar draws pairwise independent, close to N(0, 1)."""
    flat = np.stack([rotation.ravel() for rotation in rotations])
    gram = flat @ flat.T
    products: np.ndarray = gram[np.triu_indices(len(rotations), 1)]
    return products


def across(products: np.ndarray) -> dict[str, float]:
    """T₁ = Σ tr/√P and T₂ = Σ (tr² − 1)/√(2P) over the P pairs of matrices, from (P,) of `trace_products`."""
    n = len(products)
    return {
        "products_1": float(products.sum() / np.sqrt(n)),
        "products_2": float((np.square(products) - 1).sum() / np.sqrt(2 * n)),
    }


def determinants_p(n_negative: int, n: int) -> float:
    """Two-sided p of the number of negative determinants among n independent matrices, Bin(n, ½)."""
    fewer = min(n_negative, n - n_negative)
    tail = sum(math.comb(n, count) for count in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


def across_null(rng: np.random.Generator, d: int, m: int, size: int) -> Mapping[str, np.ndarray]:
    """Draws of `across` for m independent Haar matrices, (size,) by name.

    The law of these traces settles so fast in d (faster than exponentially) that sizes above
    `TRACES_SETTLE` are drawn at that size.
    """
    from crossseed.alignment.maps import haar_orthogonal

    size_d = min(d, TRACES_SETTLE)
    found = [
        across(trace_products([haar_orthogonal(rng, size_d) for _ in range(m)]))
        for _ in range(size)
    ]
    return {name: np.array([draw[name] for draw in found]) for name in found[0]}


TRACES_SETTLE = 32
