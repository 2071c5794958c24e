"""Moments of a pair of members at one site: all that maps between them are fitted from.

Disk layout of a pair file (schema ``pair/1``), source a, target b, `fit` split only:

    halves/{0,1}/…      moments of the halves of the fit split (documents of even, odd number)
    shuffled/…          cross-covariance of pairs exchanged within their position
    skewness/{target,source}   third central moments along each side's principal directions
    untrained/…         moments with the target's untrained checkpoint, where the run names one

where … are ``n``, ``mean_a``, ``mean_b``, ``covariance_a``, ``covariance_b``,
``cross_covariance``. Maps are functions of the file (`Pair.maps`), so that a rung more costs no
pass over activations, and 512 dimensions take 15 MB instead of 2 MB a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from crossseed.activations import SplitReader, check_paired, open_split
from crossseed.alignment import ladder
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError
from crossseed.keys import PAIR
from crossseed.metrics import unit_blocks, unit_starts
from crossseed.seeding import generator
from crossseed.store import add_dataset, create_h5, header, open_h5

SCHEMA = "pair/1"
BLOCK_ROWS = 8192
MOMENTS = ("mean_a", "mean_b", "covariance_a", "covariance_b", "cross_covariance")
UNTRAINED = "untrained"
RESAMPLED = "resampled"
# The null of a map's own class: fitted as it is, on shuffled pairs.
SHUFFLED_LIKE = "shuffled_like"
# What names a pair at a site; the first columns of every table of pairs.
CELL = PAIR


def cell_of(spec: Mapping[str, Any]) -> tuple[object, ...]:
    """The names that seed a pair's random draws."""
    return tuple(spec[name] for name in CELL)


