"""Figures of SAEs that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed.report import tables as t
from crossseed.report.stability import UNTRAINED, trained
from crossseed.report.style import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    STYLE,
    dictionary_colours,
    logarithmic,
    short_site,
    spread_labels,
)
from crossseed.stability import ITSELF, NULLS, RUNGS
from crossseed.stability.sweeps import Sweep, sweeps

COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, "#000000")
PANELS = {
    "strict_on_data": "share of latents, strict, on data",
    "pw_mcc": "mean matched decoder cosine",
}
# Latents of the anchor matched with those of another member.
BRIDGED = {**PANELS, "mmcs": "mean largest decoder cosine"}


def sharing(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """Two panels a cohort, a line a dictionary: strict share and matched cosine by site, with intervals; hollow, of
    the untrained model; crosses, of shuffled features; ticks, of random directions."""
    whole = tables.stability[tables.stability["first"].isna() & (tables.stability.part == "live")]
    rows = trained(whole)
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    names = list(pd.unique(rows.dictionary))
    sns.set_theme(style="ticks", rc=STYLE)
    size = (2.6 + 6.4 * len(cohorts), 1.1 + 0.34 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, 2 * len(cohorts), squeeze=False, sharey=True)[0]
    for column, cohort in enumerate(cohorts):
        sites = [site for site in info[cohort]["sites"] if site in set(rows.site)]
        for offset, (quantity, label) in enumerate(PANELS.items()):
            axis = axes[2 * column + offset]
            part = rows[(rows.cohort == cohort) & (rows.quantity == quantity)]
            before = whole[
                (whole.cohort == cohort)
                & (whole.quantity == quantity)
                & (whole.checkpoint == UNTRAINED)
            ]
            for number, site in enumerate(sites):
                colour = COLOURS[number % len(COLOURS)]
                y = np.arange(len(names)) + 0.5 * (number + 1) / (len(sites) + 1) - 0.25
                of = part[part.site == site].groupby("dictionary")[
                    ["value", "low", "high", "null", "shuffled"]
                ]
                of = of.mean().reindex(names)
                null = before[before.site == site].groupby("dictionary").value.mean().reindex(names)
                axis.hlines(y, of.low, of.high, color=colour, lw=1.0)
                axis.plot(of.value, y, "o", color=colour, ms=4, mew=0)
                axis.plot(null, y, "o", mfc="none", mec=colour, ms=4, mew=0.8)
                axis.plot(of.null, y, "|", color=GREY, ms=5)
                axis.plot(of.shuffled, y, "x", color=colour, ms=3.5, mew=0.8)
                if offset == 0:
                    axis.text(
                        0.02 + 0.45 * number, 1.01, short_site(site).replace("\n", ", "), color=colour,
                        fontsize=8, transform=axis.transAxes,
                    )  # fmt: skip
            axis.set_xlim(-0.03, 1.03)
            axis.set_xlabel(label)
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.6)
            axis.set_title(cohort if offset == 0 else "", pad=14)
            sns.despine(ax=axis)
    return figure


def decay(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: share of latents found in one of k SAEs only, mean over sites, and their range."""
    rows = trained(tables.stability)
    rows = rows[rows["first"].isna() & (rows.quantity == "alone")]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    names = list(pd.unique(rows.dictionary))
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(2.4 + 4.6 * len(cohorts), 4.6), layout="constrained")
    axes = figure.subplots(1, len(cohorts), squeeze=False, sharey=True)[0]
    palette = dictionary_colours(names)
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort].assign(k=lambda x: x.part.astype(int))
        ends: list[tuple[float, str, Any]] = []
        for dictionary, of in part.groupby("dictionary", sort=False):
            colour = palette[str(dictionary)]
            curve = of.groupby("k").value.agg(["mean", "min", "max"])
            axis.plot(curve.index, curve["mean"], "o-", color=colour, ms=3, lw=1.2)
            axis.vlines(curve.index, curve["min"], curve["max"], color=colour, lw=0.7)
            chance = of.groupby("k")[["shuffled", "null"]].mean()
            axis.plot(chance.index, chance.shuffled, ":", color=colour, lw=0.9)
            axis.plot(chance.index, chance.null, "-", color=GREY, lw=0.7, zorder=0)
            ends.append((float(curve["mean"].iloc[-1]), str(dictionary), colour))
        last = int(part.k.max())
        heights = spread_labels([value for value, *_ in ends], 0.035)
        for height, (_, dictionary, colour) in zip(heights, ends, strict=True):
            axis.text(last + 0.12, height, dictionary, color=colour, fontsize=7.5, va="center")
        axis.set_ylim(-0.02, 1.04)
        axis.set_xlim(1.8, last + 0.5 * max(2, last - 1))
        axis.set_xticks(range(2, last + 1))
        axis.set_title(cohort)
        axis.set_xlabel("SAEs compared")
        sns.despine(ax=axis)
    axes[0].set_ylabel("share of latents in one SAE only")
    return figure


