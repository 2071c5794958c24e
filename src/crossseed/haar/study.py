"""The battery on the rotations of a run: one pair at a time, and across pairs.

A rotation is tested whole only where the activations decide all of it. Elsewhere, and besides, it
is tested inside its identified subspace: Procrustes between the k leading identified principal
directions of each side. k is rounded down to a size whose null is at hand (`crossseed.haar.sizes`), so that
which nulls are needed follows from the width alone.

The same tests run on two controls: ``shuffled`` (Procrustes of pairs exchanged within their
position) and ``covariance_random`` (principal axes matched by rank with random signs). Where these
pass too, passing says nothing of shared features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossseed.alignment import ladder
from crossseed.alignment.maps import procrustes
from crossseed.haar import battery
from crossseed.haar.null import Null, empirical_less_mean, law_grid
from crossseed.haar.statistics import spectrum
from crossseed.pairs import Pair
from crossseed.published import iid_ks
from crossseed.seeding import generator

COLUMNS = (
    "cohort",
    "source_seed",
    "target_seed",
    "checkpoint",
    "site",
    "map",
    "subspace",
    "dimensions",
    "basis",
    "statistic",
    "value",
    "null_low",
    "null_median",
    "null_high",
    "p",
    "holm",
    "n",
)
KS_COLUMNS = (
    "cohort",
    "checkpoint",
    "site",
    "source_seed",
    "target_seed",
    "map",
    "matrices",
    "dimensions",
    "ks_published",
    "p_published",
    "ks",
    "p",
    "null_low",
    "null_median",
    "null_high",
)
PHASE_COLUMNS = ("cohort", "checkpoint", "site", "map", "angle_rad", "difference", "low", "high")
MAPS = ("procrustes", "shuffled", "covariance_random")
PHASE_DRAWS = 999
ACROSS_DRAWS = 9999


def rotations(pair: Pair) -> dict[str, np.ndarray]:
    """The rotation of a pair and its two controls, by map."""
    moments = pair.moments
    axes_b = ladder.principal_directions(moments.covariance_b)
    axes_a = ladder.principal_directions(moments.covariance_a)
    signs = generator("random-signs", *pair.cell).choice([-1.0, 1.0], len(axes_b))
    return {
        "procrustes": pair.rotation,
        "shuffled": procrustes(pair.shuffled.cross_covariance),
        "covariance_random": ladder.covariance_only(axes_b, axes_a, signs),
    }


def decided(pair: Pair) -> bool:
    """Whether the activations decide the whole rotation."""
    return pair.numbers()["numerical_rank"] == len(pair.rotation)


def _rows(
    found: tuple[list[battery.Result], int], which: str, subspace: str, size: int
) -> list[dict[str, Any]]:
    shared = {"map": which, "subspace": subspace, "dimensions": size, "n": 1}
    tests, det = found
    none = {key: float("nan") for key in ("null_low", "null_median", "null_high", "p", "holm")}
    sign = {"basis": "neuron", "statistic": "det", "value": float(det), **none}
    return [{**shared, **sign}, *({**shared, **test._asdict()} for test in tests)]


def of_pair(pair: Pair, nulls: Mapping[int, Null]) -> list[dict[str, Any]]:
    """The battery on one pair; rows of `COLUMNS` without the cell's."""
    width = len(pair.rotation)
    found: list[dict[str, Any]] = []
    moments = pair.moments
    numbers = pair.numbers()
    # Where the activations do not span all dimensions, part of the rotation is arbitrary.
    bases = (
        ladder.principal_directions(moments.covariance_b),
        ladder.principal_directions(moments.covariance_a),
    )
    if decided(pair) and width in nulls:
        for name, rotation in rotations(pair).items():
            # Principal axes matched by rank are a signed identity in their own basis.
            own = None if name == "covariance_random" else bases
            found += _rows(battery.battery_of(rotation, nulls[width], own), name, "whole", width)
    fits = [size for size in nulls if size <= numbers["identified_rank"] and size < width]
    if fits:
        size = max(fits)
        target, source = pair.identified(size)
        size = min(target.shape[1], source.shape[1])
        size = max((s for s in fits if s <= size), default=0)
        if size:
            inner = procrustes(target[:, :size].T @ moments.cross_covariance @ source[:, :size])
            tests, det = battery.battery_of(inner, nulls[size])
            tests = [test._replace(basis="principal") for test in tests]
            found += _rows((tests, det), "procrustes", "identified", size)
    return found


