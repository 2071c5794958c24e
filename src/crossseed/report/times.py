"""How long a run took, stage by stage, from the benchmark files that the workflow writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crossseed import usage
from crossseed.report.listing import NOTHING, Table, cells

STAGES = {
    "check": "check models",
    "tokenizer": "train tokenizers",
    "train": "train models",
    "tokens": "make token sets",
    "extract": "read activations",
    "sae": "train and measure SAEs",
    "align": "take moments of pairs",
    "fits": "measure maps",
    "shared": "measure one rotation for all sites",
    "transfer": "measure transfer",
    "shared_transfer": "measure transfer through one rotation for all sites",
    "splice": "run models with carried activations",
    "cosine": "compare decoders",
    "published": "measure by the published protocol",
    "port": "port dictionaries",
    "steer": "steer models",
    "features": "patch and substitute single latents",
    "attribute": "ablate and attribute components",
    "calibrate": "calibrate penalties",
    "stability": "compare SAE seeds",
    "bridge": "match SAEs of two members",
    "absorption": "look for first letters",
    "interpret": "explain latents",
    "weights": "align weights",
    "causes": "cut components and edges",
    "bars": "hold against the four bars",
    "lenses": "look through the lenses",
    "haar": "test rotations",
    "across": "test rotations together",
    "ks": "pool eigenphases",
    "cocycle": "compose rotations",
    "drift": "measure drift",
    "drift_of_seed": "join the drift of a seed",
    "joint_cache": "run models below the site, once",
    "joint_maps": "fit maps for joint SAEs",
    "joint_fits": "measure maps of joint SAEs",
    "joint_size": "measure sample sizes",
    "joint_train": "train joint SAEs",
    "joint_evaluate": "measure joint SAEs",
    "joint_null": "train joint SAEs with other maps",
    "joint_tests": "test maps of joint SAEs",
    "joint_counterfactuals": "edit sentences",
    "null": "draw null matrices",
    "power": "measure the power of tests",
    "collect": "join tables",
    "part": "join parts of tables",
    "joint_tables": "join tables of joint SAEs",
    "over_seeds": "take intervals over seeds",
    "claims": "judge published figures",
}


class Stage(NamedTuple):
    """The jobs of one stage together.

    Attributes: seconds: summed. longest: seconds of the longest job. memory: largest, in MB; None where it is not known.
    """

    name: str
    jobs: int
    seconds: float
    longest: float
    memory: float | None
    gpu: usage.Spent


class Measured(NamedTuple):
    """A line of a benchmark file of Snakemake: seconds of a job, and its largest memory in MB; None where it is not known."""

    seconds: float
    memory: float | None


def of_run(results: Path, run: str, cohorts: Sequence[str]) -> list[Stage]:
    """Stages in the order of the workflow: those of cohorts, null matrices (shared by all runs), and the joining of tables."""
    found: dict[str, list[Measured]] = {}
    for path, stage in _files(results, run, cohorts):
        found.setdefault(stage, []).extend(read(path))
    spent = usage.of_stages(results, cohorts)
    order = list(STAGES)
    stages = sorted(
        found, key=lambda name: (order.index(name) if name in order else len(order), name)
    )
    return [
        Stage(
            STAGES.get(name, name),
            len(found[name]),
            sum(job.seconds for job in found[name]),
            max(job.seconds for job in found[name]),
            max((job.memory for job in found[name] if job.memory is not None), default=None),
            spent.get(name, usage.NOTHING),
        )
        for name in stages
    ]


def _files(results: Path, run: str, cohorts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Benchmark files of a run, each with its stage."""
    for cohort in cohorts:
        root = results / cohort / "benchmarks"
        for path in sorted(root.rglob("*.tsv")):
            yield path, path.relative_to(root).parts[0].removesuffix(".tsv")
    for path in sorted((results / "nulls" / "benchmarks").glob("*.tsv")):
        yield path, "power" if path.name.startswith("power-") else "null"
    for path in sorted((results / "reports" / run / "benchmarks").glob("*.tsv")):
        stage = path.stem
        if stage.startswith(("collect_", "part_")):
            stage = stage.partition("_")[0]
        # The report's own is of the time before.
        if stage != "report":
            yield path, stage


def read(path: Path) -> Iterator[Measured]:
    """What a benchmark file says, a line a repeat of the job."""
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            memory = row.get("max_rss") or ""
            known = memory.replace(".", "", 1).isdigit()
            yield Measured(float(row["s"]), float(memory) if known else None)


def table(stages: Sequence[Stage]) -> Table:
    """The stages; columns on GPUs where any was used."""
    on_gpu = any(stage.gpu.names for stage in stages)
    heads = ["stage", "jobs", "job seconds, summed", "longest job (s)", "largest memory (MB)"]
    heads += ["GPU seconds, summed", "largest GPU memory (MB)", "GPU"] if on_gpu else []
    rows = []
    for stage in stages:
        row = [stage.name, stage.jobs, f"{stage.seconds:.0f}", f"{stage.longest:.0f}"]
        row.append(NOTHING if stage.memory is None else f"{stage.memory:.0f}")
        if on_gpu:
            spent = stage.gpu
            row += (
                [
                    f"{spent.seconds:.0f}",
                    f"{spent.peak_bytes / 1e6:.0f}",
                    ", ".join(sorted(spent.names)),
                ]
                if spent.names
                else [NOTHING] * 3
            )
        rows.append(cells(*row))
    return Table("t-times", "Stages of the run, in their order.", heads, rows)


def sentence(stages: Sequence[Stage]) -> str:
    """All job time together, and what GPUs took of it."""
    jobs, hours = sum(stage.jobs for stage in stages), sum(stage.seconds for stage in stages) / 3600
    gpu = sum(stage.gpu.seconds for stage in stages) / 3600
    on_gpu = any(stage.gpu.names for stage in stages)
    return (
        f"{jobs} jobs took {hours:.2f} job-hours; jobs run side by side, so that the sum exceeds the time that passed. "
        + (f"{gpu:.2f} GPU-hours in all." if on_gpu else "No job used a GPU.")
    )
