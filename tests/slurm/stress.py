"""A SLURM under stress, on purpose and counted: what is done to jobs, nodes and Snakemake, and what of a run was lost.

    python tests/slurm/stress.py [--count 3] [--only drain …] [--results slurm.json] [--page docs/slurm.md]

Each scenario runs small cells (stress.smk) on a SLURM of one node that is started for it, and holds what is there in
the end against a local run that nothing disturbed, byte by byte. Counts add up in the results file; the page shows
its table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from slurm import node

from crossseed.pages import between

PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"
BETWEEN = ("<!-- slurm: python tests/slurm/stress.py -->\n", "<!-- end of slurm -->\n")
WAIT_SECONDS = 900


class Outcome:
    """What a scenario did and found.

    Attributes:
        done: how often. again: cells that began more often than once. runs: results that were compared.
        lost: what was wrong, a sentence each.
    """

    def __init__(self) -> None:
        self.done = self.again = self.runs = 0
        self.lost: list[str] = []


class Run:
    """A folder in which Snakemake runs the cells."""

    def __init__(self, **config: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stress-"))
        self.config = config
        self.log = self.folder / "snakemake.log"
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str, local: bool = False, **edits: Any) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "stress.smk")]
        words += ["--directory", str(self.folder)]
        if local:
            words += ["--cores", "1"]
        else:
            words += ["--workflow-profile", str(self.profile(edits))]
        words += [*more, "--config", *(f"{k}={v}" for k, v in self.config.items())]
        with open(self.log, "a") as log:
            child = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def profile(self, edits: dict[str, Any]) -> Path:
        """The shipped profile, edited for this cluster as its user would."""
        profile = yaml.safe_load(PROFILE.read_text())
        profile |= {"groups": {"cell": "cell"}, "group-components": {"cell": 1}}
        profile |= {"set-resources": {"none": {"runtime": 1}}, "slurm-status-command": "squeue"}
        profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 5, "jobs": 4}
        profile |= edits
        del profile["config"]
        path = self.folder / "profile/config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(profile))
        return path.parent

    def began(self) -> list[str]:
        path = self.folder / "began"
        return path.read_text().split() if path.exists() else []

    def cells(self) -> dict[str, bytes]:
        paths = [*sorted((self.folder / "cells").glob("*")), self.folder / "all.txt"]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits; a wait that is cut short or too long ends what was started."""
        end = time.monotonic() + WAIT_SECONDS
        try:
            while not condition():
                if time.monotonic() > end:
                    raise TimeoutError(f"{what}: not within {WAIT_SECONDS} s\n{self.said()}")
                time.sleep(0.2)
        except BaseException:
            for child in self.children:
                child.kill()
            raise

    def said(self) -> str:
        return self.log.read_text()[-3000:]

    def finish(
        self, child: subprocess.Popen[bytes], outcome: Outcome, succeeds: bool = True
    ) -> None:
        self.until(lambda: child.poll() is not None, "the run")
        if (child.returncode == 0) != succeeds:
            outcome.lost.append(f"exit status {child.returncode}: {self.said()}")

    def compare(self, outcome: Outcome, without: tuple[str, ...] = ()) -> None:
        """Holds what is there against an undisturbed local run, and removes both."""
        other = Run(**{**self.config, "trouble": "none", "seconds": 0})
        other.finish(other.start(local=True), outcome)
        wanted = {k: v for k, v in other.cells().items() if k not in without}
        outcome.runs += 1
        found = self.cells()
        for name in sorted({*found, *wanted}):
            if found.get(name) != wanted.get(name):
                outcome.lost.append(f"{name}: {'differs' if name in found else 'missing'}")
        outcome.again += len(self.began()) - len(set(self.began()))
        shutil.rmtree(self.folder)
        shutil.rmtree(other.folder)


