"""The answer of the default run as README shows it: one figure, and how its published figures fared.

    python benchmarks/answer.py results/reports/default   # after `make run`: its tables, kept small and committed
    python benchmarks/answer.py                           # README.md, docs/rotation.md and the figure, from these

What was measured, of what is written between the marks, is read from `results/answer.csv` and `results/default_claims.csv`;
how the run is set up, from here.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
FIGURE = ROOT / "docs" / "figures" / "answer"
CONFIG = "config/config.yaml"
COHORT = "dyck-independent"
DICTIONARY = "relu-l1-x8"
# At the first site nothing has been computed yet.
NOT_INTERNAL = "blocks.0.hook_resid_pre"
Cells = dict[str, str]

COLUMNS = (
    "commit", "config", "cohort", "metric", "arm", "kind", "n", "median", "low", "high", "seeds_low", "seeds_high",
)  # fmt: skip
CLAIM_COLUMNS = (
    "claim", "quantity", "cohort", "published_low", "published_high", "as_published", "as_published_low", "as_published_high",
    "rigorous", "low", "high", "null", "verdict", "why",
)  # fmt: skip


class Arm(NamedTuple):
    """Attributes:
    name: as in the tables; `self` are cells of a model with itself.
    kind: `map`, `null` or `ceiling`.
    """

    name: str
    kind: str
    words: str


ARMS = (
    Arm("self", "ceiling", "its own model"),
    Arm("resampled", "ceiling", "its own model, there and back"),
    Arm("ridge", "map", "another seed, affine map"),
    Arm("procrustes", "map", "another seed, rotated"),
    Arm("raw", "map", "another seed, raw"),
    Arm("shuffled", "null", "null: rotation of shuffled tokens"),
    Arm("covariance_skewness", "null", "null: axes matched by rank"),
    Arm("gaussian", "null", "null: Gaussian noise, same covariance"),
    Arm("random", "null", "null: random rotation"),
)
METRICS = {
    "ev": "explained variance",
    "firing_r": "firing correlation",
    "ce_recovered": "cross-entropy recovered",
}
# What lies deeper is written at the edge.
FLOOR = -1.0


def read(path: Path) -> list[Cells]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def keep(report: Path) -> None:
    """The two small tables of a finished default run, from the large ones of its report."""
    import pandas as pd

    commit = _git("rev-parse", "--short", "HEAD")
    tables = {
        name: pd.read_csv(report / "tables" / f"{name}.csv")
        for name in ("transfer", "splice", "claims")
    }
    carried = tables["transfer"][tables["transfer"].dictionary == DICTIONARY]
    # Whole activations, without a dictionary between.
    spliced = tables["splice"][tables["splice"].dictionary.isna()]
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        found = spliced if metric == "ce_recovered" else carried
        found = found[
            (found.cohort == COHORT) & (found.site != NOT_INTERNAL) & (found.metric == metric)
        ]
        for arm in ARMS:
            rows += _summary(found.dropna(subset=["value"]), metric, arm, commit)
    _write(RESULTS / "answer.csv", COLUMNS, rows)
    claims = tables["claims"].astype(object).where(tables["claims"].notna(), "")
    marked = [{"commit": commit, "config": CONFIG, **row} for row in claims.to_dict("records")]
    _write(RESULTS / "default_claims.csv", ("commit", "config", *CLAIM_COLUMNS), marked)


def _summary(found: Any, metric: str, arm: Arm, commit: str) -> Iterator[dict[str, object]]:
    """Median over pairs, sites and starts with its range, and the 95 % interval over seeds."""
    from crossseed.over_seeds import resampled
    from crossseed.seeding import generator

    own = found.source_seed == found.target_seed
    part = (
        found[own & (found.arm == "raw")]
        if arm.name == "self"
        else found[~own & (found.arm == arm.name)]
    )
    if part.empty:
        return
    values = resampled(generator("answer", metric, arm.name), [part], "median")[0, 1:]
    drawn = sorted(value for value in values if value == value)
    low, high = (
        (drawn[int(0.025 * len(drawn))], drawn[int(0.975 * len(drawn))]) if drawn else ("", "")
    )
    numbers = part.value.median(), part.value.min(), part.value.max(), low, high
    told = [f"{number:.4g}" if number != "" else "" for number in numbers]
    cell = (commit, CONFIG, COHORT, metric, arm.name, arm.kind, len(part))
    yield dict(zip(COLUMNS, (*cell, *told), strict=True))


def _write(path: Path, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _git(*args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def short(text: str) -> str:
    """A number as the pages have it: .97, −2.5, 11.2, 1.7e-4."""
    if text == "":
        return "–"
    value = float(text)
    if 0 < abs(value) < 0.01:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits}e{int(power)}".replace("-", "−", int(value < 0))
    said = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return bare("0" if value == 0 else said)


def bare(number: str) -> str:
    """Without the zero before the point, and with a minus sign."""
    return re.sub(r"^(-?)0(?=\.)", r"\1", number).replace("-", "−")


def printed(row: Cells) -> str:
    """A published figure or its range, digit by digit as `resources/published` has it."""
    ends = (f"{float(row[end]):.12g}" for end in ("published_low", "published_high"))
    return " to ".join(dict.fromkeys(bare(end) for end in ends))


def tolerances() -> dict[str, str]:
    """How far beyond its printed range a figure counts as reproduced, by claim."""
    path = ROOT / "resources" / "published" / "rotation.csv"
    return {row["claim"]: bare(f"{float(row['tolerance']):.12g}") for row in read(path)}


def spread(row: Cells, low: str, high: str) -> str:
    return f" ({short(row[low])} to {short(row[high])})" if row[low] else ""


def answer_lines() -> Iterator[str]:
    """The figure's caption and the counts of claims, for README."""
    rows = read(RESULTS / "answer.csv")
    first = rows[0]
    by = {(row["metric"], row["arm"]): row for row in rows}
    at = {key: short(row["median"]) for key, row in by.items()}
    nulls = {
        metric: max(
            float(row["median"])
            for row in rows
            if row["metric"] == metric and row["kind"] == "null"
        )
        for metric in METRICS
    }
    yield "![What a dictionary of one seed is worth on another, under each map, beside its nulls](docs/figures/answer.svg)\n"
    yield (
        f"`{first['config']}`, commit {first['commit']}, toys that share nothing but their task. Points are medians over two pairs of seeds and "
        "four internal sites, thin lines the range over them, thick lines 95 % over seeds, which with two independent pairs is a range too. "
        "All on held-out tokens. Numbers: `benchmarks/results/answer.csv`.\n"
    )
    yield (
        f"A ReLU-L1 dictionary fires on another seed's activations as on its own with r = {at['firing_r', 'procrustes']} after one rotation, "
        f"{at['firing_r', 'raw']} without, {short(str(nulls['firing_r']))} at most under maps that pair no token. Explained variance, the published measure, "
        f"says less: {at['ev', 'procrustes']} after the rotation, and {short(str(nulls['ev']))} under the best of these. Nor is the map just a rotation: "
        f"an affine one has {at['ev', 'ridge']} and {at['firing_r', 'ridge']}.\n"
    )
    claims = read(RESULTS / "default_claims.csv")
    counts, allowed = Counter(row["verdict"] for row in claims), tolerances()
    yield f"Of the {len(claims)} figures that the study of rotations printed, this run says:\n"
    yield "| verdict | figures | such as |"
    yield "|---|---|---|"
    for verdict, examples in EXAMPLES.items():
        told = "; ".join(said(row, allowed) for row in claims if row["claim"] in examples)
        yield f"| {verdict} | {counts[verdict]} | {told or WHY_NOT} |"
    yield ""
    yield RULE


