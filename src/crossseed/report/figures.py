"""The figures of a run: every value beside its nulls, intervals drawn, labels on the lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.lines
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed.drift import COMPARISONS
from crossseed.report import tables as t

# Okabe and Ito's palette: told apart under all common forms of colour blindness.
ARMS = {
    "self": ("#000000", "own model", "-"),
    "procrustes": ("#0072B2", "Procrustes", "-"),
    "gaussian": ("#CC79A7", "Gaussian", ":"),
    "shuffled": ("#E69F00", "shuffled", "--"),
    "mean": ("#009E73", "mean shift", "--"),
    "random": ("#999999", "random rotation", ":"),
    "raw": ("#D55E00", "raw", "-"),
}
EV_FLOOR = -1.5
DRIFT_FLOOR = -1.0
DRIFT_PANELS_A_ROW = 6
LABEL_GAP = 0.055
STYLE = {
    "svg.hashsalt": "crossseed",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 10,
    "figure.dpi": 120,
    "savefig.dpi": 160,
}


def save(figure: Figure, stem: Path) -> None:
    """Writes `stem`.svg and `stem`.png, without dates, so that equal figures are equal bytes."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None}, bbox_inches="tight")


def panels(n: int, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.0 + 4.9 * n, height), layout="constrained")
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    for axis in axes:
        sns.despine(ax=axis)
    return figure, list(axes)


def short_site(site: str) -> str:
    """`blocks.1.hook_resid_mid` as two lines: layer and place."""
    _, layer, hook = site.split(".")
    return f"block {layer}\n{hook.removeprefix('hook_').replace('_', ' ')}"


def spread_labels(wanted: list[float], gap: float) -> list[float]:
    """Heights for labels near `wanted`, at least `gap` apart, in the given order."""
    order = np.argsort(wanted)
    placed = np.array(wanted, dtype=float)
    for _ in range(200):
        moved = False
        for low, high in itertools.pairwise(order):
            short = gap - (placed[high] - placed[low])
            if short > 1e-9:
                placed[low] -= short / 2
                placed[high] += short / 2
                moved = True
        if not moved:
            break
    return [float(v) for v in placed]


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
    return by_site(
        tables,
        dictionary,
        "ev",
        info,
        EV_FLOOR,
        f"explained variance, {dictionary}\n(share of the variance, held out)",
    )


def firing(tables: t.Tables, dictionary: str, info: dict[str, Any]) -> Figure:
    return by_site(
        tables,
        dictionary,
        "firing_r",
        info,
        -0.1,
        f"firing correlation, {dictionary}\n(mean Pearson r over live latents)",
    )