def across_pairs(
    pairs: Sequence[Pair], null: Null, *cell: object
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """What several pairs of one site say together; rows of `COLUMNS`, `KS_COLUMNS`,
    `PHASE_COLUMNS`, without cohort, checkpoint and site.

    Args:
        pairs: of one source with different targets; those of which the activations do not decide
            the whole rotation are left out.
        null: draws for the width.
        cell: names the cell, for the draws.
    """
    pairs = [pair for pair in pairs if decided(pair)]
    if not pairs:
        return [], [], []
    table: list[dict[str, Any]] = []
    ks: list[dict[str, Any]] = []
    phases: list[dict[str, Any]] = []
    by_map: dict[str, list[np.ndarray]] = {name: [] for name in MAPS}
    for pair in pairs:
        for name, rotation in rotations(pair).items():
            by_map[name].append(rotation)
    reference = iid_ks.reference(null.d)
    for name, found in by_map.items():
        table += _together(found, null.d, name, *cell)
        laws = [law_of(rotation) for rotation in found]
        for pair, rotation, law in zip(pairs, found, laws, strict=True):
            one = {"source_seed": pair.spec["source_seed"], "target_seed": pair.spec["target_seed"]}
            ks.append({**one, **_ks([rotation], [law], null, reference, name, *cell)})
        if len(found) > 1:
            pool = {"source_seed": "", "target_seed": ""}
            ks.append({**pool, **_ks(found, laws, null, reference, name, *cell)})
        phases += _phases(laws, null, name, *cell)
    return table, ks, phases


Law = tuple[np.ndarray, int]


def law_of(rotation: np.ndarray) -> Law:
    """Empirical less mean law of the eigenangles of one matrix, and its determinant."""
    found = spectrum(rotation)
    return empirical_less_mean(found.angles_n[None], len(rotation), found.det)[0], found.det


def pooled_null(laws: Sequence[Law], null: Null, size: int, *cell: object) -> np.ndarray:
    """Laws of pools of independent Haar draws with the same determinants, (size, points)."""
    rng = generator("pooled-eigenphases", *cell, len(laws))
    total = np.zeros((size, null.law[1].shape[1]), dtype=np.float32)
    for _, det in laws:
        draws = null.law[det]
        total += draws[rng.integers(len(draws), size=size)]
    return total / len(laws)


def _ks(
    found: Sequence[np.ndarray],
    laws: Sequence[Law],
    null: Null,
    reference: np.ndarray,
    name: str,
    *cell: object,
) -> dict[str, Any]:
    """The published test of a pool of matrices, and the calibrated one."""
    statistic, p = iid_ks.pooled(list(found), reference)
    value = float(np.abs(np.mean([law for law, _ in laws], axis=0)).max())
    drawn = np.abs(pooled_null(laws, null, len(null.law[1]), *cell)).max(axis=1)
    low, median, high = (float(q) for q in np.quantile(drawn, (0.025, 0.5, 0.975)))
    return {
        "map": name,
        "matrices": len(found),
        "dimensions": null.d,
        "ks_published": statistic,
        "p_published": p,
        "ks": value,
        "p": battery.two_sided(value, drawn),
        "null_low": low,
        "null_median": median,
        "null_high": high,
    }


def _phases(laws: Sequence[Law], null: Null, name: str, *cell: object) -> list[dict[str, Any]]:
    """The pooled law at each angle with its pointwise 95 % band."""
    drawn = pooled_null(laws, null, PHASE_DRAWS, *cell)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    mean = np.mean([law for law, _ in laws], axis=0)
    return [
        {
            "map": name,
            "angle_rad": float(a),
            "difference": float(d),
            "low": float(x),
            "high": float(y),
        }
        for a, d, x, y in zip(law_grid(), mean, low, high, strict=True)
    ]


def _together(
    found: Sequence[np.ndarray], d: int, name: str, *cell: object
) -> list[dict[str, Any]]:
    """Traces of products of pairs of matrices, and the count of negative determinants."""
    none = {"source_seed": "", "target_seed": "", "map": name, "subspace": "whole"}
    shared = {**none, "dimensions": d, "basis": "across", "n": len(found)}
    dets = [np.linalg.slogdet(rotation)[0] for rotation in found]
    negative = sum(det < 0 for det in dets)
    blank = {key: float("nan") for key in ("null_low", "null_median", "null_high")}
    rows = []
    if len(found) > 1:
        p = battery.determinants_p(negative, len(found))
        rows.append({**shared, "statistic": "negative_dets", "value": negative, **blank, "p": p})
    if len(found) > 2:
        null = battery.across_null(
            generator("across", *cell, len(found), min(d, battery.TRACES_SETTLE)),
            d,
            len(found),
            ACROSS_DRAWS,
        )
        for statistic, value in battery.across(battery.trace_products(found)).items():
            low, median, high = (
                float(q) for q in np.quantile(null[statistic], (0.025, 0.5, 0.975))
            )
            rows.append(
                {**shared, "statistic": statistic, "value": value, "null_low": low,
                 "null_median": median, "null_high": high,
                 "p": battery.two_sided(value, null[statistic])}
            )  # fmt: skip
    corrected = battery.holm([row["p"] for row in rows])
    return [{**row, "holm": float(p)} for row, p in zip(rows, corrected, strict=True)]
