"""How many sequences decide W (appendix B), and which part of W they decide.

The published numbers can hide a W that is not decided: a tiny spread of distances between halves goes with a large,
constant distance, and two or three singular values hold 95 % of H_Aᵀ H_B because activations have means and outlier
dimensions. So beside them stand the distance itself, and W's distance within the singular directions that count and
outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap, procrustes
from crossseed.errors import UserError
from crossseed.joint import maps
from crossseed.joint.maps import Pairs
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
        inside: of the part that takes the leading left singular directions to the leading right ones; of_most_inside:
            as a share of 2√r.
        outside: of the rest; inside² + outside² = whole².
    """

    whole: float
    of_most: float
    of_random: float
    inside: float
    of_most_inside: float
    outside: float


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
    """Distances between W's from two halves of the sequences, over random splits: means and standard deviations."""

    mean: float
    sd: float
    inside_mean: float
    inside_sd: float
    outside_mean: float
    outside_sd: float


def shared_components(cross_dd: np.ndarray) -> dict[str, int]:
    """Singular values of H_Aᵀ H_B that hold 95 and 99 % of their sum (``k95``, ``k99``), and of the sum of their squares
    (``k95_squared``, ``k99_squared``)."""
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
    """The r leading singular directions."""
    left, _, right = np.linalg.svd(cross_dd)
    return Axes(left[:, :r], right[:r].T)


def distance(first_dd: np.ndarray, second_dd: np.ndarray, within: Axes) -> Distance:
    """How far two orthogonal maps are apart, and where."""
    difference = first_dd - second_dd
    whole = float(np.linalg.norm(difference))
    inside = float(np.linalg.norm(within.left_dr.T @ difference @ within.right_dr))
    d, r = len(difference), within.left_dr.shape[1]
    return Distance(
        whole,
        whole / (2 * np.sqrt(d)),
        whole / np.sqrt(2 * d),
        inside,
        inside / (2 * np.sqrt(r)),
        float(np.sqrt(max(whole**2 - inside**2, 0))),
    )


def curve(
    pairs: Pairs,
    held_out: Pairs,
    sizes: Sequence[int],
    within: Axes,
    center: bool = False,
    *name: object,
) -> list[Size]:
    """W from growing parts of the sequences, against W from all, and on held-out ones.

    Args:
        pairs: all that W may be fitted on. held_out: other sequences.
        sizes: numbers of sequences, ascending, of an order drawn by `name`; each contains the one before.
        within: the directions that count, of all of `pairs`.

    Raises:
        UserError: sizes do not ascend or exceed the sequences.
    """
    numbers = np.unique(pairs.sequence_n)
    wanted = list(sizes)
    if wanted != sorted(set(wanted)) or not wanted or wanted[0] < 1 or wanted[-1] > len(numbers):
        raise UserError(
            f"sizes {wanted} are not ascending numbers of the {len(numbers)} sequences; lower them or take more"
        )
    maps.checked(pairs)
    order = generator("joint-sizes", *name).permutation(numbers)
    reference = maps.true(pairs, center)
    fitted: list[tuple[int, int, AffineMap]] = []
    for size in wanted:
        part = pairs.rows(np.isin(pairs.sequence_n, order[:size]))
        fitted.append((size, len(part.a_nd), maps.true(part, center)))
    errors = [maps.nre(carried, held_out) for _, _, carried in fitted]
    found = []
    for number, (size, tokens, carried) in enumerate(fitted):
        gain, flat = float("nan"), None
        if number + 1 < len(fitted):
            doublings = np.log2(wanted[number + 1] / size)
            gain = float((errors[number] - errors[number + 1]) / errors[number] / doublings)
            flat = gain < FLAT
        apart = distance(carried.matrix_dd, reference.matrix_dd, within)
        found.append(Size(size, tokens, apart, errors[number], gain, flat))
    return found


def halves(
    pairs: Pairs, within: Axes, center: bool = False, splits: int = SPLITS, *name: object
) -> Halves:
    """Distances of W's fitted on two halves of the sequences.

    Raises:
        UserError: there are fewer than two sequences.
    """
    numbers = np.unique(pairs.sequence_n)
    if len(numbers) < 2:
        raise UserError(f"{len(numbers)} sequences have no halves; take more")
    rng = generator("joint-halves", *name)
    apart = []
    for _ in range(splits):
        first = np.isin(pairs.sequence_n, rng.permutation(numbers)[: len(numbers) // 2])
        one, other = (
            procrustes(maps.cross_product(pairs.rows(chosen), center)) for chosen in (first, ~first)
        )
        apart.append(distance(one, other, within))
    columns = [
        np.array([getattr(one, part) for one in apart]) for part in ("whole", "inside", "outside")
    ]
    spread = [(float(c.mean()), float(c.std(ddof=1))) for c in columns]
    return Halves(*spread[0], *spread[1], *spread[2])
