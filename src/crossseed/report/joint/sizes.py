"""What the page says of sample size: how many sequences decide W, and which part of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crossseed.report import tables as t
from crossseed.report.joint.vocabulary import at_site, pairs_in_words


def sizes(tables: t.Tables, cohort: str, checkpoint: str, site: str) -> dict[str, Any]:
    """How many sequences decide W, and which part of it; empty without that."""
    curve = at_site(tables.joint_sizes, cohort, checkpoint, site)
    halves = at_site(tables.joint_halves, cohort, checkpoint, site)
    if curve.empty:
        return {}
    lines = []
    for row in halves.itertuples():
        lines.append(
            {
                "label": f"{row.source_seed}, {row.target_seed}",
                "cells": [
                    f"{row.sequences:.0f}",
                    f"{row.tokens:.0f}",
                    f"{row.sd:.3f}",
                    *(
                        f"{distance:.2f}; {chance:.2f}; {_of_random(share)}"
                        for distance, chance, share in (
                            (row.mean, row.null_mean, row.of_random),
                            (row.inside_mean, row.null_inside, row.inside_of_random),
                            (row.outside_mean, row.null_outside, row.outside_of_random),
                        )
                    ),
                    f"{row.k95:.0f}, {row.k99:.0f}",
                    f"{row.k95_squared:.0f}, {row.k99_squared:.0f}",
                ],
            }
        )
    sentences = [_flat_sentence(curve), _curve_sentence(curve, halves)]
    if len(halves):
        sentences.append(
            "Distance of W’s of two halves of the fitted sequences: "
            + _apart(halves, ("mean", "null_mean", "of_random"), "_mean")
            + f"; over splits its standard deviation is {halves.sd.median():.3f}. A small spread says that halves agree on how "
            "far apart they are, not that they are near."
        )
    return {
        "sentences": sentences,
        "heads": [
            *("sequences", "tokens", "sd over splits"),
            "distance of halves; of wrongly paired tokens’; % of random rotations’",
            *("the same within k99", "outside", "k95, k99", "of squares"),
        ],
        "halves": lines,
    }


def _of_random(share: float) -> str:
    """A distance, in per cent of that of two random rotations; none where k99 leaves nothing outside."""
    return "–" if pd.isna(share) else f"{100 * share:.0f}"


def _flat_sentence(curve: pd.DataFrame) -> str:
    by_pair = curve.sort_values("sequences").groupby(["source_seed", "target_seed"])
    flat = [start for _, pair in by_pair if (start := flat_from(pair)) is not None]
    if not flat:
        return "Held-out error still falls by more than 1 % a doubling at the last size."
    first = f"{min(flat)}" if min(flat) == max(flat) else f"{min(flat)} to {max(flat)}, by pair,"
    return (
        f"From {first} sequences on every doubling that was measured lowers held-out error by less than 1 % "
        f"({len(flat)} of {pairs_in_words(len(by_pair))})."
    )


def _curve_sentence(curve: pd.DataFrame, halves: pd.DataFrame) -> str:
    """How near W is to W of all sequences, at the size that is next to what it is fitted on."""
    wanted = halves.sequences.median() if len(halves) else curve.sequences.max()
    size = min(curve.sequences.unique(), key=lambda n: abs(np.log(n / wanted)))
    rows = curve[curve.sequences == size]
    return (
        f"Distance of W of {size:.0f} sequences to W of all: "
        + _apart(rows, ("distance", "null_distance", "distance_of_random"), "")
        + f". Its held-out error is {rows.nre.median():.3f}, that of W of as many wrongly paired tokens "
        f"{rows.null_nre.median():.3f}."
    )


def _apart(rows: pd.DataFrame, whole: tuple[str, str, str], suffix: str) -> str:
    """Distances, in whole and by directions, beside those of W’s of wrongly paired tokens and of random rotations."""
    parts = {"in whole": whole}
    for name, words in (
        ("inside", "within the directions that hold 99 % of the singular values"),
        ("outside", "outside these"),
    ):
        parts[words] = (f"{name}{suffix}", f"null_{name}", f"{name}_of_random")
    said = [
        f"{words} {rows[own].median():.2f} (W’s of wrongly paired tokens {rows[null].median():.2f}; "
        f"{_of_random(rows[share].median())} % of random rotations’)"
        for words, (own, null, share) in parts.items()
    ]
    return ", ".join(said)


def flat_from(pair: pd.DataFrame) -> int | None:
    """The least size from which on every doubling gains little; None without one."""
    known = pair.dropna(subset=["flat"])
    steep = known[known.flat == 0].sequences.max()
    rest = known if pd.isna(steep) else known[known.sequences > steep]
    return int(rest.sequences.min()) if len(rest) else None
