"""What all benchmarks share: the machine's name, seconds, and where tables go."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from crossseed import __version__
from crossseed.devices import n_gpus
from crossseed.store import write_table

REPEATS = 3
RESULTS = Path(__file__).parent / "results"
# One row a table: under what it was measured.
MADE = RESULTS / "made.csv"
PACKAGES = ("torch", "numpy", "scipy", "transformers", "h5py", "snakemake")
PEERS = ("sae-lens", "eai-sparsify", "dictionary-learning")
MADE_COLUMNS = (
    *("table", "crossseed", "commit", "day", "machine", "cores", "load", "python"),
    *PACKAGES, *PEERS, "torch_of_peers",
)  # fmt: skip
VERSIONS = """
import importlib.metadata as m, json, sys
def of(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return ""
print(json.dumps({name: of(name) for name in sys.argv[1:]}))
"""


def machine() -> str:
    if n_gpus():
        name = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        return f"{platform.machine()}, {name}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def seconds_of(command: list[str], repeats: int = REPEATS) -> float:
    """Median wall seconds of a command."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return median(found)


def fastest(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Wall seconds of the fastest run."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def in_turns(runs: Sequence[Callable[[], Any]], repeats: int = REPEATS) -> list[float]:
    """Wall seconds of the fastest of each, in turns, so that a slow minute of the machine hits all of them."""
    found = [[fastest(run, 1) for run in runs] for _ in range(repeats)]
    return [min(of_one) for of_one in zip(*found, strict=True)]


def versions(python: str, names: Sequence[str]) -> dict[str, str]:
    """Of packages that an interpreter has; empty where it has none."""
    done = subprocess.run(
        [python, "-c", VERSIONS, *names], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def commit() -> str:
    """Of the tree that is measured; `+` after it where files were changed since, other than results."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=RESULTS, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/benchmarks/results"
    )
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def conditions(peer: str | None) -> dict[str, Any]:
    """A row of `MADE_COLUMNS` without its table; to be asked for before the first run, since `load` is of the minute before."""
    row = {
        "crossseed": __version__, "commit": commit(), "day": time.strftime("%Y-%m-%d"), "machine": machine(),
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        **versions(sys.executable, PACKAGES),
    }  # fmt: skip
    theirs = versions(peer, (*PEERS, "torch")) if peer else {}
    return (
        row
        | {name: theirs.get(name, "") for name in PEERS}
        | {"torch_of_peers": theirs.get("torch", "")}
    )


def write(
    name: str, columns: Sequence[str], rows: list[dict[str, Any]], under: dict[str, Any]
) -> None:
    """Writes a table of results, and in `made.csv` under what it was measured."""
    write_table(RESULTS / name, columns, rows)
    made: list[dict[str, Any]] = []
    if MADE.exists():
        with open(MADE, newline="", encoding="utf-8") as handle:
            made = [row for row in csv.DictReader(handle) if row["table"] != name]
    write_table(
        MADE,
        MADE_COLUMNS,
        sorted([*made, {"table": name, **under}], key=lambda row: str(row["table"])),
    )
