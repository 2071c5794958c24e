"""What the page says of SAEs that differ in nothing but their seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from crossseed.report import tables as t
from crossseed.report.style import (
    AMBER,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    STYLE,
    short_site,
    spread_labels,
)

COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, "#000000")
GREY = "#999999"
PANELS = {
    "strict_on_data": "share of latents, strict, on data",
    "pw_mcc": "mean matched decoder cosine",
}
# Checkpoint of a model that learned nothing: its SAEs are the null of trained ones.
UNTRAINED = "step0"
# Columns of the table: quantity, and the part of it.
SHOWN = {
    "strict_on_data": "shared, strict, encoders on data",
    "strict": "shared, strict",
    "dual": "shared, dual (published)",
    "dec": "shared, decoders alone",
    "agree": "both matchings agree",
    "pw_mcc": "matched cosine (PW-MCC)",
    "mmcs": "largest cosine (MMCS)",
}


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences, and a line a dictionary and site; empty without the study."""
    rows = tables.stability[tables.stability.cohort == cohort]
    if rows.empty:
        return {}
    together = trained(rows[rows["first"].isna()])
    before = rows[rows["first"].isna() & (rows.checkpoint == UNTRAINED)]
    lines = [
        _line(tables, part, _same(before, *key), *key)
        for key, part in together.groupby(["dictionary", "seed", "checkpoint", "site"], sort=False)
    ]
    return {
        "heads": [*SHOWN.values(), "firing r", "in one SAE only"],
        "rows": lines,
        "sentences": [
            sentence
            for dictionary, part in together.groupby("dictionary", sort=False)
            for sentence in _sentences(str(dictionary), part)
        ],
    }


