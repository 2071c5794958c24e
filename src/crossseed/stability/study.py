"""What several SAEs of one member and site share, two by two and all together."""

from __future__ import annotations

import itertools
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
        name: of its init. directions: of its latents, as they stand.
        on_data: the same with encoders times the square root of the activations' covariance, so that their
            cosines are correlations of what latents see on data; where activations do not vary an encoder is
            what it was before training.
        density: share of `eval` tokens on which each fires.
    """

    name: str
    directions: m.Directions
    on_data: m.Directions
    density: np.ndarray

    @property
    def live(self) -> np.ndarray:
        found: np.ndarray = self.density > 0
        return found


def study(
    dictionaries: Mapping[str, Dictionary],
    split: SplitReader,
    threshold: float,
    *cell: object,
    shuffled: Mapping[str, Dictionary] = MappingProxyType({}),
    shuffled_split: SplitReader | None = None,
) -> tuple[list[Row], list[Row]]:
    """Rows of `crossseed.stability.COLUMNS` and of `LATENT_COLUMNS`, without the cell's.

    Args:
        dictionaries: by SAE seed, all of one shape.
        split: activations of their member and site.
        shuffled: two SAEs that were trained on shuffled features, or none. shuffled_split: those features.
        threshold: cosine above which latents are shared.
        cell: names the cell.
    """
    shapes = {name: found.W_dec.shape for name, found in {**dictionaries, **shuffled}.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"SAEs of different shapes cannot be matched: {shapes}")
    seeds, correlations, covariance_root = _seeds(dictionaries, split)
    compared, rows = _pairs(seeds, correlations, threshold)
    n, width = seeds[0].directions.decoder.shape
    rng = generator("stability-random", n, width)
    drawn = [m.random_directions(rng, n, width) for _ in range(3)]
    seen = [m.Directions(of.decoder, m.unit(of.encoder @ covariance_root)) for of in drawn]
    floor = m.compare(*drawn[:2])
    # The nulls of all pairs are one: of random directions, and of firings on other tokens.
    everything = np.ones(n, dtype=bool)
    nulls = _by_key(
        _pair(floor, everything, np.arange(n), threshold)
        + _on_data(m.compare_encoders(floor, *seen[:2]), everything, threshold)
    )
    if correlations is not None:
        by_chance = assignment.dense(correlations.null()).cosine
        nulls["firing_r", ""] = _mean(by_chance[by_chance != 0])
        nulls["firing_same_partner", ""] = 1 / n
    nulls |= _cycles_of_random(seen, threshold)
    learned = {}
    if shuffled_split is not None:
        of_shuffled, their_firing, _ = _seeds(shuffled, shuffled_split)
        learned = _by_key(_pairs(of_shuffled, their_firing, threshold)[1])
    for row in rows:
        key = row["quantity"], row["part"]
        row |= {"null": nulls.get(key, NONE), "shuffled": learned.get(key, NONE)}
    members = _members(compared, seeds, threshold)
    rows += _over_seeds(rows)
    # Of two SAEs alone: it takes as long as all else.
    if len(floor.decoder.partner) <= TRANSPORT_UP_TO:
        one, other = (seed.directions.decoder for seed in seeds[:2])
        soft = transport.cosine(one @ other.T)
        exact = float(compared[0, 1].decoder.cosine.mean())
        rows.append(_row("transport_cosine", soft, null=float(floor.decoder.cosine.mean()), n=1))
        rows.append(_row("assignment_cosine", exact, null=float(floor.decoder.cosine.mean()), n=1))
    rows += _together(members, seeds, nulls, *cell)
    latents = [
        {
            "init": seed.name,
            "latent": latent,
            "density": float(seed.density[latent]),
            "reappears": float(reappears[latent]),
            "decoder_cosine": float(cosine[latent]),
            "partner": int(members.partner[first][latent]),
            "shared": int(members.found[first][latent]),
        }
        for number, seed in enumerate(seeds)
        for first in [(number, members.others(number)[0])]
        for reappears in [members.reappears(number)]
        for cosine in [_mean_cosine(compared, number, len(seeds))]
        for latent in range(n)
    ]
    return rows, latents


def _pairs(
    seeds: Sequence[Seed], correlations: Correlations | None, threshold: float
) -> tuple[dict[tuple[int, int], m.Compared], list[Row]]:
    """Every two SAEs: the comparison of decoders, and of encoders on data, and rows without nulls."""
    compared, rows = {}, []
    for i, j in itertools.combinations(range(len(seeds)), 2):
        one, other = seeds[i], seeds[j]
        as_they_stand = m.compare(one.directions, other.directions)
        found = m.compare_encoders(as_they_stand, one.on_data, other.on_data)
        of_pair = _pair(as_they_stand, one.live, one.density, threshold)
        of_pair += _on_data(found, one.live, threshold)
        gap = as_they_stand.decoder.gap + as_they_stand.encoder.gap
        of_pair.append(_row("matching_gap", gap, n=len(one.density)))
        if correlations is not None:
            of_pair += _by_firing(found, correlations.between(i, j))
        rows += [{**row, "first": one.name, "second": other.name} for row in of_pair]
        compared[i, j] = found
    return compared, rows


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
    mean = total / split.n_tokens
    on_data = root(squares / split.n_tokens - np.outer(mean, mean))
    seeds = [
        Seed(
            name,
            m.directions(of.W_dec, of.W_enc),
            m.directions(of.W_dec, (on_data @ of.W_enc).astype(np.float32)),
            density[number],
        )
        for number, (name, of) in enumerate(dictionaries.items())
    ]
    dead = [seed.name for seed in seeds if not seed.live.any()]
    if dead:
        raise UserError(
            f"no latent of {', '.join(dead)} fires on {split.path}; train longer, or with a smaller penalty"
        )
    return seeds, sums, on_data.astype(np.float32)


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


def _pair(found: m.Compared, live: np.ndarray, density: np.ndarray, threshold: float) -> list[Row]:
    """What two SAEs share: of all latents, of those of the first that fire, by how often they do, over thresholds.

    Args:
        live: latents of the first that fire. density: how often.
    """
    edges = np.quantile(density[live], np.linspace(0, 1, STRATA + 1)[1:-1])
    stratum = np.searchsorted(edges, density, side="right")
    parts = {"all": np.ones(len(live), dtype=bool), "live": live}
    parts |= {f"density {k + 1}": live & (stratum == k) for k in range(STRATA)}
    rows = [
        _row(quantity, value, part, n=int(among.sum()))
        for part, among in parts.items()
        for quantity, value in m.summary(found, among, threshold).items()
    ]
    rows += [
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


def _on_data(found: m.Compared, live: np.ndarray, threshold: float) -> list[Row]:
    """What depends on encoders, as they are on data; of latents of the first SAE that fire."""
    values = m.summary(found, live, threshold)
    return [
        _row(f"{name}_on_data", values[name], "live", n=int(live.sum()))
        for name in (m.AGREE, m.DUAL, m.STRICT, "encoder_mcc")
    ]


def _by_firing(found: m.Compared, r: np.ndarray) -> list[Row]:
    """Latents matched by when they fire, r, instead of where they point. (The null matches them by when they fire on
    other tokens, since the best of many matchings is never 0.)"""
    matched = assignment.dense(r)
    latents = np.arange(len(r))
    counts = np.isfinite(r[latents, matched.partner])
    along = r[latents, found.decoder.partner]
    same = (matched.partner == found.decoder.partner)[counts]
    return [
        _row("firing_r", _mean(matched.cosine[counts]), n=int(counts.sum())),
        _row("firing_r_of_decoder_partner", _mean(along), n=int(np.isfinite(along).sum())),
        _row("firing_same_partner", _mean(same), n=int(counts.sum())),
    ]


def _members(
    compared: Mapping[tuple[int, int], m.Compared], seeds: Sequence[Seed], threshold: float
) -> Members:
    """Both directions of every pair."""
    live = {number: seed.live for number, seed in enumerate(seeds)}
    return _members_of(compared, live, threshold)


def _members_of(
    compared: Mapping[tuple[int, int], m.Compared],
    live: dict[int, np.ndarray],
    threshold: float,
) -> Members:
    found, partner, agree = {}, {}, {}
    for (i, j), of in compared.items():
        shared = of.shared(m.STRICT, threshold)
        forward, same = of.decoder.partner, of.agree()
        back = np.empty_like(forward)
        back[forward] = np.arange(len(forward))
        found[i, j], partner[i, j], agree[i, j] = shared, forward, same
        found[j, i], partner[j, i], agree[j, i] = shared[back], back, same[back]
    return Members(live, found, partner, agree)


def _mean_cosine(
    compared: Mapping[tuple[int, int], m.Compared], base: int, n_seeds: int
) -> np.ndarray:
    """Cosine with the decoder's partner, mean over the other SAEs, (latents,)."""
    cosines = []
    for other in range(n_seeds):
        if other == base:
            continue
        of = compared[min(base, other), max(base, other)].decoder
        if base < other:
            cosines.append(of.cosine)
        else:
            mine = np.empty_like(of.cosine)
            mine[of.partner] = of.cosine
            cosines.append(mine)
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


