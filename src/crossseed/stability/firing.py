"""How strongly latents of several SAEs fire together: sums over one pass, no more than one matrix of pairs for every
two SAEs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

# Latents above which matrices of all pairs are left out.
ALL_PAIRS_UP_TO = 4096


class Correlations:
    """Sums behind Pearson correlations of all latents of every two SAEs, in 64 bits.

    Args:
        n_seeds: SAEs. n_latents: of each.
    """

    def __init__(self, n_seeds: int, n_latents: int) -> None:
        self.n = 0
        self.first, self.second = np.zeros((n_seeds, n_latents)), np.zeros((n_seeds, n_latents))
        self.product = {
            pair: np.zeros((n_latents, n_latents))
            for pair in itertools.combinations(range(n_seeds), 2)
        }

    def add(self, h_snf: Sequence[np.ndarray]) -> None:
        """Adds latents of the same tokens, (tokens, latents) of every SAE."""
        self.n += len(h_snf[0])
        for number, h in enumerate(h_snf):
            self.first[number] += h.sum(axis=0, dtype=np.float64)
            self.second[number] += np.square(h, dtype=np.float64).sum(axis=0)
        for (i, j), product in self.product.items():
            product += h_snf[i].T @ h_snf[j]

    def between(self, i: int, j: int) -> np.ndarray:
        """Pearson r, (latents, latents); NaN where one is constant."""
        a, b = self.first[i] / self.n, self.first[j] / self.n
        covariance = self.product[i, j] / self.n - np.outer(a, b)
        variances = [self.second[k] / self.n - mean**2 for k, mean in ((i, a), (j, b))]
        scale = np.sqrt(np.outer(*(np.maximum(v, 0) for v in variances)))
        # Below rounding of the sums a latent is constant.
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(scale > 1e-12, covariance / scale, np.nan)
