"""How lines of `benchmarks/results/*.csv` become rows of docs/performance.md.

A row is what was measured, its ratio to a floor (what cannot be done without) or to a peer (another way to the same),
and the goal of that ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from measured import MOST, PEER

Cells = dict[str, str]


class Row(NamedTuple):
    """Attributes:
    what, against: what was measured, and beside what.
    ratio: None where it was not measured, which misses any goal. goal: None where there is none.
    least: whether the ratio is to be at least the goal; else at most.
    unit: of what is no ratio.
    worse: by how much more than allowed the faster is worse, as a share; above 0 it misses any goal.
    spread: lowest and highest ratio of the repeats, where there were several.
    """

    what: str
    against: str
    ratio: float | None
    goal: float | None
    least: bool = False
    unit: str = ""
    worse: float = 0.0
    spread: tuple[float, float] | None = None

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        if self.ratio is None or self.worse > 0:
            return True
        return self.ratio < self.goal if self.least else self.ratio > self.goal


# Steps from which on the loss says how well a loop learns; after fewer it says where the start was.
LEARNING = 100
# Rows of a table that are no peers.
OURS = ("crossseed", "crossseed, norms absorbed", "five dense products")
HELP_SECONDS = 0.3
# A job may start so much after its floor; of a floor of a seventh of a second, 1.15 times would be what a few modules take.
START_SECONDS = 0.1


def imports(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["what"] == "crossseed --help":
            seconds = float(row["cpu_seconds"])
            of_all = (float(row["lowest"]), float(row["highest"]))
            yield Row(row["what"], "", seconds, HELP_SECONDS, unit=" s", spread=of_all)
        elif row["megabytes"]:
            what = f"{row['what']}, {row['packages']} packages"
            yield Row(what, "", float(row["megabytes"]), None, unit=" MB")
        elif row["ratio_to_floor"]:
            told = f"{row['what']} ({row['cpu_seconds']} s)"
            against = f"import of NumPy, h5py{_with(row['heavy'])} alone, {row['floor_seconds']} s"
            floor = float(row["floor_seconds"])
            goal = max(MOST, (floor + START_SECONDS) / floor)
            ratio = float(row["ratio_to_floor"])
            yield Row(told, against, ratio, goal, spread=spread(row, "ratio"))


def _with(heavy: str) -> str:
    known = {
        "torch": "PyTorch", "transformers": "transformers", "scipy.stats": "scipy.stats", "scipy": "SciPy",
        "pandas": "pandas", "seaborn": "seaborn", "pydantic": "pydantic",
    }  # fmt: skip
    found = [known[name] for name in heavy.split() if name in known]
    return f" and {', '.join(found)}" if found else ""


def compared(rows: list[Cells]) -> Iterator[Row]:
    """Of the tables whose columns are `measured.COMPARED`."""
    for row in rows:
        what = row["what"] if row["device"] == "cpu" else f"{row['what']}, {row['device']}"
        if row["a_second"]:
            rate, unit = row["a_second"].split()
            what += f", {float(rate):,.0f} {unit} a second"
        if row["peak_mb"]:
            what += f" ({row['peak_mb']} MB)"
        goal = float(row["goal"]) if row["goal"] else None
        least = row["kind"] == PEER
        yield Row(
            what, row["beside"], float(row["ratio"]), goal, least, spread=spread(row, "ratio")
        )


def spread(row: Cells, of: str) -> tuple[float, float] | None:
    """From the columns `of`_lowest and `of`_highest."""
    return (float(row[f"{of}_lowest"]), float(row[f"{of}_highest"]))


def toy_learned(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        what = f"{row['what']}, seed {row['seed']}, {row['steps']} steps of {row['steps_per_cpu_s']} a second"
        yield Row(what, "", float(row["cpu_seconds"]), None, unit=" s")


def joint(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        if row["what"] == "joint step":
            what = f"d {row['d']}, {row['latents']} latents, {row['dead']} dead, {row['device']}"
            against = "both models' passes above the site, and the SAE"
            ratio = float(row["ratio_to_floor"])
            yield Row(what, against, ratio, MOST, spread=spread(row, "ratio"))


def _worse(ours: Cells, theirs: Cells) -> float:
    """By how much ours leaves more than `MOST` times the loss, where there were enough steps to learn; 0 where it does not, and
    after fewer, of which `sae_learned.csv` decides."""
    if int(ours["steps"]) < LEARNING:
        return 0.0
    return max(0.0, float(ours["loss"]) / (MOST * float(theirs["loss"])) - 1)


def _quality(ours: Cells, theirs: Cells) -> str:
    if int(ours["steps"]) < LEARNING:
        return "; too few steps to learn"
    return f", its loss {float(theirs['loss']):.3g} where this one's is {float(ours['loss']):.3g}"


def _same(row: Cells) -> tuple[str, ...]:
    names = ("device", "threads", "architecture", "d", "n_latents", "batch")
    return tuple(row[name] for name in names)


def _rates(row: Cells) -> list[float]:
    return [float(rate) for rate in row["rates"].split()]


def _faster(ours: Cells, theirs: Cells) -> tuple[float, tuple[float, float]]:
    """The median of how many times as fast, and the lowest and highest, within a turn."""
    ratios = [a / b for a, b in zip(_rates(ours), _rates(theirs), strict=True)]
    return median(ratios), (min(ratios), max(ratios))


def _size(row: Cells) -> str:
    device, threads, architecture, d, latents, batch = _same(row)
    where = device if device != "cpu" else "one thread" if threads == "1" else f"{threads} threads"
    return f"{architecture}, d {d}, {latents} latents, batches of {batch}, {where}"


def sae_training(rows: list[Cells]) -> Iterator[Row]:
    """Ours beside the fastest of all others that learn as much, SAELens, and the five dense products of a step."""
    for row in rows:
        if row["contestant"] != "crossseed":
            continue
        what = _size(row)
        alike = [r for r in rows if _same(r) == _same(row)]
        # A faster worse SAE does not win.
        others = [r for r in alike if r["contestant"] not in OURS and not _worse(r, row)]
        saelens = [r for r in alike if r["contestant"] == "SAELens"]
        beside = []
        if others:
            best = max(others, key=lambda r: median(_rates(r)))
            beside.append((best, f"{best['contestant']}, the fastest other", 1.0))
        if saelens:
            goal = 2.0 if row["d"] == "64" or row["architecture"] == "topk" else 1.0
            beside.append((saelens[0], "SAELens", goal))
        for other, name, goal in beside:
            times, of_all = _faster(row, other)
            told, worse = name + _quality(row, other), _worse(row, other)
            yield Row(what, told, times, goal, least=True, worse=worse, spread=of_all)
        (ceiling,) = (r for r in alike if r["contestant"] == "five dense products")
        share, of_all = _faster(row, ceiling)
        goal_there = _ceiling_goal(row)
        yield Row(what, "five dense products a token", share, goal_there, least=True, spread=of_all)
    if all(row["device"] == "cpu" for row in rows):
        yield Row("each size, GPU", "the fastest other", None, 1, least=True)


def sae_together(rows: list[Cells]) -> Iterator[Row]:
    """Cells side by side on one device, beside the most dense products that it does."""
    for row in rows:
        where = "a core each" if row["device"] == "cpu" else "slots of one GPU"
        what = f"{row['cells']} of {row['architecture']}, d {row['d']}, {row['n_latents']} latents, {where}"
        share = float(row["share_of_matmul_ceiling"])
        most = row["cells"] == max(
            (r["cells"] for r in rows if r["device"] == row["device"]), key=int
        )
        goal = _ceiling_goal(row) if most else None
        yield Row(what, "five dense products a token on all of it", share, goal, least=True)
    if all(row["device"] == "cpu" for row in rows):
        what = "cells of 4096 latents in slots of one GPU of a data centre"
        yield Row(what, "five dense products a token on all of it", None, 0.5, least=True)


def _ceiling_goal(row: Cells) -> float | None:
    if row["device"] != "cpu":
        return 0.5 if row["n_latents"] == "4096" else None
    if row["architecture"] == "topk" and int(row["n_latents"]) >= 4096:
        return 1
    return 0.9 if row["architecture"] == "relu" and row["d"] == "512" else None


def sae_contestants(rows: list[Cells]) -> Iterator[str]:
    yield "| size | contestant | tokens a second | loss | explained variance | L0 | silent |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        learned = int(row["steps"]) >= LEARNING
        told = [row["loss"], row["ev"]] if learned else ["", ""]
        quality = [
            f"{float(one):.3g}" if one else "" for one in (*told, row["l0"], row["dead_share"])
        ]
        rates = _rates(row)
        cells = [_size(row), row["contestant"]]
        cells += [f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})", *quality]
        yield f"| {' | '.join(cells)} |"


def sae_learned(rows: list[Cells]) -> Iterator[Row]:
    """What ours leaves of what an SAE is trained to lessen, beside what the best other does; each at its best rate."""
    best = [row for row in rows if row["best"] == "True"]
    for row in best:
        if row["contestant"] not in OURS:
            continue
        others = [r for r in best if _trained(r) == _trained(row) and r["contestant"] not in OURS]
        if others:
            top = min(others, key=lambda r: float(r["loss"]))
            published = row["contestant"] != "crossseed"
            what = f"loss of {_trained_size(row)}{', norms absorbed as published' if published else ''}"
            against = f"{top['contestant']}, the best other"
            ratio = float(row["loss"]) / float(top["loss"])
            yield Row(what, against, ratio, None if published else MOST)


def _trained(row: Cells) -> tuple[str, ...]:
    return tuple(row[name] for name in ("architecture", "d", "n_latents", "steps"))


def _trained_size(row: Cells) -> str:
    return f"{row['architecture']}, d {row['d']}, {row['n_latents']} latents, {row['steps']} steps"


def sae_rates(rows: list[Cells]) -> Iterator[str]:
    yield "| size | contestant | rate | loss | explained variance | L0 | silent |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        loss = row["loss"]
        if row["repeats"] != "1":
            loss += f" ({row['loss_lowest']} to {row['loss_highest']})"
        mark = " (best)" if row["best"] == "True" else ""
        cells = [_trained_size(row), row["contestant"], f"{row['lr']}{mark}", loss, row["ev"]]
        yield f"| {' | '.join([*cells, row['l0'], row['dead_share']])} |"


def planning(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        yield Row(
            f"plan of {row['config']}, {row['jobs']} jobs",
            "",
            float(row["seconds"]),
            None,
            unit=" s",
            spread=(float(row["lowest"]), float(row["highest"])),
        )


def scale(rows: list[Cells]) -> Iterator[Row]:
    for row in rows:
        what = f"{row['what']}{', ' + row['scheduler'] if row['scheduler'] else ''}, {row['jobs']} jobs"
        milliseconds = row["cpu_ms_a_job_more"] or row["cpu_ms_a_job"]
        against = "each job more" if row["cpu_ms_a_job_more"] else "each job"
        yield Row(what, against, float(milliseconds), None, unit=" ms")


def memory(rows: list[Cells]) -> Iterator[Row]:
    for row in rows[1:]:
        what = f"{row['tokens_factor']} times the tokens"
        yield Row(what, "peak memory at once the tokens", float(row["ratio_to_1x"]), MOST)


def default_run(rows: list[Cells]) -> Iterator[Row]:
    by = {row["stage"]: row for row in rows}
    whole = next(row for stage, row in by.items() if stage.startswith("whole run"))
    jobs = float(whole["start_seconds"]) + float(whole["work_seconds"])
    yield Row("start of processes", "all that jobs take", float(whole["start_seconds"]) / jobs, 0.1)
    outside = float(by["share outside training and analysis"]["job_seconds"])
    yield Row("start, scheduling and waiting", "cores × wall time", outside, None)
