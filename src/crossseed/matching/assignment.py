"""The best one-to-one matching of two sets of unit directions by cosine, exact, dense or in bounded memory.

Dense, SciPy solves the whole matrix (in 64 bits: 2 GB at 16,384 directions), or lapx where it is installed, which finds
the same optimum in half to two thirds of the time. Sparse, only the pairs that are near for
one of the two are looked at, and the optimum of these is proved to be that of all: an assignment p is optimal
if there are u, v with u_i + v_j ≥ c_ij for all pairs and equality where j = p(i). The duals of the sparse problem
are computed from its optimum; every pair is then priced, block by block; those that break the inequality join the
candidates, until none does. What is left is float32's rounding, which is reported as the gap: how much more any
matching could have at most.
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
BLOCK_ROWS = 2048
CANDIDATES = 16
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
    pairs = _nearest(a, b, min(candidates, n))
    for number in range(1, MOST_ROUNDS + 1):
        rows, columns, cosines = pairs
        # Stored zeros are no edges, and costs must not be negative.
        cost = sparse.csr_matrix((2.0 - cosines, (rows, columns)), shape=(n, n))
        partner = sparse.csgraph.min_weight_full_bipartite_matching(cost)[1]
        own = 2.0 - np.asarray(cost[np.arange(n), partner]).ravel()
        v = _duals(pairs, partner, own)
        u = own - v[partner]
        more, gap = _broken(a, b, u, v)
        if not len(more[0]):
            return Matching(partner, own, gap, number)
        pairs = _joined(pairs, more, n)
    raise RuntimeError(f"pricing of {n} directions did not end in {MOST_ROUNDS} rounds")


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def _nearest(a: np.ndarray, b: np.ndarray, k: int) -> Pairs:
    """Pairs of every row of either with its k nearest of the other, and of rows of one number, so that there is
    a matching."""
    n = len(a)
    rows, columns = [np.arange(n)], [np.arange(n)]
    for x, y, forward in ((a, b, True), (b, a, False)):
        for begin in range(0, n, BLOCK_ROWS):
            block = x[begin : begin + BLOCK_ROWS] @ y.T
            near = np.argpartition(block, n - k, axis=1)[:, n - k :].ravel()
            own = np.repeat(np.arange(begin, begin + len(block)), k)
            rows.append(own if forward else near)
            columns.append(near if forward else own)
    return _distinct(a, b, np.concatenate(rows), np.concatenate(columns))


def _distinct(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Pairs:
    """Each pair once, in order, with its cosine."""
    n = len(a)
    rows, columns = np.divmod(np.unique(rows * n + columns), n)
    cosines = np.empty(len(rows))
    for begin in range(0, len(rows), 64 * BLOCK_ROWS):
        part = slice(begin, begin + 64 * BLOCK_ROWS)
        cosines[part] = np.einsum("nd,nd->n", a[rows[part]], b[columns[part]])
    return rows, columns, cosines


def _joined(pairs: Pairs, more: Pairs, n: int) -> Pairs:
    keys = pairs[0] * n + pairs[1]
    new = ~np.isin(more[0] * n + more[1], keys)
    found = [np.concatenate([one, other[new]]) for one, other in zip(pairs, more, strict=True)]
    order = np.argsort(found[0] * n + found[1], kind="stable")
    rows, columns, cosines = (values[order] for values in found)
    return rows, columns, cosines


def _duals(pairs: Pairs, partner: np.ndarray, own: np.ndarray) -> np.ndarray:
    """v with v_j ≥ c_ij − c_ip(i) + v_p(i) for every candidate: longest paths, in which an optimum has no cycle
    that gains."""
    rows, columns, cosines = pairs
    gain = cosines - own[rows]
    via = partner[rows]
    order = np.argsort(columns, kind="stable")
    gain, via = gain[order], via[order]
    starts = np.searchsorted(columns[order], np.arange(len(partner)))
    v = np.zeros(len(partner))
    while True:
        reached = np.maximum(v, np.maximum.reduceat(gain + v[via], starts))
        if (reached - v).max() <= TOLERANCE / 10:
            return reached
        v = reached


def _broken(a: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[Pairs, float]:
    """Pairs whose cosine is above the sum of their duals, and the gap that the others leave."""
    found: list[Pairs] = []
    gap = 0.0
    for begin in range(0, len(a), BLOCK_ROWS):
        block = a[begin : begin + BLOCK_ROWS] @ b.T
        excess = block - v.astype(np.float32)
        excess -= u[begin : begin + len(block), None].astype(np.float32)
        # Raising each row's dual by what is left of its excess makes the duals feasible.
        gap += float(excess.max(axis=1).clip(0, TOLERANCE).sum())
        i, j = np.nonzero(excess > TOLERANCE)
        found.append((i + begin, j, block[i, j].astype(np.float64)))
    rows, columns, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return (rows, columns, cosines), gap
