"""Similarity of two members' activations that no rotation changes, beside its null.

All are measured on `eval` tokens; what is fitted is fitted on `fit`. Linear CKA is the debiased
one (Kornblith et al., arXiv 1905.00414; unbiased HSIC of Song et al. 2012), SVCCA the mean
canonical correlation of the principal directions that hold 99 % of each side's variance (Raghu et
al., arXiv 1706.05806), with canonical directions from `fit`; mutual kNN the share of common
neighbours (Huh et al., arXiv 2405.07987), never of the same document; shape distance the angle
between the activations after the Procrustes rotation (Williams et al., arXiv 2110.14739).

CKA, SVCCA and shape distance need d × d sums, too many to keep for each document as the bootstrap
does; their intervals come from leaving out each of ten groups of documents in turn (the jackknife).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Protocol, Self, TypeVar

import numpy as np

from crossseed.alignment.moments import Moments
from crossseed.metrics import Estimate, estimate, sum_units

SVCCA_VARIANCE = 0.99
NEIGHBOURS = 10
KNN_TOKENS = 2000
# Permutations behind each p.
SHUFFLES = 999
# Groups of documents left out in turn, the fewest documents that make groups of about equal size,
# and the 97.5 % quantile of Student's t with one degree less than groups.
GROUPS = 10
LEAST_UNITS = 20
STUDENT_T = 2.262


class Mergeable(Protocol):
    """Sums over tokens."""

    def merged(self, other: Self) -> Self:
        """Sums over the tokens of both."""
        ...


Sums = TypeVar("Sums", bound=Mergeable)


class CkaSums:
    """Sums behind the debiased linear CKA of paired rows, in a stream.

    Rows are centred provisionally on known means, which changes nothing but rounding: the unbiased
    estimate is invariant under a common shift. With p_i = ‖a_i‖², q_i = ‖b_i‖²:
    Σ_{i≠j} (a_i·a_j)(b_i·b_j) and its margins need only AᵀB, Σa, Σb, Σp, Σq, Σpq, Σp a, Σp b …

    Args:
        mean_a, mean_b: those means, (width,) each.
    """

    def __init__(self, mean_a: np.ndarray, mean_b: np.ndarray) -> None:
        self.means = (mean_a, mean_b)
        d, e = len(mean_a), len(mean_b)
        self.n = 0
        self.products = {"aa": np.zeros((d, d)), "ab": np.zeros((d, e)), "bb": np.zeros((e, e))}
        self.sums = (np.zeros(d), np.zeros(e))
        # Σ q_i x_i for q the squared norm of side q and x the row of side x.
        self.weighted = {"aa": np.zeros(d), "ab": np.zeros(e), "ba": np.zeros(d), "bb": np.zeros(e)}
        self.norms = np.zeros(2)
        self.norm_products = {"aa": 0.0, "ab": 0.0, "bb": 0.0}

    def add(self, a_nd: np.ndarray, b_nd: np.ndarray) -> None:
        """Adds paired rows of both sides, (tokens, width) each."""
        a = a_nd.astype(np.float64) - self.means[0]
        b = b_nd.astype(np.float64) - self.means[1]
        norm_a, norm_b = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
        self.n += len(a)
        sides = {"a": (a, norm_a), "b": (b, norm_b)}
        for name in self.products:
            (x, p), (y, q) = (sides[side] for side in name)
            self.products[name] += x.T @ y
            self.norm_products[name] += float(p @ q)
        for name in self.weighted:
            self.weighted[name] += sides[name[0]][1] @ sides[name[1]][0]
        self.sums[0][:] += a.sum(axis=0)
        self.sums[1][:] += b.sum(axis=0)
        self.norms += (norm_a.sum(), norm_b.sum())

    def merged(self, other: Self) -> Self:
        """Sums of both sets of tokens together; both are centred on the same means."""
        both = type(self)(*self.means)
        both.n = self.n + other.n
        for name in ("products", "weighted", "norm_products"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(both, name, {key: mine[key] + theirs[key] for key in mine})
        both.sums = (self.sums[0] + other.sums[0], self.sums[1] + other.sums[1])
        both.norms = self.norms + other.norms
        return both

    def _hsic(self, left: str, right: str) -> float:
        """Unbiased HSIC of two sides, up to a factor that CKA cancels."""
        n = self.n
        side = {"a": 0, "b": 1}
        s, t = self.sums[side[left]], self.sums[side[right]]
        joint = self.products[min(left + right, right + left)]
        diagonal = self.norm_products[min(left + right, right + left)]
        trace = float(np.square(joint).sum()) - diagonal
        ones_k = float(s @ s) - self.norms[side[left]]
        ones_l = float(t @ t) - self.norms[side[right]]
        both = (
            float(s @ joint @ t)
            - float(self.weighted[left + right] @ t)
            - float(self.weighted[right + left] @ s)
            + diagonal
        )
        return trace + ones_k * ones_l / ((n - 1) * (n - 2)) - 2 * both / (n - 2)

    def cka(self) -> float:
        """Debiased linear CKA; 0 in expectation for independent rows, 1 for a rotation."""
        scale = self._hsic("a", "a") * self._hsic("b", "b")
        return self._hsic("a", "b") / np.sqrt(scale) if scale > 0 else float("nan")


def leave_one_out(groups: Sequence[Sums]) -> list[Sums]:
    """Sums of all groups, and of all but each in turn; of one group alone, itself."""

    def merged(parts: Sequence[Sums]) -> Sums:
        return reduce(lambda left, right: left.merged(right), parts)

    if len(groups) == 1:
        return [groups[0]]
    rest = [merged([*groups[:i], *groups[i + 1 :]]) for i in range(len(groups))]
    return [merged(groups), *rest]


def jackknife(values: Sequence[float], least: float, most: float) -> Estimate:
    """A statistic and its 95 % interval, which ends where the statistic's range does.

    Args:
        values: of `leave_one_out`: on all, and without each of `GROUPS` groups of about equal size;
            one value has no interval. The statistic is a smooth function of the sums.
    """
    value, *without = values
    if not without:
        return Estimate(value)
    half = STUDENT_T * np.sqrt((len(without) - 1) * np.var(without))
    return Estimate(value, max(value - half, least), min(value + half, most))


def canonical_directions(fit: Moments) -> tuple[np.ndarray, np.ndarray] | None:
    """Canonical directions of b and of a as columns, in the principal directions that hold 99 % of
    each side's variance, each (d, k); None where a side is constant."""
    if not (np.trace(fit.covariance_a) and np.trace(fit.covariance_b)):
        return None

    def whitener(covariance: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        enough = np.searchsorted(np.cumsum(values), SVCCA_VARIANCE * values.sum()) + 1
        whitened: np.ndarray = vectors[:, :enough] / np.sqrt(values[:enough])
        return whitened

    left, right = whitener(fit.covariance_b), whitener(fit.covariance_a)
    u, _, vt = np.linalg.svd(left.T @ fit.cross_covariance @ right, full_matrices=False)
    return left @ u, right @ vt.T


def svcca(directions: tuple[np.ndarray, np.ndarray] | None, held_out: Moments) -> float:
    """Mean canonical correlation, −1 to 1, on held-out tokens of directions found on `fit`, columns of b and of a, (width, k)
    each; NaN without directions."""
    if directions is None:
        return float("nan")
    left, right = directions

    def along(matrix: np.ndarray, of: np.ndarray, to: np.ndarray) -> np.ndarray:
        products: np.ndarray = np.sum(of * (matrix @ to), axis=0)
        return products

    joint = along(held_out.cross_covariance, left, right)
    scale = along(held_out.covariance_b, left, left) * along(held_out.covariance_a, right, right)
    scale = np.sqrt(scale.clip(0))
    return float(np.mean(np.divide(joint, scale, out=np.zeros_like(joint), where=scale > 0)))


def shape_distance(rotation: np.ndarray, held_out: Moments) -> float:
    """Angle in radians between b R and a, for R of (width_b, width_a), 0 to π; π/2 where nothing is shared, NaN where one
    side is constant."""
    scale = np.sqrt(np.trace(held_out.covariance_a) * np.trace(held_out.covariance_b))
    if not scale:
        return float("nan")  # one side is constant
    return float(np.arccos(np.clip(np.sum(rotation * held_out.cross_covariance) / scale, -1, 1)))


class Companions:
    """CKA, SVCCA and shape distance of paired rows, in a stream.

    Args:
        fit: moments on the `fit` split. rotation: fitted there, (d, d).
        n_units: of the rows to come.
        intervals: keep sums by group of documents, if there are enough.
    """

    def __init__(self, fit: Moments, rotation: np.ndarray, n_units: int, intervals: bool) -> None:
        self.fit, self.rotation, self.n_units = fit, rotation, n_units
        means = fit.mean_a, fit.mean_b
        n = GROUPS if intervals and n_units >= LEAST_UNITS else 1
        self.cka = [CkaSums(*means) for _ in range(n)]
        self.moments = [Moments(len(means[0]), len(means[1])) for _ in range(n)]

    def add(self, units: slice, starts: np.ndarray, a_nd: np.ndarray, b_nd: np.ndarray) -> None:
        """Adds paired rows, (tokens, width) each; `starts` are the first rows of `units` within them."""
        group = np.arange(units.start, units.stop) * len(self.cka) // self.n_units
        ends = np.r_[starts[1:], len(a_nd)]
        for number in np.unique(group):
            among = np.flatnonzero(group == number)
            rows = slice(starts[among[0]], ends[among[-1]])
            self.cka[number].add(a_nd[rows], b_nd[rows])
            self.moments[number].add(a_nd[rows], b_nd[rows])

    def whole(self) -> Moments:
        """Moments of all rows."""
        return reduce(Moments.merged, self.moments)

    def values(self) -> dict[str, Estimate]:
        """``cka``, ``svcca`` and ``shape_distance_rad``."""
        moments, directions = leave_one_out(self.moments), canonical_directions(self.fit)
        cka = [sums.cka() for sums in leave_one_out(self.cka)]
        distances = [shape_distance(self.rotation, found) for found in moments]
        return {
            "cka": jackknife(cka, -1, 1),
            "svcca": jackknife([svcca(directions, found) for found in moments], -1, 1),
            "shape_distance_rad": jackknife(distances, 0, np.pi),
        }


def neighbours(x_nd: np.ndarray, document_n: np.ndarray) -> np.ndarray | None:
    """Nearest rows of each row by cosine, (tokens, `NEIGHBOURS`), none of its own document; None if
    some row has too few others.

    Args:
        x_nd: rows, (tokens, width). document_n: document of each, (tokens,).
    """
    rows = x_nd / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-12)
    similarity = rows @ rows.T
    same = document_n[:, None] == document_n[None, :]
    if (~same).sum(axis=1).min() < NEIGHBOURS:
        return None
    similarity[same] = -np.inf
    return np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def mutual_neighbours(
    near_a: np.ndarray | None,
    near_b: np.ndarray | None,
    weights: np.ndarray,
    starts: np.ndarray,
) -> Estimate:
    """Share of each token's nearest neighbours that both sides agree on.

    Args:
        near_a, near_b: from `neighbours`, of paired rows.
        weights: (resamples, units); the first rows of units are `starts`.

    Returns:
        The mean share with its interval; NaN without neighbours.
    """
    if near_a is None or near_b is None:
        return Estimate(float("nan"))
    common = [len(np.intersect1d(x, y)) for x, y in zip(near_a, near_b, strict=True)]
    share = sum_units(np.array(common, dtype=np.float64) / NEIGHBOURS, starts)
    counts = np.diff(np.r_[starts, len(near_a)]).astype(np.float64)
    return estimate((weights @ share) / (weights @ counts))


