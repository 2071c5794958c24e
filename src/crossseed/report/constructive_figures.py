"""The figures of weights and bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed import bars as b
from crossseed import gauge
from crossseed.gauge import joint
from crossseed.report import tables as t
from crossseed.report.style import (
    AMBER,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    STYLE,
    panels,
    spread_labels,
)

ARMS = {
    gauge.ALIGNED: (BLUE, "best of all symmetries"),
    gauge.MENDED: (GREEN, "published, mended"),
    gauge.PUBLISHED: (ORANGE, "published"),
    gauge.RANDOM: (GREY, "random"),
    gauge.UNTRAINED: (PINK, "untrained, aligned"),
}
# Where the panels of relative errors end.
MOST = 2.0
CANDIDATES = {
    b.ITSELF: (BLACK, "itself"),
    b.SIBLING: (BLUE, "another seed"),
    b.AVERAGED: (AMBER, "averaged"),
    b.SWAPPED: (ORANGE, "swapped"),
    b.SPLIT: (PINK, "split"),
    b.TAUGHT: (GREEN, "taught"),
}


def of_cohorts(rows: pd.DataFrame, info: dict[str, Any]) -> list[str]:
    """Cohorts that a table has rows of, in the order of the run."""
    return [cohort for cohort in info if cohort in set(rows.cohort)]


def weights(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: relative error of every tensor after each alignment."""
    rows = tables.weights[tables.weights.metric == "relative_error"]
    cohorts = of_cohorts(rows, info)
    figure, axes = panels(len(cohorts), height=4.6)
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort]
        names = list(pd.unique(part[part.arm == gauge.ALIGNED].tensor))
        arms = [arm for arm in ARMS if arm in set(part.arm)]
        for arm in arms:
            colour, _ = ARMS[arm]
            of = part[part.arm == arm]
            for _, pair in of.groupby(t.JOURNEY):
                by = pair.set_index("tensor").value.reindex(names)
                axis.plot(
                    by.clip(upper=MOST),
                    range(len(names)),
                    "o",
                    color=colour,
                    ms=3,
                    alpha=0.5,
                    mew=0,
                )
            medians = of.groupby("tensor").value.median().reindex(names)
            axis.plot(medians.clip(upper=MOST), range(len(names)), color=colour, lw=1.2)
        axis.axvline(1.0, color=BLACK, lw=0.8, ls=":")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlim(0, MOST + 0.03)
        axis.set_title(cohort)
        axis.set_xlabel("relative error")
    for number, arm in enumerate(arms):
        colour, label = ARMS[arm]
        axes[-1].text(
            1.02, 0.95 - 0.06 * number, label, color=colour, fontsize=8,
            transform=axes[-1].transAxes,
        )  # fmt: skip
    return figure


