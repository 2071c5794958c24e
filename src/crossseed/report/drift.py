"""What the page says of drift: over training, and between seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed.report import tables as t
from crossseed.report.spreads import spread


def drift(tables: t.Tables, cohort: str, about: dict[str, Any]) -> list[str]:
    """What the drift study says of one cohort: over training, and between seeds."""
    rows = tables.drift[tables.drift.cohort == cohort]
    if rows.empty:
        return []
    sentences = []
    moved = rows[(rows.comparison == "checkpoint") & (rows.checkpoint != rows.other_checkpoint)]
    if len(moved):
        sentences += _drift_sentences(
            moved, "an earlier checkpoint and the reference of the same seed"
        )
    for dictionary, part in rows[rows.metric == "ev"].groupby("dictionary"):
        arms = {arm: spread(values.value) for arm, values in part.groupby("arm")}
        sentences.append(
            f"{dictionary} of the reference explains {arms['self']} of its own model, "
            f"{arms['raw']} of other checkpoints raw, {arms['procrustes']} rotated, and "
            f"{arms['shuffled']} after a rotation fitted on shuffled tokens."
        )
    apart = rows[(rows.comparison == "seed") & (rows.seed != rows.other_seed)]
    if len(apart):
        sentences += _drift_sentences(apart, "a seed and the anchor at the same checkpoint")
    ranks = rows[rows.metric == "numerical_rank"]
    if about["width"] and len(ranks):
        deficient = sorted(ranks[ranks.value < about["width"]].site.unique())
        if deficient:
            sentences.append(
                f"At {', '.join(deficient)} the activations of some pair do not span all "
                f"{about['width']} dimensions: there part of the rotation is arbitrary, and only its "
                "distance inside the identified directions means anything."
            )
    return sentences


def _drift_sentences(rows: pd.DataFrame, between: str) -> list[str]:
    """Fits and distances of one comparison, beside what chance gives."""
    fits = rows[rows.metric == "alignment_ev"]
    by_arm = {arm: spread(part.value) for arm, part in fits.groupby("arm")}
    distances = rows[rows.metric == "rotation_distance_identified"]
    by = {arm: part.value.median() for arm, part in distances.groupby("arm")}
    rank = rows[rows.metric == "identified_rank"].value.median()
    inside = (
        f"there the rotation lies {by['procrustes']:.2f} from the identity in the median, a random "
        f"one {by['haar']:.2f}."
        if by
        else "so no distance from the identity means anything."
    )
    return [
        f"Between {between}, the identity explains {by_arm['raw']} of the activations, a rotation "
        f"{by_arm['procrustes']}, one fitted on shuffled tokens {by_arm['shuffled']} (median, and "
        "range over seeds, checkpoints and sites). Fits on two halves of the tokens agree in "
        f"{rank:.0f} directions in the median; {inside}"
    ]
