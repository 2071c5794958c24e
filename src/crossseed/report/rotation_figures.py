"""The figures of the tests of rotations against Haar.

``published_rotation`` redraws figure 2 of arXiv 2605.24577 with the nulls that belong on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed.report import tables as t
from crossseed.report.style import (
    AMBER,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    STYLE,
    map_legend,
    short_site,
    site_axis,
)

MAP_COLOURS = {
    "procrustes": (BLUE, "Procrustes"),
    "shuffled": (AMBER, "shuffled tokens"),
    "covariance_random": (PINK, "matched principal axes"),
}


def published_rotation(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort: distances of R from the identity per site, and the density of eigenphases
    over all sites, each beside its nulls."""
    cohorts = [name for name in info if name in set(tables.published.cohort)]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(10.8, 3.3 * len(cohorts)), layout="constrained")
    axes = figure.subplots(len(cohorts), 2, squeeze=False, width_ratios=(1.25, 1))
    for (left, right), cohort in zip(axes, cohorts, strict=True):
        _distances(left, tables, cohort, info[cohort])
        _densities(right, tables, cohort)
        sns.despine(ax=left)
        sns.despine(ax=right)
    return figure


def _distances(axis: Axes, tables: t.Tables, cohort: str, about: dict[str, Any]) -> None:
    sites, width = about["sites"], about["width"]
    published = tables.published[
        (tables.published.cohort == cohort) & (tables.published.quantity == "rotation_distance")
    ].drop_duplicates(["source_seed", "target_seed", "site"])
    fits = tables.fits[(tables.fits.cohort == cohort) & (tables.fits.metric == "rotation_distance")]
    shown = {
        "as published": (published, BLUE, "o"),
        "shuffled tokens": (fits[fits.arm == "shuffled"], AMBER, "s"),
        "matched principal axes": (fits[fits.arm == "covariance_random"], PINK, "D"),
        "random rotation": (fits[fits.arm == "random"], "#999999", "^"),
    }
    # ‖R − I‖² = 2d − 2 tr R, and the trace of a Haar draw is close to N(0, 1).
    low, high = (np.sqrt(2 * width - 2 * z) for z in (1.96, -1.96))
    axis.axhspan(low, high, color="0.88", lw=0)
    for number, (words, (rows, colour, marker)) in enumerate(shown.items()):
        places = np.array([sites.index(site) for site in rows.site]) + 0.14 * (number - 1.5)
        axis.plot(places, rows.value, marker, ms=4, color=colour, alpha=0.8, lw=0)
        axis.annotate(
            words, (1.0, 0.46 - 0.09 * number), xycoords="axes fraction", ha="right",
            color=colour, fontsize=8,
        )  # fmt: skip
    axis.annotate(
        "95 % of Haar draws", (1.0, 0.1), xycoords="axes fraction", ha="right", color="0.45",
        fontsize=8,
    )  # fmt: skip
    ranks = (
        tables.fits[(tables.fits.cohort == cohort) & (tables.fits.metric == "numerical_rank")]
        .groupby("site")
        .value.min()
    )
    site_axis(axis, sites, room=0.5)
    short = [ranks.get(site, width) < width for site in sites]
    axis.set_xticks(
        range(len(sites)),
        [
            short_site(site) + (f"\nrank {ranks[site]:.0f} of {width}" if is_short else "")
            for site, is_short in zip(sites, short, strict=True)
        ],
        fontsize=7,
    )
    for label, is_short in zip(axis.get_xticklabels(), short, strict=True):
        label.set_color("tab:red" if is_short else "black")
    axis.set_ylim(0, 1.08 * high)
    axis.set_ylabel("distance of R from the identity,\nFrobenius norm")
    axis.set_title(cohort, loc="left", fontweight="bold")


def _densities(axis: Axes, tables: t.Tables, cohort: str, bins: int = 30) -> None:
    rows = tables.phases[tables.phases.cohort == cohort]
    if rows.empty:
        axis.set_axis_off()
        return
    edges = np.linspace(0, np.pi, bins + 1)
    for number, (name, (colour, words)) in enumerate(MAP_COLOURS.items()):
        part = rows[rows["map"] == name]
        # Each site counts as often as it has matrices.
        law = (part.difference * part.matrices).groupby(part.angle_rad).sum()
        law /= part.groupby("angle_rad").matrices.sum()
        at_edges = np.interp(edges, law.index, law.to_numpy()) + edges / np.pi
        density = np.diff(at_edges) / np.diff(edges)
        axis.stairs(density, edges, color=colour, lw=1.2)
        axis.annotate(
            words, (0.98, 0.97 - 0.09 * number), xycoords="axes fraction", ha="right", va="top",
            color=colour, fontsize=8,
        )  # fmt: skip
    axis.axhline(1 / np.pi, color="0.5", lw=0.9, ls=":")
    axis.annotate(
        "Haar, d large", (0.98, 0.7), xycoords="axes fraction", ha="right", va="top", color="0.4",
        fontsize=8,
    )  # fmt: skip
    # Room for the names above the highest bin.
    axis.set_ylim(0, 1.5 * axis.get_ylim()[1])
    axis.set_xlabel("eigenphase |θ| (rad), all sites and pairs")
    axis.set_ylabel("density (1/rad)")


