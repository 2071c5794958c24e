"""What several SAEs of one member and site share, two by two and all together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crossseed.activations import SplitReader
from crossseed.errors import UserError
from crossseed.matching import assignment, modes, transport
from crossseed.matching import criteria as m
from crossseed.metrics import Estimate, jackknife, unit_blocks, unit_starts
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator
from crossseed.stability import decay, subspace
from crossseed.stability.firing import ALL_PAIRS_UP_TO, Correlations
from crossseed.stability.matched import Both, Pair, both, compare, random
from crossseed.stability.membership import Members

BLOCK_ROWS = 8192
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Latents are told apart by how often they fire: shares of tokens between these quantiles of the live ones.
STRATA = 4
# SAE seeds below which no interval is told.
LEAST_SEEDS = 4
# Latents up to which soft matching is measured.
TRANSPORT_UP_TO = 2048
NONE = float("nan")
Row = dict[str, Any]


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
        found: np.ndarray = self.density > 0
        return found


# Of two SAEs, by name, how they are matched.
Matched = Mapping[tuple[str, str], Pair]


def study(
    dictionaries: Mapping[str, Dictionary],
    split: SplitReader,
    threshold: float,
    *cell: object,
    shuffled: Mapping[str, Dictionary] = MappingProxyType({}),
    shuffled_split: SplitReader | None = None,
    matched: Matched = MappingProxyType({}),
) -> tuple[list[Row], list[Row]]:
    """Rows of `crossseed.stability.COLUMNS` and of `LATENT_COLUMNS`, without the cell's.

    Args:
        dictionaries: by SAE seed, all of one shape.
        split: activations of their member and site.
        shuffled: two SAEs that were trained on shuffled features, or none. shuffled_split: those features.
        threshold: cosine above which latents are shared.
        cell: names the cell.
        matched: two SAEs each that were matched before, those of `matched.random` among them; others are matched here.
    """
    shapes = {name: found.W_dec.shape for name, found in {**dictionaries, **shuffled}.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"SAEs of different shapes cannot be matched: {shapes}")
    seeds, correlations, root_dd = _seeds(dictionaries, split)
    _all_fire(seeds, split)
    n, width = seeds[0].both.standing.decoder.shape
    compared = _compared(seeds, matched)
    rows = _pairs(compared, seeds, correlations, threshold)
    # The nulls of all pairs are one: of random directions, and of firings on other tokens.
    drawn = [Seed(name, of, np.ones(n)) for name, of in random(n, width, root_dd).items()]
    floors = _compared(drawn, matched)
    floor = floors[0, 1]
    nulls = _by_key(
        _pair(floor.standing, drawn[0].live, np.arange(n), threshold)
        + _on_data(floor.on_data, drawn[0].live, np.arange(n), threshold)
    )
    if correlations is not None:
        nulls |= _by_key(_by_firing(compared[0, 1].on_data, seeds[0].live, correlations.null()))
    nulls |= _cycles(_members(floors, drawn, threshold))
    learned = {}
    if shuffled_split is not None:
        of_shuffled, their_firing, _ = _seeds(shuffled, shuffled_split)
        pair = _compared(of_shuffled, matched)
        learned = _by_key(_pairs(pair, of_shuffled, their_firing, threshold))
    for row in rows:
        key = row["quantity"], row["part"]
        row |= {"null": nulls.get(key, NONE), "shuffled": learned.get(key, NONE)}
    members = _members(compared, seeds, threshold)
    rows += _over_seeds(rows)
    chances = _chances(rows)
    # Of two SAEs alone: it takes as long as all else.
    if n <= TRANSPORT_UP_TO:
        of_two = {
            name: float(transport.cosine(one.both.standing.decoder @ other.both.standing.decoder.T))
            for name, (one, other) in (("value", seeds[:2]), ("null", drawn[:2]))
        }
        rows.append(_row("transport_cosine", **of_two, n=1))
        exact, chance = (float(of.standing.decoder.cosine.mean()) for of in (compared[0, 1], floor))
        rows.append(_row("assignment_cosine", exact, null=chance, n=1))
    rows += _together(members, seeds, nulls, chances, *cell)
    strict = members[ON_DATA]
    latents = [
        {
            "init": seed.name,
            "latent": latent,
            "density": float(seed.density[latent]),
            "reappears": float(reappears[latent]),
            "decoder_cosine": float(cosine[latent]),
            "partner": int(strict.partner[first][latent]),
            "shared": int(strict.found[first][latent]),
        }
        for number, seed in enumerate(seeds)
        for first in [(number, strict.others(number)[0])]
        for reappears in [strict.reappears(number)]
        for cosine in [_mean_cosine(compared, number, len(seeds))]
        for latent in range(n)
    ]
    return rows, latents


Compared = Mapping[tuple[int, int], Pair]


def _compared(seeds: Sequence[Seed], matched: Matched) -> Compared:
    """Every two SAEs, by number."""
    found = {}
    for i, j in itertools.combinations(range(len(seeds)), 2):
        one, other = seeds[i], seeds[j]
        found[i, j] = matched.get((one.name, other.name)) or compare(one.both, other.both)
    return found


def _pairs(
    compared: Compared,
    seeds: Sequence[Seed],
    correlations: Correlations | None,
    threshold: float,
) -> list[Row]:
    """Rows of every two SAEs, without nulls."""
    rows = []
    for (i, j), of in compared.items():
        one = seeds[i]
        of_pair = _pair(of.standing, one.live, one.density, threshold)
        of_pair += _on_data(of.on_data, one.live, one.density, threshold)
        gap = of.standing.decoder.gap + of.standing.encoder.gap
        of_pair.append(_row("matching_gap", gap, n=len(one.density)))
        if correlations is not None:
            of_pair += _by_firing(of.on_data, one.live, correlations.between(i, j))
        rows += [{**row, "first": one.name, "second": seeds[j].name} for row in of_pair]
    return rows


def _seeds(
    dictionaries: Mapping[str, Dictionary], split: SplitReader
) -> tuple[list[Seed], Correlations | None, np.ndarray]:
    """One pass over the activations: how often latents fire, for small dictionaries together with whom, and the square
    root of the activations' covariance."""
    found = list(dictionaries.values())
    n = found[0].W_dec.shape[0]
    fired = np.zeros((len(found), n), dtype=np.int64)
    sums = Correlations(len(found), n) if n <= ALL_PAIRS_UP_TO else None
    starts = unit_starts(split.document_n)
    total, squares = np.zeros(split.width), np.zeros((split.width, split.width))
    for _, rows, _ in unit_blocks(starts, split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        total += x.sum(axis=0, dtype=np.float64)
        squares += x.astype(np.float64).T @ x
        h = [dictionary.encode(x) for dictionary in found]
        fired += np.stack([np.count_nonzero(of, axis=0) for of in h])
        if sums is not None:
            sums.add(h)
    density = fired / split.n_tokens
    on_data = root(_covariance(total, squares, split.n_tokens))
    seeds = [
        Seed(name, both(of.W_dec, of.W_enc, on_data), density[number])
        for number, (name, of) in enumerate(dictionaries.items())
    ]
    return seeds, sums, on_data


def _all_fire(seeds: Sequence[Seed], split: SplitReader) -> None:
    dead = [seed.name for seed in seeds if not seed.live.any()]
    if dead:
        raise UserError(
            f"no latent of {', '.join(dead)} fires on {split.path}; train longer, or with a smaller penalty"
        )


def covariance_root(split: SplitReader) -> np.ndarray:
    """Symmetric square root of the covariance of a split's activations, (d, d)."""
    total, squares = np.zeros(split.width), np.zeros((split.width, split.width))
    for _, rows, _ in unit_blocks(unit_starts(split.document_n), split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        total += x.sum(axis=0, dtype=np.float64)
        squares += x.astype(np.float64).T @ x
    return root(_covariance(total, squares, split.n_tokens))


def _covariance(total_d: np.ndarray, squares_dd: np.ndarray, n: int) -> np.ndarray:
    mean = total_d / n
    found: np.ndarray = squares_dd / n - np.outer(mean, mean)
    return found


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root, (d, d)."""
    values, vectors = np.linalg.eigh(covariance)
    found: np.ndarray = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return found


def _row(
    quantity: str,
    value: float,
    part: object = "",
    *,
    null: float = NONE,
    shuffled: float = NONE,
    n: int = 0,
    low: float = NONE,
    high: float = NONE,
) -> Row:
    return {
        "first": "",
        "second": "",
        "quantity": quantity,
        "part": str(part),
        "value": float(value),
        "low": low,
        "high": high,
        "null": null,
        "shuffled": shuffled,
        "n": n,
    }


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    return {(row["quantity"], row["part"]): row["value"] for row in rows}


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
    null = _by_key(nulls)
    return [{**row, "null": null[row["quantity"], row["part"]]} for row in rows]


def _pair(found: m.Compared, live: np.ndarray, density: np.ndarray, threshold: float) -> list[Row]:
    """What two SAEs share: of all latents, of those of the first that fire, by how often they do, over thresholds.

    Args:
        live: latents of the first that fire. density: how often.
    """
    parts = {"all": np.ones(len(live), dtype=bool), **_strata(live, density)}
    return _shares(found, parts, threshold) + _over_thresholds(found, live)


def _shares(found: m.Compared, parts: Mapping[str, np.ndarray], threshold: float) -> list[Row]:
    return [
        _row(quantity, value, part, n=int(among.sum()))
        for part, among in parts.items()
        for quantity, value in m.summary(found, among, threshold).items()
    ]


def _over_thresholds(found: m.Compared, live: np.ndarray) -> list[Row]:
    """Shares of all latents above each threshold, and the modes of the matched cosines of those that fire."""
    rows = [
        _row(f"{criterion}_above", found.shared(criterion, t).mean(), t, n=len(live))
        for criterion in m.AT_A_THRESHOLD
        for t in THRESHOLDS
    ]
    groups = modes.of(found.decoder.cosine[live])
    rows += [
        _row(f"modes_{name}", value, n=int(live.sum())) for name, value in groups._asdict().items()
    ]
    rows.append(_row("modes_two", modes.two(groups), n=int(live.sum())))
    return rows


def _strata(live: np.ndarray, density: np.ndarray) -> dict[str, np.ndarray]:
    """Latents that fire: all, and quarters of these by how often they do."""
    # SAEs on shuffled features may all be dead: a null that says nothing, and no reason to end.
    edges = np.quantile(density[live], np.linspace(0, 1, STRATA + 1)[1:-1]) if live.any() else []
    stratum = np.searchsorted(edges, density, side="right")
    return {"live": live, **{f"density {k + 1}": live & (stratum == k) for k in range(STRATA)}}


def _on_data(
    found: m.Compared, live: np.ndarray, density: np.ndarray, threshold: float
) -> list[Row]:
    """What depends on encoders, as they are on data; of latents of the first SAE that fire."""
    rows = []
    for part, among in _strata(live, density).items():
        values = m.summary(found, among, threshold)
        rows += [
            _row(f"{name}_on_data", values[name], part, n=int(among.sum()))
            for name in (m.AGREE, m.DUAL, m.STRICT, "encoder_mcc")
        ]
    return rows


def _by_firing(found: m.Compared, live: np.ndarray, r: np.ndarray) -> list[Row]:
    """Latents matched by when they fire, r, instead of where they point; of latents of the first that fire. One whose
    partner is constant has r = 0. (The null matches them by when they fire on other tokens: the best of many matchings
    is never 0.)"""
    matched = assignment.dense(r)
    along = np.nan_to_num(r[np.arange(len(r)), found.decoder.partner])
    same = matched.partner == found.decoder.partner
    n = int(live.sum())
    return [
        _row("firing_r", _mean(matched.cosine[live]), n=n),
        _row("firing_r_of_decoder_partner", _mean(along[live]), n=n),
        _row("firing_same_partner", _mean(same[live]), n=n),
    ]


# Memberships by how they are told, with the suffix of their quantities: strict with encoders on data, of latents that
# fire; and as published, by two cosines, of encoders as they stand, dead latents counted too.
ON_DATA, PUBLISHED = "", "_published"
# The share of two SAEs that each of them extends to several.
SHARE_OF = {ON_DATA: ("strict_on_data", "live"), PUBLISHED: (m.DUAL, "all")}


def _members(compared: Compared, seeds: Sequence[Seed], threshold: float) -> dict[str, Members]:
    """Both directions of every pair, by `ON_DATA` and `PUBLISHED`."""
    live = {number: seed.live for number, seed in enumerate(seeds)}
    return {
        ON_DATA: _members_of(
            {pair: of.on_data for pair, of in compared.items()}, live, m.STRICT, threshold
        ),
        PUBLISHED: _members_of(
            {pair: of.standing for pair, of in compared.items()},
            {number: np.ones_like(of) for number, of in live.items()},
            m.DUAL,
            threshold,
        ),
    }


def _members_of(
    compared: Mapping[tuple[int, int], m.Compared],
    live: Mapping[int, np.ndarray],
    criterion: str,
    threshold: float,
) -> Members:
    found, partner, agree = {}, {}, {}
    for (i, j), of in compared.items():
        turned = of.decoder.turned(), of.encoder.turned()
        for pair, two in (((i, j), (of.decoder, of.encoder)), ((j, i), turned)):
            found[pair] = m.matched(*two, criterion, threshold)
            agree[pair] = m.matched(*two, m.AGREE)
            partner[pair] = two[0].partner
    return Members(live, found, partner, agree)


def _mean_cosine(compared: Compared, base: int, n_seeds: int) -> np.ndarray:
    """Cosine with the decoder's partner, mean over the other SAEs, (latents,)."""
    cosines = []
    for other in range(n_seeds):
        if other == base:
            continue
        of = compared[min(base, other), max(base, other)].standing.decoder
        cosines.append(of.cosine if base < other else of.turned().cosine)
    found: np.ndarray = np.mean(cosines, axis=0)
    return found


def _over_seeds(rows: Sequence[Row]) -> list[Row]:
    """Means over pairs, with intervals by leaving out one SAE seed, and all its pairs, at a time."""
    names = list(dict.fromkeys(row[role] for row in rows for role in ("first", "second")))
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row["quantity"], row["part"]), []).append(row)
    found = []
    for (quantity, part), of in by.items():
        values = np.array([row["value"] for row in of])
        has = np.array([[name in (row["first"], row["second"]) for row in of] for name in names])
        without = np.array([_mean(values[~pairs]) for pairs in has])
        value = _interval(_mean(values), without)
        found.append(
            _row(
                quantity,
                value.value,
                part,
                null=_mean(np.array([row["null"] for row in of])),
                shuffled=_mean(np.array([row["shuffled"] for row in of])),
                n=len(of),
                low=value.low,
                high=value.high,
            )
        )
    return found


