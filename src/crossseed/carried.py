"""What takes the place of a source's activations, arm by arm, in the source's frame.

The source owns dictionaries and a model to run; the target's activations are carried to it by each
map of the ladder (`crossseed.alignment.ladder`). More arms: ``gaussian`` replaces the target's
activations by normal draws with the target's mean and covariance (from `fit`), carried by the
Procrustes map: it shows what second moments alone achieve, and has no pairing; ``untrained``
carries the target as it was before training; ``resampled``, the ceiling, carries the source's own
activations to the target and back by the rotations of two halves of the tokens; ``shared`` is one
rotation for all sites of a pair, as the symmetry of the weights would have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from crossseed.activations import SplitReader
from crossseed.alignment import ladder
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError
from crossseed.metrics import unit_blocks, unit_starts
from crossseed.pairs import BLOCK_ROWS, CELL, Pair, carried_by

GAUSSIAN = "gaussian"
PROCRUSTES = "procrustes"
SHARED = "shared"
# Leading principal directions of the source projected out of EVx.
PROJECTED = (0, 3, 16)
# Of every table in which dictionaries meet arms.
COLUMNS = (*CELL, "dictionary", "init", "arm", "metric", "value", "low", "high", "n_tokens")


class Carried(NamedTuple):
    """What is tried in place of the source's activations.

    Attributes:
        maps: into the source's frame, by arm (`crossseed.pairs.Pair.arms`).
        gaussian: mean (d,) and covariance (d, d) of the target on `fit`; None leaves that arm out.
        axes_dk: leading principal directions of the source on `fit`, as columns.
    """

    maps: Mapping[str, m.AffineMap]
    gaussian: tuple[np.ndarray, np.ndarray] | None
    axes_dk: np.ndarray

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of all that is tried."""
        return (*self.maps, *([GAUSSIAN] if self.gaussian is not None else []))

    def rows(
        self,
        arm: str,
        a_nd: np.ndarray,
        b_nd: np.ndarray,
        before_nd: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """What stands for the source's activations a in an arm, (tokens, width).

        Args:
            a_nd, b_nd: of source and target. before_nd: of the untrained target.
            rng: draws the rows of ``gaussian``.
        """
        if arm == GAUSSIAN and self.gaussian is not None:
            return self.maps[PROCRUSTES](m.gaussian_rows(rng, *self.gaussian, len(a_nd)))
        return self.maps[arm](carried_by(arm, a_nd, b_nd, before_nd))


def own_member(fit_split: SplitReader) -> Carried:
    """What is tried for a member with itself: nothing is carried."""
    width = fit_split.width
    moments = Moments(width, width)
    for _, rows, _ in unit_blocks(
        unit_starts(fit_split.document_n), fit_split.n_tokens, BLOCK_ROWS
    ):
        a = fit_split.rows(rows)
        moments.add(a, a)
    axes = leading(moments.covariance_a)
    return Carried({"raw": m.identity(width)}, None, axes)


def of_pair(pair: Pair, directions: Sequence[int]) -> Carried:
    """Every arm of a pair of different members.

    Args:
        pair: moments of both members, of one width d.
        directions: the k of ``top_k`` and ``twin_k``, numbers of the target's leading principal directions; one that is
            not below how many are identified is left out.

    Returns:
        Maps by arm from the target to the source, (tokens, d) each, of a matrix (d, d) and two shifts (d,); the target's
        mean (d,) and covariance (d, d); and the source's leading principal directions as columns, (d, 16) at most.
    """
    moments = pair.moments
    gaussian = moments.mean_b, moments.covariance_b
    return Carried(pair.arms(directions), gaussian, leading(moments.covariance_a))


def leading(covariance: np.ndarray) -> np.ndarray:
    """As many leading principal directions of a covariance, (d, d), as EVx projects out at most, as columns, (d, k)."""
    return ladder.principal_directions(covariance)[:, : max(PROJECTED)]


def rotation_of(pairs: Iterable[Pair]) -> np.ndarray:
    """The rotation that serves all sites of a pair best, (d, d).

    Args:
        pairs: the pair at each of its sites, each let go once read.

    Raises:
        UserError: the sites differ in width.
    """
    crosses, spreads = [], []
    for pair in pairs:
        found = pair.moments
        crosses.append(found.cross_covariance)
        spreads.append(float(np.sqrt(np.trace(found.covariance_a) * np.trace(found.covariance_b))))
    widths = sorted({len(cross) for cross in crosses})
    if len(widths) > 1:
        raise UserError(f"sites of widths {widths} cannot share one rotation; study them apart")
    return ladder.shared_rotation(crosses, spreads)


def with_shared(pair: Pair, others: Iterable[Pair], directions: Sequence[int]) -> Carried:
    """Every arm of a pair at one site, the rotation of this and its other sites among them."""
    found = of_pair(pair, directions)
    shared = map_at(rotation_of(chain([pair], others)), pair)
    return found._replace(maps={**found.maps, SHARED: shared})


def map_at(rotation: np.ndarray, pair: Pair) -> m.AffineMap:
    """A rotation of all sites, (d, d), at one of them: the means are the site's own."""
    return m.AffineMap(rotation, pair.moments.mean_b, pair.moments.mean_a)