WHY_NOT = (
    "they need longer runs, other models or other studies; `why` in `default_claims.csv` says which"
)
EXAMPLES = {
    "reproduced": ("toy-independent-raw-ev", "toy-firing-rotated"),
    "reproduced but explained by its control": ("toy-cosine-mean",),
    "not reproduced": ("toy-independent-rotated-ev",),
    "not run here": (),
}


RULE = (
    "A figure is reproduced where the published protocol gives it within the tolerance (±) set beforehand in "
    "`resources/published/rotation.csv`. Rigorous figures may be of another metric, which cannot be met without the map: of explained variance, "
    "what is left beyond the three leading directions. The default run is small: toys are trained for 3,600 steps where the study took 60,000, "
    "dictionaries for 240, so that a figure that is not reproduced here may be for that reason alone ([docs/rotation.md](docs/rotation.md))."
)


def said(row: Cells, allowed: dict[str, str]) -> str:
    protocol, rigorous, control = (
        short(row[name]) for name in ("as_published", "rigorous", "null")
    )
    return (
        f"{row['quantity']} (`{row['cohort']}`): {printed(row)} printed (±{allowed[row['claim']]}), {protocol} by the same protocol, "
        f"{rigorous} measured rigorously, control {control}"
    )


def claim_lines() -> Iterator[str]:
    """Every figure that was measured, for docs/rotation.md."""
    claims = [
        row for row in read(RESULTS / "default_claims.csv") if row["verdict"] != "not run here"
    ]
    yield f"Commit {claims[0]['commit']}; as published: medians over pairs and internal sites, with their range; rigorous: with the interval over seeds."
    yield ""
    yield "| published figure | printed | by the published protocol | rigorous | control | verdict |"
    yield "|---|---|---|---|---|---|"
    allowed = tolerances()
    for row in claims:
        protocol = short(row["as_published"]) + spread(row, "as_published_low", "as_published_high")
        rigorous = short(row["rigorous"]) + spread(row, "low", "high")
        yield f"| `{row['claim']}`: {row['quantity']} | {printed(row)} (±{allowed[row['claim']]}) | {protocol} | {rigorous} | {short(row['null'])} | {row['verdict']} |"


