"""What a joint SAE, or two, say of held-out tokens: universality with its null, reconstruction, behaviour, geometry.

Correlations are of a latent's activations in A with those in B over all coded tokens; a token is a row, or in the
pooled variant a text, by the mean over its tokens. Sums are kept by units of whole examples, of which intervals are
bootstrapped; memory does not grow with the tokens. The null shifts one model's tokens against the other's, by the same
number within each block of them: every latent keeps its density and its values, and meets other tokens. Where latents are
matched, the matching is of the null too: they are matched on tokens shifted by half a block, and scored on such, so that
what matching gains on the tokens it is scored on is in the null as it is in the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from crossseed.alignment.maps import AffineMap
from crossseed.errors import UserError, at
from crossseed.joint import losses
from crossseed.joint.config import JointEvaluation
from crossseed.joint.model import JointSAE, recarried
from crossseed.joint.upper import Cache, Upper
from crossseed.matching import assignment
from crossseed.metrics import (
    ErrorSums,
    Estimate,
    FiringSums,
    LatentSums,
    estimate,
    resample_weights,
    sum_units,
    unit_of,
    unit_starts,
)
from crossseed.seeding import generator
from crossseed.stability.firing import Correlations

BLOCK_TOKENS = 4096
BLOCK_ROWS = 1024


class Side(NamedTuple):
    """How one model's activations become latents.

    Attributes:
        sae: that encodes. model: 0 for A, 1 for B.
    """

    sae: JointSAE
    model: int

    def codes(self, h_nd: np.ndarray) -> np.ndarray:
        """Latents of native activations, (tokens, width) to (tokens, latents)."""
        h = torch.from_numpy(h_nd).to(self.sae.device)
        found: np.ndarray = self.sae.codes_of(h, self.model).dense().detach().cpu().numpy()
        return found


Sides = tuple[Side, Side]


def joint_sides(sae: JointSAE) -> Sides:
    """Both models of one joint SAE."""
    return Side(sae, 0), Side(sae, 1)


def condition_sides(condition: str, sae_a: JointSAE, sae_b: JointSAE, carried: AffineMap) -> Sides:
    """How conditions 1, 2, 3 and 3' encode, from the independent SAEs of A and of B.

    Args:
        condition: ``1`` and ``2`` each SAE its own model; ``3`` B's SAE what W carries over, as the study has it, an
            input that it has never seen; ``3'`` A's SAE what W carries over.
        carried: W.
    """
    if condition in ("1", "2"):
        return Side(sae_a, 0), Side(sae_b, 1)
    if condition == "3":
        return Side(sae_a, 0), Side(recarried(sae_b, carried), 1)
    if condition == "3'":
        return Side(sae_a, 0), Side(recarried(sae_a, carried, 1), 1)
    raise UserError(f"condition {condition} has no independent SAEs; expected 1, 2, 3 or 3'")


class Block(NamedTuple):
    """Latents of consecutive rows of both models.

    Attributes:
        units: the units they belong to. starts: first row of each of these in the block.
        a_nf, b_nf: (rows, latents).
        elsewhere_nf: B's in rows of other tokens, half a block away; None where they are not asked for.
    """

    units: slice
    starts: np.ndarray
    a_nf: np.ndarray
    b_nf: np.ndarray
    elsewhere_nf: np.ndarray | None


def blocks(
    sides: Sides,
    cache: Cache,
    pooled: bool = False,
    block_tokens: int = BLOCK_TOKENS,
    elsewhere: bool = False,
) -> Iterator[Block]:
    """A split in blocks of whole examples, of about so many coded tokens.

    Args:
        sides: how each model is encoded. pooled: rows are examples, by the mean over their tokens.
        elsewhere: whether B's latents are wanted at other tokens too, those that `Correlations.null` is of.
    """
    special = sides[0].sae.config.special_tokens
    coded = cache.coded(special)
    lengths = coded.sum(axis=1)
    if not lengths.all():
        said = "an example has nothing but special tokens; set special_tokens to true"
        raise UserError(at(cache.where, said))
    unit = unit_of(cache.document)
    for part in cache.parts(special, block_tokens):
        found = [
            side.codes(cache.h[side.model][part][coded[part]].astype(np.float32)) for side in sides
        ]
        if elsewhere:
            # Before tokens are pooled: matching is on tokens.
            found.append(np.roll(found[1], len(found[1]) // 2, axis=0))
        of_row = unit[part] if pooled else np.repeat(unit[part], lengths[part])
        if pooled:
            begins = np.r_[0, np.cumsum(lengths[part])[:-1]]
            found = [(sum_units(h, begins) / lengths[part, None]).astype(np.float32) for h in found]
        yield Block(
            slice(int(of_row[0]), int(of_row[-1]) + 1),
            np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]]),
            found[0],
            found[1],
            found[2] if elsewhere else None,
        )


def correlations(sides: Sides, cache: Cache, pooled: bool = False) -> Correlations:
    """Sums behind the correlation of every latent of A with every latent of B."""
    found = Correlations(2, sides[0].sae.n_latents)
    for block in blocks(sides, cache, pooled):
        found.add((block.a_nf, block.b_nf))
    return found


def fired(sides: Sides, cache: Cache) -> np.ndarray:
    """On how many coded tokens of a split each latent fires, in A and in B, (2, latents)."""
    found = np.zeros((2, sides[0].sae.n_latents))
    for block in blocks(sides, cache):
        for count, h in zip(found, (block.a_nf, block.b_nf), strict=True):
            count += (h > 0).sum(axis=0)
    return found


class Pairing(NamedTuple):
    """B's latent for each of A's, one to one, (latents,).

    Attributes:
        partner: with the largest sum of correlations; dead ones correlate by 0.
        null: the same where A's tokens are matched with other tokens of B.
    """

    partner: np.ndarray
    null: np.ndarray


def matched(found: Correlations) -> Pairing:
    """Latents matched on a split.

    Fitted on the split `fit` and scored on `eval` this is condition 2 or 3; fitted on `eval` too it is their in-sample
    variant, in which chance matches correlate.
    """
    return Pairing(*(assignment.dense(r).partner for r in (found.between(0, 1), found.null())))


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
            shifted[number] += _shifted_product(a, b, max(1, round(share * len(a))))
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


def _shifted_product(a_nf: np.ndarray, b_nf: np.ndarray, by: int) -> np.ndarray:
    """Σ over rows of a × b of `by` rows earlier, in a circle."""
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


class Behaviour(NamedTuple):
    """What happens to both models, or one, with the SAE in their passes.

    Attributes:
        errors: sums behind L0 and explained variance of each, by unit of examples.
        unit_e: the unit that each example belongs to, non-decreasing.
        kl_em: KL(clean ‖ hijacked) in nats, (examples, models).
        clean_em, hijacked_em: share of the predictions that are right: of a classifier 0 or 1.
    """

    errors: tuple[ErrorSums, ...]
    unit_e: np.ndarray
    kl_em: np.ndarray
    clean_em: np.ndarray
    hijacked_em: np.ndarray


@torch.no_grad()
def behaviour(sae: JointSAE, uppers: Sequence[Upper], cache: Cache, batch: int = 64) -> Behaviour:
    """Passes every example through the SAE and on through the models above.

    Args:
        uppers: of models A and B. batch: examples at a time.
    """
    unit = unit_of(cache.document)
    errors = tuple(ErrorSums(int(unit[-1]) + 1, cache.width) for _ in sae.models)
    kl, clean, hijacked = (np.zeros((len(cache), len(sae.models))) for _ in range(3))
    special = sae.config.special_tokens
    for first in range(0, len(cache), batch):
        rows = np.arange(first, min(first + batch, len(cache)))
        found = cache.batch(rows, special, sae.device, sae.models)
        passed = sae([found.coded(m) for m in sae.models])
        of_token = np.repeat(unit[rows], cache.coded(special)[rows].sum(axis=1))
        starts = np.flatnonzero(np.r_[True, of_token[1:] != of_token[:-1]])
        units = slice(int(of_token[0]), int(of_token[-1]) + 1)
        for place, model in enumerate(sae.models):
            native = passed.native[place]
            _, logits = uppers[model](found.hijacked(model, native), found.mask_bl, found.at_bp)
            kl[rows, place] = losses.divergence(found.logits_mbc[model], logits).cpu().numpy()
            own = cache.logits[model][rows].argmax(axis=-1)
            for right, said in ((hijacked, logits.argmax(dim=-1).cpu().numpy()), (clean, own)):
                agrees = said == cache.labels[rows]
                right[rows, place] = agrees.reshape(len(rows), -1).mean(axis=1)
            l0 = (passed.codes[place].values_nk != 0).sum(dim=1)
            h, back = found.coded(model).cpu().numpy(), native.cpu().numpy()
            errors[place].add(units, starts, h, back, l0.cpu().numpy())
    return Behaviour(errors, unit, kl, clean, hijacked)


def side_by_side(a: Behaviour, b: Behaviour) -> Behaviour:
    """Of the independent SAEs of A and of B."""
    arrays = (np.hstack(pair) for pair in zip(a[2:], b[2:], strict=True))
    return Behaviour(a.errors + b.errors, a.unit_e, *arrays)


def behaviour_rows(
    found: Behaviour, config: JointEvaluation, *name: object, independent: Behaviour | None = None
) -> dict[str, Estimate]:
    """Means over models, with intervals over examples.

    Args:
        independent: of the independent SAEs on the same examples, for the second reading of the accuracy change.

    Returns:
        ``l0``, ``fvu``, ``kl`` (nats), ``accuracy_clean`` and ``accuracy_hijacked`` (%), ``accuracy_change``: clean less
        hijacked, in points, below 0 an improvement (table C3's caption); and
        ``accuracy_change_from_independent``: that of the independent SAEs less this one's (the study's section 4).
    """
    unit = found.unit_e
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    weights = resample_weights(generator("bootstrap", *name), len(starts), config.resamples)
    sizes = weights @ np.bincount(unit).astype(float)

    def mean(values_em: np.ndarray) -> np.ndarray:
        rows: np.ndarray = (weights @ sum_units(values_em.mean(axis=1), starts)) / sizes
        return rows

    clean, hijacked = 100 * mean(found.clean_em), 100 * mean(found.hijacked_em)
    rows = {
        "l0": np.mean([one.l0(weights) for one in found.errors], axis=0),
        "fvu": np.mean([one.fvu(weights) for one in found.errors], axis=0),
        "kl": mean(found.kl_em),
        "accuracy_clean": clean,
        "accuracy_hijacked": hijacked,
        "accuracy_change": clean - hijacked,
    }
    if independent is not None:
        if independent.hijacked_em.shape != found.hijacked_em.shape:
            raise UserError(
                f"the independent SAEs were measured on {independent.hijacked_em.shape} examples and models, the others on "
                f"{found.hijacked_em.shape}; measure both on the same split"
            )
        rows["accuracy_change_from_independent"] = 100 * mean(independent.hijacked_em) - hijacked
    return {key: estimate(values) for key, values in rows.items()}


def mean_absolute_cosine(unit_fd: np.ndarray) -> float:
    """Mean |cosine| of all pairs of unit rows (figure 3); NaN with fewer than two."""
    n = len(unit_fd)
    if n < 2:
        return float("nan")
    total = sum(
        float(np.abs(unit_fd[i : i + BLOCK_ROWS] @ unit_fd.T).sum(dtype=np.float64))
        for i in range(0, n, BLOCK_ROWS)
    )
    # Each row's cosine with itself is 1, up to rounding.
    return (total - float(np.square(unit_fd).sum(dtype=np.float64))) / (n * (n - 1))


def random_absolute_cosine(width: int) -> float:
    """Its expectation for independent random directions: Γ(d/2) / (√π Γ((d + 1)/2))."""
    return math.exp(math.lgamma(width / 2) - math.lgamma((width + 1) / 2)) / math.sqrt(math.pi)


class Projection(NamedTuple):
    """Attributes: coordinates: on the two leading principal axes, (latents, 2). shares: of the variance along these."""

    coordinates: np.ndarray
    shares: tuple[float, float]


def projection(unit_fd: np.ndarray) -> Projection:
    """The two leading principal components of decoder rows; each axis has its largest entry positive."""
    centred = unit_fd.astype(np.float64) - unit_fd.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    shares = values[:-3:-1] / values.sum()
    return Projection(centred @ axes, (float(shares[0]), float(shares[1])))


def decoders(sides: Sides, partner: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Unit decoder rows of A, and of B in the order of A's partners, (latents, width) each."""
    a, b = (side.sae.decoder_of(side.model) for side in sides)
    return a, b if partner is None else b[partner]


def geometry(
    unit_fd: Sequence[np.ndarray], active_f: np.ndarray | None = None
) -> Mapping[str, float]:
    """``cosine``: mean |cosine| of decoder directions, the mean over models; ``cosine_random``: its floor.

    Args:
        unit_fd: unit decoder rows of each model. active_f: latents that count; all without it.
    """
    chosen = slice(None) if active_f is None else active_f
    found = [mean_absolute_cosine(rows[chosen]) for rows in unit_fd]
    floor = random_absolute_cosine(unit_fd[0].shape[1])
    return {"cosine": float(np.mean(found)), "cosine_random": floor}
