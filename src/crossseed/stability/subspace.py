"""Whether latents that are not shared one by one still span the same subspace.

More latents than dimensions span everything, so that the subspace is that of the leading principal directions of their
decoder rows: the fewest that hold half of the rows' squared length. Two subspaces of r dimensions in d overlap by the
mean squared cosine of their principal angles: 1 where they are one, r/d where they are random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ENERGY = 0.5


class Overlap(NamedTuple):
    """Attributes: value: mean squared cosine of principal angles. chance: of random subspaces. rank: r."""

    value: float
    chance: float
    rank: int


def overlap(a_nd: np.ndarray, b_nd: np.ndarray, rank: int | None = None) -> Overlap:
    """Of the subspaces of two sets of rows, (latents, width) each, of `rank` dimensions, or of the larger of the two ranks;
    NaN where a set is empty."""
    d = a_nd.shape[1]
    if not len(a_nd) or not len(b_nd):
        return Overlap(float("nan"), float("nan"), 0)
    found = [np.linalg.svd(rows.T @ rows, hermitian=True) for rows in (a_nd, b_nd)]
    if rank is None:
        held = [np.cumsum(s) / s.sum() for _, s, _ in found]
        rank = max(1 + int(np.searchsorted(share, ENERGY)) for share in held)
    cosines = np.linalg.svd(found[0][0][:, :rank].T @ found[1][0][:, :rank], compute_uv=False)
    return Overlap(float(np.square(cosines).mean()), rank / d, rank)