class Pair:
    """What the `fit` split says of a source a and a target b.

    Args:
        cell: names the cell (cohort, source, target, checkpoint, site), for the random arms.
        halves: moments of two disjoint sets of documents.
        shuffled: pairs exchanged within their position.
        skewness: of target and source along their principal directions.
        untrained: source with the target's untrained checkpoint.
        spec: what made the file.
    """

    def __init__(
        self,
        cell: Sequence[object],
        halves: tuple[Moments, Moments],
        shuffled: Moments,
        skewness: tuple[np.ndarray, np.ndarray],
        untrained: Moments | None,
        spec: Mapping[str, Any],
    ) -> None:
        self.cell, self.halves, self.shuffled = tuple(cell), halves, shuffled
        self.skewness, self.untrained, self.spec = skewness, untrained, spec

    @cached_property
    def moments(self) -> Moments:
        """Of the whole split."""
        return self.halves[0].merged(self.halves[1])

    @cached_property
    def rotation(self) -> np.ndarray:
        """The Procrustes rotation, (d, d)."""
        return m.rotation_of(*self._factors)

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The singular value decomposition of the cross-covariance."""
        return m.factors(self.moments.cross_covariance)

    @cached_property
    def _spectra(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Variances and directions, (d,) and (d, d), smallest first, of target and source."""
        of_b, of_a = (
            np.linalg.eigh(one) for one in (self.moments.covariance_b, self.moments.covariance_a)
        )
        return (of_b.eigenvalues, of_b.eigenvectors), (of_a.eigenvalues, of_a.eigenvectors)

    @cached_property
    def half_rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """The Procrustes rotations of the two halves, each (d, d)."""
        first, second = (m.procrustes(half.cross_covariance) for half in self.halves)
        return first, second

    @cached_property
    def random(self) -> np.ndarray:
        """The random rotation of the ``random`` arm, (d, d)."""
        return m.haar_orthogonal(generator("random-rotation", *self.cell), len(self.skewness[0]))

    def maps(self, directions: Sequence[int]) -> tuple[dict[str, m.AffineMap], float]:
        """All maps from target to source, and the ridge penalty; see `crossseed.alignment.ladder`."""
        # At the identified rank a twin is Procrustes itself, and says nothing of what is shared.
        below = [k for k in directions if k < self.directions.shape[1]]
        return ladder.ladder(
            self.halves,
            self.shuffled,
            self.skewness,
            below,
            generator("random-signs", *self.cell),
            self.random,
        )

    def shuffled_like(self, arm: str) -> m.AffineMap | None:
        """The map of an arm fitted on pairs exchanged within their position; None for rotations, whose
        ``shuffled`` stands in the ladder."""
        moments = self.shuffled
        if arm == "ridge":
            _, penalty = ladder.ridge(self.halves)
            (matrix,) = ladder.ridges(moments, [penalty])
        elif arm == "scaled":
            rotation = m.procrustes(moments.cross_covariance)
            matrix = rotation * ladder.scale(rotation, moments)
        else:
            return None
        return m.AffineMap(matrix, moments.mean_b, moments.mean_a)

    def untrained_map(self) -> m.AffineMap | None:
        """Procrustes from the target before training to the trained source."""
        if self.untrained is None:
            return None
        rotation = m.procrustes(self.untrained.cross_covariance)
        return m.AffineMap(rotation, self.untrained.mean_b, self.untrained.mean_a)

    def resampled_map(self) -> m.AffineMap:
        """From the source to the target by the rotation of one half of the tokens, and back by
        that of the other: the ceiling, where nothing but the tokens of the fit is in the way."""
        first, second = self.half_rotations
        mean = self.moments.mean_a
        return m.AffineMap(first.T @ second, mean, mean)

    def arms(self, directions: Sequence[int]) -> dict[str, m.AffineMap]:
        """All maps of `maps`, and those of what is not the target as it is (`carried_by`)."""
        found = {**self.maps(directions)[0], RESAMPLED: self.resampled_map()}
        before = self.untrained_map()
        return found if before is None else {**found, UNTRAINED: before}

    @cached_property
    def directions(self) -> np.ndarray:
        """The target's identified principal directions as columns, largest variance first, (d, k)."""
        found: np.ndarray = m.agreed_directions(*self._spectra[0], *self.half_rotations)
        return found[:, ::-1]

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """All principal directions of target and source as columns, largest variance first, (d, d) each."""
        target, source = (ladder.signed(vectors[:, ::-1]) for _, vectors in self._spectra)
        return target, source

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Ranks, and how far two halves of the tokens agree on the rotation; for the whole pair.

        ``singular_ratio`` is the smallest singular value of the cross-covariance over the largest,
        ``singular_gap`` the smallest difference of neighbouring ones over the largest: the smaller,
        the less do the tokens decide.
        ``split_half_distance`` is ‖R₁ − R₂‖_F/√(2d), 1 for unrelated rotations; inside the
        identified directions under its own name, √(2k) in the denominator.
        """
        singular = self._factors[1]
        ranks = m.ranks_of(singular)
        largest = singular[0] if singular[0] > 0 else 1.0
        directions = self.directions
        first, second = self.half_rotations
        d, k = directions.shape
        found = {
            "singular_ratio": float(singular[-1] / largest),
            "singular_gap": float(np.min(-np.diff(singular)) / largest),
            "effective_rank": ranks.effective,
            "numerical_rank": float(ranks.numerical),
            "identified_rank": float(k),
            "split_half_distance": float(np.linalg.norm(first - second) / np.sqrt(2 * d)),
        }
        if k:
            gap = directions.T @ (first - second)
            found["split_half_distance_identified"] = float(np.linalg.norm(gap) / np.sqrt(2 * k))
        return found

    def identified(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k leading identified principal directions of target and source, each (d, k)."""
        back = (rotation.T for rotation in self.half_rotations)
        source = m.agreed_directions(*self._spectra[1], *back)[:, ::-1]
        return self.directions[:, :k], source[:, :k]


def carried_by(
    arm: str, a_nd: np.ndarray, b_nd: np.ndarray, before_nd: np.ndarray | None
) -> np.ndarray:
    """What an arm's map is applied to: the target's activations b, but for ``untrained`` those of
    the untrained target, and for ``resampled`` the source's own; (tokens, width) all."""
    if arm == UNTRAINED and before_nd is not None:
        return before_nd
    return a_nd if arm == RESAMPLED else b_nd


class Readers(NamedTuple):
    """One split of the activations of a pair.

    Attributes:
        source, target: of the two members.
        untrained: of the target before training, where the run names that checkpoint.
    """

    source: SplitReader
    target: SplitReader
    untrained: SplitReader | None


@contextmanager
def open_readers(
    split: str, source: Path, target: Path, untrained: Path | None, made_from: Mapping[str, str]
) -> Iterator[Readers]:
    """One split of the activation files of a pair.

    Args:
        split: ``fit``, ``train`` or ``eval``.
        source, target, untrained: the files.
        made_from: by role, what each must have been made from.

    Raises:
        UserError: see `crossseed.activations.open_split`.
    """
    with ExitStack() as stack:
        a = stack.enter_context(open_split(source, split, made_from["source"]))
        b = stack.enter_context(open_split(target, split, made_from["target"]))
        before = (
            stack.enter_context(open_split(untrained, split, made_from[UNTRAINED]))
            if untrained is not None
            else None
        )
        yield Readers(a, b, before)


