"""Planning and scheduling at 1,000, 5,000 and 20,000 cells: ``python benchmarks/scale.py [--cells N …] [--jobs N]`` prints
rows of JSON.

Plans are dry runs of shipped configs with more of everything: seeds, checkpoints, sites, expansions. Seconds are those of
the processor, user and system, so that what else runs beside it disturbs little. Scheduling is a run of trivial jobs, each
with a log, a benchmark and parameters as those of the workflow have, less what as many shells take alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
CELLS = (1000, 5000, 20_000)
JOBS = 400
SCHEDULERS = ("greedy", "ilp")
COLUMNS = (
    *("what", "scheduler", "jobs", "cpu_seconds", "cpu_ms_a_job", "cpu_ms_a_job_more", "peak_mb"),
    *("snakemake", "python", "machine"),
)
# A trivial job, with what those of the workflow have.
TRIVIAL = """
rule all:
    input: expand("out/{n}.csv", n=range(JOBS)),

rule trivial:
    output: "out/{n}.csv",
    log: "logs/{n}.log",
    benchmark: "benchmarks/{n}.tsv"
    resources: mem_mb=1000, runtime=10,
    params: spec=lambda wildcards: '{"n":' + wildcards.n + '}',
    shell: "echo {params.spec:q} > {output:q} 2> {log:q}"
"""


def grid(cells: int) -> dict[str, Any]:
    """The nine-seed grid with as many checkpoints as make about so many jobs."""
    config = yaml.safe_load((ROOT / "config/pythia-70m.yaml").read_text())
    cohort = config["cohorts"]["pythia-70m"]
    # Jobs of one checkpoint of the grid as it is shipped: 940.
    n = max(1, round(cells / 940))
    cohort["checkpoints"] = [f"step{100 * (k + 1)}" for k in range(n - 1)] + ["step143000"]
    return config


def drift(cells: int) -> dict[str, Any]:
    """The drift of the Pythia models, a job a seed and checkpoint, with as many checkpoints."""
    config = yaml.safe_load((ROOT / "config/polypythias-drift.yaml").read_text())
    seeds = sum(len(cohort["seeds"]) for cohort in config["cohorts"].values())
    n = max(2, round(cells / seeds))
    config["drift"]["checkpoints"] = [f"step{100 * (k + 1)}" for k in range(n - 1)] + ["step143000"]
    return config


GRIDS = {"plan of the nine-seed grid, more checkpoints": grid, "plan of a drift sweep": drift}


def measured(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Processor seconds, with those of all children, peak memory in MB, and what was said."""
    out = folder / "said.txt"
    with open(out, "wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
    text = out.read_text()
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{text[-3000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, text


def snakemake(*args: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--nolock", *args]


def rows(cells: list[int], jobs: int) -> Iterator[dict[str, Any]]:
    for what, make in GRIDS.items():
        before: tuple[int, float] | None = None
        for n in cells:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "run.yaml").write_text(yaml.safe_dump(make(n)))
                command = snakemake("--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet")
                seconds, peak, text = measured(
                    [*command, "rules", "--configfile", "run.yaml"], folder
                )
            planned = int(re.findall(r"^total +(\d+)$", text, re.M)[-1])
            yield row(what, "", planned, seconds, peak, before)
            before = planned, seconds
    for scheduler in SCHEDULERS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "Snakefile").write_text(TRIVIAL.replace("JOBS", str(jobs)))
            seconds, peak, _ = measured(
                snakemake("--cores", "2", "--scheduler", scheduler, "--quiet", "all"), folder
            )
            shells = f"for n in $(seq {jobs}); do bash -c 'echo 1 > alone.csv'; done"
            alone, _, _ = measured(["bash", "-c", shells], folder)
        yield row("trivial jobs", scheduler, jobs, seconds - alone, peak, None)


def row(
    what: str,
    scheduler: str,
    jobs: int,
    seconds: float,
    peak: float,
    before: tuple[int, float] | None,
) -> dict[str, Any]:
    more = 1e3 * (seconds - before[1]) / (jobs - before[0]) if before else None
    return {
        "what": what, "scheduler": scheduler, "jobs": jobs, "cpu_seconds": round(seconds, 2),
        "cpu_ms_a_job": round(1e3 * seconds / jobs, 2),
        "cpu_ms_a_job_more": "" if more is None else round(more, 2), "peak_mb": round(peak),
        "snakemake": importlib.metadata.version("snakemake"), "python": platform.python_version(),
    }  # fmt: skip


def scale() -> list[dict[str, Any]]:
    """Rows of `COLUMNS`, from a process of its own: the peak memory of a child is at least that of the process that forked
    it, and one that runs benchmarks has imported much."""
    from measured import machine

    command = [sys.executable, str(Path(__file__))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [{**json.loads(line), "machine": machine()} for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", type=int, default=CELLS, help="about how many jobs")
    parser.add_argument("--jobs", type=int, default=JOBS, help="trivial ones that are run")
    args = parser.parse_args()
    # Each row as soon as it is there: the last ones take minutes.
    for found in rows(sorted(args.cells), args.jobs):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
