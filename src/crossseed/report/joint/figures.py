"""Figures of SAEs that two models share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossseed.report import tables as t
from crossseed.report.joint import edits, reading, vocabulary
from crossseed.report.style import (
    AMBER,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    STYLE,
    spread_labels,
)

# By what seeds decide; language models have but one kind.
KINDS = {"finetune": BLUE, "pretrain": ORANGE}
PANELS = {
    vocabulary.SHARE: "universal, share of active latents",
    "top10_r": "mean r of the 10 most active",
    vocabulary.COUNT: "universal latents",
    "dead_share": "share of latents dead",
}
TICKS = {
    "crosscoder": "cross-\ncoder",
    "mutual": "mu-\ntual",
    "universal": "uni-\nversal",
    "ridge": "linear\nmap",
}
# By map, and of those on leading directions by what carries the rest.
SHAPES = {
    "identity": (BLACK, "no map"),
    "true": (BLUE, "W"),
    "partial": (GREEN, "partly\nshuffled"),
    "mismatched": (AMBER, "shuffled"),
    "top-identity": (PINK, "leading,\nrest\nnear I"),
    "top-haar": (ORANGE, "leading,\nrest\nrandom"),
    "random": (GREY, "random"),
}
GEOMETRY = ("1", "4", "5", "6", "universal")
SHOWN_LATENTS = 4000
# Stacks of panels beside each other: more could not be read on a page.
ACROSS = 3


def _sheet(rows: int, columns: int, width: float, height: float, **more: Any) -> tuple[Figure, Any]:
    sns.set_theme(style="ticks", rc=STYLE)
    figure = Figure(figsize=(0.8 + width * columns, 0.5 + height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **more)
    for axis in axes.flat:
        sns.despine(ax=axis)
    return figure, axes


def _stacks(n: int, width: float, height: float, panels: int = 2) -> tuple[Figure, list[Any]]:
    """For each of n some panels, one above the other; at most `ACROSS` of these stacks beside each other."""
    across = max(1, min(n, ACROSS))
    figure, axes = _sheet(panels * max(1, math.ceil(n / across)), across, width, height)
    for axis in axes[-panels:, n % across or across :].flat:
        axis.set_visible(False)
    return figure, [
        axes[panels * (i // across) : panels * (i // across + 1), i % across] for i in range(n)
    ]


def _groups(rows: pd.DataFrame) -> list[tuple[str, list[tuple[str, str]]]]:
    """Data sets, and of each its cohorts with the kind of their seeds; language models are a data set of their own."""
    found: dict[str, list[tuple[str, str]]] = {}
    for cohort, part in rows.groupby("cohort", sort=False):
        kind = part.kind_of_seed.iloc[0]
        found.setdefault(str(part["data"].iloc[0]), []).append(
            (str(cohort), "" if pd.isna(kind) else str(kind))
        )
    return list(found.items())


def conditions(tables: t.Tables) -> Figure:
    """A column a data set, a row a measure: every condition, points means over pairs with their interval."""
    pooled, single = vocabulary.read(tables.joint_pooled), vocabulary.read(tables.joint_conditions)
    pooled = pooled[pooled.rows != "texts"]
    names = [name for name in vocabulary.WORDS if name in set(pooled.condition)]
    panels = {key: word for key, word in PANELS.items() if key in set(pooled.measure)}
    groups = _groups(pooled)
    figure, axes = _sheet(len(panels), len(groups), 0.9 + 0.34 * len(names), 2.3, sharex=True)
    for column, (data, cohorts) in enumerate(groups):
        for row, (measure, words) in enumerate(panels.items()):
            axis = axes[row, column]
            top = 0.0
            for number, (cohort, kind) in enumerate(cohorts):
                of = pooled[(pooled.cohort == cohort) & (pooled.measure == measure)]
                one = single[(single.cohort == cohort) & (single.measure == measure)]
                shift = 0.34 * (number - (len(cohorts) - 1) / 2)
                colour = KINDS.get(kind, GREEN)
                top = max(top, _condition_points(axis, of, one, names, shift, colour))
                if row == 0:
                    axis.text(
                        0.02, 0.97 - 0.1 * number, kind or cohort, color=colour, fontsize=8, va="top",
                        transform=axis.transAxes,
                    )  # fmt: skip
            axis.set_xticks(
                range(len(names)), [TICKS.get(n, n.replace("'", "′")) for n in names], fontsize=7
            )
            axis.set_xlim(-0.6, len(names) - 0.4)
            axis.set_ylim(-0.04 * (top or 1), 1.12 * (top or 1))
            if row == 0:
                axis.set_title(data)
            if column == 0:
                axis.set_ylabel(words, fontsize=8.5)
    return figure


def _condition_points(
    axis: Axes,
    pooled: pd.DataFrame,
    single: pd.DataFrame,
    names: list[str],
    shift: float,
    colour: str,
) -> float:
    """Points of one cohort and measure; returns the largest value."""
    top = 0.0
    for place, name in enumerate(names):
        of = pooled[pooled.condition == name]
        which = reading.chosen(pooled.assign(rows="tokens"), name)
        if of.empty or which is None:
            continue
        for row in of[of.lambda_cross == which.lambda_cross].itertuples():
            own = row.init == which.init and row.matched_on == which.matched_on
            in_sample = (
                row.matched_on == vocabulary.IN_SAMPLE and which.matched_on != vocabulary.IN_SAMPLE
            )
            x = place + shift + (0 if own else 0.13 if in_sample else 0.07)
            if not own:
                mark = "^" if in_sample else "o"
                axis.plot(x, row.mean, mark, mfc="none", mec=colour, ms=3.2, mew=0.7)
                top = max(top, row.mean)
                continue
            low, high = row.low, row.high
            same = single[
                (single.condition == name)
                & (single.init == row.init)
                & (single.lambda_cross == row.lambda_cross)
                & (single.matched_on == row.matched_on)
                & (single.rows == row.rows)
            ]
            if row.pairs == 1 and len(same):
                low, high = same.low.iloc[0], same.high.iloc[0]
            else:
                axis.plot(np.full(len(same), x), same.value, ".", color=colour, ms=2.5, alpha=0.5)
            if not pd.isna(low):
                axis.vlines(x, low, high, color=colour, lw=1)
            axis.plot(x, row.mean, "o", color=colour, ms=4.2, mew=0)
            axis.plot(x, row.null, "_", color=GREY, ms=8, mew=1.4)
            top = max(top, row.mean, 0 if pd.isna(high) else high, same.value.max())
    return top


def geometry(tables: t.Tables) -> Figure:
    """A row a cohort, a column a condition: decoder directions of A's latents on their two leading principal axes."""
    latents, single = (
        vocabulary.read(tables.joint_latents),
        vocabulary.read(tables.joint_conditions),
    )
    latents = latents[latents.active == 1].dropna(subset=["pc1_a", "pc2_a"])
    names = [name for name in GEOMETRY if name in set(latents.condition)]
    cohorts = list(latents.cohort.unique())
    figure, axes = _sheet(max(1, len(cohorts)), max(1, len(names)), 2.5, 2.4)
    for row, cohort in enumerate(cohorts):
        first = latents[latents.cohort == cohort]
        for column, name in enumerate(names):
            axis = axes[row, column]
            of = first[first.condition == name]
            if of.empty:
                axis.set_visible(False)
                continue
            # One start, and one weight of the cross loss, are shown.
            pair = of.iloc[-1] if "distinct" in set(of.init) else of.iloc[0]
            keys = [*t.PAIR[1:], "init", "lambda_cross"]
            of = of[(of[keys] == pair[keys]).all(axis=1)].head(SHOWN_LATENTS)
            size = float(np.clip(1500 / len(of), 3, 20))
            for chosen, colour in ((0, GREY), (1, BLUE)):
                points = of[of.universal == chosen]
                axis.scatter(points.pc1_a, points.pc2_a, s=size, color=colour, alpha=0.6, lw=0)
            axis.set_xticks([])
            axis.set_yticks([])
            cosine = single[
                (single.cohort == cohort) & (single.measure == "cosine")
                & (single.condition == name) & (single.init == pair.init)
                & (single.lambda_cross == pair.lambda_cross) & (single.source_seed == pair.source_seed)
                & (single.target_seed == pair.target_seed) & (single.site == pair.site)
                & (single.checkpoint == pair.checkpoint)
            ]  # fmt: skip
            said = f"axes hold {100 * pair.pc_share_a:.0f} %"
            if len(cosine):
                said = (
                    f"mean |cos| {cosine.value.iloc[0]:.3f}\n"
                    f"random {cosine.null.iloc[0]:.3f}; {said}"
                )
            axis.set_xlabel(said, fontsize=7.5)
            if row == 0:
                axis.set_title(vocabulary.WORDS[name], fontsize=8.5)
            if column == 0:
                axis.set_ylabel(cohort, fontsize=8.5)
    if cohorts:
        for number, (words, colour) in enumerate((("universal", BLUE), ("active", GREY))):
            axes[0, 0].text(
                0.02, 0.99 - 0.1 * number, words, color=colour, fontsize=7.5, va="top",
                transform=axes[0, 0].transAxes,
            )  # fmt: skip
    return figure


