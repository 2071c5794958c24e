"""What several SAEs of one member and site share, two by two and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from crossseed.activations import SplitReader
from crossseed.errors import UserError
from crossseed.matching import transport
from crossseed.metrics import unit_blocks, unit_starts
from crossseed.sae.dictionary import Dictionary
from crossseed.stability.covariance import BLOCK_ROWS, Sums
from crossseed.stability.firing import ALL_PAIRS_UP_TO, Correlations
from crossseed.stability.matched import both, random
from crossseed.stability.pairwise import (
    Matched,
    Seed,
    rows_by_firing,
    rows_of_pair,
    rows_of_pairs,
    rows_on_data,
    two_by_two,
)
from crossseed.stability.rows import NONE, Row, by_key, row_of
from crossseed.stability.together import (
    ON_DATA,
    chances_of,
    cycles_of,
    mean_cosine,
    means_over_pairs,
    memberships,
    rows_together,
)

# Latents up to which soft matching is measured.
TRANSPORT_UP_TO = 2048


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

    Raises:
        UserError: the SAEs differ in shape.
    """
    shapes = {name: found.W_dec.shape for name, found in {**dictionaries, **shuffled}.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"SAEs of different shapes cannot be matched: {shapes}")
    seeds, correlations, root_dd = _seeds(dictionaries, split)
    _all_fire(seeds, split)
    n, width = seeds[0].both.standing.decoder.shape
    compared = two_by_two(seeds, matched)
    rows = rows_of_pairs(compared, seeds, correlations, threshold)
    # The nulls of all pairs are one: of random directions, and of firings on other tokens.
    drawn = [Seed(name, of, np.ones(n)) for name, of in random(n, width, root_dd).items()]
    floors = two_by_two(drawn, matched)
    floor = floors[0, 1]
    nulls = by_key(
        rows_of_pair(floor.standing, drawn[0].live, np.arange(n), threshold)
        + rows_on_data(floor.on_data, drawn[0].live, np.arange(n), threshold)
    )
    if correlations is not None:
        nulls |= by_key(rows_by_firing(compared[0, 1].on_data, seeds[0].live, correlations.null()))
    nulls |= cycles_of(memberships(floors, drawn, threshold))
    learned = {}
    if shuffled_split is not None:
        of_shuffled, their_firing, _ = _seeds(shuffled, shuffled_split)
        pair = two_by_two(of_shuffled, matched)
        learned = by_key(rows_of_pairs(pair, of_shuffled, their_firing, threshold))
    for row in rows:
        key = row["quantity"], row["part"]
        row |= {"null": nulls.get(key, NONE), "shuffled": learned.get(key, NONE)}
    members = memberships(compared, seeds, threshold)
    rows += means_over_pairs(rows)
    chances = chances_of(rows)
    # Of two SAEs alone: it takes as long as all else.
    if n <= TRANSPORT_UP_TO:
        of_two = {
            name: float(transport.cosine(one.both.standing.decoder @ other.both.standing.decoder.T))
            for name, (one, other) in (("value", seeds[:2]), ("null", drawn[:2]))
        }
        rows.append(row_of("transport_cosine", **of_two, n=1))
        exact, chance = (float(of.standing.decoder.cosine.mean()) for of in (compared[0, 1], floor))
        rows.append(row_of("assignment_cosine", exact, null=chance, n=1))
    rows += rows_together(members, seeds, nulls, chances, *cell)
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
        for cosine in [mean_cosine(compared, number, len(seeds))]
        for latent in range(n)
    ]
    return rows, latents


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
    covariance = Sums(split.width)
    for _, rows, _ in unit_blocks(starts, split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        covariance.add(x)
        h = [dictionary.encode(x) for dictionary in found]
        fired += np.stack([np.count_nonzero(of, axis=0) for of in h])
        if sums is not None:
            sums.add(h)
    density = fired / split.n_tokens
    on_data = covariance.root()
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
