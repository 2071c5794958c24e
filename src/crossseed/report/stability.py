"""What the page says of SAEs that differ in nothing but their seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from crossseed.matching import modes
from crossseed.report import tables as t
from crossseed.report.style import AMBER, BLUE, GREEN, ORANGE, PINK, STYLE, short_site

COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, "#000000")
# Checkpoint of a model that learned nothing: its SAEs are the null of trained ones.
UNTRAINED = "step0"
# Columns of the table: quantity, and the part of it.
SHOWN = {
    "strict": "shared, strict",
    "dual": "shared, dual",
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


def _one(rows: pd.DataFrame, quantity: str, part: object = "all") -> pd.Series | None:
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
        "site": site,
        "recipe": f"EV {ev:.2f}, L0 {l0:.0f}, dead {dead:.0%}",
        "cells": [*cells, found],
    }


def _sentences(dictionary: str, rows: pd.DataFrame) -> list[str]:
    """What holds over the sites of one dictionary."""

    def values(quantity: str, part: str = "all", column: str = "value") -> pd.Series:
        chosen = rows[(rows.quantity == quantity) & (rows.part.fillna("").astype(str) == part)]
        return chosen[column].dropna()

    strict, floor = values("strict"), values("strict", column="null")
    dead = values("strict", "live")
    bimodal = values("modes_coefficient", "")
    overlap, chance = (
        values("subspace_overlap", "unshared"),
        values("subspace_overlap", "unshared", "null"),
    )
    sentences = [
        f"{dictionary}: two SAEs from different seeds share {_range(strict)} of their latents (strict; "
        f"{_range(dead)} of those that fire in both, {_range(floor)} for random directions); matched cosines are "
        f"bimodal at {(bimodal > modes.UNIFORM).sum()} of {len(bimodal)} sites."
    ]
    offset = values("decay_offset", "c")
    if len(offset):
        low, high = values("decay_offset", "c", "low"), values("decay_offset", "c", "high")
        sentences.append(
            f"As SAEs are added the share found in one only goes to {_range(offset)} "
            f"(intervals from {low.min():.2f} to {high.max():.2f}) by the fit with an offset."
        )
    if len(overlap):
        sentences.append(
            f"Directions that are in one SAE alone span subspaces that overlap by {_range(overlap)}; as many random "
            f"directions by {_range(chance)}."
        )
    return sentences


def _range(values: pd.Series) -> str:
    if values.empty:
        return "–"
    if values.min() == values.max():
        return f"{values.iloc[0]:.2f}"
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


def sharing(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: strict share by site and dictionary, with intervals; dotted, matched cosine's floor."""
    rows = trained(tables.stability)
    rows = rows[rows["first"].isna() & (rows.part == "all")]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(2.4 + 4.2 * len(cohorts), 6.4), layout="constrained")
    axes = figure.subplots(2, len(cohorts), squeeze=False, sharey="row", sharex="col")
    for column, cohort in enumerate(cohorts):
        part = rows[rows.cohort == cohort]
        sites = [site for site in info[cohort]["sites"] if site in set(part.site)]
        for line, quantity in enumerate(("strict", "pw_mcc")):
            axis = axes[line, column]
            for number, (dictionary, of) in enumerate(
                part[part.quantity == quantity].groupby("dictionary", sort=False)
            ):
                colour = COLOURS[number % len(COLOURS)]
                of = of.groupby("site")[["value", "low", "high", "null"]].mean().reindex(sites)
                x = np.arange(len(sites))
                axis.plot(x, of.value, "o-", color=colour, ms=4, lw=1.2)
                axis.vlines(x, of.low, of.high, color=colour, lw=1.0)
                axis.plot(x, of.null, ":", color=colour, lw=1.0)
                if column == len(cohorts) - 1:
                    axis.text(
                        len(sites) - 0.85, of.value.iloc[-1], str(dictionary), color=colour, fontsize=8,
                        va="center",
                    )  # fmt: skip
            axis.set_ylim(-0.02, 1.02)
            axis.set_xlim(-0.3, len(sites) + (0.6 if column == len(cohorts) - 1 else -0.7))
            sns.despine(ax=axis)
        axes[0, column].set_title(cohort)
        axes[1, column].set_xticks(range(len(sites)), [short_site(s) for s in sites], fontsize=7)
    axes[0, 0].set_ylabel("share of latents, strict")
    axes[1, 0].set_ylabel("mean matched decoder cosine")
    return figure


def decay(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A panel a cohort: share of latents found in one of k SAEs only, mean over sites, its interval, and where the
    fit with an offset ends."""
    rows = trained(tables.stability)
    rows = rows[rows["first"].isna()]
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(2.0 + 4.0 * len(cohorts), 3.6), layout="constrained")
    axes = figure.subplots(1, len(cohorts), squeeze=False, sharey=True)[0]
    for axis, cohort in zip(axes, cohorts, strict=True):
        part = rows[rows.cohort == cohort]
        last = 2
        for number, (dictionary, of) in enumerate(part.groupby("dictionary", sort=False)):
            colour = COLOURS[number % len(COLOURS)]
            alone = of[of.quantity == "alone"].assign(k=lambda x: x.part.astype(int))
            curve = alone.groupby("k")[["value", "low", "high"]].mean()
            last = max(last, int(curve.index.max()))
            axis.plot(curve.index, curve.value, "o-", color=colour, ms=3.5, lw=1.2)
            axis.fill_between(curve.index, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
            end = of[(of.quantity == "decay_offset") & (of.part == "c")].value.mean()
            if np.isfinite(end):
                axis.axhline(end, color=colour, lw=0.8, ls=":")
            axis.text(curve.index[-1] + 0.1, curve.value.iloc[-1], str(dictionary), color=colour,
                      fontsize=8, va="center")  # fmt: skip
        axis.set_ylim(0, 1)
        axis.set_xlim(1.8, last + 0.35 * max(2, last - 1))
        axis.set_xticks(range(2, last + 1))
        axis.set_title(cohort)
        axis.set_xlabel("SAEs compared")
        sns.despine(ax=axis)
    axes[0].set_ylabel("share of latents in one SAE only")
    return figure
