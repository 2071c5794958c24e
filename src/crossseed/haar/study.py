"""The battery on the rotations of a run: one pair at a time, and across pairs.

A rotation is tested whole only where the activations decide all of it. Elsewhere, and besides, it
is tested inside its identified subspace: Procrustes between the k leading identified principal
directions of each side. Their signs are arbitrary, so only statistics that no sign changes are
tested there. k is rounded down to a size whose null is at hand (`crossseed.haar.sizes`), so that
which nulls are needed follows from the width alone.

The same tests run on two controls: ``shuffled`` (Procrustes of pairs exchanged within their
position) and ``covariance_random`` (principal axes matched by rank with random signs). Where these
pass too, passing says nothing of shared features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment import ladder
from crossseed.alignment.maps import procrustes
from crossseed.haar import battery
from crossseed.haar.null import Null, empirical_less_mean, law_grid
from crossseed.haar.statistics import SPECTRAL, spectral, spectrum
from crossseed.metrics import holm
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
    "decided",
    "dimensions",
    "ks_published",
    "p_published",
    "ks",
    "p",
    "null_low",
    "null_median",
    "null_high",
)
PHASE_COLUMNS = (
    *("cohort", "checkpoint", "site", "map", "matrices", "decided"),
    *("angle_rad", "difference", "low", "high"),
)
# In place of a site: all of them pooled.
ALL_SITES = "all"
MAPS = ("procrustes", "shuffled", "covariance_random")
# What a pair knows of its fit that decides whether a test means anything.
INTEGRITY = (
    "numerical_rank",
    "identified_rank",
    "effective_rank",
    "singular_ratio",
    "singular_gap",
)
PHASE_DRAWS = 999
ACROSS_DRAWS = 9999


def rotations(pair: Pair) -> dict[str, np.ndarray]:
    """The rotation of a pair and its two controls, by map, (d, d) each."""
    signs = generator("random-signs", *pair.cell).choice([-1.0, 1.0], len(pair.rotation))
    return {
        "procrustes": pair.rotation,
        "shuffled": procrustes(pair.shuffled.cross_covariance),
        "covariance_random": ladder.covariance_only(*pair.axes, signs),
    }


def decided(pair: Pair) -> bool:
    """Whether the activations decide the whole rotation."""
    return pair.numbers["numerical_rank"] == len(pair.rotation)


def _rows(
    tests: Sequence[battery.Result], which: str, subspace: str, size: int
) -> list[dict[str, Any]]:
    shared = {"map": which, "subspace": subspace, "dimensions": size, "n": 1}
    return [{**shared, **test._asdict()} for test in tests]


def _integrity(pair: Pair) -> list[dict[str, Any]]:
    """What can be said of a fit before any test: rows without a p."""
    rotation = pair.rotation
    values = {
        "det": np.sign(np.linalg.slogdet(rotation)[0]),
        "orthogonality_defect": battery.check_orthogonal(rotation, "the rotation"),
        **{name: pair.numbers[name] for name in INTEGRITY},
    }
    none = {key: float("nan") for key in ("null_low", "null_median", "null_high", "p", "holm")}
    shared = {"map": "procrustes", "subspace": "whole", "dimensions": len(rotation), "n": 1}
    return [
        {**shared, "basis": "neuron", "statistic": name, "value": float(value), **none}
        for name, value in values.items()
    ]


def of_pair(pair: Pair, nulls: Mapping[int, Null]) -> list[dict[str, Any]]:
    """The battery on one pair; rows of `COLUMNS` without the cell's."""
    width = len(pair.rotation)
    found = _integrity(pair)
    # Where the activations do not span all dimensions, part of the rotation is arbitrary.
    if decided(pair) and width in nulls:
        for name, rotation in rotations(pair).items():
            # Principal axes matched by rank are a signed identity in their own basis.
            own = None if name == "covariance_random" else pair.axes
            tests, _ = battery.battery_of(rotation, nulls[width], own)
            found += _rows(tests, name, "whole", width)
    fits = [size for size in nulls if size <= pair.numbers["identified_rank"] and size < width]
    if fits:
        size = max(fits)
        target, source = pair.identified(size)
        size = min(target.shape[1], source.shape[1])
        size = max((s for s in fits if s <= size), default=0)
        fitted = {"procrustes": pair.moments, "shuffled": pair.shuffled} if size else {}
        for name, fit in fitted.items():
            inner = procrustes(target[:, :size].T @ fit.cross_covariance @ source[:, :size])
            tests = battery.entries_of(inner, nulls[size])
            found += _rows(tests, name, "identified", size)
    return found


class Phases(NamedTuple):
    """The eigenphases of one rotation.

    Attributes:
        site, source_seed, target_seed, map: which.
        angles_n: as the published protocol takes them (`crossseed.published.iid_ks.all_angles`).
        law: empirical less mean law of the angles at `law_grid`.
        ks: the Kolmogorov–Smirnov distance of the angles from their mean law.
        det: determinant.
        decided: whether the activations decide the whole rotation.
    """

    site: str
    source_seed: int
    target_seed: int
    map: str
    angles_n: np.ndarray
    law: np.ndarray
    ks: float
    det: int
    decided: bool


def phases_of(pair: Pair) -> list[Phases]:
    """The eigenphases of a pair's rotation and of its controls."""
    cell = (pair.spec["site"], pair.spec["source_seed"], pair.spec["target_seed"])
    known = decided(pair)
    return [phases(rotation, known, *cell, name) for name, rotation in rotations(pair).items()]


