"""W, which carries model B's activations into the frame of A: as published, and what it is compared with.

Equation 1: W = argmin over O(d) of ‖H_B W − H_A‖_F, the orthogonal factor of H_Bᵀ H_A, nothing centred. Every map is an
`AffineMap` in the row convention, b to a; without centring its shifts are 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from crossseed.alignment import ladder
from crossseed.alignment.maps import AffineMap, haar_orthogonal, identity, procrustes
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError

Complement = Literal["identity", "haar"]
BLOCK_ROWS = 8192
# Of a linear map: its largest singular value over its smallest, by which an error on the way back may be magnified.
MOST_SPREAD = 100.0
# On the distance from the rotation, as shares of B's mean variance a dimension.
PENALTIES = ladder.PENALTIES


class Pairs(NamedTuple):
    """Activations of the same non-padding tokens in both models, clean.

    Attributes:
        a_nd, b_nd: (tokens, width) each.
        sequence_n: the sequence each token belongs to, non-decreasing.
    """

    a_nd: np.ndarray
    b_nd: np.ndarray
    sequence_n: np.ndarray

    def rows(self, chosen: np.ndarray) -> Pairs:
        """Those tokens alone."""
        return Pairs(self.a_nd[chosen], self.b_nd[chosen], self.sequence_n[chosen])


def checked(pairs: Pairs) -> Pairs:
    """The same pairs.

    Raises:
        UserError: the models have other widths or tokens, or there are none, or values are not finite.
    """
    a, b = pairs.a_nd, pairs.b_nd
    if a.shape != b.shape or len(a) != len(pairs.sequence_n):
        raise UserError(
            f"activations of shapes {a.shape} and {b.shape} with {len(pairs.sequence_n)} sequence numbers are not of the "
            "same tokens; extract both models again on the same tokens, at sites of one width"
        )
    if not len(a):
        raise UserError("there are no tokens to fit W on; take more sequences")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("activations that W is fitted on are not finite; extract them again")
    return pairs


def moments(pairs: Pairs, cross_only: bool = False) -> Moments:
    """First and second moments, in float64."""
    found = Moments(pairs.a_nd.shape[1], pairs.b_nd.shape[1], cross_only)
    for begin in range(0, len(pairs.a_nd), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        found.add(pairs.a_nd[part].astype(np.float64), pairs.b_nd[part].astype(np.float64))
    return found


def about(found: Moments, center: bool) -> Moments:
    """The moments themselves, or with `center` false those about 0, with means of 0."""
    if center:
        return found
    a, b = found.mean_a, found.mean_b
    nothing = np.zeros_like(a)
    return Moments.known(
        found.n,
        nothing,
        np.zeros_like(b),
        found.covariance_a + np.outer(a, a),
        found.covariance_b + np.outer(b, b),
        found.cross_covariance + np.outer(b, a),
    )


def _mapped(matrix_dd: np.ndarray, of: Moments) -> AffineMap:
    return AffineMap(matrix_dd, of.mean_b, of.mean_a)


def cross_product(pairs: Pairs, center: bool = False) -> np.ndarray:
    """H_Bᵀ H_A over the tokens, divided by their number; about the means with `center`, (width, width)."""
    of = moments(pairs, cross_only=True)
    return of.cross_covariance if center else of.cross_covariance + np.outer(of.mean_b, of.mean_a)


def true(pairs: Pairs, center: bool = False) -> AffineMap:
    """The fitted rotation (equation 1); its determinant may be −1."""
    rotation = procrustes(cross_product(checked(pairs), center))
    nothing = np.zeros(len(rotation))
    if not center:
        return AffineMap(rotation, nothing, nothing)
    means = (x.mean(axis=0, dtype=np.float64) for x in (pairs.b_nd, pairs.a_nd))
    return AffineMap(rotation, *means)


def unaligned(width: int) -> AffineMap:
    """W = I: condition 4."""
    return identity(width)


def shuffled_rows(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """A permutation of n rows that moves a share of them, each of these to another's place.

    Raises:
        UserError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise UserError(f"a share of {share} of the tokens cannot be shuffled; it lies in [0, 1]")
    chosen = rng.permutation(n)[: round(share * n)]
    found = np.arange(n)
    # One cycle: no chosen row stays in its place, unless it is alone.
    found[chosen] = np.roll(chosen, 1)
    return found


def shuffled(
    rng: np.random.Generator, pairs: Pairs, share: float = 1.0, center: bool = False
) -> AffineMap:
    """Procrustes where a share of B's tokens is paired with others of A; with all, the mismatched null."""
    order = shuffled_rows(rng, len(checked(pairs).a_nd), share)
    return true(pairs._replace(b_nd=pairs.b_nd[order]), center)


