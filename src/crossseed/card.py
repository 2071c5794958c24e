"""What a ported dictionary is worth on the model it was ported to: its card.

On held-out tokens the target's own activations go through the ported dictionary, and through what
it has to beat: the dictionary as it was (``raw``), ported by the nulls that know no pairing
(`crossseed.alignment.ladder.NULLS`), and the target's own dictionary of the same recipe where there is
one (``own``), which is what could be had; ``source`` is the dictionary on the source's activations. Explained variance is of the target's activations; firing is
correlated with that of the source's dictionary on the source's activations of the same tokens; the
target, run on reconstructions, shows what of its cross-entropy they recover (`crossseed.splice`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from crossseed import claim_rule, port
from crossseed.activations import SplitReader, check_paired
from crossseed.alignment import ladder
from crossseed.alignment.maps import AffineMap
from crossseed.carried import Carried
from crossseed.cohorts.base import Subject, TokenSet
from crossseed.metrics import (
    ErrorSums,
    FiringSums,
    LatentSums,
    estimate,
    resample_weights,
    unit_blocks,
    unit_starts,
)
from crossseed.pairs import BLOCK_ROWS, CELL, SHUFFLED_LIKE, Readers
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator

PORTED = "ported"
OWN = "own"
# The dictionary on the activations that it was trained on the like of.
SOURCE = "source"
# A dictionary goes by the name of its folder.
NAMED = (*CELL, "dictionary", "map")
JUDGEMENT = (*NAMED, "metric", PORTED, *claim_rule.FOUND[2:])
COLUMNS = (*NAMED, "arm", "metric", "value", "low", "high", "n_tokens")
VECTOR_COLUMNS = ("arm", "metric", "value", "low", "high", "n_tokens")
# Explained variance is there to be read beside them: a map of covariances alone does well by it.
JUDGED = ("firing_r",)


def carry(dictionary: Dictionary, affine: AffineMap) -> Dictionary:
    """A dictionary of the source, for the target (`crossseed.port`).

    Raises:
        ValueError: the map has no usable inverse, or is of another width.
    """
    W_enc, b_enc, W_dec, b_dec, *_ = dictionary
    arrays = {"W_enc": W_enc, "W_dec": W_dec, "b_dec": b_dec, **dictionary.more}
    # Gated dictionaries have none; the zero that stands for it stays one.
    if "b_gate" not in arrays:
        arrays["b_enc"] = b_enc
    apply_b_dec = dictionary.cfg.get("apply_b_dec_to_input", True)
    folded = port.dictionary(arrays, affine, apply_b_dec)
    more = {name: folded[name] for name in dictionary.more}
    W_enc, W_dec, b_dec = folded["W_enc"], folded["W_dec"], folded["b_dec"]
    b_enc = folded.get("b_enc", b_enc)
    return Dictionary(W_enc, b_enc, W_dec, b_dec, dictionary.cfg, more=more)


def arms(
    dictionary: Dictionary,
    maps: Mapping[str, AffineMap],
    how: str,
    own: Dictionary | None,
) -> dict[str, Dictionary]:
    """The ported dictionary and what it has to beat.

    Args:
        dictionary: of the source.
        maps: from target to source, by arm of the ladder; `pairs.SHUFFLED_LIKE` too, where the map is none
            of the orthogonal ones: a null of its own class. It is left out where it has no inverse.
        how: the arm whose map is folded in.
        own: the target's, of the same recipe.

    Raises:
        ValueError: see `carry`.
    """
    found = {PORTED: carry(dictionary, maps[how]), "raw": dictionary}
    found |= {name: carry(dictionary, maps[name]) for name in ladder.NULLS}
    if SHUFFLED_LIKE in maps:
        with suppress(ValueError):
            found[SHUFFLED_LIKE] = carry(dictionary, maps[SHUFFLED_LIKE])
    return found | ({OWN: own} if own is not None else {})


def measure(
    readers: Readers,
    dictionary: Dictionary,
    tried: Mapping[str, Dictionary],
    resamples: int,
    *cell: object,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `COLUMNS` and of `JUDGEMENT` (the claim rule for the ported dictionary), without `NAMED`.

    Args:
        readers: of the `eval` split.
        dictionary: of the source, on whose activations it fires as it should.
        tried: from `arms`.
        resamples: bootstrap resamples behind each interval.
        cell: names the cell.
    """
    source, target = readers.source, readers.target
    check_paired(source, target)
    starts = unit_starts(source.document_n)
    weights = resample_weights(generator("bootstrap", *cell), len(starts), resamples)
    latents = LatentSums(len(starts), dictionary.W_enc.shape[1])
    errors = {arm: ErrorSums(len(starts), target.width) for arm in (*tried, SOURCE)}
    # The target's own latents have no order in common with the source's.
    firing = {arm: FiringSums(latents) for arm in tried if arm != OWN}
    for units, rows, local in unit_blocks(starts, source.n_tokens, BLOCK_ROWS):
        a, b = source.rows(rows), target.rows(rows)
        h_source = dictionary.encode(a)
        latents.add(units, local, h_source)
        xhat = dictionary.decode(h_source)
        errors[SOURCE].add(units, local, a, xhat, np.count_nonzero(h_source, axis=1))
        for arm, one in tried.items():
            h = one.encode(b)
            errors[arm].add(units, local, b, one.decode(h), np.count_nonzero(h, axis=1))
            if arm in firing:
                firing[arm].add(units, local, h_source, h)
    table, values = [], {}
    # Over the same latents for all, those that fire on the source; one that an arm leaves dead
    # correlates with nothing there.
    live = latents.varying()
    for arm, sums in errors.items():
        found = {"ev": sums.ev(weights), "fvu": sums.fvu(weights), "l0": sums.l0(weights)}
        if arm in firing:
            found["firing_r"] = firing[arm].over_all(weights, live)
        values[arm] = found
        for metric, value in found.items():
            row = {"arm": arm, "metric": metric, **estimate(value)._asdict()}
            table.append({**row, "n_tokens": source.n_tokens})
    return table, judged(values)