def shuffle_p(
    a_nd: np.ndarray,
    b_nd: np.ndarray,
    near_a: np.ndarray | None,
    near_b: np.ndarray | None,
    position_n: np.ndarray,
    rng: np.random.Generator,
    shuffles: int = SHUFFLES,
) -> dict[str, float]:
    """Is what pairs share more than what tokens at equal positions share?

    p = (1 + #{shuffled ≥ observed})/(B + 1), rows of a permuted at random within their position.
    For CKA the permuted statistic is ‖AᵀB‖²: what it is divided by does not change.

    Args:
        a_nd, b_nd: paired rows, centred, (tokens, width) each. near_a, near_b: their `neighbours`.
        position_n: position of each token in its sequence, (tokens,).

    Returns:
        ``cka_p`` and ``mutual_knn_p``, the latter NaN without neighbours.
    """
    n = len(a_nd)
    by_position = np.argsort(position_n, kind="stable")
    near = np.zeros((n, n), dtype=bool)
    if near_b is not None:
        near[np.arange(n)[:, None], near_b] = True
    place = np.empty(n, dtype=np.int64)

    def statistics(order: np.ndarray) -> tuple[float, float]:
        congruence = float(np.square(a_nd[order].T @ b_nd).sum())
        if near_a is None or near_b is None:
            return congruence, float("nan")
        # Where the permutation has put each row of a.
        place[order] = np.arange(n)
        return congruence, float(near[np.arange(n)[:, None], place[near_a[order]]].sum())

    observed = statistics(np.arange(n))
    reached = np.zeros(2)
    order = np.empty(n, dtype=np.int64)
    for _ in range(shuffles):
        order[by_position] = np.lexsort((rng.random(n), position_n))
        reached += np.array(statistics(order)) >= observed
    p = (1 + reached) / (shuffles + 1)
    return {
        "cka_p": float(p[0]),
        "mutual_knn_p": float("nan") if np.isnan(observed[1]) else float(p[1]),
    }


def sample_rows(n: int, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows for `neighbours`, of n, evenly spaced, and the unit each belongs to, (rows,) both."""
    rows = np.unique(np.linspace(0, n - 1, min(n, KNN_TOKENS)).astype(int))
    return rows, np.searchsorted(starts, rows, side="right") - 1