def _cycles_of_random(
    drawn: Sequence[m.Directions], threshold: float
) -> dict[tuple[str, str], float]:
    """How often latents come back to themselves along three dictionaries that share nothing: more often than by blind
    chance, since what is nearest is so in both directions."""
    compared = {
        (i, j): m.compare(drawn[i], drawn[j]) for i, j in itertools.combinations(range(3), 2)
    }
    live = np.ones(len(drawn[0].decoder), dtype=bool)
    closed = _members_of(compared, dict.fromkeys(range(3), live), threshold).cycles()
    return {("cycle", name): value for name, value in closed.items()}


def _together(
    members: Members,
    seeds: Sequence[Seed],
    nulls: Mapping[tuple[str, str], float],
    *cell: object,
) -> list[Row]:
    """Of all SAEs: how many share a latent, how that decays, cycles, and what the unshared span."""
    n_latents = len(seeds[0].density)
    rows = []
    for suffix, counted in (("", members), ("_all", members.all_live())):
        shares = counted.exactly().mean(axis=0)
        rows += [
            _row(f"in_exactly{suffix}", share, k + 1, n=n_latents) for k, share in enumerate(shares)
        ]
        rows += _decays(counted, suffix, n_latents, *cell)
    for name, value in members.cycles().items():
        rows.append(_row("cycle", value, name, null=nulls["cycle", name], n=n_latents))
    rows += _spanned(members, seeds, generator("stability-subspace", *cell))
    return rows


def _decays(members: Members, suffix: str, n_latents: int, *cell: object) -> list[Row]:
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
            _row(f"alone{suffix}", of.value, number + 2, low=of.low, high=of.high, n=n_latents)
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
            alone.append(seed.directions.decoder[chosen])
            others = rng.choice(np.flatnonzero(seed.live), len(chosen), replace=False)
            some.append(seed.directions.decoder[others])
        found.append(subspace.overlap(alone[0], alone[1]))
        drawn.append(subspace.overlap(some[0], some[1], found[-1].rank or None).value)
    values, chances, ranks = (np.array(of, dtype=float) for of in zip(*found, strict=True))
    return [
        _row("subspace_overlap", _mean(values), "unshared", null=_mean(chances), n=len(found)),
        _row("subspace_overlap", _mean(np.array(drawn)), "any", null=_mean(chances), n=len(found)),
        _row("subspace_rank", _mean(ranks), "unshared", n=len(found)),
    ]


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