def nulls(tables: t.Tables) -> Figure:
    """Above: universal latents by map, a column a cohort; below: over 1 less the error of the map."""
    rows = tables.joint_nulls
    rows = rows[rows.measure == vocabulary.COUNT]
    rows = rows.assign(kind=[_kind(row.null, row.complement) for row in rows.itertuples()])
    cohorts = list(rows.cohort.unique())
    kinds = [kind for kind in SHAPES if kind in set(rows.kind)]
    figure, stacks = _stacks(len(cohorts), 0.9 + 0.42 * len(kinds), 2.5)
    for number, (cohort, (above, below)) in enumerate(zip(cohorts, stacks, strict=True)):
        of = rows[rows.cohort == cohort]
        below.sharey(above)
        for place, kind in enumerate(kinds):
            colour, _ = SHAPES[kind]
            part = of[of.kind == kind]
            # Side by side: draws, pairs, shares and numbers of directions.
            spread = 0.22 if len(part) > 1 else 0.0
            x = place + np.linspace(-spread, spread, len(part))
            above.plot(x, part.value, "o", color=colour, ms=3, alpha=0.7, mew=0)
            below.plot(1 - part.nre, part.value, "o", color=colour, ms=3, alpha=0.7, mew=0)
            if len(part):
                above.hlines(part.value.mean(), place - 0.3, place + 0.3, color=colour, lw=1.3)
        above.set_xticks(range(len(kinds)), [SHAPES[kind][1] for kind in kinds], fontsize=6.5)
        # The key to both panels.
        for label, kind in zip(above.get_xticklabels(), kinds, strict=True):
            label.set_color(SHAPES[kind][0])
        above.set_xlim(-0.6, len(kinds) - 0.4)
        above.set_title(cohort, fontsize=9)
        span = max(float(of.value.max()), 1.0)
        above.set_ylim(-0.05 * span, 1.12 * span)
        below.set_xlabel("1 − normalised error of the map, held out", fontsize=8)
        if number % ACROSS == 0:
            for axis in (above, below):
                axis.set_ylabel("universal latents\nafter retraining", fontsize=8.5)
    return figure


