"""Do the rotations of three seeds compose? τ = tr(R_ab R_bc R_ca)/d over triples.

1 where all models share one frame up to a rotation each, about 0 where each pair is rotated on its
own. The three fits of a triple are on disjoint documents: on the same tokens pure noise alone
gives τ of .14 to .44. Weighted by the covariance of a, the directions that matter count.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from crossseed.activations import SplitReader, check_paired
from crossseed.alignment.maps import procrustes, ranks, shuffle_within_position
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError
from crossseed.haar.battery import two_sided
from crossseed.metrics import unit_blocks, unit_starts
from crossseed.pairs import BLOCK_ROWS
from crossseed.seeding import generator

COLUMNS = (
    "cohort",
    "checkpoint",
    "site",
    "seed_a",
    "seed_b",
    "seed_c",
    "decided",
    "tau",
    "tau_weighted",
    "tau_shuffled",
    "tau_weighted_shuffled",
    "null_low",
    "null_high",
    "p",
)
PARTS = 3
NULL_DRAWS = 9999
Products = dict[tuple[int, int, int], Moments]


class Fitted(NamedTuple):
    """Moments by (row seed, column seed, third), paired and shuffled, and covariances by seed."""

    paired: Products
    shuffled: Products
    covariances: dict[int, np.ndarray]


def products(readers: Mapping[int, SplitReader], *cell: object) -> Fitted:
    """What `composition` needs, in one pass over the `fit` splits.

    Raises:
        UserError: not paired, too few tokens, or fewer than three documents.
    """
    seeds = sorted(readers)
    first = readers[seeds[0]]
    for seed in seeds[1:]:
        check_paired(first, readers[seed])
    if len(np.unique(first.document_n % PARTS)) < PARTS:
        raise UserError(
            f"{first.path}: fewer than three documents in the fit split, but rotations are composed "
            "from fits on disjoint ones; ask for more sequences (tokens.fit)"
        )
    width = first.width
    if first.n_tokens < 2 * PARTS * width:
        raise UserError(
            f"{first.path}: {first.n_tokens} tokens in the fit split cannot decide three rotations in "
            f"{width} dimensions on disjoint documents; at least {2 * PARTS * width} are needed "
            "(tokens.fit)"
        )
    keys = [(a, b, part) for a, b in combinations(seeds, 2) for part in range(PARTS)]
    paired: Products = {key: Moments(width, width, cross_only=True) for key in keys}
    shuffled: Products = {key: Moments(width, width, cross_only=True) for key in keys}
    alone = {seed: Moments(width, width) for seed in seeds}
    rng = generator("cocycle", *cell)
    for _, rows, _ in unit_blocks(unit_starts(first.document_n), first.n_tokens, BLOCK_ROWS):
        block = {seed: reader.rows(rows) for seed, reader in readers.items()}
        order = shuffle_within_position(rng, first.position_n[rows])
        part_n = first.document_n[rows] % PARTS
        for seed, found in alone.items():
            found.add(block[seed], block[seed])
        for a, b, part in keys:
            chosen = part_n == part
            paired[a, b, part].add(block[b][chosen], block[a][chosen])
            shuffled[a, b, part].add(block[b][order][chosen], block[a][chosen])
    return Fitted(paired, shuffled, {seed: found.covariance_a for seed, found in alone.items()})


class _Rotations:
    """Fitted rotations, each once: a pair's thirds take part in several triples."""

    def __init__(self, found: Products) -> None:
        self.found = found
        self.rotations: dict[tuple[int, int, int], np.ndarray] = {}
        self.ranks: dict[tuple[int, int, int], int] = {}

    def of(self, key: tuple[int, int, int]) -> np.ndarray:
        """The rotation of one key, (width, width), fitted when it is first asked for."""
        if key not in self.rotations:
            cross = self.found[key].cross_covariance
            self.rotations[key] = procrustes(cross)
            self.ranks[key] = ranks(cross).numerical
        return self.rotations[key]

    def around(self, covariance_a: np.ndarray, a: int, b: int, c: int) -> tuple[float, float, bool]:
        """τ, the same weighted by a's covariance, and whether all three rotations are decided; for
        a < b < c, each fit on a third of its own."""
        keys = ((a, b, 0), (b, c, 1), (a, c, 2))
        ab, bc, ac = (self.of(key) for key in keys)
        whole = ab @ bc @ ac.T
        d = len(whole)
        tau = float(np.trace(whole) / d)
        weighted = float(np.sum(covariance_a * whole.T) / np.trace(covariance_a))
        return tau, weighted, all(self.ranks[key] == d for key in keys)


def table(readers: Mapping[int, SplitReader], *cell: object) -> list[dict[str, Any]]:
    """Every triple of seeds; rows of `COLUMNS` without cohort, checkpoint and site.

    The null of τ is the trace of one Haar rotation over d, close to N(0, 1)/d. Where the
    activations do not decide all three rotations, their arbitrary parts would make τ: it is left
    out, with its p, and τ weighted by covariance alone is told, beside that of shuffled tokens.
    """
    fitted = products(readers, *cell)
    paired, shuffled = _Rotations(fitted.paired), _Rotations(fitted.shuffled)
    rows = []
    for a, b, c in combinations(sorted(readers), 3):
        tau, weighted, known = paired.around(fitted.covariances[a], a, b, c)
        tau_null, weighted_null, known_null = shuffled.around(fitted.covariances[a], a, b, c)
        d = readers[a].width
        draws = generator("cocycle-null", d).standard_normal(NULL_DRAWS) / d
        low, high = np.quantile(draws, (0.025, 0.975))
        nan = float("nan")
        rows.append(
            {
                "seed_a": a,
                "seed_b": b,
                "seed_c": c,
                "decided": int(known),
                "tau": tau if known else nan,
                "tau_weighted": weighted,
                "tau_shuffled": tau_null if known_null else nan,
                "tau_weighted_shuffled": weighted_null,
                "null_low": float(low),
                "null_high": float(high),
                "p": two_sided(tau, draws) if known else nan,
            }
        )
    return rows
