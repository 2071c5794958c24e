"""What several SAEs of one member and site share, two by two and all together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.activations import SplitReader
from crossseed.errors import UserError
from crossseed.matching import assignment, modes, transport
from crossseed.matching import criteria as m
from crossseed.metrics import Estimate, estimate, unit_blocks, unit_starts
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator
from crossseed.stability import decay, subspace
from crossseed.stability.firing import ALL_PAIRS_UP_TO, Correlations
from crossseed.stability.membership import Members

BLOCK_ROWS = 8192
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Latents are told apart by how often they fire: shares of tokens between these quantiles of the live ones.
STRATA = 4
RESAMPLES = 500
Row = dict[str, Any]


class Seed(NamedTuple):
    """One SAE.

    Attributes: name: of its init. directions: of its latents. density: share of `eval` tokens on which each fires.
    """

    name: str
    directions: m.Directions
    density: np.ndarray

    @property
    def live(self) -> np.ndarray:
        found: np.ndarray = self.density > 0
        return found


def study(
    dictionaries: Mapping[str, Dictionary], split: SplitReader, threshold: float, *cell: object
) -> tuple[list[Row], list[Row]]:
    """Rows of `crossseed.stability.COLUMNS` and of `LATENT_COLUMNS`, without the cell's.

    Args:
        dictionaries: by SAE seed, all of one shape.
        split: activations of their member and site.
        threshold: cosine above which latents are shared.
        cell: names the cell.
    """
    names = list(dictionaries)
    shapes = {name: found.W_dec.shape for name, found in dictionaries.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"SAEs of different shapes cannot be matched: {shapes}")
    seeds, correlations = _seeds(dictionaries, split)
    if not any(seed.live.any() for seed in seeds):
        raise UserError(f"no latent of {', '.join(names)} fires on {split.path}; nothing is shared")
    compared = {
        (i, j): m.compare(seeds[i].directions, seeds[j].directions)
        for i, j in itertools.combinations(range(len(seeds)), 2)
    }
    n, width = seeds[0].directions.decoder.shape
    rng = generator("stability-random", n, width)
    floor = m.compare(*(m.random_directions(rng, n, width) for _ in range(2)))
    rows: list[Row] = []
    for (i, j), found in compared.items():
        pair = {"first": names[i], "second": names[j]}
        of_pair = _pair(found, floor, seeds[i], seeds[j], threshold)
        if correlations is not None:
            of_pair += _by_firing(found, correlations, i, j, *cell)
        rows += [{**pair, **row} for row in of_pair]
    members = _members(compared, len(seeds), threshold)
    rows += _over_seeds(rows, len(seeds), *cell)
    rows += _together(members, seeds, *cell)
    latents = [
        {
            "init": seed.name,
            "latent": latent,
            "density": float(seed.density[latent]),
            "reappears": float(reappears[latent]),
            "decoder_cosine": float(cosine[latent]),
        }
        for number, seed in enumerate(seeds)
        for reappears in [members.reappears(number)]
        for cosine in [_mean_cosine(compared, number, len(seeds))]
        for latent in range(n)
    ]
    return rows, latents


def _seeds(
    dictionaries: Mapping[str, Dictionary], split: SplitReader
) -> tuple[list[Seed], Correlations | None]:
    """One pass over the activations: how often latents fire, and, for small dictionaries, together with whom."""
    found = list(dictionaries.values())
    n = found[0].W_dec.shape[0]
    fired = np.zeros((len(found), n), dtype=np.int64)
    sums = Correlations(len(found), n) if n <= ALL_PAIRS_UP_TO else None
    starts = unit_starts(split.document_n)
    for _, rows, _ in unit_blocks(starts, split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        h = [dictionary.encode(x) for dictionary in found]
        fired += np.stack([np.count_nonzero(of, axis=0) for of in h])
        if sums is not None:
            sums.add(h)
    density = fired / split.n_tokens
    seeds = [
        Seed(name, m.directions(of.W_dec, of.W_enc), density[number])
        for number, (name, of) in enumerate(dictionaries.items())
    ]
    return seeds, sums


def _row(
    quantity: str,
    value: float,
    part: object = "",
    *,
    null: float = float("nan"),
    n: int = 0,
    low: float = float("nan"),
    high: float = float("nan"),
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
        "n": n,
    }


def _named(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("first", "second")}


def _pair(
    found: m.Compared, floor: m.Compared, one: Seed, other: Seed, threshold: float
) -> list[Row]:
    """What two SAEs share: of all latents, of those that fire in both, by how often they fire, over thresholds."""
    live = one.live & other.live[found.decoder.partner]
    nulls = m.summary(floor, threshold=threshold)
    parts: dict[str, np.ndarray] = {"all": np.ones(len(live), dtype=bool), "live": live}
    if live.any():
        edges = np.quantile(one.density[one.live], np.linspace(0, 1, STRATA + 1)[1:-1])
        stratum = np.searchsorted(edges, one.density, side="right")
        parts |= {f"density {k + 1}": one.live & (stratum == k) for k in range(STRATA)}
    rows = []
    for part, among in parts.items():
        for quantity, value in m.summary(found, among, threshold).items():
            rows.append(_row(quantity, value, part, null=nulls[quantity], n=int(among.sum())))
    for criterion in m.AT_A_THRESHOLD:
        for t in THRESHOLDS:
            shared, null = (c.shared(criterion, t).mean() for c in (found, floor))
            rows.append(_row(f"{criterion}_above", shared, t, null=float(null), n=len(live)))
    own, chance = (modes.of(c.decoder.cosine) for c in (found, floor))
    for name, value in own._asdict().items():
        rows.append(_row(f"modes_{name}", value, null=getattr(chance, name), n=len(live)))
    rows.append(_row("matching_gap", found.decoder.gap + found.encoder.gap, n=len(live)))
    if len(live) <= ALL_PAIRS_UP_TO:
        soft, converged = transport.cosine(one.directions.decoder @ other.directions.decoder.T)
        rows.append(_row("transport_cosine", soft, null=nulls["pw_mcc"], n=len(live)))
        rows.append(_row("transport_converged", float(converged)))
    return [_named(row) for row in rows]


def _by_firing(
    found: m.Compared, correlations: Correlations, i: int, j: int, *cell: object
) -> list[Row]:
    """Latents matched by when they fire instead of where they point."""
    r = correlations.between(i, j)
    known = np.isfinite(r)
    matched = assignment.dense(r)
    counts = known[np.arange(len(r)), matched.partner]
    along = r[np.arange(len(r)), found.decoder.partner]
    # The null pairs latents at random: what any latent has with any other.
    rng = generator("stability-firing", *cell, i, j)
    chance = r[np.arange(len(r)), rng.permutation(len(r))]
    same = (
        float((matched.partner == found.decoder.partner)[counts].mean()) if counts.any() else np.nan
    )
    return [
        _named(row)
        for row in (
            _row(
                "firing_r", float(np.mean(matched.cosine[counts])) if counts.any() else np.nan,
                null=float(np.nanmean(chance)) if np.isfinite(chance).any() else np.nan,
                n=int(counts.sum()),
            ),
            _row(
                "firing_r_of_decoder_partner",
                float(np.nanmean(along)) if np.isfinite(along).any() else np.nan,
                n=int(np.isfinite(along).sum()),
            ),
            _row("firing_same_partner", same, null=1 / len(r), n=int(counts.sum())),
        )
    ]  # fmt: skip


def _members(
    compared: Mapping[tuple[int, int], m.Compared], n_seeds: int, threshold: float
) -> Members:
    """Both directions of every pair."""
    found, partner, agree = {}, {}, {}
    for (i, j), of in compared.items():
        shared = of.shared(m.STRICT, threshold)
        forward, same = of.decoder.partner, of.agree()
        back = np.empty_like(forward)
        back[forward] = np.arange(len(forward))
        found[i, j], partner[i, j], agree[i, j] = shared, forward, same
        found[j, i], partner[j, i], agree[j, i] = shared[back], back, same[back]
    return Members(found, partner, agree)


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


def _over_seeds(rows: Sequence[Row], n_seeds: int, *cell: object) -> list[Row]:
    """Means over pairs, with intervals that draw SAE seeds anew: pairs that share one are not independent."""
    names = list(dict.fromkeys(row[role] for row in rows for role in ("first", "second")))
    rng = generator("stability-seeds", *cell)
    draws = rng.integers(0, n_seeds, (RESAMPLES, n_seeds))
    counts = np.stack([np.bincount(draw, minlength=n_seeds) for draw in draws])
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row["quantity"], row["part"]), []).append(row)
    found = []
    for (quantity, part), of in by.items():
        place = np.array([[names.index(row[role]) for role in ("first", "second")] for row in of])
        values = np.array([row["value"] for row in of])
        often = np.concatenate(
            [np.ones((1, len(of))), counts[:, place[:, 0]] * counts[:, place[:, 1]]]
        )
        total = often.sum(axis=1)
        means = np.where(total > 0, (often @ values) / np.where(total > 0, total, 1), np.nan)
        value = estimate(means) if n_seeds > 2 else Estimate(float(means[0]))
        null = float(np.mean([row["null"] for row in of]))
        found.append(
            _row(quantity, value.value, part, null=null, n=len(of), low=value.low, high=value.high)
        )
    return found


def _together(members: Members, seeds: Sequence[Seed], *cell: object) -> list[Row]:
    """Of all SAEs: how many share a latent, how that decays, cycles, and what the unshared span."""
    n_latents = len(seeds[0].density)
    rng = generator("stability-subsets", *cell)
    rows = [
        _row("in_exactly", share, k + 1, n=n_latents)
        for k, share in enumerate(members.exactly().mean(axis=0))
    ]
    alone = members.alone(rng)
    k = np.arange(2, members.n + 1)
    draws = rng.integers(0, members.n, (RESAMPLES, members.n))
    curves = np.concatenate([alone.mean(axis=0)[None], alone[draws].mean(axis=1)])
    for number, size in enumerate(k):
        of = estimate(curves[:, number])
        rows.append(_row("alone", of.value, size, low=of.low, high=of.high, n=n_latents))
    for form in decay.FORMS:
        best = decay.fit(form, k, curves[0])
        if best is None:
            continue
        again = [fit for curve in curves[1:] if (fit := decay.fit(form, k, curve)) is not None]
        for name, value in best.parameters.items():
            of = estimate(np.array([value, *(fit.parameters[name] for fit in again)]))
            rows.append(_row(f"decay_{form}", value, name, low=of.low, high=of.high, n=len(k)))
        rows.append(_row(f"decay_{form}", best.sse, "sse", n=len(k)))
        rows.append(_row(f"decay_{form}", best.aicc, "aicc", n=len(k)))
    for name, value in members.cycles().items():
        rows.append(_row("cycle", value, name, null=1 / n_latents, n=n_latents))
    rows += _spanned(members, seeds, rng)
    return rows


def _spanned(members: Members, seeds: Sequence[Seed], rng: np.random.Generator) -> list[Row]:
    """How far latents that are in one SAE alone span the same directions in two SAEs."""
    found: dict[str, list[subspace.Overlap]] = {"unshared": [], "random": []}
    width = seeds[0].directions.decoder.shape[1]
    for i, j in itertools.combinations(range(members.n), 2):
        chosen = [
            seeds[number].directions.decoder[seeds[number].live & (members.reappears(number) == 0)]
            for number in (i, j)
        ]
        drawn = [m.random_directions(rng, len(rows), width).decoder for rows in chosen]
        for name, (a, b) in (("unshared", chosen), ("random", drawn)):
            found[name].append(subspace.overlap(a, b))
    own, random = (np.array([o.value for o in found[name]]) for name in ("unshared", "random"))
    rank = float(np.mean([o.rank for o in found["unshared"]]))
    return [
        _row("subspace_overlap", _mean(own), "unshared", null=_mean(random), n=len(own)),
        _row("subspace_rank", rank, "unshared", n=len(own)),
    ]


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