def _interval(value: float, without_n: np.ndarray) -> Estimate:
    """With few SAE seeds an interval over them would only look like one."""
    return jackknife(value, without_n) if len(without_n) >= LEAST_SEEDS else Estimate(value)


def _cycles(members: Mapping[str, Members]) -> dict[tuple[str, str], float]:
    """How often latents come back to themselves along three dictionaries. (Where these share nothing it is more often
    than by blind chance, since what is nearest is so in both directions.)"""
    return {
        (f"cycle{suffix}", name): value
        for suffix, of in members.items()
        for name, value in of.cycles().items()
    }


class Chance(NamedTuple):
    """The share of latents that two SAEs have in common, of the nulls: ``null`` of random directions, ``shuffled`` of
    SAEs on shuffled features, NaN where there are none."""

    null: float
    shuffled: float

    def alone(self, k: int) -> dict[str, float]:
        """Share found in one of k SAEs only, were any latent as likely to reappear as any other."""
        return {name: (1 - p) ** (k - 1) for name, p in self._asdict().items()}

    def exactly(self, k: int, n: int) -> dict[str, float]:
        """Likewise, in exactly k of n."""
        times = math.comb(n - 1, k - 1)
        return {
            name: times * p ** (k - 1) * (1 - p) ** (n - k) for name, p in self._asdict().items()
        }