def recovered(
    subject: Subject,
    site: str,
    tokens: TokenSet,
    target: SplitReader,
    tried: Mapping[str, Dictionary],
    mean_d: np.ndarray,
    sequences: int,
    resamples: int,
    *cell: object,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the target still predicts on reconstructions: rows like those of `measure`.

    Args:
        subject: the target, whole. site: of the dictionary.
        tokens: the `eval` split. target: its activations on it.
        tried: from `arms`.
        mean_d: the target's mean on `fit`.
        sequences: how many sequences are run.
    """
    # Imported here: PyTorch, which measuring vectors does without.
    from crossseed import splice

    readers = Readers(target, target, None)
    dictionaries = {(arm, ""): dictionary for arm, dictionary in tried.items()}
    nothing = Carried({}, None, np.zeros((len(mean_d), 0)))
    found, n_tokens = splice.values(
        subject, site, tokens, readers, dictionaries, nothing, mean_d, sequences, resamples, *cell
    )
    values = {arm: of_way for (arm, _, way), of_way in found.items() if way == splice.OWN}
    table = [
        {"arm": arm, "metric": metric, **estimate(value)._asdict(), "n_tokens": n_tokens}
        for arm, of_way in values.items()
        for metric, value in of_way.items()
    ]
    return table, judged(values, splice.JUDGED)


def judged(
    values: Mapping[str, Mapping[str, np.ndarray]], metrics: tuple[str, ...] = JUDGED
) -> list[dict[str, Any]]:
    """The claim rule, with the ported dictionary in the place of Procrustes: rows of `JUDGEMENT`."""
    rows = claim_rule.evidence({**values, "procrustes": values[PORTED]}, metrics)
    return [{PORTED: row.pop("procrustes"), **row} for row in rows]


def readings(
    readers: Readers,
    vector: np.ndarray,
    tried: Mapping[str, np.ndarray],
    resamples: int,
    *cell: object,
) -> list[dict[str, Any]]:
    """How well what a direction or probe reads from the target agrees with what it reads from the source,
    token by token: rows of `VECTOR_COLUMNS`.

    Args:
        readers: of the `eval` split.
        vector: of the source, (width,).
        tried: what reads from the target, by arm.
        resamples: bootstrap resamples behind each interval.
        cell: names the cell.
    """
    source, target = readers.source, readers.target
    check_paired(source, target)
    starts = unit_starts(source.document_n)
    weights = resample_weights(generator("bootstrap", *cell), len(starts), resamples)
    own = LatentSums(len(starts), 1)
    sums = {arm: FiringSums(own) for arm in tried}
    for units, rows, local in unit_blocks(starts, source.n_tokens, BLOCK_ROWS):
        a, b = source.rows(rows), target.rows(rows)
        of_source = (a @ vector.astype(np.float32))[:, None]
        own.add(units, local, of_source)
        for arm, v in tried.items():
            of_target = (b @ v.astype(np.float32))[:, None]
            sums[arm].add(units, local, of_source, of_target)
    one = np.ones(1, dtype=bool)
    return [
        {
            "arm": arm,
            "metric": "reading_r",
            **estimate(found.correlations(weights, one)[:, 0])._asdict(),
            "n_tokens": source.n_tokens,
        }
        for arm, found in sums.items()
    ]
