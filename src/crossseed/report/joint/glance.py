"""What the page says first of SAEs that two models share: the share of latents that fire alike, condition by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossseed.report import tables as t
from crossseed.report.joint import reading, vocabulary

GLANCE = {
    "2": "SAEs apart, matched",
    "3'": "A’s SAE on both, B carried by W",
    "4": "one SAE, no map",
    "5": "one SAE, W",
    "6": "one SAE, W, cross loss",
    "ridge": "the same, linear map for W",
}
# What each adds to another.
STEPS = (
    ("4", "2", "training one SAE for both adds, without a map, to two that are matched"),
    ("5", "4", "W adds to that"),
    ("6", "5", "the cross loss adds to W"),
    ("5", "3'", "joint training adds to A’s own SAE on what W carries over"),
    ("6", "3'", "and with the cross loss"),
)


def of_run(tables: t.Tables) -> dict[str, Any]:
    """The share of universal latents by cohort and condition, and what lies between conditions; empty without joint SAEs."""
    if tables.joint_pooled.empty:
        return {}
    pooled, single = vocabulary.read(tables.joint_pooled), vocabulary.read(tables.joint_conditions)
    places = ["cohort", "checkpoint", "site"]
    known = [name for name in GLANCE if name in set(pooled.condition)]
    several = len(pooled[places].drop_duplicates()) > pooled.cohort.nunique()
    lines, shifted = [], [0.0]
    # Pairs of one base and of two are told apart: a median over both would be of neither.
    gained: dict[str, dict[str, list[float]]] = {}
    for (cohort, checkpoint, site), rows in pooled.groupby(places, sort=False):
        of = single[
            (single.cohort == cohort) & (single.checkpoint == checkpoint) & (single.site == site)
        ]
        which = {name: reading.chosen(rows, name) for name in known}
        shifted += [reading.value_of(rows, one, vocabulary.SHARE, "null") for one in which.values()]
        named = [str(rows[name].iloc[0]) for name in ("data", "kind_of_seed")]
        label = ", ".join(name for name in named if name not in ("", "nan")) or str(cohort)
        lines.append(
            {
                "label": f"{label}; {checkpoint}, {site}" if several else label,
                "cells": [_share(rows, which[name]) for name in known],
            }
        )
        kind = "" if named[1] == "nan" else named[1]
        for name, before, words in STEPS:
            first, second = which.get(name), which.get(before)
            if first is not None and second is not None:
                value = 100 * reading.difference(of, first, second, vocabulary.SHARE).value
                gained.setdefault(words, {}).setdefault(kind, []).append(value)
    return {
        "heads": [GLANCE[name] for name in known],
        "rows": lines,
        "null": f"{100 * np.nanmax(shifted):.1f}",
        "sentences": [_steps(points, words) for words, points in gained.items()],
    }


def _share(rows: pd.DataFrame, of: reading.Chosen | None) -> dict[str, str]:
    mean, low, high = (
        reading.value_of(rows, of, vocabulary.SHARE, name) for name in ("mean", "low", "high")
    )
    if np.isnan(mean):
        return {"value": "–", "more": ""}
    interval = [] if np.isnan(low) else [f"{100 * low:.1f} to {100 * high:.1f}"]
    counts = (reading.value_of(rows, of, name) for name in (vocabulary.COUNT, "active"))
    more = "; ".join([*interval, " of ".join(f"{count:.0f}" for count in counts)])
    return {"value": f"{100 * mean:.1f}", "more": more}


def _steps(by_kind: Mapping[str, Sequence[float]], words: str) -> str:
    """What a step adds in each row of the table, by what seeds decide."""
    told = [
        (f"{kind} " if kind else "") + ", ".join(f"{value:+.1f}" for value in points)
        for kind, points in by_kind.items()
    ]
    return f"{words}: {'; '.join(told)} points"
