"""How well each map of a pair carries the activations themselves, on held-out tokens.

No dictionary takes part: what is asked is how much of the source's activations the target's,
carried by each rung of the ladder, give back; how that is spread over principal directions; and how
similar the two are in measures that no rotation changes (`crossseed.companions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossseed.alignment import ladder
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.companions import (
    Companions,
    mutual_neighbours,
    neighbours,
    sample_rows,
    shuffle_p,
)
from crossseed.metrics import (
    CrossSums,
    ErrorSums,
    Estimate,
    estimate,
    resample_weights,
    unit_blocks,
    unit_starts,
)
from crossseed.pairs import BLOCK_ROWS, CELL, Pair, Readers, carried_by
from crossseed.seeding import generator

COLUMNS = (*CELL, "arm", "metric", "value", "low", "high", "n_tokens")
DIRECTION_COLUMNS = (*CELL, "arm", "direction", "variance_share", "ev")
# Arms whose explained variance is told direction by direction.
BY_DIRECTION = (*ladder.RUNGS, *ladder.NULLS)
WHOLE = "pair"
WHOLE_NULL = "pair_shuffled"


def fits(
    readers: Readers,
    pair: Pair,
    maps: Mapping[str, m.AffineMap],
    resamples: int,
    *cell: object,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `COLUMNS` and of `DIRECTION_COLUMNS`, without the cell's.

    Args:
        readers: of the `eval` split.
        pair: moments on `fit`.
        maps: by arm (`crossseed.pairs.Pair.arms`).
        resamples: bootstrap resamples behind each interval.
        cell: names the cell, for the random draws.

    Rows of arm ``pair`` describe the pair whatever the map; ``pair_shuffled`` is their null, pairs
    exchanged within their position.
    """
    source, target, untrained = readers
    starts = unit_starts(source.document_n)
    weights = resample_weights(generator("bootstrap", *cell), len(starts), resamples)
    no_axes = np.zeros((source.width, 0))
    errors = {arm: ErrorSums(len(starts), source.width) for arm in maps}
    cross = {arm: CrossSums(len(starts), no_axes) for arm in maps}
    fit = pair.moments
    shuffled = m.procrustes(pair.shuffled.cross_covariance)
    companions = Companions(fit, pair.rotation, len(starts), intervals=True)
    exchanged = Companions(pair.shuffled, shuffled, len(starts), intervals=False)
    rng = generator("shuffled-held-out", *cell)
    chosen, unit = sample_rows(source.n_tokens, starts)
    sampled: list[tuple[np.ndarray, np.ndarray]] = []
    for units, rows, local in unit_blocks(starts, source.n_tokens, BLOCK_ROWS):
        a, b = source.rows(rows), target.rows(rows)
        before = untrained.rows(rows) if untrained is not None else None
        here = chosen[(chosen >= rows.start) & (chosen < rows.stop)] - rows.start
        sampled.append((a[here], b[here]))
        other = a[m.shuffle_within_position(rng, source.position_n[rows])]
        companions.add(units, local, a, b)
        exchanged.add(units, local, other, b)
        for arm, affine in maps.items():
            x = affine(carried_by(arm, a, b, before))
            errors[arm].add(units, local, a, x)
            cross[arm].add(units, local, a, x)
    table: list[tuple[str, str, Estimate]] = []
    for arm, affine in maps.items():
        table.append((arm, "alignment_ev", estimate(errors[arm].ev(weights))))
        table.append((arm, "alignment_ev_published", estimate(errors[arm].ev_published(weights))))
        table.append((arm, "nre", estimate(cross[arm].nre(weights))))
        table += [(arm, name, value) for name, value in map_numbers(affine.matrix_dd).items()]
    for name, sums in ((WHOLE, companions), (WHOLE_NULL, exchanged)):
        table += [(name, metric, value) for metric, value in sums.values().items()]
    a, b = (np.concatenate(rows) for rows in zip(*sampled, strict=True))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    first = np.flatnonzero(np.r_[True, np.diff(unit) > 0])
    order = m.shuffle_within_position(rng, source.position_n[chosen])
    document, position = source.document_n[chosen], source.position_n[chosen]
    near = {name: neighbours(x, document) for name, x in ((WHOLE, a), (WHOLE_NULL, a[order]))}
    near_b = neighbours(b, document)
    for name, near_a in near.items():
        found = mutual_neighbours(near_a, near_b, weights[:, unit[first]], first)
        table.append((name, "mutual_knn", found))
    p = shuffle_p(a, b, near[WHOLE], near_b, position, generator("shuffles", *cell))
    table += [(WHOLE, name, Estimate(value)) for name, value in p.items()]
    table += [(WHOLE, name, Estimate(value)) for name, value in pair.numbers.items()]
    listed = [
        {"arm": arm, "metric": metric, **value._asdict(), "n_tokens": source.n_tokens}
        for arm, metric, value in table
    ]
    return listed, directions(maps, companions.whole(), fit.covariance_a)


def map_numbers(matrix: np.ndarray) -> dict[str, Estimate]:
    """Distance from the identity, and the determinant, of an orthogonal map (width, width); else the range
    of its singular values."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    if np.allclose(singular, 1, atol=1e-6):
        return {
            "rotation_distance": Estimate(m.rotation_distance(matrix)),
            "det": Estimate(float(np.linalg.det(matrix))),
        }
    return {
        "largest_singular_value": Estimate(float(singular[0])),
        "smallest_singular_value": Estimate(float(singular[-1])),
    }


def directions(
    maps: Mapping[str, m.AffineMap], held_out: Moments, covariance_a: np.ndarray
) -> list[dict[str, Any]]:
    """Explained variance along each principal direction of the source, from second moments.

    Args:
        held_out: of `eval`. covariance_a: of the source on `fit`, (width, width), whose directions are told.
    """
    axes = ladder.principal_directions(covariance_a)
    variance = np.einsum("dk,de,ek->k", axes, held_out.covariance_a, axes)
    found = []
    for arm in BY_DIRECTION:
        if arm not in maps:
            continue
        turned = maps[arm].matrix_dd @ axes
        offset = (held_out.mean_b - maps[arm].shift_in_d) @ turned
        offset += (maps[arm].shift_out_d - held_out.mean_a) @ axes
        error = (
            np.einsum("dk,de,ek->k", turned, held_out.covariance_b, turned)
            - 2 * np.einsum("dk,de,ek->k", turned, held_out.cross_covariance, axes)
            + variance
            + np.square(offset)
        )
        ev = np.divide(
            variance - error, variance, out=np.full_like(error, np.nan), where=variance > 0
        )
        shares = variance / variance.sum()
        for number, (share, value) in enumerate(zip(shares, ev, strict=True)):
            row = {"arm": arm, "direction": number, "variance_share": float(share)}
            found.append({**row, "ev": float(value)})
    return found