def _kind(null: str, complement: object) -> str:
    return f"{null}-{complement}" if null == "top" else null


def sizes(tables: t.Tables) -> Figure:
    """Above: distance of W from n sequences to W from all; below: its error on held-out sentences. A column a cohort."""
    rows = tables.joint_sizes
    cohorts = list(rows.cohort.unique())
    figure, stacks = _stacks(len(cohorts), 2.9, 2.3)
    parts = {"distance": (BLACK, "W"), "inside": (BLUE, "within k99"), "outside": (ORANGE, "outside")}  # fmt: skip
    for number, (cohort, (above, below)) in enumerate(zip(cohorts, stacks, strict=True)):
        of = rows[rows.cohort == cohort]
        pairs = list(of.groupby(["source_seed", "target_seed", "checkpoint", "site"], sort=False))
        for _, pair in pairs:
            pair = pair.sort_values("sequences")
            for name, (colour, _) in parts.items():
                above.plot(pair.sequences, pair[name], "o-", color=colour, ms=2.5, lw=1, alpha=0.8)
                # Within few directions any two rotations are near each other.
                above.plot(
                    pair.sequences, pair[f"null_{name}"], "--", color=colour, lw=0.8, alpha=0.8
                )
            below.plot(pair.sequences, pair.null_nre, "--", color=BLACK, lw=0.8, alpha=0.8)
            below.plot(pair.sequences, pair.nre, "o-", color=BLACK, ms=2.5, lw=1, alpha=0.8)
            flat = pair[pair.flat == 1]
            below.plot(flat.sequences, flat.nre, "o", mfc="white", mec=BLACK, ms=3.5)
        # What two random rotations have: √(2d), of which the table knows a share.
        known = of[of.distance_of_random > 0]
        if len(known):
            height = float((known.distance / known.distance_of_random).median())
            _level(above, height, "two random rotations")
        fits = tables.joint_fits
        fits = fits[(fits.cohort == cohort) & (fits["map"] == "identity")] if len(fits) else fits
        if len(fits):
            _level(below, float(fits.nre.mean()), "no map")
        last = of[of.sequences == of.sequences.max()]
        wanted = [float(last[name].median()) for name in parts]
        top = max(float(of.distance.max()), above.get_ylim()[1])
        heights = spread_labels(wanted, 0.09 * top)
        # Above the axis, all of them.
        lift = max(0.0, 0.03 * top - min(heights))
        for (colour, words), height in zip(parts.values(), heights, strict=True):
            above.annotate(
                words, (of.sequences.max(), height + lift), xytext=(6, 0), textcoords="offset points", va="center",
                color=colour, fontsize=7,
            )  # fmt: skip
        above.set_title(cohort, fontsize=9)
        sizes_ = sorted(of.sequences.unique())
        for axis in (above, below):
            axis.set_xscale("log")
            axis.set_ylim(bottom=0)
            axis.set_xlim(sizes_[0] / 1.2, sizes_[-1] * (sizes_[-1] / sizes_[0]) ** 0.3)
            axis.set_xticks(sizes_, _apart(sizes_), fontsize=7)
            axis.minorticks_off()
        above.tick_params(labelbottom=False)
        below.set_xlabel("sequences that W is fitted on", fontsize=8)
        if number % ACROSS == 0:
            above.set_ylabel("Frobenius distance\nto W from all", fontsize=8.5)
            below.set_ylabel("‖H_B W − H_A‖ / ‖H_A‖,\nheld out", fontsize=8.5)
    return figure


