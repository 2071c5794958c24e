"""The figures of what each map carries, and of decoder cosines.

``published_ev`` redraws figure 1 of arXiv 2605.24577 with the nulls that belong on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed.alignment.ladder import directions_of
from crossseed.report import tables as t
from crossseed.report.style import (
    AMBER,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    STYLE,
    map_legend,
    panels,
    short_site,
    site_axis,
    spread_labels,
)
from crossseed.report.style import DRIFT_FLOOR as FLOOR

RUNGS = {
    "raw": "raw",
    "mean": "mean shift",
    "permutation": "permutation",
    "signed_permutation": "signed perm.",
    "shared": "one for all sites",
    "procrustes": "Procrustes",
    "scaled": "with scale",
    "ridge": "ridge affine",
    "resampled": "ceiling",
}
RUNG_NULLS = {
    "random": "random rotation",
    "shuffled": "shuffled",
    "covariance_random": "cov., random signs",
    "covariance_skewness": "cov., skewness",
    "untrained": "untrained",
}
LADDER_COLOURS = (BLUE, ORANGE, GREEN, PINK)


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
                axis.plot(at, shown.value.clip(lower=FLOOR), "o", ms=2, alpha=0.5, color=colour)
                medians = shown.groupby(at).value.median().clip(lower=FLOOR)
                rungs = medians[medians.index < len(RUNGS)]
                axis.plot(rungs.index, rungs, "-", lw=1.1, color=colour)
            axis.axvspan(len(RUNGS) - 0.2, max(places.values()) + 0.6, color="0.95", zorder=0)
            axis.axhline(0, color="0.8", lw=0.8, zorder=0)
            axis.set_xticks(
                list(places.values()), [words[a] for a in places], fontsize=6, rotation=90
            )
            axis.set_xlim(-0.6, max(places.values()) + 0.6)
            axis.set_ylim(FLOOR - 0.05, 1.08)
            axis.set_title(short_site(site).replace("\n", " "), fontsize=8)
            sns.despine(ax=axis)
        line[0].set_ylabel(f"{cohort}\nshare or correlation, held out", fontsize=8)
    map_legend(figure, dict(zip(drawn, LADDER_COLOURS, strict=False)))
    return figure


def sparsest(tables: t.Tables) -> str:
    """The dictionaries with the fewest active latents, which say most about features."""
    found = tables.transfer[tables.transfer.metric == "l0"].groupby("dictionary").value.median()
    return str(found.index[found.argmin()])


def _ladder_curves(tables: t.Tables, cohort: str, site: str) -> dict[str, pd.DataFrame]:
    """Rows by what they measure: of the map, and of the sparsest dictionary through it."""

    def of(table: pd.DataFrame, metric: str, dictionary: str | None = None) -> pd.DataFrame:
        rows = table[(table.cohort == cohort) & (table.site == site) & (table.metric == metric)]
        if dictionary is not None:
            rows = t.crossed(rows[rows.dictionary.fillna("") == dictionary])
        return rows.dropna(subset=["value"])

    name = sparsest(tables)
    curves = {
        "fit of the map": of(tables.fits, "alignment_ev"),
        f"EVx beyond 3 directions, {name}": of(tables.transfer, "evx_3", name),
        f"firing correlation, {name}": of(tables.transfer, "firing_r", name),
        "cross-entropy recovered": of(tables.splice, "ce_recovered", ""),
    }
    return {words: rows for words, rows in curves.items() if len(rows)}


def _name_lines(axis: Axes, x: float, ends: list[tuple[float, str, str]], gap: float) -> None:
    """Writes each line's name at its end: (height, words, colour)."""
    heights = spread_labels([height for height, _, _ in ends], gap)
    for height, (_, words, colour) in zip(heights, ends, strict=True):
        axis.annotate(
            words, (x, height), color=colour, va="center", fontsize=8, annotation_clip=False
        )


