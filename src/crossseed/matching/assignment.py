"""The best one-to-one matching of two sets of unit directions by cosine, exact, dense or in
bounded memory.

Dense, SciPy solves the whole matrix (in 64 bits: 2 GB at 16,384 directions), or lapx where it is
installed, which finds the same optimum in half to two thirds of the time.

Sparse, only the pairs that are near for one of the two are looked at, and the optimum of these is
proved to be that of all: an assignment p is optimal if there are u, v with u_i + v_j ≥ c_ij for
all pairs and equality where j = p(i). The duals of the sparse problem are computed from its
optimum. All cosines are computed once, block by block: those above r_i, about the k-th largest of
their row, or s_j, of their column, are candidates, all others are at most (r_i + s_j) / 2. So only
rows and columns whose duals are below that, a few hundredths of them as a rule, have to be priced:
their cosines are computed again, and those that break the inequality join the candidates, until
none does. What is left, the rounding of duals and of cosines priced, is reported as the gap: how
much more any matching could have at most, by cosines in float32.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

# Above so many directions the matrix in 64 bits, and SciPy's work on it, grow too large.
DENSE_UP_TO = 4096
# Rows of cosines at a time.
BLOCK_ROWS = 512
# More find an optimum in fewer rounds, and make each longer.
CANDIDATES = 24
# Groups whose maxima stand for a row, for each candidate: of four, a seventh more are found.
GROUPS = 4
# Cosines that differ by less are equal in float32.
TOLERANCE = 1e-6
MOST_ROUNDS = 40


class Matching(NamedTuple):
    """A one-to-one matching.

    Attributes:
        partner: column of every row, (rows,).
        cosine: of every row with its partner, (rows,).
        gap: how much larger the sum of cosines of any other matching can be at most; 0 where it was solved densely.
        rounds: of pricing; 0 where it was solved densely.
    """

    partner: np.ndarray
    cosine: np.ndarray
    gap: float
    rounds: int

    def turned(self) -> Matching:
        """The same, seen from the columns."""
        back = np.argsort(self.partner)
        return self._replace(partner=back, cosine=self.cosine[back])


def match(a_nd: np.ndarray, b_nd: np.ndarray) -> Matching:
    """The matching of the rows of two arrays with the largest sum of cosines.

    Args:
        a_nd, b_nd: unit rows, (n, d) each; a row of zeros, a dead latent, has cosine 0 with all.

    Raises:
        ValueError: the shapes differ.
    """
    if a_nd.shape != b_nd.shape:
        raise ValueError(f"dictionaries of shapes {a_nd.shape} and {b_nd.shape} have no matching")
    if len(a_nd) <= DENSE_UP_TO:
        return dense(a_nd @ b_nd.T)
    return priced(a_nd, b_nd)


def dense(similarity_nm: np.ndarray) -> Matching:
    """The matching with the largest sum of a matrix, (n, m); NaN counts as 0."""
    found = np.nan_to_num(similarity_nm, nan=0.0)
    lap = accelerator()
    if lap is None:
        _, partner = optimize.linear_sum_assignment(found, maximize=True)
    else:
        _, partner = lap.lapjvx(np.subtract(1.0, found, dtype=np.float64), return_cost=False)
    return Matching(partner, found[np.arange(len(partner)), partner], 0.0, 0)


def accelerator() -> ModuleType | None:
    """lapx (`pip install -c constraints.txt -e '.[fast]'`), or None where it is not installed."""
    try:
        return importlib.import_module("lap")
    except ImportError:
        return None


def priced(a_nd: np.ndarray, b_nd: np.ndarray, candidates: int = CANDIDATES) -> Matching:
    """The same for cosines of unit rows, (n, width) each, without ever holding the matrix.

    Raises:
        RuntimeError: pricing does not end in `MOST_ROUNDS` rounds.
    """
    a, b = (np.ascontiguousarray(x, dtype=np.float32) for x in (a_nd, b_nd))
    n = len(a)
    pairs, bounds = _nearest(a, b, min(candidates, n))
    u, v = bounds
    for number in range(1, MOST_ROUNDS + 1):
        partner, own = _optimum(pairs, u, v)
        v = _duals(pairs, partner, own, v)
        u = own - v[partner]
        # More from round to round: where many directions are alike, all want the same few.
        more, gap = _broken(a, b, u, v, bounds, min(number * candidates, n))
        if not len(more[0]):
            return Matching(partner, own, gap + _left(pairs, u, v), number)
        pairs = _joined(pairs, more, n)
    raise RuntimeError(f"pricing of {n} directions did not end in {MOST_ROUNDS} rounds")


# Rows, columns and cosines, in order of rows, then of columns.
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
# Of every row and of every column.
Bounds = tuple[np.ndarray, np.ndarray]


def _nearest(a: np.ndarray, b: np.ndarray, k: int) -> tuple[Pairs, Bounds]:
    """Pairs above about the k-th largest cosine of their row or column, and those of one number, so
    that there is a matching; and bounds whose sums no other cosine is above."""
    n = len(a)
    groups = min(GROUPS * k, n)
    step = groups * max(BLOCK_ROWS // groups, 1)
    largest = np.full((groups, n), -np.inf, dtype=np.float32)
    of_rows = np.empty(n, dtype=np.float32)
    block, lower = (np.empty((step, n), dtype=np.float32) for _ in range(2))
    near = np.empty((step, n), dtype=bool)
    found = []
    for begin in range(0, n, step):
        part = slice(begin, min(begin + step, n))
        m = part.stop - begin
        c, low, above = block[:m], lower[:m], near[:m]
        np.matmul(a[part], b.T, out=c)
        # What has not been seen of a column can only raise its bound: some are found too many.
        for rows in np.split(c, range(groups, m, groups)):
            np.maximum(largest[: len(rows)], rows, out=largest[: len(rows)])
        of_columns = _kth_largest(largest.T, k)
        size = n // groups
        maxima = c[:, : size * groups].reshape(m, size, groups).max(axis=1)
        of_rows[part] = _kth_largest(maxima, k)
        np.minimum(of_rows[part, None], of_columns, out=low)
        # Not those equal to a bound: a direction of zeros would bring all.
        np.greater(c, low, out=above)
        above[np.arange(m), np.arange(begin, part.stop)] = True
        at = np.flatnonzero(above)
        found.append((at + begin * n, c.ravel()[at]))
    keys, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    rows, columns = np.divmod(keys, n)
    kept = (cosines > np.minimum(of_rows[rows], of_columns[columns])) | (rows == columns)
    pairs = rows[kept], columns[kept], cosines[kept].astype(np.float64)
    return pairs, (of_rows / 2.0, of_columns / 2.0)


def _kth_largest(values_ng: np.ndarray, k: int) -> np.ndarray:
    """Of every row, (n,)."""
    # In a copy in order of rows: that is many times faster.
    ordered = np.array(values_ng, order="C")
    ordered.partition(ordered.shape[1] - k, axis=1)
    return ordered[:, ordered.shape[1] - k]


def _optimum(pairs: Pairs, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Partner and cosine of every row in the best matching of the candidates; any u, v will do,
    and the nearer they are to its duals the sooner it is found."""
    n = len(u)
    rows, columns, cosines = pairs
    excess = cosines - u[rows] - v[columns]
    # Stored zeros are no edges, and costs must not be negative.
    cost = sparse.csr_matrix((1.0 + excess.max() - excess, (rows, columns)), shape=(n, n))
    partner = sparse.csgraph.min_weight_full_bipartite_matching(cost)[1]
    own = cosines[np.searchsorted(rows * n + columns, np.arange(n) * n + partner)]
    return partner, own


