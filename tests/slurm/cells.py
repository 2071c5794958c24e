"""Runs of small cells (stress.smk) on a SLURM of one node, and what came of them."""

from __future__ import annotations

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
from slurm import node

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"
WAIT_SECONDS = 900
# Snakemake ends after its pause between two questions to SLURM.
HEARD_SECONDS = 90


class Outcome:
    """What a scenario did and found.

    Attributes:
        done: how often. again: cells that began more often than once. runs: results that were compared.
        unheard: signals that had to be sent twice. lost: what was wrong, a sentence each.
    """

    def __init__(self) -> None:
        self.done = self.again = self.runs = self.unheard = 0
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
                # A shell that starts this harness in the background has it, and all that it starts, ignore SIGINT.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


def stop(
    run: Run,
    child: subprocess.Popen[bytes],
    number: signal.Signals,
    outcome: Outcome,
    cancel: bool = True,
) -> None:
    """Stops Snakemake, and what SLURM has of it as its user has to where it is killed; waits for the end of both."""
    began = time.monotonic()
    child.send_signal(number)
    try:
        child.wait(HEARD_SECONDS)
    except subprocess.TimeoutExpired:
        outcome.unheard += 1
        child.send_signal(number)
        child.wait(WAIT_SECONDS)
    if number == signal.SIGINT:
        if child.returncode == 0 or "Terminating processes on user request" not in run.said():
            outcome.lost.append(
                f"SIGINT stopped nothing in {time.monotonic() - began:.0f} s: {run.said()}"
            )
        run.until(lambda: not any(state("RUNNING")(job) for job in jobs(run)), "no job runs")
        if not any(state("CANCELLED")(job) for job in jobs(run)):
            outcome.lost.append("SIGINT cancelled no job of SLURM")
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
