"""Transfer of a dictionary as published (arXiv 2605.24577, sections on transfer and firing).

Differs from `crossseed.transfer`: the rotation is fitted on the very tokens it is scored on; the
variance explained is about one grand mean, so that offsets between dimensions count as explained;
the raw arm gets no shift of the mean, the rotated one does, and the rotated arm of the firing
correlation does not; and latents that never fire count as a correlation of 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crossseed.alignment.maps import gaussian_rows, rotation_distance
from crossseed.sae.dictionary import Dictionary

EPSILON = 1e-8
BLOCK_ROWS = 8192


def rotation(a_nd: np.ndarray, b_nd: np.ndarray) -> np.ndarray:
    """R with (b − b̄) R close to (a − ā), fitted on all tokens, (d, d)."""
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (a_nd, b_nd))
    return svd_rotation(b.T @ a)


def svd_rotation(cross_covariance: np.ndarray) -> np.ndarray:
    """Procrustes, (..., d, d), as the SVD returns it, whatever the rank: what the data do not decide is arbitrary,
    not close to the identity as in `crossseed.alignment.maps.procrustes`; of several at once, too."""
    u, _, vt = np.linalg.svd(cross_covariance.astype(np.float64))
    found: np.ndarray = u @ vt
    return found


def _blocks(n: int) -> Iterator[slice]:
    """Rows a few at a time: the latents of all tokens together fill a machine."""
    for start in range(0, n, BLOCK_ROWS):
        yield slice(start, start + BLOCK_ROWS)


def explained_variance(dictionary: Dictionary, x_nd: np.ndarray) -> float:
    """1 − mean((x̂ − x)²)/Var(x) of activations (tokens, width), the variance of all entries about one mean, unbiased."""
    error = 0.0
    for rows in _blocks(len(x_nd)):
        x = x_nd[rows]
        found = dictionary.decode(dictionary.encode(x)).astype(np.float64)
        error += float(np.square(found - x).sum())
    return float(1 - error / x_nd.size / np.var(x_nd, ddof=1, dtype=np.float64))


def direct(a_nd: np.ndarray, x_nd: np.ndarray) -> float:
    """1 − mean((x − a)²)/mean(a²) of centred activations, (tokens, width) both: how well x stands for a."""
    a, x = (v.astype(np.float64) - v.mean(axis=0, dtype=np.float64) for v in (a_nd, x_nd))
    return float(1 - np.square(x - a).mean() / np.square(a).mean())


def firing(dictionary: Dictionary, a_nd: np.ndarray, x_nd: np.ndarray) -> tuple[float, float]:
    """Mean over all latents of the correlation of their firing on a and x, (tokens, width), and the share above .5.

    The denominator is guarded, so that a constant latent has correlation 0 and is averaged in.
    """
    n, sums = len(a_nd), np.zeros((5, dictionary.W_enc.shape[1]))
    for rows in _blocks(n):
        g, h = (dictionary.encode(v[rows]).astype(np.float64) for v in (a_nd, x_nd))
        sums += [v.sum(axis=0) for v in (g, h, g * g, h * h, g * h)]
    g, h, gg, hh, gh = sums
    # Below rounding of the sums a latent is constant.
    left, right = (
        np.where(v > 1e-12 * w, v, 0) for v, w in ((gg - g * g / n, gg), (hh - h * h / n, hh))
    )
    spread = left * right
    r = (gh - g * h / n) / np.sqrt(spread + EPSILON)
    return float(r.mean()), float((r > 0.5).mean())


def measure(
    dictionary: Dictionary, a_nd: np.ndarray, b_nd: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Every published figure of one pair, site and dictionary.

    Args:
        dictionary: the source's.
        a_nd, b_nd: activations of source and target on the same tokens, (tokens, width).
        rng: draws the Gaussian baseline.

    Returns:
        By quantity: ``ev_{self,raw,rotated,gaussian}``, ``direct_{raw,rotated}``,
        ``rotation_distance``, ``firing_{self,raw,rotated,rotated_shifted}`` and the same ``…_above``:
        the study shifts the mean of rotated activations on Pythia, and not on the toy.
    """
    r = rotation(a_nd, b_nd).astype(np.float32)
    turned = b_nd @ r
    shifted = turned + (a_nd.mean(axis=0) - turned.mean(axis=0))
    noise = gaussian_rows(rng, a_nd.mean(axis=0), np.cov(a_nd.T), len(a_nd))
    found = {
        "ev_self": explained_variance(dictionary, a_nd),
        "ev_raw": explained_variance(dictionary, b_nd),
        "ev_rotated": explained_variance(dictionary, shifted),
        "ev_gaussian": explained_variance(dictionary, noise),
        "direct_raw": direct(a_nd, b_nd),
        "direct_rotated": direct(a_nd, turned),
        "rotation_distance": rotation_distance(r.astype(np.float64)),
    }
    arms = {"self": a_nd, "raw": b_nd, "rotated": turned, "rotated_shifted": shifted}
    for arm, x in arms.items():
        found[f"firing_{arm}"], found[f"firing_{arm}_above"] = firing(dictionary, a_nd, x)
    return found
