"""Intervals over seeds, for what is measured pair by pair.

Pairs that share a seed are not independent, so that seeds are drawn with replacement, not pairs: a
pair counts as often as both its seeds together. A seed that is in every pair (the anchor) is what
the answer is conditional on; it is not drawn. Where no two pairs share a seed they are independent,
and are drawn themselves. Few seeds give wide intervals, and two drawn seeds no more than the range
of what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossseed.metrics import estimate
from crossseed.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ("source_seed", "target_seed")
RESAMPLES = 999
KEYS = ("cohort", "checkpoint", "site", "dictionary", "init", "arm", "metric")
COLUMNS = ("study", *KEYS, "median", "low", "high", "n_pairs", "n_seeds")


def drawn_seeds(frames: Sequence[pd.DataFrame]) -> list[int]:
    """Seeds that some pair is without, ascending; of pairs that share none, one seed each stands for the pair."""
    # Imported here: jobs that join tables want the columns alone.
    import pandas as pd

    rows = pd.concat(frames)[list(SEEDS)].drop_duplicates()
    pairs = {frozenset(map(int, pair)) for pair in rows.itertuples(index=False)}
    if len(pairs) > 1 and len(frozenset().union(*pairs)) == sum(map(len, pairs)):
        return sorted(min(pair) for pair in pairs)
    seeds = sorted({int(seed) for name in SEEDS for seed in rows[name]})
    return [seed for seed in seeds if not (rows == seed).any(axis=1).all()]


def resampled(
    rng: np.random.Generator, frames: Sequence[pd.DataFrame], how: str, resamples: int = RESAMPLES
) -> np.ndarray:
    """A summary of each frame's values, on the sample and on resampled seeds.

    Args:
        rng: draws the seeds, the same for all frames.
        frames: with columns ``source_seed``, ``target_seed``, ``value``.
        how: ``median`` or ``mean``.
        resamples: how often seeds are drawn; none where fewer than two can be.

    Returns:
        (frames, 1 + resamples), the sample first; NaN where a frame has no value left.
    """
    found = np.full((len(frames), 1 + resamples), np.nan)
    seeds = drawn_seeds(frames)
    counts = _counts(rng, len(seeds), resamples)
    for line, frame in zip(found, frames, strict=True):
        if len(frame):
            often = _often(frame, seeds, counts)
            line[: len(often)] = SUMMARIES[how](frame.value.to_numpy(float), often)
    return found


def _counts(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """How often each of n seeds is drawn: once each, then in each resample, (1 + resamples, n); once
    each alone where there are fewer than two."""
    once = np.ones((1, n), dtype=int)
    if n < 2:
        return once
    return np.concatenate([once, rng.multinomial(n, np.full(n, 1 / n), size=resamples)])


def _often(frame: pd.DataFrame, seeds: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """How often each pair counts where each seed is drawn `counts` times, (draws, pairs)."""
    place = {seed: number for number, seed in enumerate(seeds)}
    # The last column is the seed that is not drawn.
    counts = np.column_stack([counts, np.ones(len(counts), dtype=int)])
    source, target = (
        np.array([place.get(int(seed), -1) for seed in frame[name]], dtype=int) for name in SEEDS
    )
    # A member with itself counts as often as it is drawn.
    found: np.ndarray = counts[:, source] * counts[:, np.where(source == target, -1, target)]
    return found


def _median(values_n: np.ndarray, often_rn: np.ndarray) -> np.ndarray:
    order = np.argsort(values_n)
    reached = np.cumsum(often_rn[:, order], axis=1)
    total = reached[:, -1:]
    # The two middle ones of as many values as all pairs count.
    low, high = ((reached > rank).argmax(axis=1) for rank in ((total - 1) // 2, total // 2))
    middle = (values_n[order][low] + values_n[order][high]) / 2
    return np.where(total[:, 0] > 0, middle, np.nan)


def _mean(values_n: np.ndarray, often_rn: np.ndarray) -> np.ndarray:
    total = often_rn.sum(axis=1)
    found: np.ndarray = (often_rn @ values_n) / np.where(total > 0, total, np.nan)
    return found


SUMMARIES = {"median": _median, "mean": _mean}


def table(study: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of `COLUMNS`: the median over pairs of different seeds of everything in a table of pairs.

    Args:
        study: the table's name.
        rows: with `KEYS` (without ``dictionary`` and ``init`` where it knows none), the two seeds
            and ``value``.
    """
    rows = rows.dropna(subset=["value"])
    rows = rows[rows.source_seed != rows.target_seed]
    for name in ("dictionary", "init"):
        rows = rows.assign(**{name: rows[name].fillna("") if name in rows else ""})
    # Metrics of the same pairs are resampled alike, and once.
    known: dict[tuple[Any, ...], tuple[np.ndarray, int]] = {}
    for key, part in rows.groupby(list(KEYS), sort=False):
        pairs = tuple(zip(part.source_seed, part.target_seed, strict=True))
        if (key[0], pairs) not in known:
            seeds = drawn_seeds([part])
            rng = generator("over-seeds", study, key[0], *pairs)
            often = _often(part, seeds, _counts(rng, len(seeds), RESAMPLES))
            known[key[0], pairs] = often, len(seeds)
        often, n_seeds = known[key[0], pairs]
        values = np.full(1 + RESAMPLES, np.nan)
        values[: len(often)] = _median(part.value.to_numpy(float), often)
        median, low, high = estimate(values)
        yield {
            "study": study,
            **dict(zip(KEYS, key, strict=True)),
            "median": median,
            "low": low,
            "high": high,
            "n_pairs": len(part),
            "n_seeds": n_seeds,
        }
