"""How well latents of two models agree on held-out tokens, with the null.

Correlations are of a latent's activations in A with those in B over all coded tokens; a token is a row, or in the
pooled variant a text, by the mean over its tokens. Sums are kept by units of whole examples, of which intervals are
bootstrapped; memory does not grow with the tokens. The null shifts one model's tokens against the other's, by the same
number within each block of them: every latent keeps its density and its values, and meets other tokens. Where latents are
matched, the matching is of the null too: they are matched on tokens shifted by half a block, and scored on such, so that
what matching gains on the tokens it is scored on is in the null as it is in the value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.joint.config import JointEvaluation
from crossseed.joint.sides import Pairing, Sides, blocks
from crossseed.joint.upper import Cache
from crossseed.metrics import (
    Estimate,
    FiringSums,
    LatentSums,
    estimate,
    resample_weights,
    sum_units,
    unit_starts,
)
from crossseed.seeding import generator


class Measured(NamedTuple):
    """A value, its interval over examples, and what it is under the null (mean over its draws; NaN without)."""

    estimate: Estimate
    null: float = float("nan")


class Universality(NamedTuple):
    """Latents of A against those of B.

    Attributes:
        r_f: Pearson r of each latent, 0 where one side is constant, (latents,). null_r_sf: of each shift; of matched
            latents under the matching's null, (1, latents).
        active_f: fires on enough tokens in both models. mean_f: mean activation over both.
        measured: ``active`` and ``universal`` (counts), ``dead_share`` (of all latents), ``universal_share`` and
            ``mean_r`` (of active ones), ``topN_r``.
        used: number of latents behind each ``topN_r``, N or all that are active.
        n_rows: tokens, or texts.
    """

    r_f: np.ndarray
    null_r_sf: np.ndarray
    active_f: np.ndarray
    mean_f: np.ndarray
    measured: dict[str, Measured]
    used: dict[str, int]
    n_rows: int


def universality(
    sides: Sides,
    cache: Cache,
    config: JointEvaluation,
    *name: object,
    pairing: Pairing | None = None,
    pooled: bool = False,
) -> Universality:
    """How well latents of two models agree on held-out examples.

    Args:
        sides: how each model is encoded. cache: examples of the split `eval`.
        config: with 0 resamples there is no interval, with 0 shifts no null.
        name: of the draws of shifts and resamples.
        pairing: B's latent for each of A's (`matched`); None pairs equal indices.
        pooled: rows are texts instead of tokens.
    """
    starts = unit_starts(cache.document)
    n_units, n_latents = len(starts), sides[0].sae.n_latents
    own = LatentSums(n_units, n_latents)
    sums, chance = FiringSums(own), FiringSums(own)
    fired = np.zeros((2, n_units, n_latents))
    fired_by_chance = np.zeros(n_latents)
    shifted = np.zeros((0 if pairing else config.shifts, n_latents))
    rng = generator("joint-shifts", *name)
    for block in blocks(sides, cache, pooled, elsewhere=pairing is not None):
        a, b = block.a_nf, block.b_nf
        own.add(block.units, block.starts, a)
        if pairing is not None and block.elsewhere_nf is not None:
            b = np.ascontiguousarray(b[:, pairing.partner])
            other = np.ascontiguousarray(block.elsewhere_nf[:, pairing.null])
            chance.add(block.units, block.starts, a, other)
            fired_by_chance += (other > 0).sum(axis=0)
        sums.add(block.units, block.starts, a, b)
        for number, h in enumerate((a, b)):
            fired[number, block.units] += sum_units(h > 0, block.starts)
        # Far from where tokens would meet themselves, or those of their own text.
        for number, share in enumerate(rng.uniform(0.25, 0.75, len(shifted))):
            shifted[number] += shifted_product(a, b, max(1, round(share * len(a))))
    weights = resample_weights(generator("bootstrap", *name), n_units, config.resamples)
    every = np.arange(n_latents)
    r, means = _pearson(sums, weights, every), _means(sums, weights)
    unknown = np.isnan(weights).any(axis=1)
    active = np.all([weights @ counts >= config.active_tokens for counts in fired], axis=0)
    found = _summaries(r, active, means, config)
    if pairing is None:
        null_r = _null(own, sums.other, shifted, sums.live())
        # Shifts change neither who fires nor how much.
        null_active, null_means = (np.repeat(x[:1], len(null_r), axis=0) for x in (active, means))
    else:
        null_r, null_means = _pearson(chance, weights[:1], every), _means(chance, weights[:1])
        both = fired[0].sum(axis=0), fired_by_chance
        null_active = np.all([count >= config.active_tokens for count in both], axis=0)[None]
    nulls = _summaries(null_r, null_active, null_means, config)
    measured = {}
    for key, values in found.items():
        values = np.where(unknown, np.nan, values)
        by_pairing = key not in ("active", "dead_share") and len(null_r) > 0
        null = float(np.mean(nulls[key])) if by_pairing else float("nan")
        measured[key] = Measured(estimate(values), null)
    n_active = int(active[0].sum())
    return Universality(
        r[0],
        null_r,
        active[0],
        means[0],
        measured,
        {f"top{n}_r": min(n, n_active) for n in config.tops},
        int(own.n.sum()),
    )


def _pearson(sums: FiringSums, weights: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """r of some latents, (rows of weights, latents), 0 where one side is constant."""
    found: np.ndarray = np.where(
        sums.live()[latents], np.nan_to_num(sums.correlations(weights, latents)), 0.0
    )
    return found


def _means(sums: FiringSums, weights: np.ndarray) -> np.ndarray:
    """Mean activations over both sides, (rows of weights, latents)."""
    total = weights @ sums.own.first + weights @ sums.other.first
    found: np.ndarray = total / (2 * (weights @ sums.own.n))[:, None]
    return found


def shifted_product(a_nf: np.ndarray, b_nf: np.ndarray, by: int) -> np.ndarray:
    """Σ over rows of a × b of `by` rows earlier, in a circle, (latents,), in float64."""
    later = np.einsum("nf,nf->f", a_nf[by:], b_nf[: len(b_nf) - by], dtype=np.float64)
    found: np.ndarray = later + np.einsum(
        "nf,nf->f", a_nf[:by], b_nf[len(b_nf) - by :], dtype=np.float64
    )
    return found


def _null(a: LatentSums, b: LatentSums, shifted_sf: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Correlations under each shift, which leaves the moments as they are, (shifts, latents)."""
    n = a.n.sum()
    (mean_a, mean_b) = (x.first.sum(axis=0) / n for x in (a, b))
    variance_a = a.second.sum(axis=0) / n - mean_a**2
    variance_b = b.second.sum(axis=0) / n - mean_b**2
    spread = np.sqrt(np.where(live, variance_a * variance_b, 1.0))
    found: np.ndarray = np.where(live, (shifted_sf / n - mean_a * mean_b) / spread, 0.0)
    return found


def _summaries(
    r_rf: np.ndarray, active_rf: np.ndarray, means_rf: np.ndarray, config: JointEvaluation
) -> dict[str, np.ndarray]:
    """The published numbers, one for each row of correlations."""
    n_active = active_rf.sum(axis=1)
    universal = (active_rf & (r_rf >= config.threshold)).sum(axis=1)
    some = np.where(n_active > 0, n_active, np.nan)
    found = {
        "active": n_active.astype(float),
        "dead_share": 1 - n_active / active_rf.shape[1],
        "universal": universal.astype(float),
        "universal_share": universal / some,
        "mean_r": (r_rf * active_rf).sum(axis=1) / some,
    }
    order = np.argsort(np.where(active_rf, -means_rf, np.inf), axis=1, kind="stable")
    ordered = np.take_along_axis(r_rf * active_rf, order, axis=1)
    for top in config.tops:
        found[f"top{top}_r"] = ordered[:, :top].sum(axis=1) / np.minimum(some, top)
    return found