# Quantity or arm, colour, words, dashes; the latter measured on held-out tokens.
PUBLISHED_EV = {
    "ev_self": ("#000000", "own model", "-"),
    "ev_raw": (ORANGE, "raw", "-"),
    "ev_rotated": (BLUE, "rotated and shifted", "-"),
    "ev_gaussian": (PINK, "Gaussian", ":"),
}
PUBLISHED_NULLS = {
    "shuffled": (AMBER, "shuffled tokens", "--"),
    "covariance_skewness": (GREEN, "axes by rank", "--"),
    "random": ("#999999", "random rotation", ":"),
}


def published_ev(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """One panel a cohort: explained variance as published, per site, with its nulls."""
    cohorts = [name for name in info if name in set(tables.published.cohort)]
    figure, axes = panels(len(cohorts))
    floor = -1.5
    for axis, cohort in zip(axes, cohorts, strict=True):
        sites = info[cohort]["sites"]
        own = tables.published[(tables.published.cohort == cohort)]
        name = own.dictionary.dropna().iloc[0]
        init = "shared" if "shared" in set(own.init) else own.init.dropna().iloc[0]
        own = own[(own.dictionary == name) & (own.init == init)]
        nulls = t.crossed(tables.transfer[tables.transfer.cohort == cohort])
        nulls = nulls[
            (nulls.dictionary == name) & (nulls.init == init) & (nulls.metric == "ev_published")
        ]
        lines = {key: own[own.quantity == key] for key in PUBLISHED_EV}
        lines |= {arm: nulls[nulls.arm == arm] for arm in PUBLISHED_NULLS}
        ends = []
        for key, (colour, words, dash) in {**PUBLISHED_EV, **PUBLISHED_NULLS}.items():
            rows = lines[key]
            if rows.empty:
                continue
            places = [sites.index(site) for site in rows.site]
            axis.plot(places, rows.value.clip(lower=floor), "o", ms=2.5, color=colour, alpha=0.6)
            medians = rows.groupby("site").value.median().reindex(sites).clip(lower=floor)
            axis.plot(range(len(sites)), medians, dash, color=colour, lw=1.2)
            ends.append((float(medians.dropna().iloc[-1]), words, colour))
        _name_lines(axis, len(sites) - 0.85, ends, 0.13)
        site_axis(axis, sites)
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        axis.set_ylim(floor - 0.14, 1.06)
        axis.set_title(f"{cohort}, {name}", loc="left", fontweight="bold")
    axes[0].set_ylabel("explained variance as published\n(about one grand mean)")
    return figure


# What lies beyond is drawn on the edge.
TWIN_EDGE = 2.0
TWIN_METRICS = {"evx_3": (ORANGE, "EVx beyond 3 directions"), "firing_r": (GREEN, "firing")}


def twins(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort, a panel a site: Procrustes less its twin, whose pairs agree in the k leading
    directions of the target alone: what is shared beyond k directions."""
    sns.set_theme(style="ticks", rc=STYLE)
    widest = max(len(about["sites"]) for about in info.values())
    figure = Figure(figsize=(1.4 + 2.1 * widest, 2.3 * len(info)), layout="constrained")
    axes = figure.subplots(len(info), widest, sharey=True, squeeze=False)
    name = sparsest(tables)
    rows = t.crossed(tables.transfer[tables.transfer.dictionary == name])
    keys = ["source_seed", "target_seed", "init"]
    for line, (cohort, about) in zip(axes, info.items(), strict=True):
        for axis in line[len(about["sites"]) :]:
            axis.set_axis_off()
        for axis, site in zip(line, about["sites"], strict=False):
            part = rows[(rows.cohort == cohort) & (rows.site == site)]
            for metric, (colour, _) in TWIN_METRICS.items():
                found = part[part.metric == metric].set_index([*keys, "arm"]).value.unstack("arm")
                arms = {k: arm for arm in found if (k := _twin_of(str(arm))) is not None}
                if "procrustes" not in found or not arms:
                    continue
                order = sorted(arms)
                gain = np.stack([found.procrustes - found[arms[k]] for k in order])
                gain = np.clip(gain, -TWIN_EDGE, TWIN_EDGE)
                places = range(len(order))
                axis.plot(places, gain, "o", ms=2.5, color=colour, alpha=0.6)
                axis.plot(places, np.nanmedian(gain, axis=1), "-", lw=1.2, color=colour)
                axis.set_xticks(places, ["0" if k == 0 else f"{k}" for k in order], fontsize=7)
            axis.axhline(0, color="0.7", lw=0.8, zorder=0)
            axis.set_title(short_site(site).replace("\n", " "), fontsize=8)
            axis.set_xlabel("directions kept paired, k", fontsize=7.5)
            sns.despine(ax=axis)
        line[0].set_ylabel(f"{cohort}\nProcrustes less its twin", fontsize=8)
    map_legend(figure, {f"{words}, {name}": colour for colour, words in TWIN_METRICS.values()})
    return figure


def _twin_of(arm: str) -> int | None:
    """How many directions a twin keeps paired; none of them for ``shuffled``."""
    if arm == "shuffled":
        return 0
    return directions_of(arm) if arm.startswith("twin_") else None


def decoder_cosine(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """Two panels by two for each cohort: init × basis, per site and pair, on the floor of random
    directions."""
    rows = tables.decoder_cosine
    both = rows.groupby("dictionary").init.nunique()
    name = both.index[both.argmax()] if len(both) else ""
    rows = rows[rows.dictionary == name]
    inits = [init for init in ("shared", "independent") if init in set(rows.init)] or ["none"]
    bases = ("raw", "rotated")
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(1.4 + 5.6 * len(info), 0.7 + 2.1 * len(inits)), layout="constrained")
    axes = figure.subplots(len(inits), 2 * len(info), sharey=True, squeeze=False)
    for column, (cohort, about) in enumerate(info.items()):
        sites = about["sites"]
        for line, init in zip(axes, inits, strict=True):
            for offset, basis in enumerate(bases):
                axis = line[2 * column + offset]
                found = rows[(rows.cohort == cohort) & (rows.init == init) & (rows["map"] == basis)]
                colour = ORANGE if init == "shared" else BLUE
                _cosine_panel(axis, found, sites, colour)
                axis.set_title(f"{cohort}: {init} start, {basis}", fontsize=7.5, loc="left")
        for line in axes:
            line[0].set_ylabel(f"mean maximum\ndecoder cosine, {name}", fontsize=8)
    return figure


def _cosine_panel(axis: Axes, found: pd.DataFrame, sites: list[str], colour: str) -> None:
    if found.empty:
        axis.annotate("no SAE trained\non both members", (0.1, 0.5), xycoords="axes fraction",
                      fontsize=7.5)  # fmt: skip
    else:
        places = [sites.index(site) for site in found.site]
        axis.plot(places, found.mean_max_cosine, "o", ms=3, color=colour, alpha=0.7)
        means = found.groupby("site").mean_max_cosine.mean().reindex(sites)
        axis.plot(range(len(sites)), means, "-", lw=1.2, color=colour)
        floor = found.groupby("site").random_floor.mean().reindex(sites)
        axis.plot(range(len(sites)), floor, ":", lw=1, color="0.4")
        axis.annotate(
            f"random directions {floor.mean():.2f}", (0.03, float(floor.mean()) - 0.03),
            xycoords=("axes fraction", "data"), va="top", fontsize=7, color="0.35",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )  # fmt: skip
        axis.annotate(
            f"mean {found.mean_max_cosine.mean():.2f}; {100 * found['share_above_0.5'].mean():.0f} % "
            f"above .5;\nsame index {100 * found.same_index_share.mean():.0f} %",
            (0.97, 0.04), xycoords="axes fraction", ha="right", fontsize=7, color=colour,
        )  # fmt: skip
    axis.set_xticks(range(len(sites)), [short_site(s) for s in sites], fontsize=6)
    axis.set_ylim(0, 1.03)
    sns.despine(ax=axis)