def of_latents(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort: sharing over the threshold, by how often latents fire, and how often those fire that are in exactly
    so many SAEs."""
    rows = trained(tables.stability)
    rows = rows[rows["first"].isna()]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    names = list(pd.unique(rows.dictionary))
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(14.0, 0.6 + 3.9 * len(cohorts)), layout="constrained")
    axes = figure.subplots(len(cohorts), 3, squeeze=False)
    palette = dictionary_colours(names)
    for line, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort].astype({"part": str})
        of_density = part[part.part.str.startswith("density ")]
        panels = (
            part[part.quantity == "dec_above"].assign(x=lambda r: r.part.astype(float)),
            of_density[of_density.quantity == "strict_on_data"].assign(
                x=lambda r: r.part.str.removeprefix("density ").astype(int)
            ),
            part[part.quantity == "density_in_exactly"].assign(
                x=lambda r: r.part.astype(float).astype(int)
            ),
        )
        labels = (
            ("cosine above", "share of latents, decoders alone"),
            ("quarter by density, rarest first", "share of latents, strict, on data"),
            ("SAEs in which a latent is found", "density (share of tokens)"),
        )
        for axis, panel, (x_label, y_label) in zip(line, panels, labels, strict=True):
            # Curves that end at 0 leave no room for names; they have their colours beside.
            _lines(axis, panel, palette, named=axis is not line[0])
            axis.set_xlabel(x_label)
            axis.set_ylabel(y_label)
            sns.despine(ax=axis)
        for axis in line[:2]:
            axis.set_ylim(-0.03, 1.03)
        for axis, panel in zip(line[1:], panels[1:], strict=True):
            axis.set_xticks(sorted(panel.x.unique()))
        logarithmic(line[2])
        line[0].set_title(cohort)
    return figure


def _lines(axis: Axes, rows: pd.DataFrame, palette: Mapping[str, Any], named: bool) -> None:
    """A line a dictionary, mean over sites, with its name at its end."""
    logarithmic = bool((rows.quantity == "density_in_exactly").any())
    ends = []
    for dictionary, of in rows.groupby("dictionary", sort=False):
        colour = palette[str(dictionary)]
        curve = of.groupby("x")[["value", "low", "high", "null", "shuffled"]].mean()
        curve = curve.dropna(subset=["value"])
        if curve.empty:
            continue
        # An interval that reaches zero ends a tenth below on an axis that has none.
        low = curve.low.clip(lower=curve.value / 10) if logarithmic else curve.low
        axis.plot(curve.index, curve.value, "o-", color=colour, ms=3, lw=1.2)
        axis.vlines(curve.index, low, curve.high, color=colour, lw=0.8)
        axis.plot(curve.index, curve.shuffled, ":", color=colour, lw=0.9)
        axis.plot(curve.index, curve.null, "-", color=GREY, lw=0.7, zorder=0)
        ends.append((float(curve.value.iloc[-1]), str(dictionary), colour))
    if not ends or not named:
        return
    first, last = float(rows.x.min()), float(rows.x.max())
    axis.set_xlim(first - 0.05 * (last - first), last + 0.4 * (last - first))
    heights = np.array([height for height, *_ in ends])
    scale = np.log10(heights) if logarithmic else heights
    span = np.log10(rows.value.max() / rows.value[rows.value > 0].min()) if logarithmic else 1.0
    placed = np.array(spread_labels(list(scale), 0.045 * float(span)))
    # None below the lowest curve, where the axis has its own.
    placed += max(0.0, float(scale.min() - placed.min()))
    for height, (_, dictionary, colour) in zip(
        10**placed if logarithmic else placed, ends, strict=True
    ):
        axis.text(
            last + 0.03 * (last - first), height, dictionary, color=colour, fontsize=7, va="center"
        )


def swept(tables: t.Tables, info: dict[str, Any], recipes: Mapping[str, Any]) -> Figure:
    """Rows: a cohort and a quantity; columns: what is varied about one dictionary. Lines are sites."""
    whole = tables.stability[tables.stability["first"].isna() & (tables.stability.part == "live")]
    cohorts = [cohort for cohort in info if cohort in set(whole.cohort)]
    columns = sweeps(recipes, list(pd.unique(whole.dictionary)))
    rows = [(cohort, quantity) for cohort in cohorts for quantity in PANELS]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(0.8 + 2.6 * len(columns), 0.6 + 2.8 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
    for (cohort, quantity), line in zip(rows, axes, strict=True):
        of = whole[(whole.cohort == cohort) & (whole.quantity == quantity)]
        sites = [site for site in info[cohort]["sites"] if site in set(of.site)]
        for axis, sweep in zip(line, columns, strict=True):
            for number, site in enumerate(sites):
                _sweep(axis, of[of.site == site], sweep, COLOURS[number % len(COLOURS)])
            _of_sweep(axis, sweep)
            sns.despine(ax=axis)
        line[0].set_ylabel(f"{cohort}\n{PANELS[quantity]}", fontsize=8)
        line[0].set_ylim(-0.03, _top(of.value))
        if quantity == next(iter(PANELS)):
            for number, site in enumerate(sites):
                line[0].text(
                    0.03, 0.97 - 0.09 * number, short_site(site).replace("\n", ", "), fontsize=7, va="top",
                    color=COLOURS[number % len(COLOURS)], transform=line[0].transAxes,
                )  # fmt: skip
    for axis, sweep in zip(axes[-1], columns, strict=True):
        axis.set_xlabel(sweep.label)
    return figure


def _sweep(axis: Axes, rows: pd.DataFrame, sweep: Sweep, colour: str) -> None:
    """One site's values over what is varied, with intervals and floors."""
    names = list(sweep.dictionaries.values())
    x = np.array(list(sweep.dictionaries) if sweep.numeric else range(len(names)), dtype=float)
    after = trained(rows).groupby("dictionary")[["value", "low", "high", "null", "shuffled"]].mean()
    after = after.reindex(names)
    before = rows[rows.checkpoint == UNTRAINED].groupby("dictionary").value.mean().reindex(names)
    axis.plot(x, after.value, "o-" if sweep.numeric else "o", color=colour, ms=4, lw=1.2)
    axis.vlines(x, after.low, after.high, color=colour, lw=0.9)
    line = "--" if sweep.numeric else ""
    axis.plot(x, before, f"o{line}", color=colour, mfc="none", ms=4, lw=0.7)
    axis.plot(x, after.shuffled, f"x{line}", color=colour, ms=4, lw=0.7)
    axis.plot(x, after.null, "_", color=GREY, ms=9)


def _of_sweep(axis: Axes, sweep: Sweep) -> None:
    if sweep.numeric:
        axis.set_xscale("log")
        axis.set_xticks(list(sweep.dictionaries), [str(value) for value in sweep.dictionaries])
        axis.minorticks_off()
        return
    words = {True: "tied", False: "untied"}
    labels = [str(words.get(value, value)).replace("_", " ") for value in sweep.dictionaries]
    axis.set_xticks(range(len(labels)), labels, rotation=35, ha="right", fontsize=7.5)
    axis.set_xlim(-0.5, len(labels) - 0.5)


def bridged(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort and dictionary, a column a quantity: what SAEs of two members share after each map, points pairs
    of members; left, two SAEs of one member; on grey, maps that match no token."""
    whole = tables.bridge
    after, before = trained(whole), whole[whole.checkpoint == UNTRAINED]
    cohorts = [cohort for cohort in info if cohort in set(after.cohort)]
    rows = [(c, d) for c in cohorts for d in pd.unique(after[after.cohort == c].dictionary)]
    arms = [ITSELF, *RUNGS, *NULLS]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.0 + 3.9 * len(BRIDGED), 0.9 + 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(BRIDGED), squeeze=False, sharey="col", sharex=True)
    for line, (cohort, dictionary) in zip(axes, rows, strict=True):
        for axis, (quantity, label) in zip(line, BRIDGED.items(), strict=True):
            chosen = [
                of[
                    (of.cohort == cohort)
                    & (of.dictionary == dictionary)
                    & (of.quantity == quantity)
                ]
                for of in (after, before)
            ]
            sites = [site for site in info[cohort]["sites"] if site in set(chosen[0].site)]
            axis.axvspan(len(RUNGS) + 0.5, len(arms) - 0.5, color="0.94", zorder=0)
            for number, site in enumerate(sites):
                colour = COLOURS[number % len(COLOURS)]
                shift = 0.5 * (number + 1) / (len(sites) + 1) - 0.25
                of, null = (part[part.site == site] for part in chosen)
                x = of.arm.map(arms.index) + shift
                axis.vlines(x, of.low, of.high, color=colour, lw=0.8)
                axis.plot(x, of.value, "o", color=colour, ms=3.5, mew=0)
                axis.plot(
                    null.arm.map(arms.index) + shift,
                    null.value,
                    "o",
                    color=colour,
                    mfc="none",
                    ms=3.5,
                )
                ceiling = of[of.arm == ITSELF].value
                axis.axhline(ceiling.mean(), color=colour, lw=0.7, ls=":", zorder=0)
            axis.plot([0, len(arms) - 1], [chosen[0].null.mean()] * 2, color=GREY, lw=0.8, zorder=0)
            axis.set_xticks(
                range(len(arms)), [_arm(arm) for arm in arms], rotation=50, ha="right", fontsize=7.5
            )
            axis.set_title(f"{cohort}, {dictionary}" if axis is line[0] else "")
            axis.set_ylabel(label, fontsize=9)
            axis.set_ylim(-0.03, _top(whole[whole.quantity == quantity].value))
            sns.despine(ax=axis)
        for number, site in enumerate(sites):
            line[-1].text(
                1.02, 0.95 - 0.16 * number, short_site(site), fontsize=7.5, va="top",
                color=COLOURS[number % len(COLOURS)], transform=line[-1].transAxes,
            )  # fmt: skip
    return figure


def _top(values: pd.Series) -> float:
    """Where a panel of shares or cosines ends."""
    return float(np.clip(1.15 * values.max(), 0.3, 1.03))


def _arm(arm: str) -> str:
    words = {
        ITSELF: "two SAEs, one member",
        "random": "random rotation",
        "shuffled": "shuffled tokens",
    }
    return words.get(arm, arm.replace("_", " "))