def _chances(rows: Sequence[Row]) -> dict[str, Chance]:
    """From the rows over all pairs."""
    by = {(row["quantity"], row["part"]): row for row in rows if not row["first"]}
    found = {}
    for suffix, key in SHARE_OF.items():
        found[suffix] = Chance(by[key]["null"], by[key]["shuffled"])
    return found


def _together(
    members: Mapping[str, Members],
    seeds: Sequence[Seed],
    nulls: Mapping[tuple[str, str], float],
    chances: Mapping[str, Chance],
    *cell: object,
) -> list[Row]:
    """Of all SAEs: how many share a latent, how that decays, cycles, and what the unshared span."""
    n_latents, n = len(seeds[0].density), len(seeds)
    rows = []
    for suffix, counted in members.items():
        shares = counted.exactly().mean(axis=0)
        rows += [
            _row(
                f"in_exactly{suffix}",
                share,
                k + 1,
                n=n_latents,
                **chances[suffix].exactly(k + 1, n),
            )
            for k, share in enumerate(shares)
        ]
        rows += _decays(counted, suffix, chances[suffix], n_latents, *cell)
    rows += _densities(members[ON_DATA], seeds)
    for key, value in _cycles(members).items():
        rows.append(_row(key[0], value, key[1], null=nulls[key], n=n_latents))
    rows += _spanned(members[ON_DATA], seeds, generator("stability-subspace", *cell))
    return rows


