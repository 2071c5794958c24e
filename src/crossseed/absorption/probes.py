"""Logistic probes: of all letters at once on activations, of one letter on a few latents, and which latents those are.

All are of one letter against the rest, as published: on activations with all letters of equal weight, so that the largest
logit is not that of the most frequent letter; the sparse ones with both classes of equal weight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse, special

# Of squared weights, where a dimension varies by 1; from the largest down.
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
ITERATIONS = 200
# Latents of a letter among which the sparse probe chooses: those that fire most above what they do on other letters.
SCREENED = 64
# The penalty of weights' sizes that chooses, as a share of the one that lets no latent in.
L1_SHARE = 0.1
# Of squared weights of a sparse probe, on latents that vary by 1: keeps them finite where letters are told apart wholly.
RIDGE = 1e-3
NEWTON_STEPS = 30


class Probes(NamedTuple):
    """Attributes: weight: (width, letters), zeros for a letter that no row has. bias: (letters,), −∞ there."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, x_nd: np.ndarray) -> np.ndarray:
        """(rows, letters)."""
        found: np.ndarray = x_nd @ self.weight + self.bias
        return found

    def directions(self) -> np.ndarray:
        """Unit columns, (width, letters)."""
        norm = np.linalg.norm(self.weight, axis=0)
        found: np.ndarray = self.weight / np.where(norm > 0, norm, 1)
        return found


class _Scaled(NamedTuple):
    """Rows about their mean, by one scale for all dimensions: the penalty knows no units, directions stay."""

    z: np.ndarray
    mean: np.ndarray
    scale: float


def _scaled(x_nd: np.ndarray) -> _Scaled:
    mean = x_nd.mean(axis=0, dtype=np.float64)
    z = x_nd - mean.astype(np.float32)
    scale = float(np.sqrt(np.square(z).mean(dtype=np.float64))) or 1.0
    z /= np.float32(scale)
    return _Scaled(z, mean, scale)


def _minimised(z_nd: np.ndarray, y_nl: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """(width + 1, letters): weights, and below them biases, which are not penalised. By L-BFGS; the letters' losses add
    up."""
    width = z_nd.shape[1]
    weight = _evenly(y_nl)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(width + 1, -1)
        logits = (z_nd @ w[:-1].astype(np.float32)).astype(np.float64) + w[-1]
        value = (weight * (np.logaddexp(0, logits) - y_nl * logits)).sum()
        error = weight * (special.expit(logits) - y_nl)
        slope = np.empty_like(w)
        slope[:-1] = z_nd.T @ error.astype(np.float32) + penalty * w[:-1]
        slope[-1] = error.sum(axis=0)
        return value + 0.5 * penalty * np.square(w[:-1]).sum(), slope.ravel()

    found = optimize.minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}
    )
    solution: np.ndarray = found.x.reshape(start.shape)
    return solution


def fit(x_nd: np.ndarray, letter_n: np.ndarray, n_letters: int, penalty: float) -> Probes:
    """A probe of each letter against the rest.

    Args:
        x_nd: activations, (rows, width). letter_n: letter of each row, (rows,). penalty: see `PENALTIES`.
    """
    scaled = _scaled(x_nd)
    there = np.unique(letter_n)
    y = (letter_n[:, None] == there).astype(np.float64)
    w = _minimised(scaled.z, y, penalty, _start(y, x_nd.shape[1]))
    weight, bias = np.zeros((x_nd.shape[1], n_letters)), np.full(n_letters, -np.inf)
    weight[:, there] = w[:-1] / scaled.scale
    bias[there] = w[-1] - scaled.mean @ weight[:, there]
    return Probes(weight, bias)


def _evenly(y_nl: np.ndarray) -> np.ndarray:
    """Weight of each row, (rows, 1), so that all letters that rows have weigh alike, and 1 together."""
    counts = y_nl.sum(axis=0)
    found: np.ndarray = y_nl @ (1 / np.maximum(counts, 1)) / np.count_nonzero(counts)
    return found[:, None]


def _start(y_nl: np.ndarray, width: int) -> np.ndarray:
    return np.zeros((width + 1, y_nl.shape[1]))


def choose_penalty(x_nd: np.ndarray, letter_n: np.ndarray, fold_n: np.ndarray) -> float:
    """That of `PENALTIES` with the least loss on the first fold, of token ids that the probe has not seen.

    Args:
        x_nd, letter_n: see `fit`. fold_n: fold of each row, (rows,).
    """
    there = np.unique(letter_n)
    y = (letter_n[:, None] == there).astype(np.float64)
    kept, left = fold_n != 0, fold_n == 0
    scaled = _scaled(x_nd[kept])
    z = (x_nd[left] - scaled.mean.astype(np.float32)) / np.float32(scaled.scale)
    w, weight, losses = _start(y[kept], x_nd.shape[1]), _evenly(y[left]), []
    for penalty in PENALTIES:
        w = _minimised(scaled.z, y[kept], penalty, w)
        logits = z @ w[:-1] + w[-1]
        losses.append(float((weight * (np.logaddexp(0, logits) - y[left] * logits)).sum()))
    return PENALTIES[int(np.argmin(losses))]