def _joined(pairs: Pairs, more: Pairs, n: int) -> Pairs:
    """Each pair of either once, in order."""
    rows, columns, cosines = (np.concatenate(both) for both in zip(pairs, more, strict=True))
    first = np.unique(rows * n + columns, return_index=True)[1]
    return rows[first], columns[first], cosines[first]


def _duals(pairs: Pairs, partner: np.ndarray, own: np.ndarray, v: np.ndarray) -> np.ndarray:
    """v, raised until v_j ≥ c_ij − c_ip(i) + v_p(i) for every candidate: longest paths, in which an
    optimum has no cycle that gains."""
    rows, columns, cosines = pairs
    gain = cosines - own[rows]
    via = partner[rows]
    order = np.argsort(columns, kind="stable")
    gain, via = gain[order], via[order]
    starts = np.searchsorted(columns[order], np.arange(len(partner)))
    while True:
        reached = np.maximum(v, np.maximum.reduceat(gain + v[via], starts))
        if (reached - v).max() <= TOLERANCE / 10:
            return reached
        v = reached


def _left(pairs: Pairs, u: np.ndarray, v: np.ndarray) -> float:
    """What the candidates' cosines are above the sum of their duals, the most of every row."""
    rows, columns, cosines = pairs
    excess = cosines - u[rows] - v[columns]
    return float(
        np.maximum.reduceat(excess, np.searchsorted(rows, np.arange(len(u)))).clip(0).sum()
    )


