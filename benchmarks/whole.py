"""The default run from nothing, a row a stage, and its trend over versions; and what planning takes."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sae
from imports import job_of
from measured import REPEATS, RESULTS, by_the_clock, in_turns, machine, seconds_of

from crossseed import __version__
from crossseed.report import times
from crossseed.store import add_dataset, create_h5, open_h5, write_table

ROOT = Path(__file__).parent.parent
RUN_COLUMNS = (
    "stage", "jobs", "job_seconds", "start_seconds", "work_seconds", "largest_memory_mb", "machine",
)  # fmt: skip
TREND_COLUMNS = (
    *("version", "cores", "wall_seconds", "science_seconds", "start_seconds"),
    *("reading_writing_seconds", "scheduling_seconds", "machine"),
)
PLAN_COLUMNS = ("config", "jobs", "seconds", "lowest", "highest", "repeats", "machine")


def planning() -> list[dict[str, Any]]:
    """Seconds to plan each shipped config; nothing is run."""
    found = []
    for config in sorted((ROOT / "config").glob("*.yaml")):
        seconds, jobs = [], 0
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                command = [
                    sys.executable,
                    "-m",
                    "snakemake",
                    "--snakefile",
                    str(ROOT / "Snakefile"),
                ]
                command += ["--directory", folder, "--configfile", str(config), "--dry-run"]
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds.append(time.perf_counter() - began)
                total = [line for line in done.stdout.splitlines() if line.startswith("total")]
                jobs = int(total[0].split()[1])
        row = {
            "config": config.name, "jobs": jobs, "seconds": round(median(seconds), 2),
            "lowest": round(min(seconds), 2), "highest": round(max(seconds), 2),
            "repeats": REPEATS, "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)
    return found


VERB_OF = {"drift_of_seed": "collect", "shared_transfer": "shared"}


def stage_of(path: Path) -> str:
    """The verb behind a benchmark file of the workflow."""
    if "nulls" in path.parts:
        return "power" if path.name.startswith("power") else "null"
    name = path.parts[path.parts.index("benchmarks") + 1].removesuffix(".tsv")
    name = "collect" if name.startswith("collect_") else name
    return VERB_OF.get(name, name)


def stages(folder: Path) -> list[dict[str, Any]]:
    """A row a stage of a run, from the workflow's own benchmarks."""
    jobs: dict[str, list[tuple[float, float]]] = {}
    for path in folder.glob("results/**/benchmarks/**/*.tsv"):
        found_there = [(job.seconds, job.memory or 0.0) for job in times.read(path)]
        jobs.setdefault(stage_of(path), []).extend(found_there)
    found = []
    for stage, rows in sorted(jobs.items()):
        once = seconds_of([sys.executable, "-c", job_of(stage)])
        total, start = sum(s for s, _ in rows), len(rows) * once
        found.append(
            {
                "stage": stage,
                "jobs": len(rows),
                "job_seconds": round(total, 1),
                "start_seconds": round(min(start, total), 1),
                "work_seconds": round(max(total - start, 0), 1),
                "largest_memory_mb": round(max(m for _, m in rows)),
                "machine": machine(),
            }
        )
    return found


def store_seconds(rows: int) -> tuple[float, float]:
    """Of reading a file of so many rows of 64 with its digest checked, and of writing one."""
    data = np.random.default_rng(0).standard_normal((rows, 64), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.h5"

        def write() -> None:
            with create_h5(path, "bench/1", {}, {}) as file:
                add_dataset(file, "rows", data=data)

        def read() -> None:
            with open_h5(path, "bench/1") as file:
                file["rows"][:]

        writing, reading = in_turns((write, read), 9, now=by_the_clock)
    return median(reading), median(writing)


def reading_and_writing(command: list[str], folder: Path) -> float:
    """Seconds that the files which jobs read and wrote take in the store: so many of each, and of each byte. The run kept its
    temporaries."""
    done = subprocess.run(
        [*command, "--detailed-summary"], capture_output=True, text=True, check=True
    )
    table = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    read: dict[str, str] = {}
    wrote: list[int] = []
    for line in table:
        out = folder / line["output_file"]
        wrote += [out.stat().st_size] if out.is_file() else []
        # One job has one log, and several outputs.
        read[line["log-file(s)"]] = line["input-file(s)"]
    inputs = [folder / name for names in read.values() for name in names.split(",")]
    sizes = [path.stat().st_size for path in inputs if path.is_file()]
    large = 1 << 18
    each, of_large = store_seconds(1), store_seconds(large)
    found = 0.0
    for files, one, many in zip((sizes, wrote), each, of_large, strict=True):
        found += len(files) * one + sum(files) * (many - one) / (4 * 64 * large)
    return found


def trend(found: list[dict[str, Any]], cores: int, spent: float) -> None:
    """Puts the run's split into `trend.csv`, one row a version: the last that was measured."""
    path = RESULTS / "trend.csv"
    with open(path, newline="") as handle:
        rows: list[dict[str, Any]] = list(csv.DictReader(handle))
    before = [row for row in rows if row["version"] != __version__]
    whole = next(row for row in found if row["stage"].startswith("whole run"))
    wall, start, work = (whole[f"{key}_seconds"] for key in ("job", "start", "work"))
    row = {
        "version": __version__, "cores": cores, "wall_seconds": wall, "science_seconds": round(work - spent, 1),
        "start_seconds": start, "reading_writing_seconds": round(spent, 1),
        "scheduling_seconds": round(cores * wall - start - work, 1), "machine": machine(),
    }  # fmt: skip
    write_table(path, TREND_COLUMNS, [*before, row])


def default_run(cores: int, peer: str | None) -> list[dict[str, Any]]:
    """The default run in an empty folder, a row a stage, and the plan of a rerun without change; adds it to the
    trend where the version is new.

    A job's start is its process and imports, measured by importing what its verb imports; the
    rest of its seconds is work. What remains of cores × wall time is scheduling and waiting.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config/config.yaml")]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--directory", folder]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--cores", str(cores), "--resources", "gpu=1", "--notemp"],
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - began
        replan = seconds_of([*command, "--cores", str(cores), "--dry-run"])
        found = stages(Path(folder))
        spent = reading_and_writing(command, Path(folder))
        if peer:
            sae.check_cards(peer, Path(folder) / "results", each=2)
    work = sum(row["work_seconds"] for row in found)
    found.append(
        {
            "stage": f"whole run on {cores} cores",
            "jobs": sum(row["jobs"] for row in found),
            "job_seconds": round(wall, 1),
            "start_seconds": round(sum(r["start_seconds"] for r in found), 1),
            "work_seconds": round(work, 1),
            "largest_memory_mb": max(row["largest_memory_mb"] for row in found),
            "machine": machine(),
        }
    )
    share = 1 - work / (cores * wall)
    found.append(
        {
            "stage": "share outside training and analysis",
            "jobs": "",
            "job_seconds": round(share, 3),
            "start_seconds": "",
            "work_seconds": "",
            "largest_memory_mb": "",
            "machine": machine(),
        }
    )
    found.append(
        {
            "stage": "plan of a rerun without change",
            "jobs": 0,
            "job_seconds": round(replan, 1),
            "start_seconds": "",
            "work_seconds": "",
            "largest_memory_mb": "",
            "machine": machine(),
        }
    )
    for row in found:
        print(row, flush=True)
    trend(found, cores, spent)
    return found