def f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """2 · hits / (predicted + true), of (rows,) of bool each; 0 where there is neither."""
    both = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / both if both else 0.0


# --- a few latents ------------------------------------------------------------------------


def mean_differences(h_nf: sparse.csr_matrix, letter_n: np.ndarray, n_letters: int) -> np.ndarray:
    """Mean of each latent on a letter's rows, less its mean on the others, (letters, latents); 0 for letters without
    rows."""
    n = len(letter_n)
    member = sparse.csr_matrix(
        (np.ones(n), (letter_n, np.arange(n))), shape=(n_letters, n), dtype=np.float64
    )
    sums, counts = (member @ h_nf).toarray(), np.bincount(letter_n, minlength=n_letters)[:, None]
    rest = sums.sum(axis=0) - sums
    found: np.ndarray = sums / np.maximum(counts, 1) - rest / np.maximum(n - counts, 1)
    return np.where(counts > 0, found, 0.0)


def ranked(h_nc: np.ndarray, true_n: np.ndarray, k: int) -> np.ndarray:
    """Latents that speak for a letter, the strongest first, k at most: the largest weights above 0 of a logistic probe on
    all of them with a penalty of the weights' sizes (as published, but for `L1_SHARE`).

    Args:
        h_nc: latents that are screened, (rows, candidates). true_n: whether a row is of the letter.
    """
    n_candidates = h_nc.shape[1]
    # One scale for all, since the solver's tolerance is absolute.
    h = h_nc / (np.sqrt(np.square(h_nc).mean()) or 1.0)
    weight = _balanced(true_n)
    # With all weights at 0 a slope is half the difference of the means of both classes.
    l1 = L1_SHARE * np.abs(h.T @ (weight * (0.5 - true_n))).max()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        up, down, bias = flat[:n_candidates], flat[n_candidates:-1], flat[-1]
        logits = h @ (up - down) + bias
        value = weight @ (np.logaddexp(0, logits) - true_n * logits)
        error = weight * (special.expit(logits) - true_n)
        slope = h.T @ error
        return value + l1 * (up.sum() + down.sum()), np.r_[slope + l1, l1 - slope, error.sum()]

    bounds = [(0, None)] * (2 * n_candidates) + [(None, None)]
    found = optimize.minimize(
        loss, np.zeros(2 * n_candidates + 1), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": ITERATIONS},
    )  # fmt: skip
    w = found.x[:n_candidates] - found.x[n_candidates:-1]
    order = np.argsort(-w, kind="stable")[:k]
    chosen: np.ndarray = order[w[order] > 0]
    return chosen


def _balanced(true_n: np.ndarray) -> np.ndarray:
    """Weights that sum to 1, half of it on either class."""
    positives = max(int(true_n.sum()), 1)
    found: np.ndarray = np.where(true_n, 0.5 / positives, 0.5 / max(len(true_n) - positives, 1))
    return found


def logistic(h_nk: np.ndarray, true_n: np.ndarray) -> np.ndarray:
    """Weights of k latents and, last, the bias of a balanced logistic probe, (k + 1,), by Newton's method."""
    scale = h_nk.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.c_[h_nk / scale, np.ones(len(h_nk))]
    weight, ridge = _balanced(true_n), np.r_[np.full(h_nk.shape[1], RIDGE), 1e-9]
    w = np.zeros(design.shape[1])

    def value(w: np.ndarray) -> float:
        logits = design @ w
        fitted = weight @ (np.logaddexp(0, logits) - true_n * logits)
        return float(fitted + 0.5 * (ridge * w) @ w)

    for _ in range(NEWTON_STEPS):
        p = special.expit(design @ w)
        slope = design.T @ (weight * (p - true_n)) + ridge * w
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(ridge)
        step, now, length = np.linalg.solve(curvature, slope), value(w), 1.0
        while value(w - length * step) > now and length > 1e-4:
            length /= 2
        w = w - length * step
        if np.abs(step).max() < 1e-8:
            break
    return np.r_[w[:-1] / scale, w[-1]]


def fires(h_nk: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Whether a sparse probe, (k + 1,) of `logistic`, says that rows are of its letter, (rows,)."""
    found: np.ndarray = h_nk @ w[:-1] + w[-1] > 0
    return found


def n_split(h_nk: np.ndarray, true_n: np.ndarray, fold_n: np.ndarray, jump: float) -> int:
    """Over how many latents a letter is split: one more counts while it raises F1 by more than `jump` (published: .03).

    F1 is that on folds of token ids that a probe was not fitted on, so that a latent of one token raises nothing;
    published is the F1 on the very rows that are reported.

    Args:
        h_nk: latents, the strongest first, (rows, latents). true_n: whether a row begins with the letter, (rows,).
        fold_n: fold of each row, (rows,). jump: in F1.
    """
    best, found = -np.inf, 0
    for k in range(1, h_nk.shape[1] + 1):
        said = np.zeros(len(true_n), dtype=bool)
        for fold in np.unique(fold_n):
            left = fold_n == fold
            said[left] = fires(h_nk[left, :k], logistic(h_nk[~left, :k], true_n[~left]))
        value = f1(said, true_n)
        if value <= best + jump:
            break
        best, found = value, k
    return found
