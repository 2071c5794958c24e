"""Writes docs/performance.md, and its figures, from the committed `benchmarks/results/*.csv`.

    python benchmarks/page.py

A row is what was measured, its ratio to a floor (what cannot be done without) or to a peer (another way to the same),
and the goal of that ratio. Rows that miss it say by how much, and why.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import page_rows
from measured import MADE, MOST, PEERS, RESULTS
from page_rows import Cells, Row

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
FIGURES = DOCS / "figures"


class Part(NamedTuple):
    """A table of results, how its lines become rows, and what else of it is shown, as lines of a page."""

    title: str
    file: str
    rows: Callable[[list[Cells]], Iterator[Row]]
    more: Callable[[list[Cells]], Iterator[str]] | None = None


# Why rows miss their goal, by table and what was measured.
NO_GPU = (
    "no GPU was at hand. Of what could bring it nearer, CUDA graphs and bf16 of SAEs are not built."
)
OWN = "this package's own modules, and the machine: equal starts differ by up to a third there."
PRODUCTS = "the products of each map and rotation, which it needs too, are not in the floor."
SORTED = "to sort candidates out takes about as long as a product of so few dimensions."
FEW = "a step has besides sums over latents, Adam and unit rows, which are much beside so few latents' products."
EARLY = (
    "SAELens leaves decoder norms free, and at this rate learns faster in its first steps. Each at its best rate, ours has the "
    "lower loss after 240 steps and after 1,000 (*What SAEs have learned*)."
)
WHY = {
    ("default_run.csv", "start of processes"): "jobs that import PyTorch start in 1.5 s, and most of the jobs do, many of which "
    "are short.",
    **{
        ("imports.csv", verb): OWN
        for verb in (
            *("tokens", "absorption", "over_seeds", "claims", "joint_counterfactuals", "collect"),
            "report",
        )
    },
    ("extraction.csv", "toy"): "a small model's pass is short beside the writing of its activations.",
    ("sae_seeds.csv", "4 SAEs of d 64"): "a step has besides Adam and unit rows, which are much beside small products.",
    ("alignment.csv", "second moments"): "float64 sums are added to after every 1,024 rows, which keeps rounding at 6e-8.",
    ("alignment.csv", "the ladder"): PRODUCTS,
    ("alignment.csv", "the Haar tests of a pair"): PRODUCTS,
    ("constructive.csv", "alignment of two toy models"): PRODUCTS,
    ("matching.csv", "matching of 8192 latents of d 256, shared ("): SORTED,
    ("matching.csv", "matching of 8192 latents of d 256, random ("): SORTED,
    ("matching.csv", "matching of 8192 latents of d 256, shared, a common mean"): "directions that are dead, or lean one way, are as "
    "far from one as from another: up to half of the rows are priced, in several rounds.",
    **{
        ("sae_training.csv", f"relu, d 64, 512 latents, batches of {batch}, {threads} / SAELens"): EARLY
        for batch in (1024, 4096)
        for threads in ("one thread", "2 threads")
    },
    ("sae_training.csv", "relu, d 512, 512 latents, batches of 4096, one thread"): FEW,
    ("sae_training.csv", "relu, d 512, 512 latents, batches of 4096, 2 threads"): FEW,
    ("sae_training.csv", "relu, d 512, 16384 latents, batches of 2048, 2 threads"): "two threads share the memory's bandwidth, and "
    "a step moves more than its products.",
    ("sae_training.csv", "each size, GPU"): NO_GPU,
    ("sae_together.csv", "cells of 4096"): NO_GPU,
}  # fmt: skip


PARTS = (
    Part("The default run", "default_run.csv", page_rows.default_run),
    Part("Start of a job", "imports.csv", page_rows.imports),
    Part("Reading activations", "extraction.csv", page_rows.compared),
    Part("Training the toy", "toys.csv", page_rows.compared),
    Part("What the toy learns", "toy_learned.csv", page_rows.toy_learned),
    Part("Training SAEs", "sae_training.csv", page_rows.sae_training, page_rows.sae_contestants),
    Part("Training SAEs together", "sae_together.csv", page_rows.sae_together),
    Part("What SAEs have learned", "sae_learned.csv", page_rows.sae_learned, page_rows.sae_rates),
    Part("SAEs of several seeds", "sae_seeds.csv", page_rows.compared),
    Part("Training joint SAEs", "joint.csv", page_rows.joint),
    Part("Maps, their nulls and Haar tests", "alignment.csv", page_rows.compared),
    Part("Matching", "matching.csv", page_rows.compared),
    Part("Interventions", "interventions.csv", page_rows.compared),
    Part("Constructive tests", "constructive.csv", page_rows.compared),
    Part("Memory of streams", "streaming_memory.csv", page_rows.memory),
    Part("Planning", "planning.csv", page_rows.planning),
    Part("Planning and scheduling at scale", "scale.csv", page_rows.scale),
)


def read(name: str) -> list[Cells]:
    with open(RESULTS / name, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def found() -> list[tuple[Part, list[Row]]]:
    return [(part, list(part.rows(read(part.file)))) for part in PARTS]


def reason(file: str, row: Row) -> tuple[str, str] | None:
    """The key in `WHY` of a row, whose name and whom it is beside may go on; None where there is none."""
    told = f"{row.what} / {row.against}"
    # The most particular, where one is the beginning of another.
    fits = [key for key in WHY if key[0] == file and told.startswith(key[1])]
    return max(fits, key=lambda key: len(key[1]), default=None)


def why(file: str, row: Row) -> str:
    """The reason written down for a row; empty where there is none."""
    key = reason(file, row)
    return WHY[key] if key else ""


def number(row: Row, value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}{row.unit}"


def ratio(row: Row) -> str:
    """With its spread, where there is one."""
    told = number(row, row.ratio)
    if row.spread is not None and row.spread[0] < row.spread[1]:
        told += f" ({row.spread[0]:.3g} to {row.spread[1]:.3g})"
    return told


def conditions(file: str, made: list[Cells]) -> str:
    """Under what a table was measured."""
    (row,) = (row for row in made if row["table"] == file)
    peers = ", ".join(f"{name} {row[name]}" for name in PEERS if row[name])
    if not row["python"]:
        where = f" on {row['machine']}" if row["machine"] else ""
        return f"From `{file}`, as of {row['commit']} ({row['day']}){where}; versions were not noted yet.\n"
    return (
        f"From `{file}`, measured {row['day']} at {row['commit']}: {row['machine']}, {row['cores']} cores, "
        f"load {row['load']} before; Python {row['python']}, PyTorch {row['torch']}, NumPy {row['numpy']}"
        f"{', ' + peers if peers else ''}.\n"
    )


def lines(parts: list[tuple[Part, list[Row]]]) -> Iterator[str]:
    made = read(MADE.name)
    every = [row for _, rows in parts for row in rows]
    goals = [row for row in every if row.goal is not None]
    yield "# Performance\n"
    yield "<!-- Written by benchmarks/page.py from benchmarks/results/*.csv; `make bench` makes both. -->\n"
    yield (
        "Each figure is a ratio within one run on one machine: to a *floor*, what cannot be done without, where it is "
        "to be at most its goal; or to a *peer*, another way to the same, where it says how much faster this one is and is to be at least its goal. "
        "Figures are medians of repeats, with the lowest and highest in brackets. How each is measured: [benchmarks/README.md](../benchmarks/README.md).\n"
    )
    met = sum(not row.missed for row in goals)
    yield f"{met} of {len(goals)} rows meet their goal.\n"
    yield "![Ratios to floors](figures/floors.svg)\n"
    yield "![Ratios to peers](figures/peers.svg)\n"
    for part, rows in parts:
        yield f"## {part.title}\n"
        yield conditions(part.file, made)
        yield "| what | ratio | beside | goal |"
        yield "|---|---|---|---|"
        for row in rows:
            goal = ""
            if row.goal is not None:
                goal = f"{'≥' if row.least else '≤'} {number(row, row.goal)}"
                goal += " **missed**" if row.missed else ""
            yield f"| {row.what} | {ratio(row)} | {row.against} | {goal} |"
        yield ""
        missed = [row for row in rows if row.missed]
        for row in missed:
            assert row.goal is not None
            told = why(part.file, row)
            if row.ratio is None:
                yield f"- *{row.what}* is not measured: {told}"
            elif row.worse:
                most = f"{MOST:g} times its loss, by {row.worse:.0%}"
                yield f"- *{row.what}* (beside {row.against}) leaves more than {most}: {told}"
            else:
                off = abs(row.ratio / row.goal - 1)
                yield f"- *{row.what}* (beside {row.against}) misses its goal by {off:.0%}: {told}"
        if missed:
            yield ""
        if part.more is not None:
            yield from part.more(read(part.file))
            yield ""
    yield "## From release to release\n"
    yield "The default run, from `trend.csv`: processor or job seconds, and the share of each.\n"
    trend = read("trend.csv")
    kinds = ("science", "start", "reading_writing", "scheduling")
    yield f"| version | {' | '.join(kind.replace('_', ' and ') for kind in kinds)} | wall seconds |"
    yield "|---|---|---|---|---|---|"
    for one in trend:
        total = sum(float(one[f"{kind}_seconds"] or 0) for kind in kinds)
        shares = (
            f"{float(one[f'{kind}_seconds']):.0f} s ({float(one[f'{kind}_seconds']) / total:.0%})"
            if one[f"{kind}_seconds"]
            else "not measured"
            for kind in kinds
        )
        yield f"| {one['version']} | {' | '.join(shares)} | {float(one['wall_seconds']):.0f} |"


def text() -> str:
    return "\n".join(lines(found())) + "\n"


# Of a row, in inches.
LINE = 0.19
RED, BLUE, DARK = "#b2182b", "#2166ac", "#4d4d4d"


def called(row: Row) -> str:
    """For a figure: what was measured, and of a peer's row whom it is beside, in a few words."""
    return row.what.split(" (")[0] + (f" — {re.split('[,;]', row.against)[0]}" if row.least else "")


