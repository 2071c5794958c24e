"""What the page says first of SAEs that two models share: the share of latents that fire alike, condition by condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossseed.report import joint
from crossseed.report import tables as t

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
)


def of_run(tables: t.Tables) -> dict[str, Any]:
    """The share of universal latents by cohort and condition, and what lies between conditions; empty without joint SAEs."""
    if tables.joint_pooled.empty:
        return {}
    pooled, single = joint.read(tables.joint_pooled), joint.read(tables.joint_conditions)
    places = ["cohort", "checkpoint", "site"]
    known = [name for name in GLANCE if name in set(pooled.condition)]
    several = len(pooled[places].drop_duplicates()) > pooled.cohort.nunique()
    lines, shifted = [], [0.0]
    gained: dict[str, list[float]] = {words: [] for *_, words in STEPS}
    for (cohort, checkpoint, site), rows in pooled.groupby(places, sort=False):
        of = single[
            (single.cohort == cohort) & (single.checkpoint == checkpoint) & (single.site == site)
        ]
        which = {name: joint.chosen(rows, name) for name in known}
        shifted += [joint.value_of(rows, one, joint.SHARE, "null") for one in which.values()]
        named = [str(rows[name].iloc[0]) for name in ("data", "kind_of_seed")]
        label = ", ".join(name for name in named if name not in ("", "nan")) or str(cohort)
        lines.append(
            {
                "label": f"{label}; {checkpoint}, {site}" if several else label,
                "cells": [_share(rows, which[name]) for name in known],
            }
        )
        for name, before, words in STEPS:
            first, second = which.get(name), which.get(before)
            if first is not None and second is not None:
                gained[words].append(100 * joint.difference(of, first, second, joint.SHARE).value)
    return {
        "heads": [GLANCE[name] for name in known],
        "rows": lines,
        "null": f"{100 * np.nanmax(shifted):.1f}",
        "sentences": [_steps(points, words) for words, points in gained.items() if points],
    }


def _share(rows: pd.DataFrame, of: joint.Chosen | None) -> dict[str, str]:
    mean, low, high = (
        joint.value_of(rows, of, joint.SHARE, name) for name in ("mean", "low", "high")
    )
    if np.isnan(mean):
        return {"value": "–", "more": ""}
    interval = [] if np.isnan(low) else [f"{100 * low:.1f} to {100 * high:.1f}"]
    counts = (joint.value_of(rows, of, name) for name in (joint.COUNT, "active"))
    more = "; ".join([*interval, " of ".join(f"{count:.0f}" for count in counts)])
    return {"value": f"{100 * mean:.1f}", "more": more}


def _steps(points: Sequence[float], words: str) -> str:
    """Median and range over rows of the table."""
    over = f" ({min(points):+.1f} to {max(points):+.1f} over rows)" if len(points) > 1 else ""
    return f"{words} {np.median(points):+.1f} points{over}"
