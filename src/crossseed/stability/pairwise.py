"""What two SAEs of one member and site share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.matching import assignment, modes
from crossseed.matching import criteria as m
from crossseed.stability.firing import Correlations
from crossseed.stability.matched import Both, Pair, compare, random
from crossseed.stability.rows import Row, by_key, mean_of, row_of

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Latents are told apart by how often they fire: shares of tokens between these quantiles of the live ones.
STRATA = 4


class Seed(NamedTuple):
    """One SAE.

    Attributes:
        name: of its init. both: directions of its latents.
        density: share of `eval` tokens on which each fires.
    """

    name: str
    both: Both
    density: np.ndarray

    @property
    def live(self) -> np.ndarray:
        """Which latents fire at all, (latents,)."""
        found: np.ndarray = self.density > 0
        return found


# Of two SAEs, by name, how they are matched.
Matched = Mapping[tuple[str, str], Pair]
Compared = Mapping[tuple[int, int], Pair]


def two_by_two(seeds: Sequence[Seed], matched: Matched) -> Compared:
    """Every two SAEs, by number."""
    found = {}
    for i, j in itertools.combinations(range(len(seeds)), 2):
        one, other = seeds[i], seeds[j]
        found[i, j] = matched.get((one.name, other.name)) or compare(one.both, other.both)
    return found


def rows_of_pairs(
    compared: Compared,
    seeds: Sequence[Seed],
    correlations: Correlations | None,
    threshold: float,
) -> list[Row]:
    """Rows of every two SAEs, without nulls."""
    rows = []
    for (i, j), of in compared.items():
        one = seeds[i]
        of_pair = rows_of_pair(of.standing, one.live, one.density, threshold)
        of_pair += rows_on_data(of.on_data, one.live, one.density, threshold)
        gap = of.standing.decoder.gap + of.standing.encoder.gap
        of_pair.append(row_of("matching_gap", gap, n=len(one.density)))
        if correlations is not None:
            of_pair += rows_by_firing(of.on_data, one.live, correlations.between(i, j))
        rows += [{**row, "first": one.name, "second": seeds[j].name} for row in of_pair]
    return rows


def standing_alone(found: m.Compared, width: int, threshold: float) -> list[Row]:
    """What two dictionaries share by their directions alone, beside random ones of their shape: of all latents, over
    thresholds, and the modes of matched cosines."""
    n = len(found.decoder.partner)
    every = np.ones(n, dtype=bool)
    drawn = [of.standing for of in random(n, width, np.eye(width)).values()]
    nulls, rows = (
        _shares(of, {"all": every}, threshold) + _over_thresholds(of, every)
        for of in (m.compare(*drawn[:2]), found)
    )
    null = by_key(nulls)
    return [{**row, "null": null[row["quantity"], row["part"]]} for row in rows]


def rows_of_pair(
    found: m.Compared, live: np.ndarray, density: np.ndarray, threshold: float
) -> list[Row]:
    """What two SAEs share: of all latents, of those of the first that fire, by how often they do, over thresholds.

    Args:
        live: which latents of the first fire, (latents,). density: on what share of tokens, (latents,).
    """
    parts = {"all": np.ones(len(live), dtype=bool), **_strata(live, density)}
    return _shares(found, parts, threshold) + _over_thresholds(found, live)


def _shares(found: m.Compared, parts: Mapping[str, np.ndarray], threshold: float) -> list[Row]:
    return [
        row_of(quantity, value, part, n=int(among.sum()))
        for part, among in parts.items()
        for quantity, value in m.summary(found, among, threshold).items()
    ]


def _over_thresholds(found: m.Compared, live: np.ndarray) -> list[Row]:
    """Shares of all latents above each threshold, and the modes of the matched cosines of those that fire."""
    rows = [
        row_of(f"{criterion}_above", found.shared(criterion, t).mean(), t, n=len(live))
        for criterion in m.AT_A_THRESHOLD
        for t in THRESHOLDS
    ]
    groups = modes.of(found.decoder.cosine[live])
    rows += [
        row_of(f"modes_{name}", value, n=int(live.sum()))
        for name, value in groups._asdict().items()
    ]
    rows.append(row_of("modes_two", modes.two(groups), n=int(live.sum())))
    return rows


def _strata(live: np.ndarray, density: np.ndarray) -> dict[str, np.ndarray]:
    """Latents that fire: all, and quarters of these by how often they do."""
    # SAEs on shuffled features may all be dead: a null that says nothing, and no reason to end.
    edges = np.quantile(density[live], np.linspace(0, 1, STRATA + 1)[1:-1]) if live.any() else []
    stratum = np.searchsorted(edges, density, side="right")
    return {"live": live, **{f"density {k + 1}": live & (stratum == k) for k in range(STRATA)}}


def rows_on_data(
    found: m.Compared, live: np.ndarray, density: np.ndarray, threshold: float
) -> list[Row]:
    """What depends on encoders, as they are on data; of latents of the first SAE that fire; (latents,) are
    `live` and `density`. For the arguments see `rows_of_pair`."""
    rows = []
    for part, among in _strata(live, density).items():
        values = m.summary(found, among, threshold)
        rows += [
            row_of(f"{name}_on_data", values[name], part, n=int(among.sum()))
            for name in (m.AGREE, m.DUAL, m.STRICT, "encoder_mcc")
        ]
    return rows


def rows_by_firing(found: m.Compared, live: np.ndarray, r: np.ndarray) -> list[Row]:
    """Latents matched by when they fire, r, instead of where they point; of latents of the first that fire. One whose
    partner is constant has r = 0. (The null matches them by when they fire on other tokens: the best of many matchings
    is never 0.)

    Args:
        live: of the first, (latents,). r: correlations, (latents of the first, of the second).
    """
    matched = assignment.dense(r)
    along = np.nan_to_num(r[np.arange(len(r)), found.decoder.partner])
    same = matched.partner == found.decoder.partner
    n = int(live.sum())
    return [
        row_of("firing_r", mean_of(matched.cosine[live]), n=n),
        row_of("firing_r_of_decoder_partner", mean_of(along[live]), n=n),
        row_of("firing_same_partner", mean_of(same[live]), n=n),
    ]