def figure(path: Path, rows: list[tuple[str, Row]], label: str) -> None:
    """A dot a row under its table's name, named at the left, its ratio and goal in figures at the right; the same whatever
    else was drawn before."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "crossseed", "svg.fonttype": "path", "font.size": 8})
        _figure(path, rows, label)


# Ratios so far apart that an axis has room for powers of ten alone.
WIDE = 100


def _figure(path: Path, rows: list[tuple[str, Row]], label: str) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    titles = list(dict.fromkeys(title for title, _ in rows))
    lines: list[str | Row] = []
    for title in titles:
        lines += [title, *(row for of, row in rows if of == title)]
    size = 1.0 + LINE * (len(lines) + 1)
    drawn = Figure(figsize=(10, size))
    # Names, panel, and two columns of figures, in shares of the width.
    axes = drawn.add_axes((0.56, 0.62 / size, 0.28, 1 - 0.9 / size))

    def say(height: float, at: float, words: str, right: bool, **how: Any) -> None:
        axes.annotate(
            words, (at, height), xycoords=("figure fraction", "data"), va="center", annotation_clip=False,
            ha="right" if right else "left", **how,
        )  # fmt: skip

    for height, line in enumerate(reversed(lines)):
        if isinstance(line, str):
            say(height, 0.01, line, right=False, weight="bold")
            continue
        ratio, goal = line.ratio, line.goal
        assert ratio is not None
        assert goal is not None
        colour = RED if line.missed else BLUE
        axes.plot([1, ratio], [height, height], color=colour, linewidth=0.8)
        if line.spread is not None:
            axes.plot(line.spread, [height, height], color=colour, linewidth=3, alpha=0.35)
        axes.plot(ratio, height, "X" if line.missed else "o", color=colour, markersize=5)
        axes.plot([goal] * 2, [height - 0.35, height + 0.35], color=DARK, linewidth=1.2)
        say(height, 0.55, called(line), right=True)
        say(height, 0.895, f"{ratio:.3g}", right=True, color=colour)
        said = f"{'≥' if line.least else '≤'} {goal:.3g}" + (", missed" if line.missed else "")
        say(height, 0.91, said, right=False, color=colour if line.missed else DARK)
    say(len(lines), 0.895, "measured", right=True, weight="bold")
    say(len(lines), 0.91, "goal", right=False, weight="bold")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color="0.8", linewidth=0.8, zorder=0)
    axes.set_yticks([])
    axes.set_ylim(-0.7, len(lines) + 0.5)
    axes.margins(x=0.05)
    axes.set_xlabel(label)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})


def draw(parts: list[tuple[Part, list[Row]]], folder: Path) -> None:
    """Writes both figures."""
    named = [
        (part.title, row)
        for part, rows in parts
        for row in rows
        if row.goal is not None and row.ratio is not None
    ]
    marks = "band: lowest to highest; dark mark: goal,"
    # Shares of a whole are in the table alone: they are far from what are times a floor.
    floors = [(t, r) for t, r in named if not r.least and not r.unit and (r.goal or 0) >= 1]
    label = f"times its floor\n({marks} at most; cross: missed)"
    figure(folder / "floors.svg", floors, label)
    peers = [(t, r) for t, r in named if r.least]
    label = f"times as fast as the peer\n({marks} at least; cross: missed)"
    figure(folder / "peers.svg", peers, label)


def main() -> None:
    parts = found()
    PAGE.write_text("\n".join(lines(parts)) + "\n", encoding="utf-8")
    draw(parts, FIGURES)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