def _apart(sizes: Sequence[int]) -> list[str]:
    """Labels of a logarithmic axis, without those that another is too near to."""
    least, last, found = (sizes[-1] / sizes[0]) ** 0.12, 0.0, []
    for size in sizes:
        shown = size >= last * least
        found.append(f"{size:g}" if shown else "")
        last = size if shown else last
    return found


def _level(axis: Axes, height: float, words: str) -> None:
    """A dotted line across a panel, named above its right end."""
    axis.axhline(height, color=GREY, lw=0.8, ls=":")
    axis.text(
        1.0, height, words, color=GREY, fontsize=7, va="bottom", ha="right",
        transform=axis.get_yaxis_transform(),
    )  # fmt: skip


def counterfactuals(tables: t.Tables) -> Figure:
    """A panel a cohort, a line an edit: how far the peak of a latent changes, beside a neutral edit."""
    rows = tables.joint_counterfactuals
    cohorts = list(rows.cohort.unique())
    most = max((rows[rows.cohort == cohort].edit.nunique() for cohort in cohorts), default=1)
    figure, stacks = _stacks(max(1, len(cohorts)), 4.2, 0.6 + 0.42 * most, panels=1)
    if not cohorts:
        stacks[0][0].text(0.5, 0.5, "no latent tells a class in both models", ha="center")
        return figure
    for (axis,), cohort in zip(stacks, cohorts, strict=True):
        of = rows[rows.cohort == cohort]
        changes = edits.changing(of)
        changed, left = (list(of[which].edit.unique()) for which in (changes, ~changes))
        names = changed + left
        floor, ceiling = -1.05, 1.5
        if left:
            axis.axhline(len(changed) - 0.5, color=GREY, lw=0.8)
        for place, name in enumerate(names):
            part = of[of.edit == name]
            for number, (model, one) in enumerate(part.groupby("model", sort=True)):
                colour = (BLUE, ORANGE)[number % 2]
                y = place + (-0.16, 0.16)[number % 2]
                for column, filled in (("effect", True), ("control", False)):
                    values = one[column].dropna().clip(floor, ceiling)
                    shown = y if filled else y + 0.1
                    face = colour if filled else "none"
                    axis.plot(values, np.full(len(values), shown), "o", mfc=face, mec=colour, ms=3, mew=0.6, alpha=0.7)  # fmt: skip
                    if len(values):
                        axis.plot([values.median()] * 2, [shown - 0.09, shown + 0.09], color=colour, lw=1.6)  # fmt: skip
                if place == 0:
                    axis.text(
                        0.02 + 0.2 * number, 1.01, f"model {str(model).upper()}", color=colour, fontsize=8,
                        transform=axis.transAxes,
                    )  # fmt: skip
        axis.axvline(0, color="0.8", lw=0.8, zorder=0)
        words = [str(name).replace("_", " ") for name in names]
        words = [*words[: len(changed)], *(f"{word}\n(placebo)" for word in words[len(changed) :])]
        axis.set_yticks(range(len(names)), words)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlim(floor - 0.05, ceiling + 0.05)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1, 1.5], ["−100", "−50", "0", "+50", "+100", "+150"])
        axis.set_xlabel("change of a latent’s peak, %")
        axis.set_title(cohort, pad=16)
    return figure
