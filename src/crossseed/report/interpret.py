"""What the page says of how well latents can be explained, by in how many SAEs they are found."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from crossseed.interpret import DETECTION, QUANTITIES
from crossseed.report import tables as t
from crossseed.report.stability import UNTRAINED, trained
from crossseed.report.style import GREY, STYLE, dictionary_colours, spread_labels

# Mean scores of latents of one SAE of Pythia-160m found in 1 to 9 SAEs, by Llama-3.1-70B; arXiv 2501.16615, read off the
# histograms of its figure, which calls them neither detection nor fuzzing (its code reads a file of detection).
PUBLISHED = {1: 0.648, 2: 0.723, 3: 0.732, 4: 0.730, 5: 0.732, 6: 0.732, 7: 0.734, 8: 0.736, 9: 0.735}  # fmt: skip
PUBLISHED_WORDS = "published: Pythia-160m, scored by Llama-3.1-70B"
CONTRASTS = {
    "step": "several less one",
    "step_same_density": "the same at equal density",
    "slope": "per SAE more, from two on",
}
ALIKE = {
    "shared": "shared latents",
    "unshared": "partners that are not shared",
    "by_explanation": "matched by explanation",
}


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences, and a line a dictionary, site, scorer and quantity; empty without the study."""
    rows = tables.interpret_steps[tables.interpret_steps.cohort == cohort]
    if rows.empty:
        return {}
    scored = rows[rows.quantity.isin(QUANTITIES)]
    counts = sorted({int(part) for part in scored.part.astype(str) if part.isdigit()})
    before = scored[scored.checkpoint == UNTRAINED]
    shown = trained(scored)
    keys = ["dictionary", "seed", "checkpoint", "site", "scorer", "quantity"]
    lines = [
        {
            "dictionary": key[0],
            "site": f"seed {key[1]}, {key[2]}, {key[3]}",
            "scorer": f"{key[4]}, {key[5]}",
            "cells": [
                _cell(_one(part, str(name)), _one(_same(before, key), str(name)))
                for name in (*counts, *CONTRASTS)
            ],
        }
        for key, part in shown.groupby(keys, sort=False)
    ]
    published = [f"{PUBLISHED[k]:.3f}" if k in PUBLISHED else "–" for k in counts]
    cells = [{"value": value, "more": ""} for value in published]
    several = [value for k, value in PUBLISHED.items() if k > 1]
    step = {
        "value": f"{sum(several) / len(several) - PUBLISHED[1]:.3f}",
        "more": "mean over 2 to 9",
    }
    nothing = {"value": "–", "more": ""}
    lines.append(
        {
            "dictionary": "published",
            "site": PUBLISHED_WORDS.partition(": ")[2],
            "scorer": "another model and scorer",
            "cells": [*cells, step, nothing, nothing],
        }
    )
    return {
        "heads": [*(f"in {k}" for k in counts), *CONTRASTS.values()],
        "rows": lines,
        "sentences": [*_sentences(shown), *_alike(trained(rows)), *_unreached(scored)],
    }