def decoder_cosine(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """One panel a cohort: mean maximum decoder cosine per site for each init and basis."""
    figure, axes = panels(len(info))
    looks = {
        ("shared", "raw"): ("#D55E00", "-"),
        ("shared", "rotated"): ("#D55E00", "--"),
        ("independent", "raw"): ("#0072B2", "-"),
        ("independent", "rotated"): ("#0072B2", "--"),
    }
    rows = tables.decoder_cosine
    both = rows.groupby("dictionary").init.nunique()
    name = both.index[both.argmax()] if len(both) else "no SAE trained on both members"
    rows = rows[rows.dictionary == name]
    for axis, (cohort, about) in zip(axes, info.items(), strict=True):
        part = rows[rows.cohort == cohort]
        ends, names = [], []
        for (init, basis), (colour, dash) in looks.items():
            found = part[(part.init == init) & (part["map"] == basis)]
            if found.empty:
                continue
            places = [about["sites"].index(site) for site in found.site]
            axis.plot(places, found.mean_max_cosine, "o", ms=2.5, color=colour, alpha=0.7)
            means = [found[found.site == s].mean_max_cosine.mean() for s in about["sites"]]
            axis.plot(range(len(means)), means, dash, color=colour, lw=1.2)
            ends.append(float(means[-1]))
            names.append((f"{init} init, {basis}", colour))
        if len(part):
            floor = float(part.random_floor.mean())
            axis.axhline(floor, color="0.5", lw=0.9, ls=":")
            ends.append(floor)
            names.append(("random directions", "0.4"))
        for height, (word, colour) in zip(spread_labels(ends, 0.055), names, strict=True):
            axis.annotate(
                word,
                (len(about["sites"]) - 0.9, height),
                color=colour,
                va="center",
                fontsize=8,
                annotation_clip=False,
            )
        axis.set_xticks(
            range(len(about["sites"])), [short_site(s) for s in about["sites"]], fontsize=7.5
        )
        axis.set_xlim(-0.4, len(about["sites"]) - 0.95)
        axis.set_ylim(0, 1.03)
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel(f"mean maximum decoder cosine,\n{name}")
    return figure


RUNGS = {
    "raw": "raw",
    "mean": "mean shift",
    "permutation": "permutation",
    "signed_permutation": "signed perm.",
    "shared": "one rotation,\nall sites",
    "procrustes": "Procrustes",
    "scaled": "with scale",
    "ridge": "ridge affine",
}
RUNG_NULLS = {
    "random": "random rotation",
    "shuffled": "shuffled",
    "covariance_random": "covariance,\nrandom signs",
    "covariance_skewness": "covariance,\nskewness signs",
    "untrained": "untrained",
}
LADDER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def ladder(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort, a panel a site: how much each rung and each null carries, by several metrics.

    Points are pairs, lines join medians over the rungs; the nulls stand apart on the right."""
    sns.set_theme(style="ticks", rc=STYLE)
    widest = max(len(about["sites"]) for about in info.values())
    figure = Figure(figsize=(1.4 + 2.6 * widest, 2.9 * len(info)), layout="constrained")
    axes = figure.subplots(len(info), widest, sharey=True, squeeze=False)
    places = {arm: float(i) for i, arm in enumerate(RUNGS)}
    places |= {arm: len(RUNGS) + 0.6 + i for i, arm in enumerate(RUNG_NULLS)}
    words = {**RUNGS, **RUNG_NULLS}
    drawn: list[str] = []
    for line, (cohort, about) in zip(axes, info.items(), strict=True):
        for axis in line[len(about["sites"]) :]:
            axis.set_axis_off()
        for axis, site in zip(line, about["sites"], strict=False):
            curves = _ladder_curves(tables, cohort, site)
            drawn = drawn or list(curves)
            for number, rows in enumerate(curves.values()):
                colour = LADDER_COLOURS[number % len(LADDER_COLOURS)]
                shown = rows[rows.arm.isin(places)]
                at = shown.arm.map(places)
                axis.plot(
                    at, shown.value.clip(lower=DRIFT_FLOOR), "o", ms=2, alpha=0.5, color=colour
                )
                medians = shown.groupby(at).value.median().clip(lower=DRIFT_FLOOR)
                rungs = medians[medians.index < len(RUNGS)]
                axis.plot(rungs.index, rungs, "-", lw=1.1, color=colour)
            axis.axvspan(len(RUNGS) - 0.2, max(places.values()) + 0.6, color="0.95", zorder=0)
            axis.axhline(0, color="0.8", lw=0.8, zorder=0)
            axis.set_xticks(
                list(places.values()), [words[a] for a in places], fontsize=6, rotation=90
            )
            axis.set_xlim(-0.6, max(places.values()) + 0.6)
            axis.set_ylim(DRIFT_FLOOR - 0.05, 1.08)
            axis.set_title(short_site(site).replace("\n", " "), fontsize=8)
            sns.despine(ax=axis)
        line[0].set_ylabel(f"{cohort}\nshare or correlation, held out", fontsize=8)
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, label=name)
        for name, colour in zip(drawn, LADDER_COLOURS, strict=False)
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=2, fontsize=8, frameon=False,
        labelcolor="linecolor",
    )  # fmt: skip
    return figure


def _ladder_curves(tables: t.Tables, cohort: str, site: str) -> dict[str, pd.DataFrame]:
    """Rows by what they measure: of the map, and of the sparsest dictionary through it."""

    def of(table: pd.DataFrame, metric: str, dictionary: str | None = None) -> pd.DataFrame:
        rows = table[(table.cohort == cohort) & (table.site == site) & (table.metric == metric)]
        if dictionary is not None:
            rows = t.crossed(rows[rows.dictionary.fillna("") == dictionary])
        return rows.dropna(subset=["value"])

    sparsest = tables.transfer[tables.transfer.metric == "l0"].groupby("dictionary").value.median()
    name = str(sparsest.index[sparsest.argmin()])
    curves = {
        "fit of the map": of(tables.fits, "alignment_ev"),
        f"EVx beyond 3 directions, {name}": of(tables.transfer, "evx_3", name),
        f"firing correlation, {name}": of(tables.transfer, "firing_r", name),
        "cross-entropy recovered": of(tables.splice, "ce_recovered", ""),
    }
    return {words: rows for words, rows in curves.items() if len(rows)}


MAP_COLOURS = {
    "procrustes": ("#0072B2", "Procrustes"),
    "shuffled": ("#E69F00", "shuffled tokens"),
    "covariance_random": ("#CC79A7", "matched principal axes"),
}


def eigenphases(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort and site whose rotations are decided: empirical less mean law of the
    eigenangles, pooled over pairs, on the 95 % band of as many Haar draws."""
    sns.set_theme(style="ticks", rc=STYLE)
    cells = list(tables.phases.groupby(["cohort", "site"], sort=False))
    if not cells:
        figure, (axis,) = panels(1, height=1.2)
        axis.set_axis_off()
        axis.annotate("no site's activations decide a whole rotation", (0, 0.5), fontsize=9)
        return figure
    columns = min(4, len(cells))
    lines = -(-len(cells) // columns)
    figure = Figure(figsize=(1 + 2.8 * columns, 2.5 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for axis in axes.flat[len(cells) :]:
        axis.set_axis_off()
    for axis, ((cohort, site), part) in zip(axes.flat, cells, strict=False):
        band = part[part["map"] == "procrustes"]
        axis.fill_between(band.angle_rad, band.low, band.high, color="0.88", lw=0)
        for number, (name, (colour, word)) in enumerate(MAP_COLOURS.items()):
            rows = part[part["map"] == name]
            axis.plot(rows.angle_rad, rows.difference, lw=1, color=colour)
            axis.annotate(
                word, (0.98, 0.97 - 0.09 * number), xycoords="axes fraction", ha="right", va="top",
                fontsize=6.5, color=colour,
            )  # fmt: skip
        axis.axhline(0, color="0.6", lw=0.7)
        axis.set_title(f"{cohort}, {short_site(site)}".replace("\n", " "), fontsize=7.5)
        axis.set_xlabel("eigenangle θ (rad)", fontsize=7.5)
        sns.despine(ax=axis)
    axes[0, 0].set_ylabel("share of angles below θ,\nless its mean under Haar", fontsize=7.5)
    return figure


def power(tables: t.Tables) -> Figure:
    """A panel a size: share of matrices that each test rejects at 5 %, by alternative."""
    sizes = sorted(tables.power.d.unique())
    figure, axes = panels(len(sizes), height=3.4)
    for axis, size in zip(axes, sizes, strict=True):
        wide = tables.power[tables.power.d == size].pivot_table(
            index="test", columns="alternative", values="rejected", sort=False
        )
        sns.heatmap(
            wide, ax=axis, vmin=0, vmax=1, cmap="Blues", annot=True, fmt=".2f", cbar=False,
            annot_kws={"fontsize": 6.5}, linewidths=0.4,
        )  # fmt: skip
        axis.set_title(f"d = {size}", loc="left", fontweight="bold")
        axis.set_xlabel("")
        axis.set_ylabel("")
        axis.tick_params(labelsize=7)
        axis.set_xticklabels(
            [w.get_text().replace("_", " ") for w in axis.get_xticklabels()],
            rotation=30,
            ha="right",
        )
        axis.set_yticklabels(
            [w.get_text().replace("_", " ") for w in axis.get_yticklabels()], rotation=0
        )
    return figure


def training(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """One panel a cohort: training loss per step and seed."""
    trained = [cohort for cohort in info if cohort in set(tables.training.cohort)]
    figure, axes = panels(len(trained), height=2.8)
    colours = sns.color_palette("colorblind", 10)
    for axis, cohort in zip(axes, trained, strict=True):
        part = tables.training[tables.training.cohort == cohort]
        for number, (seed, curve) in enumerate(part.groupby("seed")):
            colour = colours[number % len(colours)]
            axis.plot(curve.step, curve.loss_nats, lw=0.9, color=colour)
            axis.annotate(
                f"seed {seed}",
                (0.98, 0.95 - 0.09 * number),
                xycoords="axes fraction",
                ha="right",
                color=colour,
                fontsize=8,
            )
        axis.set_yscale("log")
        axis.set_xlabel("optimiser step")
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel("training loss (nats)")
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
        line[0].set_ylabel(f"{cohort}\nexplained variance", fontsize=8)
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
    for height, (word, colour) in zip(spread_labels(ends, 0.12), names, strict=True):
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
    tables: t.Tables, info: dict[str, Any], drift: dict[str, Any] | None, folder: Path
) -> list[str]:
    """Draws every figure of a run into a folder; returns their names in reading order."""
    mpl.use("Agg")
    names: list[str] = []

    def draw(name: str, make: Callable[[], Figure]) -> None:
        save(make(), folder / name)
        names.append(name)

    for dictionary in pd.unique(tables.transfer.dictionary):
        draw(f"ev-{dictionary}", partial(explained_variance, tables, dictionary, info))
        draw(f"firing-{dictionary}", partial(firing, tables, dictionary, info))
    if len(tables.transfer):
        draw("ladder", partial(ladder, tables, info))
        draw("decoder-cosine", partial(decoder_cosine, tables, info))
    if len(tables.power):
        draw("power", partial(power, tables))
        draw("eigenphases", partial(eigenphases, tables, info))
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
