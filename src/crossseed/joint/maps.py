"""W, which carries model B's activations into the frame of A: as published, and what it is compared with.

Equation 1: W = argmin over O(d) of ‖H_B W − H_A‖_F, the orthogonal factor of H_Bᵀ H_A, nothing centred. Every map is an
`AffineMap` in the row convention, b to a; without centring its shifts are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np

from crossseed.alignment import ladder
from crossseed.alignment.maps import AffineMap, haar_orthogonal, identity, procrustes
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError, at

Complement = Literal["identity", "haar"]
BLOCK_ROWS = 8192
# Of a linear map: its largest singular value over its smallest, by which an error on the way back may be magnified.
MOST_SPREAD = 100.0


class Pairs(NamedTuple):
    """Activations of the same non-padding tokens in both models, clean.

    Attributes:
        a_nd, b_nd: (tokens, width) each.
        sequence_n: the sequence each token belongs to, non-decreasing.
        where: opens the sentence of an error: what they are of.
    """

    a_nd: np.ndarray
    b_nd: np.ndarray
    sequence_n: np.ndarray
    where: str = ""

    @property
    def width(self) -> int:
        return int(self.a_nd.shape[1])

    @property
    def n_sequences(self) -> int:
        return int(self.sequence_n.max(initial=-1)) + 1

    def rows(self, chosen: np.ndarray | slice) -> Pairs:
        """Those tokens alone, by number (chosen,), mask (tokens,) or slice."""
        a, b, sequence = (x[chosen] for x in (self.a_nd, self.b_nd, self.sequence_n))
        return Pairs(a, b, sequence, self.where)

    def blocks(self) -> Iterator[Pairs]:
        """All of them, some at a time."""
        longest = max(len(x) for x in (self.a_nd, self.b_nd, self.sequence_n))
        for begin in range(0, longest, BLOCK_ROWS):
            yield self.rows(slice(begin, begin + BLOCK_ROWS))


class Tokens(Protocol):
    """Tokens of both models that need not lie in memory at once (`Pairs`, or of a file those of a split)."""

    @property
    def where(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def n_sequences(self) -> int: ...

    def blocks(self) -> Iterator[Pairs]:
        """All of them, some at a time, in the order of their sequences."""
        ...


class Elsewhere(NamedTuple):
    """The same tokens, A's paired with other tokens of B, half a block away: what is left in common are means."""

    tokens: Tokens

    @property
    def where(self) -> str:
        return self.tokens.where

    @property
    def width(self) -> int:
        return self.tokens.width

    @property
    def n_sequences(self) -> int:
        return self.tokens.n_sequences

    def blocks(self) -> Iterator[Pairs]:
        """All of them, some at a time, in the order of A's sequences."""
        for part in self.tokens.blocks():
            yield part._replace(b_nd=np.roll(part.b_nd, len(part.b_nd) // 2, axis=0))


def checked(tokens: Tokens) -> Iterator[Pairs]:
    """The tokens' blocks.

    Raises:
        UserError: the models have other widths or tokens, or there are none, or values are not finite.
    """
    n = 0
    for part in tokens.blocks():
        a, b = part.a_nd, part.b_nd
        if a.shape != b.shape or len(a) != len(part.sequence_n):
            raise UserError(
                at(
                    part.where,
                    f"activations of shapes {a.shape} and {b.shape} with {len(part.sequence_n)} sequence numbers are not of "
                    "the same tokens; extract both models again on the same tokens, at sites of one width",
                )
            )
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            said = "activations that W is fitted on are not finite; extract them again"
            raise UserError(at(part.where, said))
        n += len(a)
        yield part
    if not n:
        said = "there are no tokens to fit W on; take more sequences"
        raise UserError(at(tokens.where, said))


def moments(
    tokens: Tokens, cross_only: bool = False, chosen_s: np.ndarray | None = None
) -> Moments:
    """First and second moments, in float64.

    Args:
        cross_only: without the covariances of a and of b.
        chosen_s: whether a sequence counts, (sequences,); None for all.
    """
    found = Moments(tokens.width, tokens.width, cross_only)
    for part in checked(tokens):
        own = part if chosen_s is None else part.rows(chosen_s[part.sequence_n])
        found.add(own.a_nd.astype(np.float64), own.b_nd.astype(np.float64))
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


def cross_product(of: Moments, center: bool = False) -> np.ndarray:
    """H_Bᵀ H_A over the tokens, divided by their number; about the means with `center`, (width, width)."""
    return of.cross_covariance if center else of.cross_covariance + np.outer(of.mean_b, of.mean_a)


def rotation(of: Moments, center: bool = False) -> AffineMap:
    """The rotation that moments decide (equation 1); with `center` it carries the mean too."""
    matrix = procrustes(cross_product(of, center))
    nothing = np.zeros(len(matrix))
    means = (of.mean_b, of.mean_a) if center else (nothing, nothing)
    return AffineMap(matrix, *means)


def true(tokens: Tokens, center: bool = False) -> AffineMap:
    """The fitted rotation (equation 1); its determinant may be −1."""
    return rotation(moments(tokens, cross_only=True), center)


def unaligned(width: int) -> AffineMap:
    """W = I: condition 4."""
    return identity(width)


def about_means(carried: AffineMap, tokens: Tokens) -> AffineMap:
    """The same matrix about the means of some tokens, which it carries as a centred W does."""
    of = moments(tokens, cross_only=True)
    return carried._replace(shift_in_d=of.mean_b, shift_out_d=of.mean_a)


def shuffled_rows(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """A permutation of n rows, (n,), that moves a share of them, each of these to another's place.

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
    order = shuffled_rows(rng, len(pairs.a_nd), share)
    return true(pairs._replace(b_nd=pairs.b_nd[order]), center)


def restricted(
    rng: np.random.Generator, tokens: Tokens, r: int, complement: Complement, center: bool = False
) -> AffineMap:
    """Procrustes on B's r leading principal directions; the rest is carried by the orthogonal map that is closest to
    the identity, or by one drawn from the Haar law.

    Raises:
        UserError: r is not from 1 to the width.
    """
    of = about(moments(tokens), center)
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


def permutation(tokens: Tokens, center: bool = False) -> AffineMap:
    """The best map that only permutes dimensions."""
    of = about(moments(tokens), center)
    return _mapped(ladder.permutation(of.cross_covariance, signed=False), of)


def ridge(tokens: Tokens, center: bool = False) -> AffineMap:
    """The linear map with the penalty that does best across halves of the sequences, of those with a way back.

    Where little of A can be told from B, the best linear map shrinks most directions to nothing, and its inverse is noise.
    So the penalty is on the distance from the rotation, and is no smaller than keeps singular values within
    `MOST_SPREAD` of each other.

    Raises:
        UserError: there is one sequence.
    """
    if tokens.n_sequences < 2:
        said = "the ridge map is chosen across halves, and one sequence has none; take more"
        raise UserError(at(tokens.where, said))
    first = np.arange(tokens.n_sequences) % 2 == 0
    halves = [about(moments(tokens, chosen_s=chosen), center) for chosen in (first, ~first)]
    scores = np.zeros(len(ladder.PENALTIES))
    for fitted, held_out in (halves, halves[::-1]):
        turn = procrustes(fitted.cross_covariance)
        scores += ladder.ridge_errors(_beyond(fitted, turn), _beyond(held_out, turn))
    whole = halves[0].merged(halves[1])
    turn = procrustes(whole.cross_covariance)
    found = [turn + m for m in ladder.ridges(_beyond(whole, turn), ladder.PENALTIES)]
    # The rotation itself where no penalty is large enough.
    scores[[np.linalg.cond(matrix) > MOST_SPREAD for matrix in found]] = np.inf
    best = int(np.argmin(scores))
    return _mapped(found[best] if np.isfinite(scores[best]) else turn, whole)


def _beyond(of: Moments, turn_dd: np.ndarray) -> Moments:
    """Moments of b with what a rotation of b leaves of a."""
    missed = of.cross_covariance - of.covariance_b @ turn_dd
    nothing = np.zeros(len(turn_dd))
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


def squares(carried: AffineMap, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """‖h_B W − h_A‖² and ‖h_A‖², summed over the tokens of each sequence.

    Args:
        carried: W, (width, width), and its shifts, (width,) each.
        tokens: of both models; each block holds `a_nd` and `b_nd`, (tokens, width), and `sequence_n`, (tokens,).

    Returns:
        Two float64 arrays, (sequences,) each.

    Raises:
        UserError: all activations of A are 0.
    """
    n = tokens.n_sequences
    error, total = np.zeros(n), np.zeros(n)
    for part in tokens.blocks():
        a, of = part.a_nd.astype(np.float64), part.sequence_n
        missed = np.square(carried(part.b_nd.astype(np.float64)) - a).sum(axis=1)
        error += np.bincount(of, missed, minlength=n)
        total += np.bincount(of, np.square(a).sum(axis=1), minlength=n)
    if not total.any():
        said = "all activations of model A are 0; there is nothing to align with"
        raise UserError(at(tokens.where, said))
    return error, total


def nre(carried: AffineMap, tokens: Tokens) -> float:
    """‖H_B W − H_A‖_F / ‖H_A‖_F, in float64."""
    error, total = squares(carried, tokens)
    return float(np.sqrt(error.sum() / total.sum()))


class Directions(NamedTuple):
    """Normalised errors of W, of its transpose, which is the wrong way round, and of no map; and W's determinant."""

    aligned: float
    transposed: float
    raw: float
    determinant: float


def directions(carried: AffineMap, tokens: Tokens) -> Directions:
    """What tells W from Wᵀ: of tokens W was not fitted on, `aligned` is the least if B is a rotated A."""
    turned = carried._replace(matrix_dd=carried.matrix_dd.T)
    raw = identity(len(carried.matrix_dd))
    aligned, transposed, unmapped = (nre(one, tokens) for one in (carried, turned, raw))
    return Directions(aligned, transposed, unmapped, float(np.linalg.det(carried.matrix_dd)))
