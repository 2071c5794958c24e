"""How well maps carry B's activations over, and how many sequences decide W: rows of `crossseed.joint.tables`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossseed.alignment.maps import AffineMap
from crossseed.joint import maps, samplesize
from crossseed.joint.maps import Tokens
from crossseed.joint.upper import Cache
from crossseed.metrics import estimate, resample_weights, sum_units, unit_of
from crossseed.seeding import generator

IDENTITY, TRUE, RIDGE, PERMUTATION = "identity", "true", "ridge", "permutation"
MISMATCHED, RANDOM = "mismatched", "random"


def trained_with(tokens: Tokens, center: bool) -> dict[str, AffineMap]:
    """The maps that SAEs are trained with."""
    return {TRUE: maps.true(tokens, center), RIDGE: maps.ridge(tokens, center)}


def rows(
    fit: Cache, held_out: Cache, special_tokens: bool, resamples: int, *name: object
) -> Iterator[dict[str, Any]]:
    """Errors of maps fitted on one split, on that and on another; centred and not, whichever is trained with.

    Args:
        fit: what maps are fitted on. held_out: examples of `eval`.
    """
    # Shuffling takes all tokens at once; `fit` has few.
    pairs = fit.pairs(slice(None), special_tokens)
    scored = held_out.coded_tokens(special_tokens)
    unit = unit_of(held_out.document)
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    weights = resample_weights(generator("bootstrap", *name), len(starts), resamples)
    width = fit.width
    for center in (False, True):
        rng = generator("joint-fits", *name)
        found = {
            IDENTITY: maps.unaligned(width),
            PERMUTATION: maps.permutation(pairs, center),
            **trained_with(pairs, center),
            MISMATCHED: maps.shuffled(rng, pairs, 1.0, center),
            RANDOM: maps.haar(rng, width),
        }
        for key, carried in found.items():
            # Neither is fitted.
            if center and key in (IDENTITY, RANDOM):
                continue
            error, total = (sum_units(x, starts) for x in maps.squares(carried, scored))
            nre = estimate(np.sqrt((weights @ error) / (weights @ total)))
            said = maps.directions(carried, scored)
            yield {
                "map": key,
                "centered": int(center),
                "nre_fit": maps.nre(carried, pairs),
                "nre": nre.value,
                "nre_low": nre.low,
                "nre_high": nre.high,
                "nre_transposed": said.transposed,
                "nre_raw": said.raw,
                "determinant": said.determinant,
            }


def sizes(
    train: Tokens, held_out: Tokens, sequences: Sequence[int], center: bool, *name: object
) -> Iterator[dict[str, Any]]:
    """W of growing parts of `train`, against W of all of it; the same where A's tokens are paired with others of B."""
    cross = maps.cross_product(maps.moments(train, cross_only=True), center)
    r = samplesize.shared_components(cross)["k99"]
    by_chance = maps.Elsewhere(train)
    own, null = (
        samplesize.curve(tokens, held_out, sequences, _axes(tokens, r, center), center, *name)
        for tokens in (train, by_chance)
    )
    for one, other in zip(own, null, strict=True):
        yield {
            "null_distance": other.distance.whole,
            "null_inside": other.distance.inside,
            "null_outside": other.distance.outside,
            "null_nre": other.nre,
            "sequences": one.sequences,
            "tokens": one.tokens,
            "distance": one.distance.whole,
            "distance_of_most": one.distance.of_most,
            "distance_of_random": one.distance.of_random,
            "inside": one.distance.inside,
            "inside_of_most": one.distance.of_most_inside,
            "inside_of_random": one.distance.inside_of_random,
            "outside": one.distance.outside,
            "outside_of_random": one.distance.outside_of_random,
            "nre": one.nre,
            "gain": one.gain,
            "flat": None if one.flat is None else int(one.flat),
        }


def _axes(tokens: Tokens, r: int, center: bool) -> samplesize.Axes:
    """The leading singular directions of these tokens."""
    cross = maps.cross_product(maps.moments(tokens, cross_only=True), center)
    return samplesize.axes(cross, r)


def halves(
    by_split: Mapping[str, Tokens], center: bool, splits: int, *name: object
) -> Iterator[dict[str, Any]]:
    """W of random halves of each split; the same where A's tokens are paired with others of B."""
    for split, tokens in by_split.items():
        of = maps.moments(tokens, cross_only=True)
        cross = maps.cross_product(of, center)
        counts = samplesize.shared_components(cross)
        apart, null = (
            samplesize.halves(
                both, _axes(both, counts["k99"], center), center, splits, *name, split
            )
            for both in (tokens, maps.Elsewhere(tokens))
        )
        yield {
            "split": split,
            "sequences": tokens.n_sequences,
            "tokens": of.n,
            "splits": splits,
            **apart._asdict(),
            "null_mean": null.mean,
            "null_inside": null.inside_mean,
            "null_outside": null.outside_mean,
            **counts,
        }
