"""In how many of several SAEs a latent is found, by explicit pairs.

Nothing is inferred through a third SAE: whether a latent of one is in another is decided by the matching of these
two alone. (The released code of arXiv 2501.16615 credits some latents through a partner that the decoder matching
did not choose.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Sets of other SAEs that a share is averaged over, at most; published: 20.
MOST_SUBSETS = 20


class Members(NamedTuple):
    """Several SAEs of one size.

    Attributes:
        live: which latents of each fire, by SAE, (latents,): those that are counted.
        found: whether a latent of the first has a partner in the second, by (first, second), (latents,).
        partner: that of every latent by decoders, shared or not, likewise.
        agree: whether encoders choose the same partner, likewise.
    """

    live: Mapping[int, np.ndarray]
    found: Mapping[tuple[int, int], np.ndarray]
    partner: Mapping[tuple[int, int], np.ndarray]
    agree: Mapping[tuple[int, int], np.ndarray]

    @property
    def names(self) -> list[int]:
        """Numbers of the SAEs."""
        return list(self.live)

    def without(self, name: int) -> Members:
        """All but one SAE."""
        rest = {key: value for key, value in self.live.items() if key != name}
        return self._replace(live=rest)

    def others(self, base: int) -> list[int]:
        """All SAEs but one, by number."""
        return [other for other in self.live if other != base]

    def in_others(self, base: int) -> np.ndarray:
        """Whether each latent of one SAE that is counted is in each other, (others, latents counted)."""
        live = self.live[base]
        return np.stack([self.found[base, other][live] for other in self.others(base)])

    def reappears(self, base: int) -> np.ndarray:
        """Share of the other SAEs in which each latent is found, (latents,); dead ones too."""
        found: np.ndarray = np.mean(
            [self.found[base, other] for other in self.others(base)], axis=0
        )
        return found

    def counts(self, base: int) -> np.ndarray:
        """In how many SAEs each latent of one that is counted is found, its own among them, (latents counted,)."""
        found: np.ndarray = 1 + self.in_others(base).sum(axis=0)
        return found

    def exactly(self) -> np.ndarray:
        """Share of latents that are in exactly 1, 2, … SAEs, their own among them, from each, (SAEs, n)."""
        n = len(self.live)
        counts = [self.counts(base) for base in self.live]
        return np.stack([np.bincount(c, minlength=n + 1)[1:] / len(c) for c in counts])

    def alone(self, rng: np.random.Generator) -> np.ndarray:
        """Share of latents found in none of k − 1 other SAEs, for k = 2 … n, from each SAE, (SAEs, n − 1); mean over
        all sets of others, or over `MOST_SUBSETS` random ones."""
        n = len(self.live)
        found = np.empty((n, n - 1))
        for number, base in enumerate(self.live):
            inside = self.in_others(base)
            for size in range(1, n):
                sets = _subsets(rng, n - 1, size)
                shares = [1 - inside[chosen].any(axis=0).mean() for chosen in sets]
                found[number, size - 1] = np.mean(shares)
        return found

    def cycles(self) -> dict[str, float]:
        """Share of latents that come back to themselves along three SAEs i → j → k → i, over all triples: by decoder
        partners (``decoder``), and of those where encoders agree on every edge too (``agree``)."""
        by_decoder, and_agree = [], []
        for i, j, k in itertools.combinations(self.live, 3):
            to_j = self.partner[i, j]
            to_k = self.partner[j, k][to_j]
            closed = self.partner[i, k] == to_k
            agree = self.agree[i, j] & self.agree[j, k][to_j] & self.agree[i, k]
            by_decoder.append(closed[self.live[i]].mean())
            and_agree.append((closed & agree)[self.live[i]].mean())
        nan = float("nan")
        return {
            "decoder": float(np.mean(by_decoder)) if by_decoder else nan,
            "agree": float(np.mean(and_agree)) if and_agree else nan,
        }


def _subsets(rng: np.random.Generator, n: int, size: int) -> list[list[int]]:
    if math.comb(n, size) <= MOST_SUBSETS:
        return [list(chosen) for chosen in itertools.combinations(range(n), size)]
    return [list(rng.choice(n, size, replace=False)) for _ in range(MOST_SUBSETS)]
