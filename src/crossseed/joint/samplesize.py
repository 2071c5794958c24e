"""How many sequences decide W (appendix B), and which part of W they decide.

The published numbers can hide a W that is not decided: a tiny spread of distances between halves goes with a large,
constant distance, and two or three singular values hold 95 % of H_Aᵀ H_B because activations have means and outlier
dimensions. So beside them stand the distance itself, and W's distance within the singular directions that count and
outside, each also as a share of what two rotations have that know nothing of each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError, at
from crossseed.joint import maps
from crossseed.joint.maps import Tokens
from crossseed.seeding import generator

# A curve is flat where the error falls by less a doubling.
FLAT = 0.01
SPLITS = 30
SHARES = (0.95, 0.99)


class Distance(NamedTuple):
    """‖W₁ − W₂‖_F of two orthogonal maps.

    Attributes:
        whole: the distance. of_most: as a share of the largest there is, 2√d (as published). of_random: of that of
            independent Haar draws, √(2d).
        inside: of the part that takes the r leading left singular directions to the leading right ones; of_most_inside:
            as a share of 2√r; inside_of_random: of that of independent Haar draws, √(2r²/d), which is small where r is:
            any two rotations are near each other there. (Directions that are those of the data that both maps are
            fitted on have less, whatever the data: `crossseed.joint.maps.Elsewhere` says how much.)
        outside: of the rest; inside² + outside² = whole². outside_of_random: as a share of √(2d − 2r²/d); NaN where r is
            d, and there is no rest.
    """

    whole: float
    of_most: float
    of_random: float
    inside: float
    of_most_inside: float
    inside_of_random: float
    outside: float
    outside_of_random: float


class Axes(NamedTuple):
    """Singular directions of the cross-product of all data, H_Bᵀ H_A, as columns of (width, r) each."""

    left_dr: np.ndarray
    right_dr: np.ndarray


class Size(NamedTuple):
    """W from the first n sequences.

    Attributes:
        sequences, tokens: it was fitted on. distance: to W from all of them.
        nre: on held-out sequences. gain: by how much it falls, relatively, a doubling from here to the next size; NaN at
            the last. flat: gain below `FLAT`; None at the last, after which nothing was measured.
    """

    sequences: int
    tokens: int
    distance: Distance
    nre: float
    gain: float
    flat: bool | None


class Halves(NamedTuple):
    """Distances between W's from two halves of the sequences, over random splits: means and standard deviations; and these
    means as shares of the distances of independent Haar draws."""

    mean: float
    sd: float
    inside_mean: float
    inside_sd: float
    outside_mean: float
    outside_sd: float
    of_random: float
    inside_of_random: float
    outside_of_random: float


def shared_components(cross_dd: np.ndarray) -> dict[str, int]:
    """How many singular values of H_Aᵀ H_B, (width, width), hold 95 and 99 % of their sum (``k95``, ``k99``), and of the
    sum of their squares (``k95_squared``, ``k99_squared``).

    Raises:
        UserError: all are 0.
    """
    s = np.linalg.svd(cross_dd, compute_uv=False)
    if not s.sum():
        raise UserError("H_A and H_B have no cross-product; the activations are 0")
    found = {}
    for name, values in (("", s), ("_squared", s**2)):
        held = np.cumsum(values) / values.sum()
        for share in SHARES:
            # Where rounding keeps the sum below the share, all count.
            count = min(int(np.searchsorted(held, share)) + 1, len(s))
            found[f"k{round(100 * share)}{name}"] = count
    return found


def axes(cross_dd: np.ndarray, r: int) -> Axes:
    """The r leading singular directions of a matrix (width, width), as columns (width, r)."""
    left, _, right = np.linalg.svd(cross_dd)
    return Axes(left[:, :r], right[:r].T)


def distance(first_dd: np.ndarray, second_dd: np.ndarray, within: Axes) -> Distance:
    """How far two orthogonal maps, (width, width) both, are apart, and where."""
    difference = first_dd - second_dd
    whole = float(np.linalg.norm(difference))
    inside = float(np.linalg.norm(within.left_dr.T @ difference @ within.right_dr))
    outside = float(np.sqrt(max(whole**2 - inside**2, 0)))
    d, r = within.left_dr.shape
    return Distance(
        whole,
        whole / (2 * np.sqrt(d)),
        whole / np.sqrt(2 * d),
        inside,
        inside / (2 * np.sqrt(r)),
        inside / np.sqrt(2 * r**2 / d),
        outside,
        outside / np.sqrt(2 * d - 2 * r**2 / d) if r < d else float("nan"),
    )


def curve(
    tokens: Tokens,
    held_out: Tokens,
    sizes: Sequence[int],
    within: Axes,
    center: bool = False,
    *name: object,
) -> list[Size]:
    """W from growing parts of the sequences, against W from all, and on held-out ones.

    Args:
        tokens: all that W may be fitted on. held_out: other sequences.
        sizes: numbers of sequences, ascending, of an order drawn by `name`; each contains the one before.
        within: the directions that count, of all of `tokens`.

    Raises:
        UserError: sizes do not ascend or exceed the sequences.
    """
    n, wanted = tokens.n_sequences, list(sizes)
    if wanted != sorted(set(wanted)) or not wanted or wanted[0] < 1 or wanted[-1] > n:
        said = f"sizes {wanted} are not ascending numbers of the {n} sequences; lower them or take more"
        raise UserError(at(tokens.where, said))
    rank = np.argsort(generator("joint-sizes", *name).permutation(n))
    *fitted, (_, _, reference) = _growing(tokens, [*wanted, n], rank, center)
    errors = [maps.nre(carried, held_out) for _, _, carried in fitted]
    found = []
    for number, (size, n_tokens, carried) in enumerate(fitted):
        gain, flat = float("nan"), None
        if number + 1 < len(fitted):
            doublings = np.log2(wanted[number + 1] / size)
            gain = float((errors[number] - errors[number + 1]) / errors[number] / doublings)
            flat = gain < FLAT
        apart = distance(carried.matrix_dd, reference.matrix_dd, within)
        found.append(Size(size, n_tokens, apart, errors[number], gain, flat))
    return found


def _growing(
    tokens: Tokens, sizes: Sequence[int], rank_s: np.ndarray, center: bool
) -> list[tuple[int, int, AffineMap]]:
    """(sequences, tokens, W) of the first sequences by rank, for each of ascending sizes.

    Of the sequences that a size adds to the one before the moments are kept, and no token.
    """
    adds = np.searchsorted(sizes, rank_s, side="right")
    added = [Moments(tokens.width, tokens.width, cross_only=True) for _ in sizes]
    for part in maps.checked(tokens):
        of = adds[part.sequence_n]
        for number in np.unique(of):
            own = part.rows(of == number)
            added[number].add(own.a_nd.astype(np.float64), own.b_nd.astype(np.float64))
    sums = itertools.accumulate(added, lambda first, more: first.merged(more))
    return [(size, of.n, maps.rotation(of, center)) for size, of in zip(sizes, sums, strict=True)]


def halves(
    tokens: Tokens, within: Axes, center: bool = False, splits: int = SPLITS, *name: object
) -> Halves:
    """Distances of W's fitted on two halves of the sequences.

    Raises:
        UserError: there are fewer than two sequences.
    """
    n = tokens.n_sequences
    if n < 2:
        raise UserError(at(tokens.where, f"{n} sequences have no halves; take more"))
    rng = generator("joint-halves", *name)
    apart = []
    for _ in range(splits):
        first = rng.permutation(n) < n // 2
        one, other = (
            maps.rotation(maps.moments(tokens, True, chosen), center).matrix_dd
            for chosen in (first, ~first)
        )
        apart.append(distance(one, other, within))

    def column(part: str) -> np.ndarray:
        return np.array([getattr(one, part) for one in apart])

    spread = [
        (float(c.mean()), float(c.std(ddof=1))) for c in map(column, ("whole", "inside", "outside"))
    ]
    shares = ("of_random", "inside_of_random", "outside_of_random")
    return Halves(
        *spread[0], *spread[1], *spread[2], *(float(c.mean()) for c in map(column, shares))
    )
