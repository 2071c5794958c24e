"""The figures of what is carried and what it does: steering, single latents, attribution."""

from __future__ import annotations

from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed import attribution as a
from crossseed import features as f
from crossseed import steering as s
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
    logarithmic,
    panels,
    short_site,
    spread_labels,
)

ARMS = {
    s.NATIVE: (BLACK, "native", "-"),
    s.MAPPED: (BLUE, "rotated", "-"),
    s.RAW: (ORANGE, "raw", "-"),
    s.SHUFFLED: (AMBER, "shuffled", "--"),
    s.MISMATCHED: (PINK, "mismatched", "--"),
}
CONCEPT_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER)
METHODS = {
    a.PATCHING: (ORANGE, "attribution patching", "o"),
    a.RIGHT: (BLUE, "right Riemann, as published", "o"),
    a.MIDPOINT: (GREEN, "midpoint", "s"),
    a.GAUSS: (PINK, "Gauss–Legendre", "^"),
    a.ONE_SEQUENCE: (AMBER, "ablating one sequence", "D"),
    a.OTHER_BATCH: (BLACK, "ablating another batch", "x"),
}
FEATURE_ARMS = {
    f.PORTED: (BLUE, "rotated"),
    f.RAW: (ORANGE, "raw"),
    f.SHUFFLED: (AMBER, "shuffled"),
    f.RANDOM: (GREY, "random rotation"),
    f.DIRECTION: (PINK, "random direction"),
    f.OTHER: (GREEN, "another latent"),
    f.PERMUTED: (GREEN, "another's partner"),
}


def measure_of(rows: pd.DataFrame) -> str:
    """The measure that a concept is read by: the move to the intended class, or the margin where a
    head has no third class."""
    return s.MEASURES[0] if s.MEASURES[0] in set(rows.measure) else s.MEASURES[-1]