def phases(
    rotation: np.ndarray, known: bool, site: str, source: int, target: int, name: str
) -> Phases:
    """The eigenphases of one orthogonal matrix, (d, d); known: whether the activations decide it."""
    found, d = spectrum(rotation), len(rotation)
    angles = found.angles_n[None]
    law = empirical_less_mean(angles, d, found.det)[0]
    ks = float(spectral(angles, d, found.det)[0, SPECTRAL.index("ks")])
    cell = (site, source, target, name)
    return Phases(*cell, iid_ks.all_angles(found, d), law, ks, found.det, known)


def pooled_null(dets: Sequence[int], null: Null, size: int, *cell: object) -> np.ndarray:
    """Laws of pools of independent Haar draws with these determinants, (size, points)."""
    rng = generator("pooled-eigenphases", *cell, len(dets))
    total = np.zeros((size, null.law[1].shape[1]), dtype=np.float32)
    for det in dets:
        draws = null.law[det]
        total += draws[rng.integers(len(draws), size=size)]
    return total / len(dets)


def ks(found: Sequence[Phases], null: Null, *cell: object) -> list[dict[str, Any]]:
    """The published test and the calibrated one: of each matrix, of the pairs of each site pooled,
    and of all sites pooled; rows of `KS_COLUMNS` without cohort and checkpoint.

    The published test takes every matrix, the calibrated one those that are decided. For pools its
    statistic is the largest difference at the angles of `law_grid`, observed and drawn alike. Its p
    over all sites treats the sites of a pair as independent, which they are not quite.

    Args:
        found: of one source with different targets.
        null: draws for the width.
        cell: names the cell, for the draws.
    """
    reference = iid_ks.reference(null.d)
    rows = []
    for name in MAPS:
        part = [one for one in found if one.map == name]
        sites = list(dict.fromkeys(one.site for one in part))
        pools = {site: [one for one in part if one.site == site] for site in sites}
        for one in part:
            pair = {"source_seed": one.source_seed, "target_seed": one.target_seed}
            rows.append({"site": one.site, **pair, **_ks([one], null, reference, *cell)})
        pools = {site: pool for site, pool in pools.items() if len(pool) > 1}
        if len(part) > max(1, *map(len, pools.values()), 1):
            pools[ALL_SITES] = part
        for site, pool in pools.items():
            none = {"source_seed": "", "target_seed": ""}
            rows.append({"site": site, **none, **_ks(pool, null, reference, *cell, site)})
    return rows


def _ks(pool: Sequence[Phases], null: Null, reference: np.ndarray, *cell: object) -> dict[str, Any]:
    """The published test of a pool of matrices, and the calibrated one."""
    statistic, p = iid_ks.test(np.concatenate([one.angles_n for one in pool]), reference)
    known = [one for one in pool if one.decided]
    row = {
        "map": pool[0].map,
        "matrices": len(pool),
        "decided": len(known),
        "dimensions": null.d,
        "ks_published": statistic,
        "p_published": p,
    }
    if not known:
        nan = float("nan")
        return {**row, **dict.fromkeys(("ks", "p", "null_low", "null_median", "null_high"), nan)}
    if len(known) == 1:
        value, drawn = known[0].ks, null.statistics[known[0].det]["ks"]
    else:
        value = float(np.abs(np.mean([one.law for one in known], axis=0)).max())
        laws = pooled_null([one.det for one in known], null, len(null.law[1]), *cell)
        drawn = np.abs(laws).max(axis=1)
    low, median, high = (float(q) for q in np.quantile(drawn, (0.025, 0.5, 0.975)))
    return {
        **row,
        "ks": value,
        "p": battery.two_sided(value, drawn),
        "null_low": low,
        "null_median": median,
        "null_high": high,
    }


def across_pairs(
    pairs: Sequence[Pair], null: Null, *cell: object
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What several pairs of one site say together; rows of `COLUMNS` and of `PHASE_COLUMNS`,
    without cohort, checkpoint and site.

    Args:
        pairs: of one source with different targets. Those of which the activations do not decide
            the whole rotation take no part in the tests; their eigenphases are pooled only where
            no pair is decided, and then marked so.
        null: draws for the width.
        cell: names the cell, for the draws.
    """
    known = [pair for pair in pairs if decided(pair)]
    table: list[dict[str, Any]] = []
    if known:
        by_pair = [rotations(pair) for pair in known]
        for name in MAPS:
            table += _together([maps[name] for maps in by_pair], null.d, name, *cell)
    laws: list[dict[str, Any]] = []
    drawn_from = [phases_of(pair) for pair in known or pairs]
    for found in zip(*drawn_from, strict=True):
        laws += _phases(found, null, *cell)
    return table, laws


def _phases(found: Sequence[Phases], null: Null, *cell: object) -> list[dict[str, Any]]:
    """The pooled law at each angle with its pointwise 95 % band."""
    drawn = pooled_null([one.det for one in found], null, PHASE_DRAWS, *cell)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    mean = np.mean([one.law for one in found], axis=0)
    columns = {"angle_rad": law_grid(), "difference": mean, "low": low, "high": high}
    shared = {
        "map": found[0].map,
        "matrices": len(found),
        "decided": int(all(one.decided for one in found)),
    }
    return [
        {**shared, **{name: float(values[i]) for name, values in columns.items()}}
        for i in range(len(mean))
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
    corrected = holm([row["p"] for row in rows])
    return [{**row, "holm": float(p)} for row, p in zip(rows, corrected, strict=True)]