def _same(before: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of the same cell of the model before training; none of itself."""
    dictionary, seed, checkpoint, site, scorer, quantity = key
    return before[
        (before.dictionary == dictionary)
        & (before.seed == seed)
        & (before.site == site)
        & (before.scorer == scorer)
        & (before.quantity == quantity)
        & (before.checkpoint != checkpoint)
    ]


def _one(rows: pd.DataFrame, part: str) -> pd.Series | None:
    found = rows[rows.part.astype(str) == part]
    return found.iloc[0] if len(found) else None


def _cell(row: pd.Series | None, before: pd.Series | None) -> dict[str, str]:
    if row is None or pd.isna(row.value):
        note = "" if row is None or pd.isna(row.note) else str(row.note)
        return {"value": "–", "more": note.partition(":")[0]}
    said = [
        "" if pd.isna(row.low) else f"{row.low:.3f} to {row.high:.3f}",
        "" if pd.isna(row.null) else f"null {row.null:z.3f}",
        "" if pd.isna(row.p) else f"p {row.p:.3f}",
        "" if before is None or pd.isna(before.value) else f"untrained {before.value:.3f}",
        f"n {int(row.n)}",
    ]
    return {"value": f"{row.value:z.3f}", "more": "; ".join(filter(None, said))}


def _sentences(rows: pd.DataFrame) -> list[str]:
    """Where latents of one SAE alone are explained worse than those found in more, whatever the density."""
    said = []
    for (scorer, quantity), part in rows.groupby(["scorer", "quantity"], sort=False):
        whole = part[part.part == "step"].dropna(subset=["value"])
        if whole.empty:
            continue
        matched = part[part.part == "step_same_density"].dropna(subset=["value", "low"])
        above, below = (matched.low > 0).sum(), (matched.high < 0).sum()
        said.append(
            f"By {quantity} ({scorer}) latents found in several SAEs score {_signed(whole.value)} more than those found in "
            f"one alone (median and range over {len(whole)} cells); among latents that fire about as often the interval of "
            f"this is above zero in {above} of {len(matched)} and below in {below}."
        )
    return said


def _signed(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:+.3f}"
    return f"{values.median():+.3f} ({values.min():+.3f} to {values.max():+.3f})"


def _alike(rows: pd.DataFrame) -> list[str]:
    found = rows[rows.quantity == "explanation_cosine"].dropna(subset=["value"])
    said = []
    for scorer, part in found.groupby("scorer", sort=False):
        values = [
            f"{words} {of.value.median():.2f} (null {of.null.median():.2f})"
            for name, words in ALIKE.items()
            for of in [part[part.part == name]]
            if len(of)
        ]
        said.append(f"Cosine of explanations ({scorer}): {', '.join(values)}.")
    return said


def _unreached(rows: pd.DataFrame) -> list[str]:
    notes = rows[rows.note.notna() & (rows.note.astype(str) != "")]
    return [
        f"{scorer}: {'; '.join(sorted(set(part.note.astype(str))))}."
        for scorer, part in notes.groupby("scorer", sort=False)
    ]


def by_sharing(tables: t.Tables, info: dict[str, Any]) -> Figure:
    """A row a cohort, a panel a quantity: mean score over the number of SAEs in which latents are found, a line a dictionary
    and scorer, mean over sites, with intervals; dashed, nulls; open circles, published."""
    rows = trained(tables.interpret_steps)
    rows = rows[rows.quantity.isin(QUANTITIES) & rows.part.astype(str).str.isdigit()]
    rows = rows.assign(k=rows.part.astype(int)).dropna(subset=["value"])
    cohorts = [cohort for cohort in info if cohort in set(rows.cohort)]
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(10.4, 1.0 + 3.3 * len(cohorts)), layout="constrained")
    axes = figure.subplots(len(cohorts), len(QUANTITIES), squeeze=False, sharey=True)
    names = list(rows.groupby(["scorer", "dictionary"], sort=False).groups)
    palette = dictionary_colours(names)
    last = max(2, int(rows.k.max()) if len(rows) else 2)
    for line, cohort in zip(axes, cohorts, strict=True):
        for axis, quantity in zip(line, QUANTITIES, strict=True):
            part = rows[(rows.cohort == cohort) & (rows.quantity == quantity)]
            ends: list[tuple[float, str, Any]] = []
            for (scorer, dictionary), of in part.groupby(["scorer", "dictionary"], sort=False):
                colour = palette[scorer, dictionary]
                curve = of.groupby("k")[["value", "low", "high", "null"]].mean()
                # Side by side, or intervals would hide each other.
                x = (
                    curve.index
                    + 0.24 * (names.index((scorer, dictionary)) + 0.5) / len(names)
                    - 0.12
                )
                axis.plot(x, curve.value, "o-", color=colour, ms=3, lw=1.2)
                axis.vlines(x, curve.low, curve.high, color=colour, lw=0.8)
                axis.plot(x, curve.null, "--", color=colour, lw=0.7, alpha=0.6)
                label = f"{dictionary}, {scorer}"
                ends.append((float(curve.value.iloc[-1]), label, colour))
            if quantity == DETECTION:
                known = {k: value for k, value in PUBLISHED.items() if k <= last}
                axis.plot(list(known), list(known.values()), "o", mfc="none", mec=GREY, ms=4)
                ends.append((known[last if last in known else max(known)], "published", GREY))
            heights = spread_labels([value for value, *_ in ends], 0.035)
            for height, (_, label, colour) in zip(heights, ends, strict=True):
                axis.text(last + 0.2, height, label, color=colour, fontsize=7, va="center")
            axis.axhline(0.5, color="0.85", lw=0.8, zorder=0)
            axis.set_ylim(0.38, 1.03)
            axis.set_xlim(0.7, last + 0.75 * max(1, last - 0.7))
            axis.set_xticks(range(1, last + 1))
            axis.set_title(f"{cohort}: {quantity}", fontsize=9)
            axis.set_xlabel("SAEs in which a latent is found")
            sns.despine(ax=axis)
        line[0].set_ylabel("balanced accuracy")
    return figure
