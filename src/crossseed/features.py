"""Single latents carried between models: patched out, compared by what they do, and put in each other's place.

The source's dictionary is ported to the target (`crossseed.port`) by the Procrustes rotation, and, as
nulls, by the rotation fitted on shuffled tokens and by a random one; ``raw`` is the dictionary as it is.

**Patching** (arXiv 2605.24577, experiment 1c): −s h_f(x) d_f is added at every position, h_f the latent read
from the model's own activations and d_f its decoder direction; s = 1 takes the latent out, the study
used 4. ``direction`` puts a random unit direction in the place of the ported one, as the study did.
``kl`` is the divergence from the clean run, in nats a prediction. Its ratio to that in the source
is the study's transfer ratio; it has no sign.

**Fingerprints**: the change of every scored prediction's cross-entropy when a latent is taken out.
``agreement`` is the correlation over predictions of the fingerprint in the target with that in the
source, ``other_latent`` the same with the fingerprint of another latent of the source.

**Substitution**: latents of the target's own dictionary are matched one to one with the source's by
firing correlation on `fit`. On `eval`, the contribution h_g d_g of the best matched share of the target's
live latents is replaced by their partners': read from the *source's* activations of the same tokens,
written by the partner's carried direction. ``quality`` = 1 − KL(replaced) / KL(taken out); ``auc`` is the area
under its curve over coverage. ``permuted`` gives each latent another one's partner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed import card
from crossseed.alignment.maps import AffineMap
from crossseed.cohorts.base import FORWARD_TOKENS, Concept, Subject, TokenSet, batches, spread
from crossseed.metrics import (
    Estimate,
    FiringSums,
    LatentSums,
    estimate,
    resample_weights,
    unit_of,
)
from crossseed.pairs import CELL
from crossseed.progress import Progress
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

COLUMNS = (
    *(*CELL, "dictionary", "init", "chosen_by", "latent", "arm", "metric", "strength", "coverage"),
    *("value", "low", "high", "n"),
)
SOURCE, PORTED, RAW, SHUFFLED, RANDOM = "source", "ported", "raw", "shuffled", "random"
DIRECTION, OTHER, PERMUTED = "direction", "other_latent", "permuted"
# The strength of the study, and that which takes a latent out.
OUT, PUBLISHED = 1.0, 4.0
# Latents a concept is shown by.
BY_CONCEPT = 3
ENERGY = "energy"
# Sequences on which latents are chosen, at most.
MOST_SEQUENCES = 128
COVERAGES = (0.125, 0.25, 0.5, 0.75, 1.0)
Row = dict[str, Any]


class Chosen(NamedTuple):
    """A latent, and why it is looked at: ``energy``, concepts' names, or several of them."""

    latent: int
    by: str


