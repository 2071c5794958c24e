"""Procrustes, the ladder of maps, their nulls and the Haar tests at d = 512 on one core, against what they cannot do without.

Where a floor is "factorisations in it", these are timed as they happen: singular values, eigenvalues, assignments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measured import FLOOR, MOST, NEAR, PEER, Beside, Inside, compared, in_turns

from crossseed.alignment import ladder
from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.alignment.moments import Moments
from crossseed.haar import eigenangles, null, statistics, study
from crossseed.pairs import Pair

D, ROWS, BLOCK = 512, 65_536, 8192
# Of each determinant; an eigenangle draw of the obvious way takes a third of a second, so that few are made of it.
DRAWS, BY_QR = 500, 3
# Ranks of twins and restricted rotations, as for Pythia-70m.
DIRECTIONS = (1, 8, 64, 256)


def maps_and_fits(rng: np.random.Generator) -> list[dict[str, Any]]:
    a, b = (rng.standard_normal((ROWS, D), dtype=np.float32) for _ in range(2))

    def streamed(cross_only: bool) -> Moments:
        moments = Moments(D, D, cross_only=cross_only)
        for start in range(0, ROWS, BLOCK):
            moments.add(a[start : start + BLOCK], b[start : start + BLOCK])
        return moments

    def fitted() -> None:
        procrustes(streamed(True).cross_covariance)

    def product_and_svd() -> None:
        np.linalg.svd((b.T @ a).astype(np.float64))

    def products() -> None:
        for x, y in ((a, a), (b, b), (b, a)):
            x.T @ y

    runs = (fitted, product_and_svd, lambda: streamed(False), products)
    one, least, whole, alone = in_turns(runs, 5)
    found = compared(
        f"Procrustes of {ROWS:,} rows", one, [Beside("its product and one SVD", FLOOR, MOST, least)]
    )
    return found + compared(
        f"second moments of {ROWS:,} rows",
        whole,
        [Beside("the three products", FLOOR, MOST, alone)],
    )


def pair_of(rng: np.random.Generator) -> tuple[tuple[Moments, Moments], Moments]:
    """Moments of the two halves of the tokens, and of shuffled ones: a rotation and noise."""
    turn = haar_orthogonal(rng, D)
    rows = [rng.standard_normal((8 * D, D)) for _ in range(4)]
    first, second, shuffled = (Moments(D, D) for _ in range(3))
    for moments, x, y in zip((first, second, shuffled), rows, rows[1:], strict=False):
        moments.add(x, x @ turn + y)
    return (first, second), shuffled


def ladder_and_battery(rng: np.random.Generator) -> list[dict[str, Any]]:
    halves, shuffled = pair_of(rng)
    turn, skewness = haar_orthogonal(rng, D), tuple(rng.standard_normal((2, D)))
    nulls = {size: null.draw(size, 700) for size in (D, D // 2)}
    spec = {"site": "s", "source_seed": 0, "target_seed": 1}

    def climbed() -> None:
        signs = np.random.default_rng(0)
        ladder.ladder(halves, shuffled, (skewness[0], skewness[1]), DIRECTIONS, signs, turn)

    def tested() -> None:
        # A pair of its own each time: it keeps what it has factorised.
        flat = (np.zeros(D), np.zeros(D))
        pair = Pair(("bench",), halves, shuffled, flat, None, spec)
        study.of_pair(pair, nulls)

    maps, tests = Inside(climbed), Inside(tested)
    of_maps, of_tests = in_turns((maps, tests), 5)
    arms = len(ladder.arms_of(DIRECTIONS))
    found = compared(
        f"the ladder, {arms} maps and nulls", of_maps, [maps.beside("factorisations in it", NEAR)]
    )
    return found + compared(
        "the Haar tests of a pair and its controls",
        of_tests,
        [tests.beside("factorisations in it", NEAR)],
    )


def nulls_of_haar(rng: np.random.Generator) -> list[dict[str, Any]]:
    from scipy.optimize import linear_sum_assignment

    frame = 2 * eigenangles.n_pairs(D, 1)

    def angles() -> None:
        for det in (1, -1):
            for block in eigenangles.draws(rng, D, det, DRAWS):
                statistics.spectral(block, D, det)
                null.empirical_less_mean(block, D, det)

    def by_qr() -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((D, D)))
        return q * np.sign(np.diag(r))

    def angles_by_qr() -> None:
        for _ in range(BY_QR):
            np.sort(np.abs(np.angle(np.linalg.eigvals(by_qr()))))

    def entries() -> None:
        for _ in range(10):
            q = haar_orthogonal(rng, D)
            statistics.entries(q)
            statistics.planes_participation(q[:, :frame])

    def assigned() -> None:
        for _ in range(10):
            linear_sum_assignment(np.abs(haar_orthogonal(rng, D)), maximize=True)

    drawn = Inside(angles)
    runs = (drawn, angles_by_qr, entries, assigned)
    of_angles, obvious, of_entries, least = in_turns(runs, 5)
    as_many = [seconds * 2 * DRAWS / BY_QR for seconds in obvious]
    found = compared(
        f"eigenangle null, {2 * DRAWS:,} draws and statistics",
        of_angles,
        [
            drawn.beside("eigenvalues of their tridiagonal matrices", NEAR),
            Beside(f"QR and eigenvalues, from {BY_QR} draws", PEER, 1.0, as_many),
        ],
    )
    found += compared(
        "entry null, 10 draws and statistics",
        of_entries,
        [Beside("draws and SciPy's assignments", FLOOR, MOST, least)],
    )
    one, obvious = in_turns((lambda: haar_orthogonal(rng, D), by_qr), 15)
    return found + compared(
        "one Haar draw", one, [Beside("QR of a Gaussian matrix", PEER, 1.0, obvious)]
    )


def alignment() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return maps_and_fits(rng) + ladder_and_battery(rng) + nulls_of_haar(rng)
