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
        # Of the first two, with tokens of one half a block away: what latents that have nothing to do with each other have.
        self.elsewhere = np.zeros((n_latents, n_latents))

    def add(self, h_snf: Sequence[np.ndarray]) -> None:
        """Adds latents of the same tokens, (tokens, latents) of every SAE."""
        self.n += len(h_snf[0])
        for number, h in enumerate(h_snf):
            self.first[number] += h.sum(axis=0, dtype=np.float64)
            self.second[number] += np.square(h, dtype=np.float64).sum(axis=0)
        for (i, j), product in self.product.items():
            product += h_snf[i].T @ h_snf[j]
        self.elsewhere += h_snf[0].T @ np.roll(h_snf[1], len(h_snf[1]) // 2, axis=0)

    def null(self) -> np.ndarray:
        """As `between` of the first two SAEs, (latents, latents), tokens of one with other tokens of the other."""
        return self._correlation(0, 1, self.elsewhere)

    def between(self, i: int, j: int) -> np.ndarray:
        """Pearson r, (latents, latents); NaN where one is constant."""
        return self._correlation(i, j, self.product[i, j])

    def _correlation(self, i: int, j: int, product: np.ndarray) -> np.ndarray:
        a, b = self.first[i] / self.n, self.first[j] / self.n
        covariance = product / self.n - np.outer(a, b)
        deviations = []
        for k, mean in ((i, a), (j, b)):
            squares = self.second[k] / self.n
            variance = squares - mean**2
            # Below rounding of the sums a latent is constant.
            deviations.append(np.sqrt(np.where(variance > 1e-9 * squares, variance, np.nan)))
        found: np.ndarray = covariance / np.outer(*deviations)
        return found