def doses(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort and concept, a panel a site: how far the intended logit moves at each dose, for every
    arm, with the band of random directions. Lines are means over pairs, bars 95 % intervals of a pair."""
    sns.set_theme(style="ticks", rc=STYLE)
    rows = tables.steering
    lines = [
        (cohort, concept)
        for cohort in info
        for concept in pd.unique(rows[rows.cohort == cohort].concept)
    ]
    widest = max(len(about["sites"]) for about in info.values())
    figure = Figure(figsize=(1.2 + 2.3 * widest, 2.3 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), widest, squeeze=False)
    for line, (cohort, concept) in zip(axes, lines, strict=True):
        part = rows[(rows.cohort == cohort) & (rows.concept == concept)]
        measure = measure_of(part)
        part = part[(part.metric == "shift") & (part.measure == measure)]
        sites = info[cohort]["sites"]
        for axis in line[len(sites) :]:
            axis.set_axis_off()
        for axis, site in zip(line, sites, strict=False):
            _dose_panel(axis, part[part.site == site])
            axis.set_title(short_site(site).replace("\n", " "), fontsize=8)
            sns.despine(ax=axis)
        words = [str(name).replace("_", " ") for name in (concept, measure)]
        line[0].set_ylabel(f"{cohort}\n{words[0]}\nlogit moved, {words[1]} (logits)", fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("dose (lengths of the native vector)", fontsize=7)
    return figure


def _dose_panel(axis: Axes, rows: pd.DataFrame) -> None:
    for arm, shade in ((s.SHAPED, "0.9"), (s.RANDOM, "0.75")):
        band = (
            rows[rows.arm == arm]
            .groupby("dose")[["low", "high"]]
            .agg({"low": "min", "high": "max"})
        )
        axis.fill_between(band.index, band.low, band.high, color=shade, lw=0, zorder=0)
    ends, names = [], []
    for arm, (colour, word, dash) in ARMS.items():
        part = rows[rows.arm == arm]
        if part.empty:
            continue
        mean = part.groupby("dose").value.mean()
        axis.plot(mean.index, mean, dash, color=colour, lw=1.1)
        axis.errorbar(
            part.dose,
            part.value,
            yerr=np.clip([part.value - part.low, part.high - part.value], 0, None),
            fmt="o",
            ms=1.6,
            lw=0.6,
            color=colour,
            alpha=0.6,
        )
        ends.append(float(mean.iloc[-1]))
        names.append((word, colour))
    axis.axhline(0, color="0.8", lw=0.7, zorder=0)
    axis.set_xlim(-4.4, 7.4)
    axis.set_xticks([-4, -2, 0, 2, 4])
    low, high = axis.get_ylim()
    for height, (word, colour) in zip(spread_labels(ends, 0.09 * (high - low)), names, strict=True):
        axis.annotate(word, (4.2, height), color=colour, va="center", fontsize=6.5)


def regimes(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: transfer ratio of raw vectors over the share of them that shared weights pin, or,
    where nothing is shared, that the rotation leaves in place; points are pairs and sites."""
    figure, axes = panels(len(info), height=3.4)
    for axis, cohort in zip(axes, info, strict=True):
        rows = tables.steering[tables.steering.cohort == cohort]
        rows = rows[~rows.site.isin(t.same_sites(tables.fits, cohort))]
        pins = rows[rows.metric == "pinned_share_random"].value.max() > 0
        metric = "pinned_share" if pins else "kept_by_map"
        keys = [*t.PAIR, "concept"]
        x = rows[rows.metric == metric].set_index(keys).value
        for number, (concept, part) in enumerate(rows.groupby("concept", sort=False)):
            colour = CONCEPT_COLOURS[number % len(CONCEPT_COLOURS)]
            measure = measure_of(part)
            ratio = part[(part.metric == "ratio") & (part.measure == measure)]
            for arm, marker, alpha in ((s.RAW, "o", 0.9), (s.RANDOM, "_", 0.5)):
                shown = ratio[ratio.arm == arm].set_index(keys).dropna(subset=["value"])
                at = x.reindex(shown.index)
                if arm == s.RANDOM:
                    axis.vlines(at, shown.low, shown.high, color="0.85", lw=3, zorder=0)
                    continue
                errors = [shown.value - shown.low, shown.high - shown.value]
                axis.errorbar(
                    at, shown.value, yerr=np.clip(errors, 0, None), fmt=marker, ms=3.5, lw=0.7,
                    color=colour, alpha=alpha,
                )  # fmt: skip
            axis.annotate(
                str(concept).replace("_", " "), (0.98, 0.06 + 0.07 * number),
                xycoords="axes fraction", ha="right", color=colour, fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
        if pins:
            axis.axvline(
                rows[rows.metric == "pinned_share_random"].value.median(), color="0.7", ls=":", lw=1
            )
        axis.axhline(1, color="0.8", lw=0.8, zorder=0)
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        axis.set_xlabel(
            "share of the vector pinned by shared weights (dotted: a random direction)"
            if pins
            else "cosine of the vector with itself rotated (no weights are shared)",
            fontsize=8,
        )
        axis.set_ylim(-1.6, 2.1)
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel("transfer ratio of the raw vector\n(slope over native slope)")
    return figure


def features(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A column a cohort. Above: agreement of ablation fingerprints per site. Below: quality of
    substitution over coverage, all sites and pairs."""
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.0 + 4.9 * len(info), 6.4), layout="constrained")
    axes = figure.subplots(2, len(info), sharey="row", squeeze=False)
    for column, (cohort, about) in zip(axes.T, info.items(), strict=True):
        rows = tables.features[(tables.features.cohort == cohort) & tables.features.latent.isna()]
        _agreement(column[0], rows[rows.metric == "agreement"], about["sites"])
        column[0].set_title(cohort, loc="left", fontweight="bold")
        _substitution(column[1], rows[rows.metric == "quality"])
        for axis in column:
            sns.despine(ax=axis)
    axes[0, 0].set_ylabel("agreement of what taking a latent\nout does, with the source (r)")
    axes[1, 0].set_ylabel("quality of substitution\n1 − KL(replaced) / KL(taken out)")
    return figure


def _agreement(axis: Axes, rows: pd.DataFrame, sites: list[str]) -> None:
    ends, names = [], []
    for number, (arm, (colour, word)) in enumerate(FEATURE_ARMS.items()):
        part = rows[rows.arm == arm]
        if part.empty:
            continue
        at = part.site.map({site: place for place, site in enumerate(sites)})
        at = at + (number - 3) * 0.05
        errors = np.clip([part.value - part.low, part.high - part.value], 0, None)
        axis.errorbar(at, part.value, yerr=errors, fmt="o", ms=2.5, lw=0.8, color=colour, alpha=0.8)
        medians = part.groupby(at).value.median()
        axis.plot(medians.index, medians, color=colour, lw=1)
        ends.append(float(medians.iloc[-1]))
        names.append((word, colour))
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.set_xticks(range(len(sites)), [short_site(site) for site in sites], fontsize=7.5)
    axis.set_xlim(-0.5, len(sites) + 0.4)
    for height, (word, colour) in zip(spread_labels(ends, 0.075), names, strict=True):
        axis.annotate(word, (len(sites) - 0.7, height), color=colour, va="center", fontsize=7.5)


def _substitution(axis: Axes, rows: pd.DataFrame) -> None:
    floor = -1.0
    ends, names = [], []
    for arm, (colour, word) in FEATURE_ARMS.items():
        part = rows[rows.arm == arm]
        if part.empty:
            continue
        for _, curve in part.groupby(["source_seed", "target_seed", "site"]):
            axis.plot(
                curve.coverage, curve.value.clip(lower=floor), color=colour, lw=0.5, alpha=0.35
            )
        median = part.groupby("coverage").value.median().clip(lower=floor)
        axis.plot(median.index, median, "-o", ms=3, lw=1.6, color=colour)
        ends.append(float(median.iloc[-1]))
        names.append((word, colour))
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.set_xlim(0, 1.4)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_ylim(floor - 0.05, 1.05)
    axis.set_xlabel("share of the target's live latents replaced, best matched first", fontsize=8)
    for height, (word, colour) in zip(spread_labels(ends, 0.11), names, strict=True):
        axis.annotate(word, (1.02, height), color=colour, va="center", fontsize=7.5)


def attribution(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A column a cohort, a row a group of components: predicted over measured effects, attribution
    patching and integrated gradients with the most points of the right Riemann sum."""
    sns.set_theme(style="ticks", rc=STYLE)
    rows = tables.attribution_cells
    groups = [g for g in a.GROUPS if set(g) & set(rows.kind)]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    figure = Figure(
        figsize=(0.8 + 3.9 * len(cohorts), 0.4 + 3.1 * len(groups)), layout="constrained"
    )
    axes = figure.subplots(len(groups), len(cohorts), squeeze=False)
    for line, kinds in zip(axes, groups, strict=True):
        for axis, cohort in zip(line, cohorts, strict=True):
            part = rows[(rows.cohort == cohort) & rows.kind.isin(kinds)]
            sns.despine(ax=axis)
            if part.empty:
                axis.set_axis_off()
                continue
            most = part[part.method == a.RIGHT].points.max()
            for method, points in ((a.PATCHING, 1), (a.RIGHT, most)):
                colour, word, _ = METHODS[method]
                shown = part[(part.method == method) & (part.points == points)]
                axis.plot(
                    shown.measured_nats, shown.predicted_nats, "o", ms=2.2, alpha=0.5, color=colour
                )
                r = np.corrcoef(shown.measured_nats, shown.predicted_nats)[0, 1]
                axis.annotate(
                    f"{word}{f', {points} points' if points > 1 else ''}: r = {r:.4f}",
                    (0.02, 0.97 if method == a.PATCHING else 0.89), xycoords="axes fraction",
                    va="top", color=colour, fontsize=7.5,
                )  # fmt: skip
            threshold = max(1e-3, float(part.measured_nats.abs().quantile(0.25)))
            axis.set_xscale("symlog", linthresh=threshold)
            axis.set_yscale("symlog", linthresh=threshold)
            limits = axis.get_xlim()
            axis.plot(limits, limits, color="0.7", lw=0.8, zorder=0)
            axis.tick_params(labelsize=6.5)
            axis.tick_params(axis="x", rotation=45)
            axis.set_title(f"{cohort}: {' and '.join(kinds)}", loc="left", fontsize=9)
            axis.set_xlabel("measured effect (nats)", fontsize=8)
        line[0].set_ylabel("predicted effect (nats)", fontsize=8)
    return figure


def attribution_cost(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: error of every method over the passes that it takes."""
    rows = tables.attribution[
        (tables.attribution.metric == "relative_error")
        & (tables.attribution.kinds == "+".join(a.PARTS))
    ]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    figure, axes = panels(len(cohorts), height=3.4)
    for axis, cohort in zip(axes, cohorts, strict=True):
        for number, (method, (colour, word, marker)) in enumerate(METHODS.items()):
            part = rows[(rows.cohort == cohort) & (rows.method == method)]
            if part.empty:
                continue
            axis.plot(part.passes, part.value, marker, ms=3, color=colour, alpha=0.7)
            median = part.groupby("passes").value.median()
            axis.plot(median.index, median, color=colour, lw=1.1)
            axis.annotate(
                word,
                (0.02, 0.03 + 0.06 * number),
                xycoords="axes fraction",
                color=colour,
                fontsize=7.5,
            )
        axis.axvline(1, color="0.8", lw=0.8, zorder=0)
        axis.set_xscale("log")
        logarithmic(axis)
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axis.set_xlabel("model passes a component and batch (grey: ablating it)")
        axis.set_title(cohort, loc="left", fontweight="bold")
    axes[0].set_ylabel("error, heads and MLPs\nΣ|predicted − measured| / Σ|measured|")
    return figure