def latents_at(
    subject: Subject, site: str, dictionary: Dictionary, tokens_nt: np.ndarray
) -> np.ndarray:
    """Latents at every position, (sequences, positions, latents)."""
    found = []
    size = max(1, FORWARD_TOKENS // tokens_nt.shape[1])
    for part in batches(len(tokens_nt), size):
        value = subject.start(tokens_nt[part], site).value_ntd.float().cpu().numpy()
        h = dictionary.encode(value.reshape(-1, value.shape[-1]))
        found.append(h.reshape(*value.shape[:2], -1))
    return np.concatenate(found)


def choose(
    subject: Subject,
    site: str,
    dictionary: Dictionary,
    tokens: TokenSet,
    concepts: Sequence[Concept],
    n: int,
) -> list[Chosen]:
    """The latents that are looked at, each once: those whose contributions are largest, and those that tell the
    classes of a concept apart (by |Pearson r| of latent and class over the positions that show one).

    Args:
        subject: the source. tokens: of the `fit` split. n: how many for their size.
    """
    some = spread(len(tokens.tokens_nt), MOST_SEQUENCES)
    h = latents_at(subject, site, dictionary, tokens.tokens_nt[some])[tokens.keep_nt[some]]
    energy = np.square(h).sum(axis=0) * np.square(dictionary.W_dec).sum(axis=1)
    order = np.argsort(-energy, kind="stable")
    why = {int(latent): [ENERGY] for latent in order[:n] if energy[latent] > 0}
    for concept in concepts:
        classes = [
            latents_at(subject, site, dictionary, e.tokens_nt)[e.weight_nt > 0]
            for e in (concept.toward, concept.away)
        ]
        rows = np.concatenate(classes)
        label = np.r_[np.ones(len(classes[0])), np.zeros(len(classes[1]))]
        centred = rows - rows.mean(axis=0)
        deviation = np.sqrt(np.square(centred).sum(axis=0) * np.sum((label - label.mean()) ** 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.abs((label - label.mean()) @ centred) / deviation
        best = np.argsort(-np.nan_to_num(r), kind="stable")[:BY_CONCEPT]
        for latent in best[r[best] > 0]:
            why.setdefault(int(latent), []).append(concept.name)
    return [Chosen(latent, " ".join(names)) for latent, names in why.items()]


def ported(dictionary: Dictionary, maps: Mapping[str, AffineMap]) -> dict[str, Dictionary]:
    """The dictionary for the target by each map, and as it is."""
    return {
        **{arm: card.carry(dictionary, affine) for arm, affine in maps.items()},
        RAW: dictionary,
    }


class Models(NamedTuple):
    """The pair, at one site."""

    source: Subject
    target: Subject
    site: str


# --- patching and fingerprints --------------------------------------------------------------


def patching(
    models: Models,
    dictionary: Dictionary,
    carried: Mapping[str, Dictionary],
    chosen: Sequence[Chosen],
    tokens: TokenSet,
    sequences: int,
    resamples: int,
    *cell: object,
) -> list[Row]:
    """Rows of `COLUMNS`, without the cell's, dictionary and init.

    Args:
        dictionary: of the source. carried: for the target, from `ported`.
        chosen: from `choose`; no rows where nothing fires. tokens: the `eval` split.
        sequences: how many are run. resamples: behind each interval.
        cell: names the cell.
    """
    # Imported here: PyTorch, which those who read the table do without.
    import torch

    from crossseed.predictions import Predictions

    if not chosen:
        return []
    picked = np.array([one.latent for one in chosen])
    run_on = spread(len(tokens.tokens_nt), sequences)
    unit = unit_of(tokens.document_n[run_on])
    n_units = int(unit[-1]) + 1
    weights = resample_weights(generator("bootstrap", *cell), n_units, resamples)
    rng = generator("patched-direction", *cell)
    width = dictionary.W_dec.shape[1]
    drawn = rng.standard_normal((len(picked), width))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    lengths = np.linalg.norm(dictionary.W_dec[picked], axis=1, keepdims=True)
    # Of each arm: which model, what reads the latents, what writes them.
    ways = {SOURCE: (models.source, dictionary, dictionary.W_dec[picked])}
    ways |= {arm: (models.target, one, one.W_dec[picked]) for arm, one in carried.items()}
    ways[DIRECTION] = (models.target, carried[PORTED], (drawn * lengths).astype(np.float32))
    strengths = dict.fromkeys((SOURCE, PORTED, RAW, DIRECTION), (OUT, PUBLISHED))
    kl = {
        (arm, s): np.zeros((len(picked), n_units))
        for arm in ways
        for s in strengths.get(arm, (OUT,))
    }
    n = np.zeros(n_units)
    # Fingerprints: of the source once for each arm that is compared with it.
    reference = LatentSums(n_units, len(picked))
    alike = {arm: FiringSums(reference) for arm in (*carried, DIRECTION)}
    # Every fingerprint beside that of the next latent: as many pairs, none of them true.
    shifted = LatentSums(n_units, len(picked))
    other = FiringSums(shifted)
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    progress = Progress("patch", len(run_on))
    for part in batches(len(run_on), size):
        blocks = {
            id(model): Predictions(model, models.site, tokens, run_on[part])
            for model in (models.source, models.target)
        }
        counts = blocks[id(models.source)].counts.sum(axis=1).astype(int)
        np.add.at(n, unit[part], counts)
        # Whole sequences; a unit may go on in the next block.
        units = slice(unit[part][0], unit[part][-1] + 1)
        first = np.flatnonzero(np.r_[True, np.diff(unit[part]) > 0])
        local = np.r_[0, np.cumsum(counts)][first]
        fingerprints = {}
        for arm, (model, reader, directions) in ways.items():
            block = blocks[id(model)]
            own = block.own.cpu().numpy()
            h = reader.encode(own.reshape(-1, width))[:, picked].reshape(*own.shape[:2], -1)
            found = []
            for number in range(len(picked)):
                step = torch.from_numpy(h[..., number, None] * directions[number]).to(block.own)
                for strength in strengths.get(arm, (OUT,)):
                    scores = block.score(block.own - strength * step)
                    (divergence,) = scores.by_sequence()[1].sum(axis=2)
                    np.add.at(kl[arm, strength][number], unit[part], divergence)
                    if strength == OUT:
                        found.append(block.each(scores.loss - block.clean.loss)[0])
            fingerprints[arm] = np.stack(found, axis=1)
        of_source = fingerprints.pop(SOURCE)
        of_next = np.roll(of_source, 1, axis=1)
        for sums, values in ((reference, of_source), (shifted, of_next)):
            sums.add(units, local, values)
        for arm, values in fingerprints.items():
            alike[arm].add(units, local, of_source, values)
        other.add(units, local, of_next, fingerprints[PORTED])
        progress.update(part.stop, "sequences")
    progress.close()
    # One latent alone has no other.
    others = {OTHER: other} if len(picked) > 1 else {}
    return _patched_rows(chosen, kl, n, weights, {**alike, **others})


def _row(arm: str, metric: str, value: Estimate, n: float, **more: Any) -> Row:
    row = {"chosen_by": "", "latent": "", "strength": None, "coverage": None}
    return {**row, "arm": arm, "metric": metric, **more, **value._asdict(), "n": int(n)}


def _patched_rows(
    chosen: Sequence[Chosen],
    kl: Mapping[tuple[str, float], np.ndarray],
    n: np.ndarray,
    weights: np.ndarray,
    alike: Mapping[str, FiringSums],
) -> list[Row]:
    rows = []
    per_prediction = {key: weights @ sums.T / (weights @ n)[:, None] for key, sums in kl.items()}
    total = float(n.sum())
    for (arm, strength), values in per_prediction.items():
        for one, value in zip(chosen, values.T, strict=True):
            named = {"chosen_by": one.by, "latent": one.latent, "strength": strength}
            rows.append(_row(arm, "kl", estimate(value), total, **named))
        rows.append(_row(arm, "kl", estimate(values.mean(axis=1)), total, strength=strength))
        if arm != SOURCE:
            ratio = values.mean(axis=1) / per_prediction[SOURCE, strength].mean(axis=1)
            rows.append(_row(arm, "transfer_ratio", estimate(ratio), total, strength=strength))
    for arm, sums in alike.items():
        every = np.ones(len(chosen), dtype=bool)
        r = sums.correlations(weights, every)
        for one, value in zip(chosen, r.T, strict=True):
            named = {"chosen_by": one.by, "latent": one.latent, "strength": OUT}
            rows.append(_row(arm, "agreement", estimate(value), total, **named))
        # One that does nothing in an arm agrees with nothing there.
        mean = sums.over_all(weights, every)
        rows.append(_row(arm, "agreement", estimate(mean), total, strength=OUT))
    return rows


# --- substitution ---------------------------------------------------------------------------


class Matching(NamedTuple):
    """Partners among the source's latents of the target's live ones, best matched first.

    Attributes:
        own: latents of the target. partner: of the source. r: firing correlation on `fit`.
    """

    own: np.ndarray
    partner: np.ndarray
    r: np.ndarray


def match(h_a: np.ndarray, h_b: np.ndarray) -> Matching:
    """One-to-one matching of latents by firing correlation, the best in sum.

    Args:
        h_a, h_b: latents of source and target on the same tokens, (tokens, latents).
    """
    from scipy.optimize import linear_sum_assignment

    own = np.flatnonzero(h_b.std(axis=0) > 0)

    def standard(h: np.ndarray) -> np.ndarray:
        h = h - h.mean(axis=0)
        deviation = np.sqrt(np.square(h).sum(axis=0, dtype=np.float64)).astype(h.dtype)
        found: np.ndarray = h / np.where(deviation > 0, deviation, 1.0)
        return found

    r = standard(h_b[:, own]).T @ standard(h_a)
    rows, columns = linear_sum_assignment(r, maximize=True)
    order = np.argsort(-r[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    return Matching(own[rows], columns, r[rows, columns])


def substitution(
    models: Models,
    dictionary: Dictionary,
    carried: Mapping[str, Dictionary],
    own: Dictionary,
    sets: Mapping[str, TokenSet],
    sequences: int,
    resamples: int,
    *cell: object,
) -> list[Row]:
    """Rows of `COLUMNS`, without the cell's, dictionary and init; see `patching`.

    Args:
        own: the target's dictionary of the same recipe; no rows where none of it fires.
    """
    # Imported here: PyTorch, which those who read the table do without.
    from crossseed.predictions import Predictions

    fit, tokens = sets["fit"], sets["eval"]
    chosen = spread(len(fit.tokens_nt), 8 * sequences)
    fit_tokens, fit_keep = fit.tokens_nt[chosen], fit.keep_nt[chosen]
    matching = match(
        latents_at(models.source, models.site, dictionary, fit_tokens)[fit_keep],
        latents_at(models.target, models.site, own, fit_tokens)[fit_keep],
    )
    run_on = spread(len(tokens.tokens_nt), sequences)
    unit = unit_of(tokens.document_n[run_on])
    n_units = int(unit[-1]) + 1
    weights = resample_weights(generator("bootstrap", *cell), n_units, resamples)
    rng = generator("permuted-partners", *cell)
    n_live = len(matching.own)
    if not n_live:
        return []
    tops = [max(1, round(share * n_live)) for share in COVERAGES]
    # Within the latents covered, so that what is put in place has the right sizes and wrong owners.
    orders = [rng.permutation(top) for top in tops]
    kl = {
        (arm, share): np.zeros(n_units)
        for arm in (*carried, PERMUTED, "out")
        for share in COVERAGES
    }
    n = 0.0
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    for part in batches(len(run_on), size):
        block = Predictions(models.target, models.site, tokens, run_on[part])
        n += float(block.counts.sum())
        keep = tokens.keep_nt[run_on[part]]
        b = block.own.cpu().numpy()[keep]
        start = models.source.start(tokens.tokens_nt[run_on[part]], models.site)
        a = start.value_ntd.float().cpu().numpy()[keep]
        h_b, h_a = own.encode(b), dictionary.encode(a)
        for share, top, order in zip(COVERAGES, tops, orders, strict=True):
            mine, partner = matching.own[:top], matching.partner[:top]
            without = b - h_b[:, mine] @ own.W_dec[mine]
            tried = {arm: h_a[:, partner] @ one.W_dec[partner] for arm, one in carried.items()}
            if top > 1:
                wrong = _wrong(order, partner)
                tried[PERMUTED] = h_a[:, wrong] @ carried[PORTED].W_dec[partner]
            tried["out"] = np.zeros_like(without)
            for arm, added in tried.items():
                scores = block.score(block.with_rows(without + added))
                (divergence,) = scores.by_sequence()[1].sum(axis=2)
                np.add.at(kl[arm, share], unit[part], divergence)
    rows = []
    for arm in (*carried, PERMUTED):
        curve = []
        for share, top in zip(COVERAGES, tops, strict=True):
            quality = 1 - (weights @ kl[arm, share]) / (weights @ kl["out", share])
            if arm == PERMUTED and top < 2:
                quality = np.full_like(quality, np.nan)
            curve.append(quality)
            rows.append(_row(arm, "quality", estimate(quality), n, coverage=share))
        grid = np.array((0.0, *COVERAGES))
        # Below the least coverage the curve goes on as it begins.
        along = np.stack([curve[0], *curve])
        auc = np.sum((along[1:] + along[:-1]) / 2 * np.diff(grid)[:, None], axis=0)
        rows.append(_row(arm, "auc", estimate(auc), n))
    rows.append(_row(PORTED, "match_r", Estimate(float(matching.r.mean())), n))
    rows.append(_row(PORTED, "live", Estimate(float(n_live)), n))
    return rows


def _wrong(order: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Partners moved on by one place in a random order: none keeps its own, if there are two."""
    found = np.empty_like(partner)
    found[order] = partner[np.roll(order, 1)]
    return found