def jobs(run: Run) -> list[str]:
    """The SLURM jobs of a run: `squeue` knows those that ended, too."""
    lines = node.ask("scontrol", "--oneliner", "show", "job").splitlines()
    return [line for line in lines if f"WorkDir={run.folder} " in f"{line} "]


def state(word: str) -> Callable[[str], bool]:
    return lambda line: f"JobState={word} " in line


def troubled(trouble: str, how: str, again: bool = True, **edits: Any) -> Any:
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


def third_of_a_batch(trouble: str, how: str) -> Callable[[Outcome], None]:
    """The third cell to begin has trouble, and takes its batch with it: those before it stay, the others are tried
    again, and none but it has begun before."""

    def scenario(outcome: Outcome) -> None:
        run = Run(trouble=trouble, cells=6)
        run.finish(run.start(**BATCHED), outcome)
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


def stop(run: Run, child: subprocess.Popen[bytes], number: signal.Signals, cancel: bool) -> None:
    """Stops Snakemake, as its user has to where it is killed, and waits for what SLURM has of it."""
    child.send_signal(number)
    child.wait()
    if number == signal.SIGKILL:
        names = {line.split("JobName=")[1].split()[0] for line in jobs(run)}
        if cancel:
            node.ask("scancel", *(f"--name={name}" for name in names))
        unlock = run.start("--unlock")
        unlock.wait()
    over = ("COMPLETED", "CANCELLED", "FAILED")
    run.until(
        lambda: all(any(state(word)(job) for word in over) for job in jobs(run)), "no job left"
    )


def interrupted(number: signal.Signals, cells: int = 6, **edits: Any) -> Callable[[Outcome], None]:
    """Snakemake is told to stop, or killed; the next start makes what is missing."""

    def scenario(outcome: Outcome) -> None:
        run = Run(seconds=4, cells=cells)
        child = run.start(**edits)
        run.until(lambda: len(run.cells()) >= 2, "two cells")
        stop(run, child, number, cancel=True)
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
        stop(run, child, number, cancel)
        outcome.done += 1
        run.config |= {"value": last}
        run.finish(run.start(**BATCHED), outcome)
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
    "sacct": (
        "a job fails where accounting is on and `sacct` is asked",
        troubled("fails", "FAILED", **{"slurm-status-command": "sacct"}),
    ),
    "drain": ("the node drained while jobs run and wait, then resumed", drained),
    "node": ("slurmd killed, the node down, its jobs queued again", node_lost()),
    "batch-node": ("the same while a batch runs", node_lost(**{"group-components": {"cell": 4}})),
}  # fmt: skip


# Of a SLURM with accounting.
ACCOUNTED = {"sacct"}


def add(results: Path, name: str, found: Outcome) -> None:
    """Adds counts to those of earlier invocations."""
    told = json.loads(results.read_text()) if results.exists() else {}
    old = told.get(name, {})
    told[name] = {key: old.get(key, type(value)()) + value for key, value in vars(found).items()}
    results.write_text(json.dumps(told, indent=1) + "\n")


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


def tried(names: list[str], accounting: bool, results: Path | None) -> int:
    """Runs scenarios on a SLURM of their own; how much was lost."""
    lost = 0
    if not names:
        return lost
    with node.running(accounting):
        for name in names:
            found, began = Outcome(), time.monotonic()
            SCENARIOS[name][1](found)
            lost += len(found.lost)
            print(f"{name}: {json.dumps(vars(found))} {time.monotonic() - began:.0f} s", flush=True)
            if results:
                add(results, name, found)
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1, help="runs of each scenario")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--results", type=Path, help="JSON file to which counts are added")
    parser.add_argument("--page", type=Path, help="page whose table is written from that file")
    args = parser.parse_args()
    lost = 0
    names = [*args.only] * args.count
    for accounting in (False, True):
        wanted = [name for name in names if (name in ACCOUNTED) == accounting]
        lost += tried(wanted, accounting, args.results)
    if args.page and args.results:
        write_page(args.page, json.loads(args.results.read_text()))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
