"""The figures of a run: every value beside its nulls, intervals drawn, labels on the lines.

Here those of transfer, drift and training; those of the rotation itself are in
`crossseed.report.rotation_figures`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crossseed.drift import COMPARISONS
from crossseed.report import constructive_figures as constructive
from crossseed.report import interpret, rotation_figures, transfer_figures
from crossseed.report import intervention_figures as interventions
from crossseed.report import stability_figures as stability
from crossseed.report import tables as t
from crossseed.report.joint import figures as joint_figures
from crossseed.report.style import (
    AMBER,
    BLUE,
    DRIFT_FLOOR,
    GREEN,
    ORANGE,
    PINK,
    STYLE,
    logarithmic,
    panels,
    save,
    short_site,
    spread_labels,
)
from crossseed.stability.sweeps import sweeps

ARMS = {
    "self": ("#000000", "own model", "-"),
    "procrustes": (BLUE, "Procrustes", "-"),
    "gaussian": (PINK, "Gaussian", ":"),
    "shuffled": (AMBER, "shuffled", "--"),
    "mean": (GREEN, "mean shift", "--"),
    "random": ("#999999", "random rotation", ":"),
    "raw": (ORANGE, "raw", "-"),
}
EV_FLOOR = -1.5
DRIFT_PANELS_A_ROW = 6
LABEL_GAP = 0.055


def by_site(
    tables: t.Tables, dictionary: str, metric: str, info: dict[str, Any], floor: float, label: str
) -> Figure:
    """One panel a cohort: a metric per site and arm. Points are pairs (and inits) with their
    95 % intervals, lines join the medians; values below `floor` are written at the floor."""
    figure, axes = panels(len(info))
    for axis, (cohort, about) in zip(axes, info.items(), strict=True):
        rows = tables.transfer[
            (tables.transfer.cohort == cohort)
            & (tables.transfer.dictionary == dictionary)
            & (tables.transfer.metric == metric)
        ]
        ends, names = [], []
        for number, (arm, (colour, word, dash)) in enumerate(ARMS.items()):
            part = t.own(rows) if arm == "self" else t.crossed(rows)
            part = part if arm == "self" else part[part.arm == arm]
            part = part.dropna(subset=["value"])
            if part.empty or (arm == "self" and metric == "firing_r"):
                continue
            medians = []
            offset = (number - len(ARMS) / 2) * 0.055
            for place, site in enumerate(about["sites"]):
                found = part[part.site == site]
                medians.append(found.value.median() if len(found) else np.nan)
                shown = found.value.clip(lower=floor)
                errors = [shown - found.low.clip(lower=floor), found.high.clip(lower=floor) - shown]
                axis.errorbar(
                    np.full(len(found), place + offset),
                    shown,
                    yerr=np.nan_to_num(np.clip(errors, 0, None)),
                    fmt="o",
                    ms=2.5,
                    lw=0.8,
                    color=colour,
                    alpha=0.75,
                )
                if len(found) and medians[-1] < floor:
                    axis.annotate(
                        f"{medians[-1]:.1f}",
                        (place + offset, floor),
                        textcoords="offset points",
                        xytext=(0, 5),
                        ha="center",
                        fontsize=6.5,
                        color=colour,
                    )
            heights = np.clip(medians, floor, None)
            axis.plot(
                np.arange(len(medians)) + offset, heights, dash, color=colour, lw=1.2, zorder=1
            )
            ends.append(float(heights[~np.isnan(heights)][-1]))
            names.append((word, colour))
        gap = LABEL_GAP * (1.05 - floor)
        for height, (word, colour) in zip(spread_labels(ends, gap), names, strict=True):
            axis.annotate(
                word,
                (len(about["sites"]) - 0.72, height),
                color=colour,
                va="center",
                fontsize=8,
                annotation_clip=False,
            )
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        axis.set_xticks(
            range(len(about["sites"])), [short_site(s) for s in about["sites"]], fontsize=7.5
        )
        axis.set_xlim(-0.5, len(about["sites"]) - 0.75)
        axis.set_ylim(floor - 0.03 * (1 - floor), 1.04)
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel(label)
    return figure


def explained_variance(tables: t.Tables, dictionary: str, info: dict[str, Any]) -> Figure:
    """Explained variance by site and arm, of one dictionary."""
    return by_site(
        tables,
        dictionary,
        "ev",
        info,
        EV_FLOOR,
        f"explained variance, {dictionary}\n(share of the variance, held out)",
    )


def firing(tables: t.Tables, dictionary: str, info: dict[str, Any]) -> Figure:
    """Firing correlation by site and arm, of one dictionary."""
    return by_site(
        tables,
        dictionary,
        "firing_r",
        info,
        -0.1,
        f"firing correlation, {dictionary}\n(mean Pearson r over live latents)",
    )


def training(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """One panel a cohort: training loss per step and seed."""
    trained = [cohort for cohort in info if cohort in set(tables.training.cohort)]
    figure, axes = panels(len(trained), height=2.8)
    colours = sns.color_palette("colorblind", 10)
    for axis, cohort in zip(axes, trained, strict=True):
        part = tables.training[tables.training.cohort == cohort]
        for number, (seed, curve) in enumerate(part.groupby("seed")):
            colour = colours[number % len(colours)]
            mark = "o" if len(curve) == 1 else ""
            axis.plot(curve.step, curve.loss_nats, marker=mark, ms=3, lw=0.9, color=colour)
            axis.annotate(
                f"seed {seed}",
                (0.98, 0.95 - 0.09 * number),
                xycoords="axes fraction",
                ha="right",
                color=colour,
                fontsize=8,
            )
        logarithmic(axis)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlabel("optimiser step")
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel("training loss (nats a token)")
    return figure


def drift_curves(
    tables: t.Tables,
    info: dict[str, Any],
    drift: dict[str, Any],
    comparison: str,
    dictionary: str | None = None,
) -> Figure:
    """A panel a site, a cohort from a new row on: fits of the maps over checkpoints, points are
    seeds. Sites at which the rotation is not decided are marked with their rank. With a
    dictionary, what it explains of the carried activations instead."""
    sns.set_theme(style="ticks", rc=STYLE)
    widest = min(DRIFT_PANELS_A_ROW, max(len(about["sites"]) for about in info.values()))
    lines = [
        (cohort, sites)
        for cohort, about in info.items()
        for sites in (
            about["sites"][start : start + widest]
            for start in range(0, len(about["sites"]), widest)
        )
    ]
    figure = Figure(figsize=(1.2 + 2.3 * widest, 2.4 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), widest, sharey=True, squeeze=False)
    order = {name: place for place, name in enumerate(drift["checkpoints"])}
    for line, (cohort, sites) in zip(axes, lines, strict=True):
        rows = tables.drift[
            (tables.drift.cohort == cohort) & (tables.drift.comparison == comparison)
        ]
        if comparison == "seed":
            rows = rows[rows.seed != rows.other_seed]
        for axis in line[len(sites) :]:
            axis.set_axis_off()
        for axis, site in zip(line, sites, strict=False):
            part = rows[rows.site == site]
            if dictionary is None:
                _drift_panel(axis, part[part.metric != "ev"], order, "alignment_ev")
            else:
                _drift_panel(axis, part[part.dictionary == dictionary], order, "ev")
            title, colour = short_site(site).replace("\n", " "), "black"
            rank, width = part[part.metric == "numerical_rank"].value.min(), info[cohort]["width"]
            if width and rank < width:
                title, colour = f"{title}, rank {rank:.0f} of {width}", "tab:red"
            axis.set_title(title, fontsize=8, color=colour)
            sns.despine(ax=axis)
        line[0].set_ylabel(f"{cohort}\nexplained variance (share)", fontsize=8)
    return figure


def _drift_panel(axis: Axes, rows: pd.DataFrame, order: dict[str, int], metric: str) -> None:
    ends, names = [], []
    fits = rows[rows.metric == metric]
    for arm in ("self", "raw", "mean", "shuffled", "procrustes"):
        colour, word, dash = ARMS[arm]
        part = fits[fits.arm == arm]
        places = part.checkpoint.map(order)
        axis.plot(places, part.value.clip(lower=DRIFT_FLOOR), "o", ms=2, color=colour, alpha=0.6)
        medians = part.groupby(places).value.median()
        axis.plot(
            medians.index, medians.clip(lower=DRIFT_FLOOR), dash, color=colour, lw=1.2, zorder=1
        )
        if len(medians):
            ends.append(float(np.clip(medians.iloc[-1], DRIFT_FLOOR, None)))
            names.append((word, colour))
    distance = rows[rows.metric == "rotation_distance_identified"].pivot_table(
        index="checkpoint", columns="arm", values="value", aggfunc="median"
    )
    if {"procrustes", "haar"} <= set(distance):
        share = (distance.procrustes / distance.haar).dropna()
        places = share.index.map(order)
        sort = np.argsort(places)
        axis.plot(places[sort], share.iloc[sort], "-", color="0.6", lw=1, zorder=0)
        if len(share):
            ends.append(float(share.iloc[sort[-1]]))
            names.append(("‖R−I‖ / random", "0.5"))
    for height, (word, colour) in zip(spread_labels(ends, 0.19), names, strict=True):
        axis.annotate(
            word,
            (len(order) - 0.85, height),
            color=colour,
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
    ticks = list(order)
    shown = ticks if len(ticks) <= 8 else ticks[:: -(-len(ticks) // 8)]
    axis.set_xticks([order[name] for name in shown], shown, rotation=60, fontsize=6.5)
    axis.axhline(0, color="0.85", lw=0.8, zorder=0)
    axis.set_ylim(DRIFT_FLOOR - 0.05, 1.25)
    axis.set_xlim(-0.4, len(order) - 0.9)


def draw_all(
    tables: t.Tables,
    info: dict[str, Any],
    recipes: dict[str, Any],
    drift: dict[str, Any] | None,
    folder: Path,
    made: Sequence[str] = (),
) -> list[str]:
    """Draws every figure of a run into a folder; returns their names in reading order.

    Args:
        made: names of the run's tables: some may be without a row, and have a figure.
    """
    mpl.use("Agg")
    names: list[str] = []

    def draw(name: str, make: Callable[[], Figure]) -> None:
        save(make(), folder / name)
        names.append(name)

    for dictionary in pd.unique(tables.transfer.dictionary):
        draw(f"ev-{dictionary}", partial(explained_variance, tables, dictionary, info))
        draw(f"firing-{dictionary}", partial(firing, tables, dictionary, info))
    if len(tables.published):
        draw("published-ev", partial(transfer_figures.published_ev, tables, info))
    if len(tables.transfer):
        draw("ladder", partial(transfer_figures.ladder, tables, info))
        draw("twins", partial(transfer_figures.twins, tables, info))
        draw("decoder-cosine", partial(transfer_figures.decoder_cosine, tables, info))
    if len(tables.power):
        if len(tables.published):
            draw("published-rotation", partial(rotation_figures.published_rotation, tables, info))
        draw("eigenphases", partial(rotation_figures.eigenphases, tables, info))
        draw("power", partial(rotation_figures.power, tables))
    if len(tables.steering):
        draw("steering-doses", partial(interventions.doses, tables, info))
        draw("steering-regimes", partial(interventions.regimes, tables, info))
    if len(tables.features):
        draw("features", partial(interventions.features, tables, info))
    if len(tables.attribution):
        draw("attribution", partial(interventions.attribution, tables, info))
        draw("attribution-cost", partial(interventions.attribution_cost, tables, info))
    if len(tables.stability):
        draw("stability", partial(stability.sharing, tables, info))
        if sweeps(recipes, list(pd.unique(tables.stability.dictionary))):
            draw("stability-sweeps", partial(stability.swept, tables, info, recipes))
        draw("stability-decay", partial(stability.decay, tables, info))
        draw("stability-latents", partial(stability.of_latents, tables, info))
    if len(tables.bridge):
        draw("bridge", partial(stability.bridged, tables, info))
    if len(tables.interpret_steps):
        draw("interpret", partial(interpret.by_sharing, tables, info))
    if len(tables.weights):
        draw("weights", partial(constructive.weights, tables, info))
        draw("weights-joint", partial(constructive.traded, tables, info))
    if len(tables.bars):
        draw("bars", partial(constructive.bars, tables, info))
        draw("edges", partial(constructive.edges, tables, info))
    for table, name, make in (
        ("joint_conditions", "joint", joint_figures.conditions),
        ("joint_latents", "joint-geometry", joint_figures.geometry),
        ("joint_nulls", "joint-nulls", joint_figures.nulls),
        ("joint_sizes", "joint-sizes", joint_figures.sizes),
        ("joint_counterfactuals", "joint-counterfactuals", joint_figures.counterfactuals),
    ):
        if table in made:
            draw(name, partial(make, tables))
    if drift is not None:
        for comparison in COMPARISONS:
            draw(f"drift-{comparison}", partial(drift_curves, tables, info, drift, comparison))
        tried = tables.drift.dictionary.dropna()
        for dictionary in pd.unique(tried[tried != ""]):
            curves = partial(drift_curves, tables, info, drift, COMPARISONS[0], dictionary)
            draw(f"drift-ev-{dictionary}", curves)
    if len(tables.quality):
        draw("training", partial(training, tables, info))
    return names