def _densities(members: Members, seeds: Sequence[Seed]) -> list[Row]:
    """How often latents fire that are in exactly 1, 2, … SAEs: medians over those of all, with intervals by leaving out one
    SAE at a time as the one that they are of."""
    counts = {base: members.counts(base) for base in members.names}
    density = {base: seeds[base].density[members.live[base]] for base in members.names}
    rows = []
    for k in range(1, len(seeds) + 1):
        of = {base: density[base][counts[base] == k] for base in members.names}
        without = [
            _median(np.concatenate([x for other, x in of.items() if other != base])) for base in of
        ]
        every = np.concatenate(list(of.values()))
        value = _interval(_median(every), np.array(without))
        rows.append(
            _row("density_in_exactly", value.value, k, low=value.low, high=value.high, n=len(every))
        )
    return rows


def _decays(
    members: Members, suffix: str, chance: Chance, n_latents: int, *cell: object
) -> list[Row]:
    """The share of latents in one of k SAEs only, and its fits, with intervals by leaving out one SAE at a time, as
    base and as other."""

    def curve(of: Members) -> np.ndarray:
        mean: np.ndarray = of.alone(generator("stability-subsets", *cell)).mean(axis=0)
        return mean

    def fitted(of: np.ndarray) -> dict[str, decay.Fit | None]:
        k = np.arange(2, len(of) + 2)
        return {form: decay.fit(form, k, of) for form in decay.FORMS}

    whole = curve(members)
    rest = [curve(members.without(name)) for name in members.names] if len(whole) > 1 else []
    rows = []
    for number, share in enumerate(whole):
        # All SAEs are compared only where none is left out.
        without = np.array([of[number] for of in rest if number < len(of)])
        of = _interval(float(share), without)
        rows.append(
            _row(
                f"alone{suffix}",
                of.value,
                number + 2,
                low=of.low,
                high=of.high,
                n=n_latents,
                **chance.alone(number + 2),
            )
        )
    again = [fitted(of) for of in rest]
    for form, best in fitted(whole).items():
        if best is None:
            continue
        others = [fits[form] for fits in again]
        for name, value in best.parameters.items():
            without = np.array([np.nan if fit is None else fit.parameters[name] for fit in others])
            of = _interval(value, without)
            rows.append(
                _row(
                    f"decay{suffix}_{form}", of.value, name, low=of.low, high=of.high, n=len(whole)
                )
            )
        rows.append(_row(f"decay{suffix}_{form}", best.sse, "sse", n=len(whole)))
        # With hardly more points than parameters it is infinite, and there is none.
        if np.isfinite(best.aicc):
            rows.append(_row(f"decay{suffix}_{form}", best.aicc, "aicc", n=len(whole)))
    return rows


