"""Writes docs/performance.md, and its figures, from the committed `benchmarks/results/*.csv`.

    python benchmarks/page.py

A row is what was measured, its ratio to a floor (what cannot be done without) or to a peer (another way to the same),
and the goal of that ratio. Rows that miss it say by how much, and why.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
FIGURES = DOCS / "figures"
Cells = dict[str, str]


class Row(NamedTuple):
    """Attributes:
    what, against: what was measured, and beside what.
    ratio: NaN-free figure. goal: None where there is none.
    least: whether the ratio is to be at least the goal; else at most.
    share: whether it is a share, or seconds, and no ratio.
    """

    what: str
    against: str
    ratio: float
    goal: float | None
    least: bool = False
    unit: str = ""

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        return self.ratio < self.goal if self.least else self.ratio > self.goal


class Part(NamedTuple):
    """A table of results, and how its lines become rows."""

    title: str
    file: str
    rows: Callable[[list[Cells]], Iterator[Row]]


# Explained variance below ours by which a peer is another, worse thing.
WORSE = 0.05
# Rows of a table that are no peers.
OURS = ("crossseed", "five dense products")
# Where nothing else is said of a floor.
FLOOR = 1.15
HELP_SECONDS = 0.3

# Why rows miss their goal, by table and what was measured.
PYDANTIC = "it imports pydantic, by way of the configuration of the toys or of SAE architectures."
WHY = {
    ("default_run.csv", "start of processes"): "measured before jobs started and ended in half the time; 76 of its 261 jobs "
    "import PyTorch, and those of SAEs and of spliced models are short.",
    **{("imports.csv", verb): PYDANTIC for verb in ("tokens", "shared", "cosine", "collect", "transfer")},
    ("haar.csv", "Procrustes of rows"): "measured before rows were centred, summed and multiplied a thousand at a time, which took "
    "a sixth off the moments.",
    ("constructive.csv", "behavioural bar, streamed, 2048 sequences"): "a part that does not grow with the sequences; at "
    "ten times as many the ratio is 1.17.",
    ("constructive.csv", "behavioural bar, streamed, 20480 sequences"): "the same part.",
}  # fmt: skip
WHY_NOT_SAID = "not looked into."


def imports(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["what"] == "crossseed --help":
            yield Row(row["what"], "", float(row["cpu_seconds"]), HELP_SECONDS, unit=" s")
        elif row["ratio_to_floor"]:
            seconds = f"{row['what']} ({row['cpu_seconds']} s)"
            against = f"import of NumPy, h5py{_with(row['heavy'])} alone, {row['floor_seconds']} s"
            yield Row(seconds, against, float(row["ratio_to_floor"]), FLOOR)


def _with(heavy: str) -> str:
    known = {
        "torch": "PyTorch", "transformers": "transformers", "scipy.stats": "scipy.stats", "scipy": "SciPy",
        "pandas": "pandas", "seaborn": "seaborn",
    }  # fmt: skip
    found = [known[name] for name in heavy.split() if name in known]
    return f" and {', '.join(found)}" if found else ""


def extraction(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        against = f"bare forward pass up to {row['site']}"
        yield Row(row["what"], against, float(row["ratio_to_floor"]), float(row["goal"]))


def toys(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["ratio_to_floor"]:
            against = "passes and Adam alone, on batches that lie there"
            yield Row(row["what"], against, float(row["ratio_to_floor"]), FLOOR)
            share = float(row["data_share"])
            yield Row("making of batches", "the whole step", share, float(row["data_goal"]))


def haar(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["ratio"] and row["what"].startswith("Procrustes"):
            yield Row(row["what"], row["against"], float(row["ratio"]), FLOOR)
        elif row["ratio"]:
            yield Row(row["what"], row["against"], float(row["ratio"]), 1, least=True)


def interventions(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        what = f"{row['what']}, {row['device']}"
        yield Row(what, "a whole pass a change", float(row["ratio"]), 1, least=True)


def constructive(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        what, ratio = f"{row['what']}, {row['size']}", float(row["ratio"])
        if row["what"].startswith("behavioural"):
            yield Row(what, row["against"], ratio, FLOOR)
        else:
            yield Row(what, row["against"], ratio, 1, least=True)


def matching(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["how"] == "priced" and row["dense_over_this"]:
            what = f"{row['latents']} latents, {row['structure']}"
            yield Row(what, "SciPy on the whole matrix", float(row["dense_over_this"]), 1, True)


def joint(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["what"] == "joint step":
            what = f"d {row['d']}, {row['latents']} latents, {row['dead']} dead, {row['device']}"
            against = "both models' passes above the site, and the SAE"
            yield Row(what, against, float(row["ratio_to_floor"]), FLOOR)


def _quality(ours: Cells, theirs: Cells) -> str:
    return f", explaining {float(theirs['ev']):.3g} where this explains {float(ours['ev']):.3g}"


def sae_training(rows: list[Cells]) -> Iterator[Row]:
    """Ours beside the fastest of all others that explain as much, SAELens, and the five dense products of a step; in
    processor seconds of one thread on a processor."""

    def key(row: Cells) -> tuple[str, ...]:
        return tuple(row[name] for name in ("device", "architecture", "d", "n_latents", "batch"))

    def rate(row: Cells) -> float:
        return float(row["tokens_per_cpu_s"] if row["device"] == "cpu" else row["tokens_per_s"])

    for row in rows:
        if row["contestant"] != "crossseed":
            continue
        device, architecture, d, latents, batch = key(row)
        what = f"{architecture}, d {d}, {latents} latents, batches of {batch}, {device}"
        others = [r for r in rows if key(r) == key(row) and r["contestant"] not in OURS]
        if not others:
            continue
        # A faster worse SAE does not win.
        alike = [r for r in others if float(r["ev"]) > float(row["ev"]) - WORSE]
        best = max(alike, key=rate)
        told = f"{best['contestant']}, the fastest other{_quality(row, best)}"
        yield Row(what, told, rate(row) / rate(best), 1, least=True)
        goal = 2 if d == "64" or architecture == "topk" else 1
        (saelens,) = (r for r in others if r["contestant"] == "SAELens")
        told = f"SAELens{_quality(row, saelens)}"
        yield Row(what, told, float(row["ratio_to_saelens"]), goal, least=True)
        sparse = architecture == "topk" and int(latents) >= 4096
        share = 1 if sparse else 0.9 if d == "512" else None
        ceiling = float(row["share_of_matmul_ceiling"])
        yield Row(what, "five dense products a token", ceiling, share, least=True)


def memory(rows: list[Cells]) -> Iterator[Row]:
    for row in rows[1:]:
        what = f"{row['tokens_factor']} times the tokens"
        yield Row(what, "peak memory at once the tokens", float(row["ratio_to_1x"]), FLOOR)


def default_run(rows: list[Cells]) -> Iterator[Row]:
    by = {row["stage"]: row for row in rows}
    whole = next(row for stage, row in by.items() if stage.startswith("whole run"))
    jobs = float(whole["start_seconds"]) + float(whole["work_seconds"])
    yield Row("start of processes", "all that jobs take", float(whole["start_seconds"]) / jobs, 0.1)
    outside = float(by["share outside training and analysis"]["job_seconds"])
    yield Row("start, scheduling and waiting", "cores × wall time", outside, None)


PARTS = (
    Part("The default run", "default_run.csv", default_run),
    Part("Start of a job", "imports.csv", imports),
    Part("Reading activations", "extraction.csv", extraction),
    Part("Training the toy", "toys.csv", toys),
    Part("Training SAEs", "sae_training.csv", sae_training),
    Part("Training joint SAEs", "joint.csv", joint),
    Part("Alignment and Haar tests", "haar.csv", haar),
    Part("Matching", "matching.csv", matching),
    Part("Interventions", "interventions.csv", interventions),
    Part("Constructive tests", "constructive.csv", constructive),
    Part("Memory of streams", "streaming_memory.csv", memory),
)


def read(name: str) -> list[Cells]:
    with open(RESULTS / name, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def found() -> list[tuple[Part, list[Row]]]:
    return [(part, list(part.rows(read(part.file)))) for part in PARTS]


def why(file: str, what: str) -> str:
    """The reason written down for a row, whose name may go on."""
    return next(
        (text for (of, start), text in WHY.items() if of == file and what.startswith(start)),
        WHY_NOT_SAID,
    )


def number(row: Row, value: float) -> str:
    return f"{value:.3g}{row.unit}"


def lines(parts: list[tuple[Part, list[Row]]]) -> Iterator[str]:
    every = [row for _, rows in parts for row in rows]
    goals = [row for row in every if row.goal is not None]
    yield "# Performance\n"
    yield "<!-- Written by benchmarks/page.py from benchmarks/results/*.csv; `make bench` makes both. -->\n"
    yield (
        "Each figure is a ratio within one run on one machine: to a *floor*, what cannot be done without, where it is "
        "to be at most its goal; or to a *peer*, another way to the same, where it says how much faster this one is and is to be at least its goal. "
        "How each is measured: [benchmarks/README.md](../benchmarks/README.md).\n"
    )
    met = sum(not row.missed for row in goals)
    yield f"{met} of {len(goals)} rows meet their goal.\n"
    yield "![Ratios to floors](figures/floors.svg)\n"
    yield "![Ratios to peers](figures/peers.svg)\n"
    for part, rows in parts:
        yield f"## {part.title}\n"
        yield f"From `{part.file}`.\n"
        yield "| what | ratio | beside | goal |"
        yield "|---|---|---|---|"
        for row in rows:
            goal = ""
            if row.goal is not None:
                goal = f"{'≥' if row.least else '≤'} {number(row, row.goal)}"
                goal += " **missed**" if row.missed else ""
            yield f"| {row.what} | {number(row, row.ratio)} | {row.against} | {goal} |"
        yield ""
        missed = [row for row in rows if row.missed]
        for row in missed:
            assert row.goal is not None
            off = abs(row.ratio / row.goal - 1)
            yield f"- *{row.what}* misses its goal by {off:.0%}: {why(part.file, row.what)}"
        if missed:
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


def beside(row: Row) -> str:
    """For a figure: whom a peer's row is beside, in a few words."""
    return f", {row.against.split(', ')[0]}" if row.least else ""


