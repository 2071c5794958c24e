"""Intervals over seeds, for what is measured pair by pair.

Pairs that share a seed are not independent, so that seeds are drawn with replacement, not pairs: a
pair counts as often as both its seeds together. A seed that is in every pair (the anchor) is what
the answer is conditional on; it is not drawn. Few seeds give wide intervals, and two drawn seeds no
more than the range of what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SEEDS = ("source_seed", "target_seed")
RESAMPLES = 999


def drawn_seeds(frames: Sequence[pd.DataFrame]) -> list[int]:
    """Seeds that some pair is without, ascending."""
    rows = pd.concat(frames)[list(SEEDS)].drop_duplicates()
    seeds = sorted({int(seed) for name in SEEDS for seed in rows[name]})
    return [seed for seed in seeds if not (rows == seed).any(axis=1).all()]


def resampled(
    rng: np.random.Generator, frames: Sequence[pd.DataFrame], how: str, resamples: int = RESAMPLES
) -> np.ndarray:
    """A summary of each frame's values, on the sample and on resampled seeds.

    Args:
        rng: draws the seeds, the same for all frames.
        frames: with columns ``source_seed``, ``target_seed``, ``value``.
        how: ``median``, ``min``, ``max`` or ``mean``.
        resamples: how often seeds are drawn; none where fewer than two can be.

    Returns:
        (frames, 1 + resamples), the sample first; NaN where a frame has no value left.
    """
    summary = getattr(np, how)
    found = np.full((len(frames), 1 + resamples), np.nan)
    for line, frame in zip(found, frames, strict=True):
        if len(frame):
            line[0] = summary(frame.value)
    seeds = drawn_seeds(frames)
    if len(seeds) < 2:
        return found
    counts = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples)
    place = {seed: number for number, seed in enumerate(seeds)}
    # The last column is the seed that is not drawn.
    counts = np.column_stack([counts, np.ones(resamples, dtype=int)])
    for line, frame in zip(found, frames, strict=True):
        source, target = (
            np.array([place.get(int(seed), -1) for seed in frame[name]], dtype=int)
            for name in SEEDS
        )
        # A member with itself counts as often as it is drawn.
        often = counts[:, source] * counts[:, np.where(source == target, -1, target)]
        values = frame.value.to_numpy()
        for number, times in enumerate(often, start=1):
            if times.any():
                line[number] = summary(np.repeat(values, times))
    return found