def _spanned(members: Members, seeds: Sequence[Seed], rng: np.random.Generator) -> list[Row]:
    """How far latents that are in one SAE alone span the same directions in two SAEs; beside as many drawn from all that
    fire, and random subspaces of the same rank."""
    found: list[subspace.Overlap] = []
    drawn: list[float] = []
    for i, j in itertools.combinations(members.names, 2):
        alone, some = [], []
        for number in (i, j):
            seed = seeds[number]
            chosen = np.flatnonzero(seed.live & (members.reappears(number) == 0))
            alone.append(seed.both.standing.decoder[chosen])
            others = rng.choice(np.flatnonzero(seed.live), len(chosen), replace=False)
            some.append(seed.both.standing.decoder[others])
        found.append(subspace.overlap(alone[0], alone[1]))
        drawn.append(subspace.overlap(some[0], some[1], found[-1].rank or None).value)
    values, chances, ranks = (np.array(of, dtype=float) for of in zip(*found, strict=True))
    return [
        _row("subspace_overlap", _mean(values), "unshared", null=_mean(chances), n=len(found)),
        _row("subspace_overlap", _mean(np.array(drawn)), "any", null=_mean(chances), n=len(found)),
        _row("subspace_rank", _mean(ranks), "unshared", n=len(found)),
    ]


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else NONE


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