PARTS = {
    ROOT / "README.md": ("answer", answer_lines),
    ROOT / "docs" / "rotation.md": ("claims of the default run", claim_lines),
}


def with_part(page: Path) -> str:
    """A page with the part between its marks as the committed tables have it."""
    name, lines = PARTS[page]
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(f"<!-- {name}: python benchmarks/answer.py -->\n")
    _, _, tail = rest.partition(f"<!-- end of {name} -->")
    if not tail:
        raise SystemExit(f"{page} has no part <!-- {name}: … -->")
    body = "\n".join(lines())
    return (
        f"{head}<!-- {name}: python benchmarks/answer.py -->\n{body}\n<!-- end of {name} -->{tail}"
    )


def draw(path: Path) -> None:
    """Three panels, an arm a line, its median in figures at the right, nulls on grey; `path` is a .svg."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from crossseed.report.style import BLACK, BLUE, ORANGE, STYLE

    rows = {(row["metric"], row["arm"]): row for row in read(RESULTS / "answer.csv")}
    arms = [arm for arm in ARMS if any((metric, arm.name) in rows for metric in METRICS)]
    arms.reverse()
    nulls = sum(arm.kind == "null" for arm in arms)
    with mpl.rc_context():
        # Whatever else was drawn before.
        mpl.rcdefaults()
        mpl.rcParams.update(cast("Any", STYLE))
        figure = Figure(figsize=(10.4, 4.0), layout="constrained")
        axes = figure.subplots(1, len(METRICS), sharey=True)
        for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
            axis.axhspan(-0.6, nulls - 0.5, color="#f0f0f0", zorder=0, linewidth=0)
            for at in (0, 1):
                axis.axvline(at, color="#c8c8c8", linewidth=0.8, zorder=0.5)
            for place, arm in enumerate(arms):
                colour = {"ceiling": BLACK, "null": NULL}.get(
                    arm.kind, ORANGE if arm.name == "raw" else BLUE
                )
                row = rows.get((metric, arm.name))
                _told(axis, place, short(row["median"]) if row else "–", colour)
                if row:
                    _line(axis, place, row, colour, marker="s" if arm.kind == "null" else "o")
            axis.set_xlim(FLOOR - 0.12, 1.1)
            axis.set_ylim(-0.6, len(arms) - 0.4)
            axis.set_xticks([-1, -0.5, 0, 0.5, 1], ["≤ −1", "−.5", "0", ".5", "1"])
            axis.set_title(title, loc="left")
            axis.set_xlabel(UNITS[metric], fontsize=8)
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.tick_params(left=False)
        axes[0].set_yticks(range(len(arms)), [arm.words for arm in arms])
        figure.supxlabel(KEY, fontsize=8)
        # Without a date, so that equal figures are equal bytes.
        figure.savefig(path, format="svg", metadata={"Date": None})


NULL = "#595959"
UNITS = {
    "ev": "share of variance (1: all)",
    "firing_r": "Pearson r (1: fires alike)",
    "ce_recovered": "share of nats (0: site zeroed, 1: intact)",
}
KEY = (
    "● or ■ (null) and the figure at the right: median.   Thick line: 95 % over seeds.   Thin line: range over pairs and sites.   "
    "◂: the median lies further left."
)


def _told(axis: Any, place: int, words: str, colour: str) -> None:
    """A median in figures, right of its panel."""
    axis.annotate(
        words, (1, place), xytext=(28, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="center", fontsize=8, color=colour,
    )  # fmt: skip


def _line(axis: Any, place: int, row: Cells, colour: str, marker: str) -> None:
    median, low, high = (float(row[name]) for name in ("median", "low", "high"))
    axis.plot([max(low, FLOOR), max(high, FLOOR)], [place, place], color=colour, linewidth=0.9)
    if row["seeds_low"]:
        ends = [max(float(row[name]), FLOOR) for name in ("seeds_low", "seeds_high")]
        axis.plot(ends, [place, place], color=colour, linewidth=3.4, solid_capstyle="butt")
    below = median < FLOOR
    axis.plot(
        max(median, FLOOR), place, marker="<" if below else marker, color=colour, markersize=5
    )


def main(arguments: list[str]) -> None:
    if arguments:
        keep(Path(arguments[0]))
    draw(FIGURE.with_suffix(".svg"))
    for page in PARTS:
        page.write_text(with_part(page), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