def paired_blocks(
    source: SplitReader, target: SplitReader
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of rows of a and b, (tokens, width) each, of whole documents.

    Raises:
        UserError: not paired, or of different width.
    """
    check_paired(source, target)
    if source.width != target.width:
        raise UserError(
            f"{source.path} has width {source.width}, {target.path} {target.width}; "
            "an orthogonal map needs equal widths"
        )
    starts = unit_starts(source.document_n)
    for _, rows, _ in unit_blocks(starts, source.n_tokens, BLOCK_ROWS):
        yield rows, source.rows(rows), target.rows(rows)


def fit(readers: Readers, spec: Mapping[str, Any], *cell: object) -> Pair:
    """Moments of paired activations, in two passes.

    Args:
        readers: of the `fit` split.
        spec: kept in the file.
        cell: names the cell, for the random arms.

    Raises:
        UserError: not paired, of different width, fewer tokens than dimensions, one document, or too
            few tokens at equal positions to exchange.
    """
    source, target, untrained = readers
    if source.n_tokens < 2 * source.width:
        raise UserError(
            f"{source.path}: {source.n_tokens} tokens in the fit split cannot decide a rotation "
            f"in {source.width} dimensions; at least {2 * source.width} are needed"
        )
    width = source.width
    halves = (Moments(width, target.width), Moments(width, target.width))
    shuffled = Moments(width, target.width)
    before = Moments(width, untrained.width) if untrained is not None else None
    rng = generator("shuffled-pairs", *cell)
    moved = 0
    for rows, a, b in paired_blocks(source, target):
        odd = source.document_n[rows] % 2 == 1
        halves[0].add(a[~odd], b[~odd])
        halves[1].add(a[odd], b[odd])
        order = m.shuffle_within_position(rng, source.position_n[rows])
        moved += int(np.count_nonzero(order != np.arange(len(order))))
        shuffled.add(a[order], b)
    if moved < source.n_tokens / 2:
        raise UserError(
            f"{source.path}: only {moved} of {source.n_tokens} tokens can be exchanged with one at the "
            f"same position within {BLOCK_ROWS} rows, so that the shuffled null would be the pairing "
            "itself; ask for more sequences (tokens.fit) or shorter ones (tokens.context)"
        )
    if not (halves[0].n and halves[1].n):
        raise UserError(
            f"{source.path}: the fit split holds one document, which has no halves; ask for more "
            "sequences (tokens.fit), or fewer of a document (tokens.most_a_document)"
        )
    if untrained is not None and before is not None:
        for _, a, b in paired_blocks(source, untrained):
            before.add(a, b)
    both = halves[0].merged(halves[1])
    axes_b = ladder.principal_directions(both.covariance_b).astype(np.float32)
    axes_a = ladder.principal_directions(both.covariance_a).astype(np.float32)
    cubes_b, cubes_a = np.zeros(target.width), np.zeros(width)
    for _, a, b in paired_blocks(source, target):
        along_b = (b - both.mean_b.astype(np.float32)) @ axes_b
        along_a = (a - both.mean_a.astype(np.float32)) @ axes_a
        cubes_b += (along_b**3).sum(axis=0, dtype=np.float64)
        cubes_a += (along_a**3).sum(axis=0, dtype=np.float64)
    skewness = (cubes_b / both.n, cubes_a / both.n)
    return Pair(cell, halves, shuffled, skewness, before, spec)


def _put(group: h5py.Group, moments: Moments) -> None:
    add_dataset(group, "n", data=moments.n)
    for name in MOMENTS:
        add_dataset(group, name, data=getattr(moments, name))


def _get(group: h5py.Group) -> Moments:
    values = [group[name][:] for name in MOMENTS]
    return Moments.known(int(group["n"][()]), *values)


def write(path: Path, pair: Pair, inputs: Mapping[str, str]) -> None:
    """A pair file; its spec names the cell."""
    with create_h5(path, SCHEMA, pair.spec, inputs) as file:
        for number, half in enumerate(pair.halves):
            _put(file.create_group(f"halves/{number}"), half)
        _put(file.create_group("shuffled"), pair.shuffled)
        for name, values in zip(("target", "source"), pair.skewness, strict=True):
            add_dataset(file, f"skewness/{name}", data=values)
        if pair.untrained is not None:
            _put(file.create_group(UNTRAINED), pair.untrained)


def read(path: Path) -> Pair:
    """A pair written by `write`; a damaged or foreign file is refused."""
    with open_h5(path, SCHEMA) as file:
        spec = header(file).spec
        return Pair(
            cell_of(spec),
            (_get(file["halves/0"]), _get(file["halves/1"])),
            _get(file["shuffled"]),
            (file["skewness/target"][:], file["skewness/source"][:]),
            _get(file[UNTRAINED]) if UNTRAINED in file else None,
            spec,
        )
