"""The Haar tests against their floors, and what they reject."""

from __future__ import annotations

from typing import Any

import numpy as np
from measured import REPEATS, fastest, machine

from crossseed.alignment.maps import haar_orthogonal

ENTRY = "entry null, draw and statistics"
HAAR_COLUMNS = ("what", "d", "size", "seconds", "against", "ratio", "repeats", "machine")


def haar() -> list[dict[str, Any]]:
    """The Haar tests and Procrustes at d = 512, one core, against the obvious ways."""
    from scipy.optimize import linear_sum_assignment

    from crossseed.alignment.maps import procrustes
    from crossseed.alignment.moments import Moments
    from crossseed.haar import eigenangles, null, statistics, study
    from crossseed.pairs import Pair

    d, rng = 512, np.random.default_rng(0)
    found: list[dict[str, Any]] = []

    def row(
        what: str, size: int, seconds: float, against: str = "", ratio: float | None = None
    ) -> None:
        found.append(
            {
                "what": what, "d": d, "size": size, "seconds": round(seconds, 4), "against": against,
                "ratio": None if ratio is None else round(ratio, 2), "repeats": REPEATS,
                "machine": machine(),
            }
        )  # fmt: skip
        print(found[-1], flush=True)

    def drawn(size: int) -> None:
        for det in (1, -1):
            for block in eigenangles.draws(rng, d, det, size // 2):
                statistics.spectral(block, d, det)
                null.empirical_less_mean(block, d, det)

    def by_qr() -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((d, d)))
        return q * np.sign(np.diag(r))

    dense_seconds = fastest(lambda: np.sort(np.abs(np.angle(np.linalg.eigvals(by_qr())))))
    row("one draw: QR and eigenvalues", 1, dense_seconds)
    spectral = fastest(lambda: drawn(10_000), 1)
    row(
        "eigenangle null, statistics included",
        10_000,
        spectral,
        "QR and eigenvalues",
        10_000 * dense_seconds / spectral,
    )
    matrix = haar_orthogonal(rng, d)
    frame = 2 * eigenangles.n_pairs(d, 1)

    def entry() -> None:
        q = haar_orthogonal(rng, d)
        statistics.entries(q)
        statistics.planes_participation(q[:, :frame])

    drawn_one, qr = fastest(lambda: haar_orthogonal(rng, d), 20), fastest(by_qr, 20)
    row("one Haar draw", 1, drawn_one, "QR of a Gaussian matrix", qr / drawn_one)

    def assigned() -> None:
        linear_sum_assignment(np.abs(haar_orthogonal(rng, d)), maximize=True)

    whole, least = fastest(entry, 20), fastest(assigned, 20)
    row(ENTRY, 9999, 9999 * whole, "a draw and SciPy's assignment", whole / least)

    a, b = (rng.standard_normal((65_536, d), dtype=np.float32) for _ in range(2))

    def streamed() -> None:
        moments = Moments(d, d, cross_only=True)
        for start in range(0, len(a), 8192):
            moments.add(a[start : start + 8192], b[start : start + 8192])
        procrustes(moments.cross_covariance)

    def floor() -> None:
        np.linalg.svd((b.T @ a).astype(np.float64))

    least = fastest(floor)
    taken = fastest(streamed)
    row("Procrustes of rows", 65_536, taken, "its product and one SVD", taken / least)

    rows = [rng.standard_normal((8 * d, d)) for _ in range(4)]
    halves = tuple(Moments(d, d) for _ in range(3))
    for moments, x, y in zip(halves, rows, rows[1:], strict=False):
        moments.add(x, x @ matrix + y)
    nulls = {size: null.draw(size, 700) for size in (d, d // 2)}
    spec = {"site": "s", "source_seed": 0, "target_seed": 1}

    def cell() -> None:
        # A pair of its own each time: it keeps what it has factorised.
        flat = (np.zeros(d), np.zeros(d))
        pair = Pair(("bench",), (halves[0], halves[1]), halves[2], flat, None, spec)
        study.of_pair(pair, nulls)
        study.phases_of(pair)

    row("the battery on 56 pairs and sites and their controls, nulls drawn", 56, 56 * fastest(cell))
    return found


def power_tables() -> list[dict[str, Any]]:
    """What the Haar tests reject at the sizes of the toy and of Pythia-70m. At the larger, where a
    draw takes a third of a second, power comes from fewer draws than size, and without curves."""
    from crossseed.haar import null, power

    found = power.table(null.draw(64, 9999), 1000)
    at_512 = null.draw(512, 9999)
    found += power.table(at_512, 1000, ["haar"], curves=())
    others = [name for name in power.ALTERNATIVES if name != "haar"]
    found += power.table(at_512, 150, others, curves=())
    return [{**r, "strength": "" if np.isnan(r["strength"]) else r["strength"]} for r in found]