def figure(path: Path, rows: list[tuple[str, Row]], label: str) -> None:
    """A dot a row, named beside it, its goal a line."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    mpl.rcParams.update({"svg.hashsalt": "crossseed", "svg.fonttype": "none", "font.size": 8})
    drawn = Figure(figsize=(8, 0.8 + 0.17 * len(rows)), layout="constrained")
    axes = drawn.subplots()
    for height, (title, row) in enumerate(reversed(rows)):
        colour = "#b2182b" if row.missed else "#2166ac"
        axes.plot([1, row.ratio], [height, height], color=colour, linewidth=0.6)
        axes.plot(row.ratio, height, "o", color=colour, markersize=4)
        side = -1 if row.ratio < 1 else 1
        axes.annotate(
            f"{row.ratio:.3g}", (row.ratio, height), (5 * side, 0), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center",
        )  # fmt: skip
        assert row.goal is not None
        axes.plot([row.goal] * 2, [height - 0.4, height + 0.4], color="0.4", linewidth=0.8)
        axes.annotate(
            f"{title}: {row.what.split(' (')[0]}{beside(row)}", (0, height), (-4, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color="0.8", linewidth=0.6, zorder=0)
    axes.set_yticks([])
    axes.margins(x=0.12, y=0.02)
    axes.set_xlabel(label)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})


def main() -> None:
    parts = found()
    PAGE.write_text("\n".join(lines(parts)) + "\n", encoding="utf-8")
    named = [(part.title, row) for part, rows in parts for row in rows if row.goal is not None]
    floors = [(t, r) for t, r in named if not r.least and not r.unit and r.goal and r.goal > 1]
    label = "times its floor (grey mark: the goal, at most; red: missed)"
    figure(FIGURES / "floors.svg", floors, label)
    peers = [(t, r) for t, r in named if r.least]
    figure(
        FIGURES / "peers.svg", peers, "times as fast (grey mark: the goal, at least; red: missed)"
    )
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