def eigenphases(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort and site: empirical less mean law of the eigenangles, pooled over pairs, on
    the 95 % band of as many Haar draws. A title in red: the activations do not decide R."""
    sns.set_theme(style="ticks", rc=STYLE)
    cells = list(tables.phases.groupby(["cohort", "site"], sort=False))
    columns = min(5, len(cells))
    lines = -(-len(cells) // columns)
    figure = Figure(figsize=(1 + 2.5 * columns, 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for axis in axes.flat[len(cells) :]:
        axis.set_axis_off()
    for axis, ((cohort, site), part) in zip(axes.flat, cells, strict=False):
        band = part[part["map"] == "procrustes"]
        axis.fill_between(band.angle_rad, band.low, band.high, color="0.85", lw=0)
        for name, (colour, _) in MAP_COLOURS.items():
            rows = part[part["map"] == name]
            axis.plot(rows.angle_rad, rows.difference, lw=1, color=colour)
        axis.axhline(0, color="0.6", lw=0.7)
        place = short_site(site).replace("\n", " ")
        title, colour = f"{cohort}\n{place}", "black"
        if not band.decided.all():
            title, colour = f"{title}, undecided", "tab:red"
        axis.set_title(title, fontsize=7.5, color=colour)
        axis.set_xlabel("eigenangle θ (rad)", fontsize=7.5)
        axis.tick_params(labelsize=7)
        sns.despine(ax=axis)
    for line in axes:
        line[0].set_ylabel("share of angles below θ,\nless its mean under Haar", fontsize=7.5)
    map_legend(figure, {words: colour for colour, words in MAP_COLOURS.values()})
    return figure


# Tests drawn in power curves; the rest are in the table.
CURVE_TESTS = {
    "ks": (BLUE, "KS, calibrated"),
    "trace_1": (ORANGE, "trace"),
    "spacing_ratio": (GREEN, "spacing ratio"),
    "assignment": (PINK, "entries: assignment"),
    "largest_entry": (AMBER, "entries: largest"),
    "ks_iid": ("#000000", "KS as published"),
}


def power(tables: t.Tables) -> Figure:
    """A row a size: share of matrices that each test rejects at 5 %, by alternative; then as curves
    over the size of an effect."""
    sizes = sorted(tables.power.d.unique())
    curves = list(tables.power[tables.power.strength.notna()].alternative.unique())
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(5.6 + 3 * len(curves), 3.5 * len(sizes)), layout="constrained")
    axes = figure.subplots(
        len(sizes), 1 + len(curves), squeeze=False, width_ratios=[1.9, *[1] * len(curves)]
    )
    for line, size in zip(axes, sizes, strict=True):
        rows = tables.power[tables.power.d == size]
        _power_table(line[0], rows[rows.strength.isna()], size)
        for axis, curve in zip(line[1:], curves, strict=True):
            _power_curve(axis, rows[rows.alternative == curve])
            axis.set_xlabel(curve, fontsize=8)
            sns.despine(ax=axis)
        if curves:
            line[1].set_ylabel("share rejected at α = .05", fontsize=8)
            for number, (colour, words) in enumerate(CURVE_TESTS.values()):
                line[-1].annotate(
                    words, (1.03, 0.95 - 0.09 * number), xycoords="axes fraction", color=colour,
                    fontsize=8, annotation_clip=False,
                )  # fmt: skip
    return figure


def wilson(share: pd.Series, n: pd.Series) -> tuple[pd.Series, pd.Series]:
    """95 % intervals of shares of `n` draws, by Wilson's score."""
    z = 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def _power_curve(axis: Axes, rows: pd.DataFrame) -> None:
    for number, (test, (colour, _)) in enumerate(CURVE_TESTS.items()):
        part = rows[rows.test == test].sort_values("strength")
        axis.plot(part.strength, part.rejected, "o-", ms=2.5, lw=1.2, color=colour)
        # Side by side, so that none hides another.
        beside = part.strength * 2 ** (0.09 * (number - (len(CURVE_TESTS) - 1) / 2))
        axis.vlines(beside, *wilson(part.rejected, part.draws), color=colour, lw=0.7, alpha=0.6)
    axis.axhline(0.05, color="0.6", lw=0.8, ls=":")
    axis.set_xscale("log", base=2)
    ticks = sorted(rows.strength.unique())
    axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], fontsize=7)
    axis.set_ylim(-0.03, 1.03)
    axis.tick_params(axis="y", labelsize=7)


def _power_table(axis: Axes, rows: pd.DataFrame, size: int) -> None:
    wide = rows.pivot_table(index="test", columns="alternative", values="rejected", sort=False)
    sns.heatmap(
        wide, ax=axis, vmin=0, vmax=1, cmap="Blues", annot=True, fmt=".2f", cbar=False,
        annot_kws={"fontsize": 6.5}, linewidths=0.4,
    )  # fmt: skip
    axis.set_title(f"d = {size}", loc="left", fontweight="bold")
    axis.set_xlabel("")
    axis.set_ylabel("")
    axis.tick_params(labelsize=7)
    for ticks, rotation in ((axis.get_xticklabels(), 30), (axis.get_yticklabels(), 0)):
        words = [word.get_text().replace("_", " ") for word in ticks]
        if rotation:
            axis.set_xticklabels(words, rotation=rotation, ha="right")
        else:
            axis.set_yticklabels(words, rotation=0)