def _broken(
    a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray, bounds: Bounds, k: int
) -> tuple[Pairs, float]:
    """Pairs of rows and columns in which a cosine is above the sum of its duals, at most 2 k of
    each, and the gap that the others leave."""
    some_rows, some_columns = _in_doubt(bounds[0] - u, bounds[1] - v)
    rng = np.random.default_rng(0)
    found: list[Pairs] = [(np.empty(0, int), np.empty(0, int), np.empty(0))]
    gap = 0.0
    for forward, x, y, own, other, chosen in (
        (True, a, b, u, v, some_rows),
        (False, b, a, v, u, some_columns),
    ):
        other = other.astype(np.float32)
        for begin in range(0, len(chosen), BLOCK_ROWS):
            part = chosen[begin : begin + BLOCK_ROWS]
            block = x[part] @ y.T
            excess = block - other
            excess -= own[part, None].astype(np.float32)
            most = excess.max(axis=1)
            # Raising each one's dual by what is left of its excess makes the duals feasible.
            gap += float(most.clip(0, TOLERANCE).sum())
            at = np.flatnonzero(most > TOLERANCE)
            if len(at):
                j = _most(excess[at], k, rng)
                i = np.repeat(at, j.shape[1])
                j = j.ravel()
                mine = part[i]
                rows, columns = (mine, j) if forward else (j, mine)
                found.append((rows, columns, block[i, j].astype(np.float64)))
    rows, columns, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return (rows, columns, cosines), gap


def _in_doubt(over_u: np.ndarray, over_v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows and columns to price, as few as can be: the sum of what the bounds are
    above the duals is negative for all pairs of others."""
    u, v = np.sort(over_u), np.sort(over_v)
    # Rows above a split, columns above its negative; the best split is at one of them.
    splits = np.concatenate([u, -v])
    rows = len(u) - np.searchsorted(u, splits, side="right")
    columns = len(v) - np.searchsorted(v, -splits - TOLERANCE, side="left")
    split = splits[np.argmin(rows + columns)]
    return np.flatnonzero(over_u > split), np.flatnonzero(over_v >= -split - TOLERANCE)


def _most(excess: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """The columns of the k largest of every row, and of k that chance prefers: rows that are alike
    would all get the same; (rows, 2 k)."""
    n = excess.shape[1]
    largest = np.argpartition(excess, n - k, axis=1)[:, n - k :]
    excess *= rng.random(excess.shape, dtype=np.float32)
    return np.concatenate([largest, np.argpartition(excess, n - k, axis=1)[:, n - k :]], axis=1)
