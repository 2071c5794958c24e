"""Metrics of reconstructions and latents, with bootstrap intervals over sequences.

Every metric is a function of sums over tokens. The sums are kept per *unit*, a group of
whole sequences; an interval comes from drawing units with replacement. Sums are float64.
Definitions: the project's metrics page; explained variance under all its names, since six
definitions are in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

MAX_UNITS = 256
# Below this share of the sum of squares, a remaining variance is rounding of float32 activations.
NOTHING_LEFT = 1e-6
# Below this share of a latent's sum of squares, its variance is rounding of the sums.
ROUNDING = 1e-12
INTERVAL = (0.025, 0.975)


class Estimate(NamedTuple):
    """A value on all tokens and its 95 % interval (NaN where there is none)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 along the last axis, same shape as `values`, the mean of theirs for equal values; all NaN where one is.

    Not `scipy.stats.rankdata`, whose import takes a job most of a second.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=-1)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    new = np.ones(values.shape, bool)
    new[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=-1)
    ends = np.roll(new, -1, axis=-1)
    last = np.where(ends, place, values.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, axis=-1)
    found[np.isnan(values).any(axis=-1)] = np.nan
    return found


def unit_starts(document_n: np.ndarray) -> np.ndarray:
    """First row of each unit, (units,): at most `MAX_UNITS` groups of whole consecutive documents.

    Args:
        document_n: number of the document each token belongs to, (tokens,), non-decreasing.
    """
    first = np.flatnonzero(np.r_[True, document_n[1:] != document_n[:-1]])
    n_units = min(MAX_UNITS, len(first))
    return first[np.arange(n_units) * len(first) // n_units]


def unit_of(document_n: np.ndarray) -> np.ndarray:
    """The unit that each sequence (or token) belongs to, from 0 on, (sequences,), non-decreasing; see `unit_starts`."""
    starts = unit_starts(document_n)
    found: np.ndarray = np.searchsorted(starts, np.arange(len(document_n)), side="right") - 1
    return found


def unit_blocks(starts: np.ndarray, n: int, rows: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cuts n rows into blocks of whole units, each of about `rows` rows at most.

    Yields:
        (units, rows, first rows of the units within the block).
    """
    bounds = np.r_[starts, n]
    first = 0
    while first < len(starts):
        last = max(int(np.searchsorted(bounds, bounds[first] + rows, side="right")) - 1, first + 1)
        yield (
            slice(first, last),
            slice(int(bounds[first]), int(bounds[last])),
            bounds[first:last] - bounds[first],
        )
        first = last


def resample_weights(rng: np.random.Generator, n_units: int, resamples: int) -> np.ndarray:
    """How often each unit is drawn; first row all ones (the sample itself).

    Returns:
        float64, shape (1 + resamples, n_units). A single unit says nothing of its spread: its
        resamples are NaN, and so there is no interval.
    """
    if n_units == 1:
        return np.concatenate([np.ones((1, 1)), np.full((resamples, 1), np.nan)])
    drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=resamples)
    return np.concatenate([np.ones((1, n_units)), drawn])


def estimate(values_r: np.ndarray) -> Estimate:
    """Value and interval from a statistic of each row of `resample_weights`, (1 + resamples,)."""
    if np.isnan(values_r[1:]).all():
        return Estimate(float(values_r[0]))
    low, high = np.nanquantile(values_r[1:], INTERVAL)
    return Estimate(float(values_r[0]), float(low), float(high))


def jackknife(value: float, without_n: np.ndarray) -> Estimate:
    """A value with its 95 % interval from the same value without each of n units, (n,), by Student's t; without one
    where fewer than three units are left in."""
    # Imported here: SciPy, which those who plan a run do without.
    from scipy import special

    n = len(without_n)
    if n < 3 or not np.isfinite(without_n).all():
        return Estimate(value)
    error = np.sqrt((n - 1) / n * np.square(without_n - without_n.mean()).sum())
    reach = float(special.stdtrit(n - 1, INTERVAL[1]) * error)
    return Estimate(value, value - reach, value + reach)


def holm(p_m: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction of a family of p-values, (m,)."""
    p = np.asarray(p_m, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def unit_rows(rows_nd: np.ndarray) -> np.ndarray:
    """The rows at length 1, (n, width) as given; rows of zeros stay."""
    length = np.linalg.norm(rows_nd, axis=-1, keepdims=True)
    found: np.ndarray = rows_nd / np.where(length > 0, length, 1)
    return found


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson r of two vectors, (n,) each; NaN where one does not vary."""
    x, y = x - x.mean(), y - y.mean()
    spread_of = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / spread_of if spread_of > 0 else float("nan")


def sum_units(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of rows by unit, in float64; shape (units, ...)."""
    # One sum a unit: np.add.reduceat along rows is ten times slower.
    parts = zip(starts, np.r_[starts[1:], len(values)], strict=True)
    return np.stack([values[first:end].sum(axis=0, dtype=np.float64) for first, end in parts])


def _explained(
    error_r: np.ndarray, total_r: np.ndarray, least_r: np.ndarray | float = 0.0
) -> np.ndarray:
    """1 − error/total; NaN where the total is not above `least_r`: nothing varies there."""
    varies = total_r > least_r
    return np.where(varies, 1 - error_r / np.where(varies, total_r, 1.0), np.nan)


class ErrorSums:
    """Sums behind the explained variances of one reconstruction, by unit.

    Statistics are of weights (resamples, units), see `resample_weights`, and have shape (resamples,).

    Args:
        n_units: number of units. width: activation size.
    """

    def __init__(self, n_units: int, width: int) -> None:
        self.n = np.zeros(n_units)
        self.x = np.zeros((n_units, width))
        self.xx = np.zeros(n_units)
        self.e = np.zeros((n_units, width))
        self.ee = np.zeros(n_units)
        self.active = np.zeros(n_units)

    def add(
        self,
        units: slice,
        starts: np.ndarray,
        x_nd: np.ndarray,
        xhat_nd: np.ndarray,
        active_n: np.ndarray | None = None,
    ) -> None:
        """Adds rows; `starts` are the first rows of `units` within them.

        Args:
            x_nd: target, shape (tokens, width). xhat_nd: its reconstruction.
            active_n: number of active latents per token, for `l0`.
        """
        error = xhat_nd - x_nd
        self.n[units] += np.diff(np.r_[starts, len(x_nd)])
        self.x[units] += sum_units(x_nd, starts)
        self.xx[units] += sum_units(np.einsum("nd,nd->n", x_nd, x_nd), starts)
        self.e[units] += sum_units(error, starts)
        self.ee[units] += sum_units(np.einsum("nd,nd->n", error, error), starts)
        if active_n is not None:
            self.active[units] += sum_units(active_n, starts)

    def ev(self, weights: np.ndarray) -> np.ndarray:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean per dimension over the same tokens."""
        return _explained(weights @ self.ee, self._total(weights))

    def _total(self, weights: np.ndarray) -> np.ndarray:
        mean_part = np.square(weights @ self.x).sum(axis=1) / (weights @ self.n)
        return weights @ self.xx - mean_part

    def fvu(self, weights: np.ndarray) -> np.ndarray:
        """1 − ev."""
        return 1 - self.ev(weights)

    def ev_published(self, weights: np.ndarray) -> np.ndarray:
        """1 − mean((x − x̂)²) / var(x), the unbiased variance of all entries about one grand
        mean (arXiv 2605.24577): offsets between dimensions count as explained."""
        entries = (weights @ self.n) * self.x.shape[1]
        grand = (weights @ self.x).sum(axis=1)
        variance = (weights @ self.xx - grand**2 / entries) / (entries - 1)
        return _explained((weights @ self.ee) / entries, variance)

    def ev_dictlearn(self, weights: np.ndarray) -> np.ndarray:
        """1 − Σ Var(x − x̂) / Σ Var(x), as dictionary_learning has it: a constant error is free."""
        constant = np.square(weights @ self.e).sum(axis=1) / (weights @ self.n)
        return _explained(weights @ self.ee - constant, self._total(weights))

    def mse(self, weights: np.ndarray) -> np.ndarray:
        """Mean squared error over tokens and dimensions, in squared activation units."""
        return (weights @ self.ee) / (weights @ self.n) / self.x.shape[1]

    def l0(self, weights: np.ndarray) -> np.ndarray:
        """Mean number of non-zero latents per token."""
        return (weights @ self.active) / (weights @ self.n)


class CrossSums:
    """Sums behind EVx: how well a reconstruction of b, carried over, gives a token by token.

    Statistics are of weights (resamples, units), see `resample_weights`, and have shape (resamples,).

    Args:
        axes_dk: leading principal directions of a as columns, (width, k).
    """

    def __init__(self, n_units: int, axes_dk: np.ndarray) -> None:
        self.axes = axes_dk.astype(np.float32)
        width, k = axes_dk.shape
        self.n = np.zeros(n_units)
        self.a, self.aa, self.ee = np.zeros((n_units, width)), np.zeros(n_units), np.zeros(n_units)
        self.along_aa, self.along_ee = np.zeros((n_units, k)), np.zeros((n_units, k))

    def add(self, units: slice, starts: np.ndarray, a_nd: np.ndarray, xhat_nd: np.ndarray) -> None:
        """Adds rows of a and of what stands for them, (tokens, width) both; `starts` are the first rows of `units` within
        them, (units,)."""
        error = xhat_nd - a_nd
        self.n[units] += np.diff(np.r_[starts, len(a_nd)])
        self.a[units] += sum_units(a_nd, starts)
        self.aa[units] += sum_units(np.einsum("nd,nd->n", a_nd, a_nd), starts)
        self.ee[units] += sum_units(np.einsum("nd,nd->n", error, error), starts)
        self.along_aa[units] += sum_units(np.square(a_nd @ self.axes), starts)
        self.along_ee[units] += sum_units(np.square(error @ self.axes), starts)

    def evx(self, weights: np.ndarray, k: int) -> np.ndarray:
        """1 − Σ‖x̂ − a‖² / Σ‖a − ā‖², the k leading principal directions of a projected out."""
        mean = weights @ self.a / (weights @ self.n)[:, None]
        along = np.square(mean @ self.axes[:, :k]).sum(axis=1)
        n = weights @ self.n
        total = weights @ (self.aa - self.along_aa[:, :k].sum(axis=1))
        total = total - n * (np.square(mean).sum(axis=1) - along)
        error = weights @ (self.ee - self.along_ee[:, :k].sum(axis=1))
        # Where the source varies along no more than k directions, nothing is left to explain.
        return _explained(error, total, NOTHING_LEFT * (weights @ self.aa))

    def nre(self, weights: np.ndarray) -> np.ndarray:
        """‖X̂ − A‖_F / ‖A‖_F, nothing centred."""
        return np.sqrt((weights @ self.ee) / (weights @ self.aa))


class LatentSums:
    """First and second moments of one set of latents, by unit.

    Args:
        n_units: number of units. n_latents: dictionary size.
    """

    def __init__(self, n_units: int, n_latents: int) -> None:
        self.n = np.zeros(n_units)
        self.first, self.second = np.zeros((n_units, n_latents)), np.zeros((n_units, n_latents))

    def add(self, units: slice, starts: np.ndarray, h_nf: np.ndarray) -> None:
        """Adds latents of some tokens, (tokens, latents)."""
        self.n[units] += np.diff(np.r_[starts, len(h_nf)])
        self.first[units] += sum_units(h_nf, starts)
        self.second[units] += sum_units(h_nf * h_nf, starts)

    def varying(self) -> np.ndarray:
        """Which latents are not constant, (latents,) of bool."""
        total, squares = self.first.sum(axis=0), self.second.sum(axis=0)
        found: np.ndarray = squares - total**2 / self.n.sum() > ROUNDING * squares
        return found


class FiringSums:
    """Sums behind the correlation of a set of latents with another over the same tokens, by unit.

    Args:
        own: of the first set, which its owner adds to: several others are compared with it.
    """

    def __init__(self, own: LatentSums) -> None:
        shape = own.first.shape
        self.own, self.other = own, LatentSums(*shape)
        self.product = np.zeros(shape)

    def add(self, units: slice, starts: np.ndarray, a_nf: np.ndarray, b_nf: np.ndarray) -> None:
        """Adds the other set's latents b, where a are the first's of the same tokens, each
        (tokens, latents)."""
        self.other.add(units, starts, b_nf)
        self.product[units] += sum_units(a_nf * b_nf, starts)

    def live(self) -> np.ndarray:
        """Latents, (latents,) of bool, that vary in both encodings; a latent that never fires in one has no
        correlation and is counted, not averaged in."""
        return self.own.varying() & self.other.varying()

    def correlations(self, weights: np.ndarray, latents: np.ndarray | None = None) -> np.ndarray:
        """Pearson r of each live latent, or of `latents`; shape (rows of weights, latents), NaN where
        one does not vary."""
        live = self.live() if latents is None else latents
        n = (weights @ self.own.n)[:, None]
        a, b = weights @ self.own.first[:, live], weights @ self.other.first[:, live]
        covariance = weights @ self.product[:, live] - a * b / n
        aa, bb = weights @ self.own.second[:, live], weights @ self.other.second[:, live]
        va, vb = aa - a * a / n, bb - b * b / n
        vary = (va > ROUNDING * aa) & (vb > ROUNDING * bb)
        return np.where(vary, covariance / np.sqrt(np.where(vary, va * vb, 1)), np.nan)

    def over_all(self, weights: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """Mean r of `latents`, (rows of weights,), where one that does not vary in the other set
        counts as 0; a resample that says nothing stays NaN."""
        r = np.nan_to_num(self.correlations(weights, latents))
        return np.where(np.isnan(weights).any(axis=1), np.nan, nan_mean(r))


def mean_correlation(r_rf: np.ndarray) -> Estimate:
    """Mean of correlations (1 + resamples, latents) over live latents, and its interval; NaN where none is live."""
    return estimate(nan_mean(r_rf))


def share_above(r_rf: np.ndarray, threshold: float) -> Estimate:
    """Share of live latents with a correlation, (1 + resamples, latents), above `threshold`, and its interval."""
    above = np.where(np.isnan(r_rf), np.nan, r_rf > threshold)
    return estimate(nan_mean(above))


def nan_mean(values_rf: np.ndarray) -> np.ndarray:
    """Mean of each row over what is not NaN, (rows,); NaN where nothing is."""
    counts = np.sum(~np.isnan(values_rf), axis=1)
    found: np.ndarray = np.nansum(values_rf, axis=1) / np.where(counts > 0, counts, np.nan)
    return found