def restricted(
    rng: np.random.Generator, pairs: Pairs, r: int, complement: Complement, center: bool = False
) -> AffineMap:
    """Procrustes on B's r leading principal directions; the rest is carried by the orthogonal map that is closest to
    the identity, or by one drawn from the Haar law.

    Raises:
        UserError: r is not from 1 to the width.
    """
    of = about(moments(checked(pairs)), center)
    width = len(of.mean_b)
    if not 1 <= r <= width:
        raise UserError(
            f"W cannot be restricted to {r} principal directions of {width}; give 1 to {width}"
        )
    directions = ladder.principal_directions(of.covariance_b)
    part = ladder.restricted(of.cross_covariance, directions[:, :r])
    if complement == "identity" or r == width:
        return _mapped(procrustes(part), of)
    # The orthogonal complements, as columns, of what is carried, and of what it is carried to.
    left, _, right = np.linalg.svd(part)
    rest = left[:, r:] @ haar_orthogonal(rng, width - r) @ right[r:]
    return _mapped(part + rest, of)


def haar(rng: np.random.Generator, width: int) -> AffineMap:
    """W drawn from the Haar law on O(d): knows nothing of the models."""
    return AffineMap(haar_orthogonal(rng, width), np.zeros(width), np.zeros(width))


def permutation(pairs: Pairs, center: bool = False) -> AffineMap:
    """The best map that only permutes dimensions."""
    of = about(moments(checked(pairs)), center)
    return _mapped(ladder.permutation(of.cross_covariance, signed=False), of)


def ridge(pairs: Pairs, center: bool = False) -> AffineMap:
    """The linear map with the penalty that does best across halves of the sequences, of those with a way back.

    Where little of A can be told from B, the best linear map shrinks most directions to nothing, and its inverse is noise.
    So the penalty is on the distance from the rotation, and is no smaller than keeps singular values within
    `MOST_SPREAD` of each other.

    Raises:
        UserError: there is one sequence.
    """
    checked(pairs)
    numbers = np.unique(pairs.sequence_n)
    if len(numbers) < 2:
        raise UserError(
            "the ridge map is chosen across halves, and one sequence has none; take more"
        )
    first = np.isin(pairs.sequence_n, numbers[::2])
    halves = [about(moments(pairs.rows(chosen)), center) for chosen in (first, ~first)]
    scores = np.zeros(len(PENALTIES))
    for fitted, held_out in (halves, halves[::-1]):
        rotation = procrustes(fitted.cross_covariance)
        missed = held_out.cross_covariance - held_out.covariance_b @ rotation
        for number, m in enumerate(ladder.ridges(_beyond(fitted, rotation), PENALTIES)):
            scores[number] += np.sum((held_out.covariance_b @ m) * m) - 2 * np.sum(m * missed)
    whole = halves[0].merged(halves[1])
    rotation = procrustes(whole.cross_covariance)
    found = [rotation + m for m in ladder.ridges(_beyond(whole, rotation), PENALTIES)]
    # The rotation itself where no penalty is large enough.
    scores[[np.linalg.cond(matrix) > MOST_SPREAD for matrix in found]] = np.inf
    best = int(np.argmin(scores))
    return _mapped(found[best] if np.isfinite(scores[best]) else rotation, whole)


def _beyond(of: Moments, rotation: np.ndarray) -> Moments:
    """Moments of b with what a rotation of b leaves of a."""
    missed = of.cross_covariance - of.covariance_b @ rotation
    nothing = np.zeros(len(rotation))
    return Moments.known(of.n, nothing, nothing, of.covariance_a, of.covariance_b, missed)


def back(carried: AffineMap) -> AffineMap:
    """The way back to B's own frame: Wᵀ for a rotation.

    Raises:
        UserError: there is none.
    """
    try:
        return carried.inverse()
    except ValueError as error:
        raise UserError(f"W has no way back to model B: {error}; take an orthogonal W") from error


def squares(carried: AffineMap, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """‖h_B W − h_A‖² and ‖h_A‖² summed over the tokens of each sequence, in float64, (sequences,) each."""
    n = int(pairs.sequence_n.max()) + 1
    error, total = np.zeros(n), np.zeros(n)
    for begin in range(0, len(pairs.a_nd), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        a, of = pairs.a_nd[part].astype(np.float64), pairs.sequence_n[part]
        missed = np.square(carried(pairs.b_nd[part].astype(np.float64)) - a).sum(axis=1)
        error += np.bincount(of, missed, minlength=n)
        total += np.bincount(of, np.square(a).sum(axis=1), minlength=n)
    if not total.any():
        raise UserError("all activations of model A are 0; there is nothing to align with")
    return error, total


def nre(carried: AffineMap, pairs: Pairs) -> float:
    """‖H_B W − H_A‖_F / ‖H_A‖_F, in float64."""
    error, total = squares(carried, pairs)
    return float(np.sqrt(error.sum() / total.sum()))


class Directions(NamedTuple):
    """Normalised errors of W, of its transpose, which is the wrong way round, and of no map; and W's determinant."""

    aligned: float
    transposed: float
    raw: float
    determinant: float


def directions(carried: AffineMap, pairs: Pairs) -> Directions:
    """What tells W from Wᵀ: of tokens W was not fitted on, `aligned` is the least if B is a rotated A."""
    turned = carried._replace(matrix_dd=carried.matrix_dd.T)
    raw = identity(len(carried.matrix_dd))
    aligned, transposed, unmapped = (nre(one, pairs) for one in (carried, turned, raw))
    return Directions(aligned, transposed, unmapped, float(np.linalg.det(carried.matrix_dd)))
