"""What all SAEs of one member and site share, and what pairs of them say on the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.matching import criteria as m
from crossseed.seeding import generator
from crossseed.stability import decay, subspace
from crossseed.stability.membership import Members
from crossseed.stability.pairwise import Compared, Seed
from crossseed.stability.rows import Row, interval_of, mean_of, median_of, row_of

# Memberships by how they are told, with the suffix of their quantities: strict with encoders on data, of latents that
# fire; and as published, by two cosines, of encoders as they stand, dead latents counted too.
ON_DATA, PUBLISHED = "", "_published"
# The share of two SAEs that each of them extends to several.
SHARE_OF = {ON_DATA: ("strict_on_data", "live"), PUBLISHED: (m.DUAL, "all")}


def memberships(compared: Compared, seeds: Sequence[Seed], threshold: float) -> dict[str, Members]:
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


def mean_cosine(compared: Compared, base: int, n_seeds: int) -> np.ndarray:
    """Cosine with the decoder's partner, mean over the other SAEs, (latents,)."""
    cosines = []
    for other in range(n_seeds):
        if other == base:
            continue
        of = compared[min(base, other), max(base, other)].standing.decoder
        cosines.append(of.cosine if base < other else of.turned().cosine)
    found: np.ndarray = np.mean(cosines, axis=0)
    return found


def means_over_pairs(rows: Sequence[Row]) -> list[Row]:
    """Means over pairs, with intervals by leaving out one SAE seed, and all its pairs, at a time."""
    names = list(dict.fromkeys(row[role] for row in rows for role in ("first", "second")))
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row["quantity"], row["part"]), []).append(row)
    found = []
    for (quantity, part), of in by.items():
        values = np.array([row["value"] for row in of])
        has = np.array([[name in (row["first"], row["second"]) for row in of] for name in names])
        without = np.array([mean_of(values[~pairs]) for pairs in has])
        value = interval_of(mean_of(values), without)
        found.append(
            row_of(
                quantity,
                value.value,
                part,
                null=mean_of(np.array([row["null"] for row in of])),
                shuffled=mean_of(np.array([row["shuffled"] for row in of])),
                n=len(of),
                low=value.low,
                high=value.high,
            )
        )
    return found


def cycles_of(members: Mapping[str, Members]) -> dict[tuple[str, str], float]:
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


def chances_of(rows: Sequence[Row]) -> dict[str, Chance]:
    """From the rows over all pairs."""
    by = {(row["quantity"], row["part"]): row for row in rows if not row["first"]}
    found = {}
    for suffix, key in SHARE_OF.items():
        found[suffix] = Chance(by[key]["null"], by[key]["shuffled"])
    return found


def rows_together(
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
            row_of(
                f"in_exactly{suffix}",
                share,
                k + 1,
                n=n_latents,
                **chances[suffix].exactly(k + 1, n),
            )
            for k, share in enumerate(shares)
        ]
        rows += decays(counted, suffix, chances[suffix], n_latents, *cell)
    rows += _densities(members[ON_DATA], seeds)
    for key, value in cycles_of(members).items():
        rows.append(row_of(key[0], value, key[1], null=nulls[key], n=n_latents))
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
            median_of(np.concatenate([x for other, x in of.items() if other != base]))
            for base in of
        ]
        every = np.concatenate(list(of.values()))
        value = interval_of(median_of(every), np.array(without))
        rows.append(
            row_of(
                "density_in_exactly", value.value, k, low=value.low, high=value.high, n=len(every)
            )
        )
    return rows


def decays(
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
        of = interval_of(float(share), without)
        rows.append(
            row_of(
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
            of = interval_of(value, without)
            rows.append(
                row_of(
                    f"decay{suffix}_{form}", of.value, name, low=of.low, high=of.high, n=len(whole)
                )
            )
        rows.append(row_of(f"decay{suffix}_{form}", best.sse, "sse", n=len(whole)))
        # With hardly more points than parameters it is infinite, and there is none.
        if np.isfinite(best.aicc):
            rows.append(row_of(f"decay{suffix}_{form}", best.aicc, "aicc", n=len(whole)))
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
        row_of(
            "subspace_overlap", mean_of(values), "unshared", null=mean_of(chances), n=len(found)
        ),
        row_of(
            "subspace_overlap", mean_of(np.array(drawn)), "any", null=mean_of(chances), n=len(found)
        ),
        row_of("subspace_rank", mean_of(ranks), "unshared", n=len(found)),
    ]
