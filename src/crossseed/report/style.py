"""What all figures share: their look, their files, and labels that do not overlap."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.colors
import matplotlib.lines
import matplotlib.text
import matplotlib.ticker
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from crossseed.atomic import writing

# Okabe and Ito's palette: told apart under all common forms of colour blindness.
BLUE, ORANGE, GREEN, PINK, AMBER = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
BLACK, GREY = "#000000", "#999999"
# Where panels end below; what lies deeper is drawn on the edge.
DRIFT_FLOOR = -1.0
STYLE = {
    "svg.hashsalt": "crossseed",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.dpi": 120,
    "savefig.dpi": 160,
}


# Of a text on white, below which it is hard to read (WCAG 2.1).
LEAST_CONTRAST = 4.5
# Texts lighter than this stand on something dark.
ON_DARK = 0.8


def luminance(colour: Any) -> float:
    """Relative luminance of a colour, 0 to 1 (WCAG 2.1)."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def ink(colour: Any) -> tuple[float, float, float]:
    """A colour, darkened in its hue until words in it can be read on white."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    while 1.05 / (luminance(rgb) + 0.05) < LEAST_CONTRAST:
        rgb *= 0.95
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def dictionary_colours(names: Sequence[Hashable]) -> dict[Any, Any]:
    """A colour a dictionary, in one order for all figures: dark to light, none so light that a line is lost on white."""
    palette = sns.color_palette("viridis", as_cmap=True)
    places = np.linspace(0, 0.7, max(len(names), 2))
    return {name: palette(place) for name, place in zip(names, places, strict=False)}


def save(figure: Figure, stem: Path) -> None:
    """Writes `stem`.svg and `stem`.png, without dates, so that equal figures are equal bytes; words get readable colours.

    The SVG says what its axes are, for readers who do not see it."""
    described = axes_in_words(figure)
    for text in figure.findobj(matplotlib.text.Text):
        if luminance(text.get_color()) < ON_DARK:
            text.set_color(ink(text.get_color()))
    for kind, metadata in (
        ("svg", {"Date": None, "Description": described}),
        ("png", {"Software": None}),
    ):
        with writing(stem.with_suffix(f".{kind}")) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata, bbox_inches="tight")


# Of more words along an axis the first and the last are told.
MOST_TICKS = 16


def axes_in_words(figure: Figure) -> str:
    """Panels and axes of a figure, with their units, from its own labels."""
    axes = [axis for axis in figure.axes if axis.axison]
    found = {
        "Panels": [axis.get_title(loc) for axis in axes for loc in ("left", "center")],
        "Across": [figure.get_supxlabel(), *(_along(axis.xaxis) for axis in axes)],
        "Upwards": [figure.get_supylabel(), *(_along(axis.yaxis) for axis in axes)],
    }
    said = {
        lead: list(dict.fromkeys(filter(None, (" ".join(text.split()) for text in texts))))
        for lead, texts in found.items()
    }
    return " ".join(f"{lead}: {'; '.join(texts)}." for lead, texts in said.items() if texts)


def _along(axis: Axis) -> str:
    """What an axis says that it is; its ticks, where it has no label and these are words."""
    if axis.get_label_text():
        return str(axis.get_label_text())
    words = [" ".join(tick.get_text().split()) for tick in axis.get_ticklabels()]
    # Those with a dollar sign are powers of ten.
    named = [word for word in words if "$" not in word and any(letter.isalpha() for letter in word)]
    if len(named) > MOST_TICKS:
        named = [f"{len(named)} from {named[0]} to {named[-1]}"]
    return ", ".join(named) if axis.get_visible() else ""


class Plain(matplotlib.ticker.LogFormatterSciNotation):
    """Numbers of a logarithmic axis as they are written elsewhere: .2, not 2 × 10⁻¹."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}".replace("-", "−") if super().__call__(x, pos) else ""


def logarithmic(axis: Axes) -> None:
    """A logarithmic scale upwards, with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(Plain())
    axis.yaxis.set_minor_formatter(Plain(labelOnlyBase=False))


def panels(n: int, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of n panels side by side, with one scale."""
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


def site_axis(axis: Axes, sites: list[str], room: float = 0.25) -> None:
    """Sites along the axis, in the order of the forward pass, with room for labels at the end."""
    axis.set_xticks(range(len(sites)), [short_site(site) for site in sites], fontsize=7.5)
    axis.set_xlim(-0.4, len(sites) - 1 + room)


def map_legend(figure: Figure, colours: dict[str, str]) -> None:
    """Names of lines that all panels share, in their colours, above them."""
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, label=words)
        for words, colour in colours.items()
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(4, len(handles)), fontsize=8,
        frameon=False, labelcolor="linecolor",
    )  # fmt: skip
