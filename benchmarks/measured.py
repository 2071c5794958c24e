"""What all benchmarks share: contestants in turns, the machine's name, and where tables go."""

from __future__ import annotations

import csv
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

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
FLOOR, WHOLE, PEER = "floor", "whole", "peer"
COMPARED = (
    *(
        "what",
        "device",
        "seconds",
        "lowest",
        "highest",
        "a_second",
        "beside",
        "kind",
        "beside_seconds",
    ),
    *("ratio", "ratio_lowest", "ratio_highest", "goal", "peak_mb", "repeats", "machine"),
)
# Where nothing else is said of a floor.
MOST = 1.15
# Beside factorisations alone, which leave out the products of each map.
NEAR = 1.25
FACTORISATIONS = (
    *("numpy.linalg.svd", "numpy.linalg.eigh", "numpy.linalg.slogdet"),
    *("scipy.optimize.linear_sum_assignment", "scipy.linalg.lapack.dsterf"),
)
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


def synchronised(device: str) -> float:
    """Now, in seconds: of the processor, so that what else runs there counts for little; on a GPU by the clock, once it is done."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def by_the_clock(_: str) -> float:
    """Now, in seconds, waiting counted."""
    return time.perf_counter()


def in_turns(
    runs: Sequence[Callable[[], Any]],
    repeats: int,
    device: str = "cpu",
    now: Callable[[str], float] = synchronised,
) -> list[list[float]]:
    """Seconds of each repeat, by run. Contestants take turns, so that a slow minute of the machine hits all of them; the first
    turn, in which libraries set up what they need, is not counted."""
    found: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, seconds in zip(runs, found, strict=True):
            began = now(device)
            run()
            if turn:
                seconds.append(now(device) - began)
    return found


class Beside(NamedTuple):
    """What something is compared with.

    Attributes:
        kind: `FLOOR`, what it cannot do without; `WHOLE`, what it is a part of; `PEER`, another way to the same.
        goal: of the ratio, at most that over a floor or of a whole, at least that much faster than a peer; None for none.
        seconds: of each repeat.
    """

    name: str
    kind: str
    goal: float | None
    seconds: Sequence[float]


class Inside:
    """A run that knows how long it spent in functions of libraries.

    Attributes:
        seconds: of the processor, in these functions, of each run.
    """

    def __init__(self, run: Callable[[], Any], functions: tuple[str, ...] = FACTORISATIONS) -> None:
        self.run, self.functions = run, functions
        self.seconds: list[float] = []

    def __call__(self) -> None:
        spent = 0.0

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **options: Any) -> Any:
                nonlocal spent
                began = time.process_time()
                found = function(*args, **options)
                spent += time.process_time() - began
                return found

            return run

        places = [name.rsplit(".", 1) for name in self.functions]
        known = [(importlib.import_module(module), name) for module, name in places]
        before = [getattr(module, name) for module, name in known]
        for (module, name), function in zip(known, before, strict=True):
            setattr(module, name, timed(function))
        try:
            self.run()
        finally:
            for (module, name), function in zip(known, before, strict=True):
                setattr(module, name, function)
        self.seconds.append(spent)

    def beside(self, name: str, goal: float = MOST) -> Beside:
        """As a floor; the first run was not counted (`in_turns`)."""
        return Beside(name, FLOOR, goal, self.seconds[1:])


def compared(
    what: str,
    seconds: Sequence[float],
    others: Sequence[Beside],
    device: str = "cpu",
    peak_mb: float | None = None,
    amount: tuple[float, str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of `COMPARED`, one for each other: medians, and those of the ratios within a turn.

    Args:
        amount: how much of what is done in these seconds, where a rate is told.
    """
    rate = f"{amount[0] / median(seconds):.4g} {amount[1]}" if amount else None
    rows = []
    for other in others:
        pairs = list(zip(seconds, other.seconds, strict=True))
        ratios = [b / a if other.kind == PEER else a / b for a, b in pairs]
        row = {
            "what": what, "device": device, "seconds": f"{median(seconds):.4g}",
            "lowest": f"{min(seconds):.4g}", "highest": f"{max(seconds):.4g}", "a_second": rate,
            "beside": other.name, "kind": other.kind, "beside_seconds": f"{median(other.seconds):.4g}",
            "ratio": f"{median(ratios):.3g}", "ratio_lowest": f"{min(ratios):.3g}",
            "ratio_highest": f"{max(ratios):.3g}", "goal": other.goal,
            "peak_mb": None if peak_mb is None else round(peak_mb), "repeats": len(pairs), "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    return rows


def peak_mb(process: str = "self") -> float:
    """The most memory that a process of this number has had so far; 0 once it ended. `ru_maxrss` would be at least that of the
    process that started it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


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
