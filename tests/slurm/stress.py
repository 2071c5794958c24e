"""A SLURM under stress, on purpose and counted: what is done to jobs, nodes and Snakemake, and what of a run was lost.

    python tests/slurm/stress.py [--count 3] [--at-once 3] [--only drain …] [--results slurm.json] [--page docs/slurm.md]

Each scenario runs small cells (stress.smk) on a SLURM of one node that is started for it, and holds what is there in
the end against a local run that nothing disturbed, byte by byte. Counts add up in the results file; the page shows
its table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from slurm import node
from slurm.cells import Outcome, Run, jobs, state, stop
from tallies import add

from crossseed.pages import between

BETWEEN = ("<!-- slurm: python tests/slurm/stress.py -->\n", "<!-- end of slurm -->\n")


def troubled(trouble: str, how: str, **edits: Any) -> Callable[[Outcome], None]:
    """One cell has trouble of its own; SLURM says it, and the next try succeeds."""

    def scenario(outcome: Outcome) -> None:
        run = Run(trouble=trouble)
        run.finish(run.start(**edits), outcome)
        if not any(f"'{word}'" in run.log.read_text() for word in how.split()):
            outcome.lost.append(f"no {how}: {run.said()}")
        outcome.done += 1
        run.compare(outcome)

    return scenario


def one_of_a_batch(outcome: Outcome) -> None:
    """A cell of a batch that always fails: the others stay, nothing is begun twice but it."""
    run = Run(trouble="always", cells=40, seconds=0)
    batch = {"group-components": {"cell": 20}, "restart-times": 1}
    run.finish(run.start(**batch), outcome, succeeds=False)
    outcome.done += 1
    if len(jobs(run)) > 3:
        outcome.lost.append(f"{len(jobs(run))} submissions of 40 cells, one of them twice")
    twice = {n for n in run.began() if run.began().count(n) > 1}
    if twice != {"1"}:
        outcome.lost.append(f"begun again: {sorted(twice)}")
    run.compare(outcome, without=("1.txt", "all.txt"))


BATCHED = {"group-components": {"cell": 6}}


def third_of_a_batch(trouble: str, how: str, **edits: Any) -> Callable[[Outcome], None]:
    """The third cell to begin has trouble, and takes its batch with it: those before it stay, the others are tried
    again, and none but it has begun before."""

    def scenario(outcome: Outcome) -> None:
        run = Run(trouble=trouble, cells=6)
        run.finish(run.start(**BATCHED, **edits), outcome)
        if not any(f"'{word}'" in run.log.read_text() for word in how.split()):
            outcome.lost.append(f"no {how}: {run.said()}")
        outcome.done += 1
        began = run.began()
        if sorted(began) != sorted([*"012345", began[2]]) or len(jobs(run)) != 2:
            outcome.lost.append(f"began in {len(jobs(run))} jobs: {' '.join(began)}")
        all_done(run, outcome)
        run.compare(outcome)

    return scenario


def all_done(run: Run, outcome: Outcome) -> None:
    """Snakemake says in the end that all steps are done, whole cells of a batch that failed too."""
    steps = run.config["cells"] + 2
    if f"{steps} of {steps} steps (100%) done" not in run.log.read_text():
        outcome.lost.append(f"not all steps counted: {run.said()}")


def interrupted(number: signal.Signals, cells: int = 6, **edits: Any) -> Callable[[Outcome], None]:
    """Snakemake is told to stop, or killed; the next start makes what is missing."""

    def scenario(outcome: Outcome) -> None:
        run = Run(seconds=4, cells=cells)
        child = run.start(**edits)
        run.until(lambda: len(run.cells()) >= 2, "two cells")
        stop(run, child, number, outcome)
        outcome.done += 1
        run.finish(run.start(**edits), outcome)
        run.compare(outcome)

    return scenario


def over_old_results(
    number: signal.Signals, last: str, cancel: bool = True
) -> Callable[[Outcome], None]:
    """Cells of value A are there, a run with B is stopped midway; a run with the last value makes all of its own."""

    def scenario(outcome: Outcome) -> None:
        run = Run(cells=12, seconds=0, value="A")
        run.finish(run.start(local=True), outcome)
        (run.folder / "began").unlink()
        run.config |= {"value": "B", "seconds": 3}
        child = run.start(**BATCHED)
        run.until(lambda: made(run, "B") >= 2, "two cells of B")
        stop(run, child, number, outcome, cancel)
        outcome.done += 1
        run.config |= {"value": last}
        run.finish(run.start(**BATCHED), outcome)
        run.compare(outcome)

    return scenario


def on_the_gpu(request: str, **asked: Any) -> Callable[[Outcome], None]:
    """Batches whose cells compute on a GPU: each, tried again too, asks for one, by --gpus or --gres."""

    def scenario(outcome: Outcome) -> None:
        run = Run(trouble="fails", cells=6, gpu=1)
        batches = {"group-components": {"cell": 3}, "set-resources": {"cell": asked}}
        run.finish(run.start(**batches), outcome)
        outcome.done += 1
        found = [dict(re.findall(r"(TresPer\w+)=(\S+)", line)) for line in jobs(run)]
        if found != [{request: "gres:gpu:1"}] * 3:
            outcome.lost.append(f"asked for: {found}")
        all_done(run, outcome)
        run.compare(outcome)

    return scenario


def made(run: Run, value: str) -> int:
    return sum(told.startswith(f"{value}\n".encode()) for told in run.cells().values())


def drained(outcome: Outcome) -> None:
    """The node takes no jobs for a while; those that run end."""
    run = Run(seconds=3, cells=6)
    child = run.start()
    run.until(lambda: len(run.began()) >= 1, "a cell")
    name = node.ask("sinfo", "--noheader", "--format=%n")
    node.ask("scontrol", "update", f"nodename={name}", "state=drain", "reason=test")
    outcome.done += 1
    run.until(lambda: not any(state("RUNNING")(job) for job in jobs(run)), "drained")
    node.ask("scontrol", "update", f"nodename={name}", "state=resume")
    run.finish(child, outcome)
    run.compare(outcome)


def node_lost(**edits: Any) -> Callable[[Outcome], None]:
    """slurmd is killed in the middle of jobs and the node counts as down; SLURM puts its jobs into the queue again."""

    def scenario(outcome: Outcome) -> None:
        config = node.ask("scontrol", "show", "config")
        folder = Path(config.split("StateSaveLocation")[1].split()[1])
        run = Run(seconds=6)
        child = run.start(**edits)
        run.until(lambda: len(run.began()) >= (2 if edits else 1), "a cell")
        name = node.ask("sinfo", "--noheader", "--format=%n")
        daemon = node.pid_of(folder.parent, "slurmd")
        # 0 would be this process and all its kind.
        assert daemon, "slurmd is not running"
        os.kill(daemon, signal.SIGKILL)
        node.ask("scontrol", "update", f"nodename={name}", "state=down", "reason=test")
        outcome.done += 1
        subprocess.run([str(node.find("slurmd"))], check=True)
        node.ask("scontrol", "update", f"nodename={name}", "state=resume")
        run.finish(child, outcome)
        run.compare(outcome)

    return scenario


Scenario = Callable[[Outcome], None]
SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "fails": ("a job fails (exit status 3) and is tried again", troubled("fails", "FAILED")),
    "time": ("a job over its time", troubled("time", "TIMEOUT")),
    "memory": (
        "a job over its memory, tried again with twice as much",
        troubled("memory", "OUT_OF_MEMORY CANCELLED FAILED"),
    ),
    "batch": ("one cell of a batch of 20 always fails", one_of_a_batch),
    "batch-time": (
        "a batch of 6 over its time, in its third cell",
        third_of_a_batch("third-time", "TIMEOUT"),
    ),
    "batch-memory": (
        "a batch of 6 over its memory, in its third cell",
        third_of_a_batch("third-memory", "OUT_OF_MEMORY CANCELLED FAILED"),
    ),
    "sigint": ("Snakemake stopped by SIGINT, started again", interrupted(signal.SIGINT)),
    "sigkill": ("Snakemake killed by SIGKILL, its jobs cancelled, started again", interrupted(signal.SIGKILL)),
    "batch-sigint": ("SIGINT while batches run, started again", interrupted(signal.SIGINT, 12, **BATCHED)),
    "batch-sigkill": ("SIGKILL while batches run, their jobs cancelled, started again", interrupted(signal.SIGKILL, 12, **BATCHED)),
    "stale": ("results of value A there, batches of B stopped by SIGINT, started again with B", over_old_results(signal.SIGINT, "B")),
    "stale-back": ("the same, started again with A", over_old_results(signal.SIGINT, "A")),
    "stale-killed": ("the same, stopped by SIGKILL, the jobs cancelled, started again with B", over_old_results(signal.SIGKILL, "B")),
    "stale-killed-back": ("the same, SIGKILL, the jobs left to end, started again with A", over_old_results(signal.SIGKILL, "A", cancel=False)),
    "batch-gpus": ("batches of cells that compute on a GPU, `--gpus`; one cell fails", on_the_gpu("TresPerJob", gpu=1)),
    "batch-gres": ("the same where only `--gres` is taken", on_the_gpu("TresPerNode", gpu=0, gres="gpu:1")),
    "sacct": (
        "a job fails where accounting is on and `sacct` is asked",
        troubled("fails", "FAILED", **{"slurm-status-command": "sacct"}),
    ),
    "batch-sacct": (
        "a batch over its memory where `sacct` is asked",
        third_of_a_batch(
            "third-memory", "OUT_OF_MEMORY CANCELLED FAILED", **{"slurm-status-command": "sacct"}
        ),
    ),
    "drain": ("the node drained while jobs run and wait, then resumed", drained),
    "node": ("slurmd killed, the node down, its jobs queued again", node_lost()),
    "batch-node": ("the same while a batch runs", node_lost(**{"group-components": {"cell": 4}})),
}  # fmt: skip


# Of a SLURM with accounting.
ACCOUNTED = {"sacct", "batch-sacct"}
# They do it to the node.
ALONE = {"drain", "node", "batch-node"}


def table(told: dict[str, Any]) -> str:
    """The table of the page, as Markdown."""
    lines = ["| what was done | how often | cells begun again | results compared | lost |"]
    lines.append("|---|---|---|---|---|")
    for name, (words, _) in SCENARIOS.items():
        if name in told:
            of = told[name]
            cells = [
                words,
                of["done"],
                of["again"] or "–",
                of["runs"],
                len(of["lost"]) or "nothing",
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, told: dict[str, Any]) -> None:
    page.write_text(between(page, *BETWEEN, table(told)))


def tried(names: list[str], accounting: bool, results: Path | None, at_once: int) -> int:
    """Runs scenarios on a SLURM of their own; how much was lost."""
    if not names:
        return 0
    writing = threading.Lock()

    def one(name: str) -> int:
        found, began = Outcome(), time.monotonic()
        try:
            SCENARIOS[name][1](found)
        except TimeoutError as error:
            found.lost.append(str(error))
        with writing:
            seconds = time.monotonic() - began
            print(f"{name}: {json.dumps(vars(found))} {seconds:.0f} s", flush=True)
            if results:
                add(results, name, found)
        return len(found.lost)

    alone = [name for name in names if name in ALONE]
    with node.running(accounting), ThreadPoolExecutor(at_once) as pool:
        lost = sum(pool.map(one, [name for name in names if name not in ALONE]))
        return lost + sum(one(name) for name in alone)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1, help="runs of each scenario")
    parser.add_argument("--at-once", type=int, default=1, help="scenarios side by side")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--results", type=Path, help="JSON file to which counts are added")
    parser.add_argument("--page", type=Path, help="page whose table is written from that file")
    args = parser.parse_args()
    lost = 0
    names = [*args.only] * args.count
    for accounting in (False, True):
        wanted = [name for name in names if (name in ACCOUNTED) == accounting]
        lost += tried(wanted, accounting, args.results, args.at_once)
    if args.page and args.results:
        write_page(args.page, json.loads(args.results.read_text()))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