def traded(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: error of weights over error of activations along λ, in closed form, and where the
    published optimiser ended."""
    rows = tables.joint[tables.joint.start == gauge.PUBLISHED]
    rows = rows[rows.objective == joint.PUBLISHED]
    cohorts = of_cohorts(rows, info)
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.0 + 4.9 * len(cohorts), 3.8), layout="constrained")
    axes = figure.subplots(1, len(cohorts), squeeze=False)[0]
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort]
        for _, pair in part.groupby(t.JOURNEY):
            closed = pair[(pair.method == gauge.CLOSED) & (pair["lambda"] <= 1)]
            curve = closed.loc[closed.groupby("lambda").loss.idxmin()].sort_values("lambda")
            axis.plot(curve.activation_error, curve.weight_error, "-", color=BLUE, lw=1.2)
            for method, colour, marker in (
                (gauge.PUBLISHED, ORANGE, "o"),
                (gauge.LEAST_LOSS, GREEN, "s"),
            ):
                of = pair[pair.method == method]
                axis.plot(of.activation_error, of.weight_error, marker, color=colour, ms=4, mew=0)
        _labelled(axis, part)
        axis.set_title(cohort)
        axis.set_xlabel("activation error (mean squared, as published)")
        sns.despine(ax=axis)
    axes[0].set_ylabel("weight error (mean squared, as published)")
    return figure


def _labelled(axis: Axes, rows: pd.DataFrame) -> None:
    words = {
        gauge.CLOSED: (BLUE, "closed form, λ from 0 to 1"),
        gauge.PUBLISHED: (ORANGE, "published optimiser, the state it keeps"),
        gauge.LEAST_LOSS: (GREEN, "published optimiser, least loss"),
    }
    for number, (colour, label) in enumerate(words.values()):
        axis.text(
            0.98, 0.96 - 0.07 * number, label, color=colour, ha="right", va="top", fontsize=8,
            transform=axis.transAxes,
        )  # fmt: skip
    lows = rows[["activation_error", "weight_error"]].min()
    highs = rows[["activation_error", "weight_error"]].max()
    # Room for the labels above the points.
    axis.set_ylim(lows.weight_error * 0.95, highs.weight_error + 0.35 * (highs - lows).weight_error)


def bars(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: bars C and Pr of every candidate with intervals, beside heads under other names."""
    rows = tables.bars[
        (tables.bars.protocol == b.RIGOROUS) & (tables.bars.predictor == b.INTEGRATED)
    ]
    rows = rows[rows.part.isin([b.COMPONENTS, b.EDGES])]
    cohorts = of_cohorts(rows, info)
    figure, axes = panels(len(cohorts), height=3.8)
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort]
        for column, (bar, title) in enumerate(((b.PR, "components (Pr)"), (b.C, "edges (C)"))):
            of = part[part.bar == bar]
            medians = []
            for number, (candidate, (colour, label)) in enumerate(CANDIDATES.items()):
                points = of[of.candidate == candidate]
                if points.empty:
                    continue
                x = column + (number - 2.5) * 0.14 + np.linspace(-0.03, 0.03, len(points))
                axis.vlines(x, points.low, points.high, color=colour, lw=1, alpha=0.6)
                axis.plot(x, points.value, "o", color=colour, ms=4, mew=0)
                axis.hlines(
                    points.null.median(), x[0] - 0.05, x[-1] + 0.05, color=GREY, lw=2, zorder=0
                )
                medians.append((float(points.value.median()), colour, label))
            if column and medians:
                heights = spread_labels([value for value, *_ in medians], 0.1)
                for height, (_, colour, label) in zip(heights, medians, strict=True):
                    axis.text(1.47, height, label, color=colour, fontsize=8, va="center")
            axis.text(column, 1.06, title, ha="center", fontsize=8)
        axis.axhline(b.THRESHOLD[b.C], color=BLACK, lw=0.8, ls=":")
        axis.set_xticks([])
        axis.set_xlim(-0.5, 2.05)
        axis.set_title(f"{cohort}\n", fontsize=10)
    axes[0].set_ylabel("r of predicted with measured effects")
    return figure


def edges(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: what each edge does when cut, in each member: means over batches."""
    rows = tables.causes[tables.causes.destination.notna()]
    cohorts = of_cohorts(rows, info)
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.6 + 3.6 * len(cohorts), 8.0), layout="constrained")
    axes = figure.subplots(1, len(cohorts), squeeze=False, sharey=True)[0]
    short = rows.source.map(_short) + " → " + rows.destination.map(_short)
    rows = rows.assign(edge=short)
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort]
        wide = part.pivot_table(index="edge", columns="seed", values="measured_nats", sort=False)
        for number, seed in enumerate(wide):
            colour = (BLACK, BLUE, ORANGE, GREEN, PINK, AMBER)[number % 6]
            axis.plot(wide[seed], range(len(wide)), "o", color=colour, ms=3.5, mew=0, alpha=0.8)
            of = part[part.seed == seed].groupby("edge").measured_nats
            ends = (of.min().reindex(wide.index), of.max().reindex(wide.index))
            axis.hlines(range(len(wide)), *ends, color=colour, lw=0.6, alpha=0.6)
            axis.text(
                0.02 + 0.2 * number, 1.005, f"seed {seed}", color=colour, fontsize=8,
                transform=axis.transAxes,
            )  # fmt: skip
        axis.set_xscale("symlog", linthresh=0.01)
        axis.set_yticks(range(len(wide)), wide.index, fontsize=6)
        axis.set_title(cohort, pad=16)
        axis.set_xlabel("loss added by cutting the edge (nats)")
        axis.axvline(0, color=GREY, lw=0.6)
        sns.despine(ax=axis)
    axes[0].invert_yaxis()
    return figure


def _short(place: str) -> str:
    """`blocks.1.attn.hook_z.3` as `1.h3`."""
    parts = place.split(".")
    if parts[0] != "blocks":
        return place
    return f"{parts[1]}.{'h' + parts[-1] if parts[2] == 'attn' else 'mlp'}"