def trained(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of trained models; all, where there is nothing else."""
    found = rows[rows.checkpoint != UNTRAINED]
    return found if len(found) else rows


def _same(
    before: pd.DataFrame, dictionary: str, seed: int, checkpoint: str, site: str
) -> pd.DataFrame:
    """Rows of the same cell of the model before training; none of itself."""
    chosen = before[(before.dictionary == dictionary) & (before.seed == seed)]
    return chosen[(chosen.site == site) & (chosen.checkpoint != checkpoint)]


def _one(rows: pd.DataFrame, quantity: str, part: object = "live") -> pd.Series | None:
    found = rows[(rows.quantity == quantity) & (rows.part.fillna("").astype(str) == str(part))]
    return found.iloc[0] if len(found) else None


def _cell(row: pd.Series | None, before: pd.Series | None = None) -> dict[str, str]:
    if row is None or pd.isna(row.value):
        return {"value": "–", "more": ""}
    interval = "" if pd.isna(row.low) else f"{row.low:.2f} to {row.high:.2f}"
    null = "" if pd.isna(row.null) else f"random {row.null:.2f}"
    untrained = "" if before is None or pd.isna(before.value) else f"untrained {before.value:.2f}"
    said = filter(None, (interval, null, untrained))
    return {"value": f"{row.value:.2f}", "more": "; ".join(said)}


def _wanted(tables: t.Tables, dictionary: str) -> str:
    """The L0 that a dictionary's penalty was calibrated for."""
    if tables.calibration.empty:
        return ""
    found = tables.calibration[tables.calibration.dictionary == dictionary].wanted_l0
    return f" (wanted {found.iloc[0]:g})" if len(found) else ""


def _line(
    tables: t.Tables,
    rows: pd.DataFrame,
    before: pd.DataFrame,
    dictionary: str,
    seed: int,
    checkpoint: str,
    site: str,
) -> dict[str, Any]:
    saes = tables.dictionaries
    saes = saes[
        (saes.cohort == rows.cohort.iloc[0])
        & (saes.dictionary == dictionary)
        & (saes.seed == seed)
        & (saes.checkpoint == checkpoint)
        & (saes.site == site)
        & saes.init.str.startswith("seed")
    ]
    ev, l0, dead = (saes[saes.metric == name].value.median() for name in ("ev", "l0", "dead_share"))
    alone = rows[rows.quantity == "alone"]
    last = alone.iloc[alone.part.astype(int).argmax()] if len(alone) else None
    cells = [_cell(_one(rows, name), _one(before, name)) for name in SHOWN]
    cells.append(_cell(_one(rows, "firing_r", ""), _one(before, "firing_r", "")))
    found = _cell(last, None if last is None else _one(before, "alone", last.part))
    if last is not None:
        found["more"] = "; ".join(filter(None, (f"of {int(last.part)}", found["more"])))
    return {
        "dictionary": dictionary,
        "site": f"seed {seed}, {checkpoint}, {site}",
        "recipe": f"EV {ev:.2f}, L0 {l0:.1f}{_wanted(tables, dictionary)}, dead {dead:.0%}",
        "cells": [*cells, found],
    }


def _sentences(dictionary: str, rows: pd.DataFrame) -> list[str]:
    """What holds over the sites of one dictionary."""

    def values(quantity: str, part: str = "live", column: str = "value") -> pd.Series:
        chosen = rows[(rows.quantity == quantity) & (rows.part.fillna("").astype(str) == part)]
        return chosen[column].dropna()

    two = values("modes_two", "")
    overlap = [values("subspace_overlap", part) for part in ("unshared", "any")]
    chance = values("subspace_overlap", "unshared", "null")
    sentences = [
        f"{dictionary}: two SAEs from different seeds share {_range(values('strict_on_data'))} of the latents that "
        f"fire (strict, encoders compared on data; {_range(values('strict_on_data', column='null'))} for random "
        f"directions), {_range(values('strict'))} by encoders as they stand; matched cosines fall into two groups at {(two > 0.5).sum()} of {len(two)} sites."
    ]
    sentences += _ends(rows)
    if len(overlap[0]):
        sentences.append(
            f"Directions that are in one SAE alone span subspaces that overlap by {_range(overlap[0])}, as many of all "
            f"that fire by {_range(overlap[1])}, random ones of that rank by {_range(chance)}."
        )
    return sentences


def _ends(rows: pd.DataFrame) -> list[str]:
    """Where the share found in one SAE only goes, if that can be told."""
    fits = rows[rows.quantity.isin(["decay_offset", "decay_power"])]
    if fits.empty:
        return []
    ends, told = [], 0
    for _, cell in fits.groupby(["seed", "checkpoint", "site"]):
        by = cell.set_index(["quantity", "part"]).value
        if ("decay_offset", "c") not in by.index:
            continue
        told += 1
        # Too few points to weigh three parameters against two, or two do as well.
        if np.isfinite(by["decay_offset", "aicc"]) and (
            by["decay_offset", "aicc"] < by["decay_power", "aicc"]
        ):
            ends.append(by["decay_offset", "c"])
    if not told:
        return []
    if not ends:
        return [
            "Where the share that is in one SAE only ends as SAEs are added cannot be told from so few of them."
        ]
    return [
        f"As SAEs are added the share that is in one only goes to {_range(pd.Series(ends))} at {len(ends)} of {told} "
        "sites, by the fit with an offset; elsewhere one to zero does as well."
    ]


def _range(values: pd.Series) -> str:
    if values.empty:
        return "–"
    if values.min() == values.max():
        return f"{values.iloc[0]:.2f}"
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


def sharing(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """Two panels a cohort, a line a dictionary: strict share and matched cosine by site, with intervals; hollow, of
    the untrained model; ticks, of random directions."""
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
                of = part[part.site == site].groupby("dictionary")[["value", "low", "high", "null"]]
                of = of.mean().reindex(names)
                null = before[before.site == site].groupby("dictionary").value.mean().reindex(names)
                axis.hlines(y, of.low, of.high, color=colour, lw=1.0)
                axis.plot(of.value, y, "o", color=colour, ms=4, mew=0)
                axis.plot(null, y, "o", mfc="none", mec=colour, ms=4, mew=0.8)
                axis.plot(of.null, y, "|", color=GREY, ms=5)
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
    """A panel a cohort: share of latents found in one of k SAEs only, mean over sites, and its interval."""
    rows = trained(tables.stability)
    rows = rows[rows["first"].isna() & (rows.quantity == "alone")]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    names = list(pd.unique(rows.dictionary))
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(2.4 + 4.6 * len(cohorts), 4.6), layout="constrained")
    axes = figure.subplots(1, len(cohorts), squeeze=False, sharey=True)[0]
    palette = sns.color_palette("viridis", len(names))
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort].assign(k=lambda x: x.part.astype(int))
        ends: list[tuple[float, str, Any]] = []
        for colour, (dictionary, of) in zip(
            palette, part.groupby("dictionary", sort=False), strict=True
        ):
            curve = of.groupby("k")[["value", "low", "high"]].mean()
            axis.plot(curve.index, curve.value, "o-", color=colour, ms=3, lw=1.2)
            axis.vlines(curve.index, curve.low, curve.high, color=colour, lw=0.7)
            ends.append((float(curve.value.iloc[-1]), str(dictionary), colour))
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
