"""Jobs and whole runs killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from undisturbed import (
    CONFIG,
    Context,
    Outcome,
    compare,
    copied,
    finish,
    kill,
    locked,
    no_part,
    started,
    unlock,
    whole,
)


def killed_at_random(name: str) -> Callable[[Context, Outcome, int], None]:
    """SIGKILL at a moment drawn over the length of a job, again and again until it gets through."""

    def scenario(context: Context, outcome: Outcome, count: int) -> None:
        job = context.job(name)
        while outcome.faults < count:
            folder = job.folder(context.base, context.home)
            while True:
                child = job.start(folder)
                # Not only while libraries are imported, where nothing can be lost.
                moment = context.rng.uniform(0.2, 1.15) * job.seconds
                try:
                    out, err = child.communicate(timeout=moment if outcome.faults < count else None)
                except subprocess.TimeoutExpired:
                    kill(child)
                    outcome.faults += 1
                    no_part(outcome, folder, job.wanted, f"{name} killed")
                    continue
                if child.returncode:
                    outcome.lost.append(f"{name}: exit status {child.returncode}: {err[-500:]}")
                outcome.resumed += "resuming at step" in out
                break
            compare(outcome, folder, job.wanted, name)
            shutil.rmtree(folder)

    return scenario


def killed_at_files(name: str) -> Callable[[Context, Outcome, int], None]:
    """SIGKILL just before and just after a file is flushed or put in its place: the narrow moments."""

    def scenario(context: Context, outcome: Outcome, count: int) -> None:
        job = context.job(name)
        moments = [
            f"{call}:{number}:{when}"
            for call, n in job.calls.items()
            for number in range(1, n + 1)
            for when in ("before", "after")
        ]
        context.rng.shuffle(moments)
        for number in range(count):
            folder = job.folder(context.base, context.home)
            child = job.start(folder, moments[number % len(moments)])
            child.communicate()
            if child.returncode == -signal.SIGKILL:
                outcome.faults += 1
            no_part(
                outcome, folder, job.wanted, f"{name} killed at {moments[number % len(moments)]}"
            )
            child = job.start(folder)
            out, err = child.communicate()
            if child.returncode:
                outcome.lost.append(f"{name}: exit status {child.returncode}: {err[-500:]}")
            outcome.resumed += "resuming at step" in out
            compare(outcome, folder, job.wanted, name)
            shutil.rmtree(folder)

    return scenario


def killed_workflow(context: Context, outcome: Outcome, count: int) -> None:
    """SIGKILL of Snakemake with all its jobs at a random moment, of Snakemake alone, or with `.snakemake` removed
    after that; restarted each time."""
    while outcome.faults < count:
        folder = Path(tempfile.mkdtemp(dir=context.home))
        while True:
            unlock(folder)
            child = started(folder)
            moment = context.rng.uniform(0.05, 1.0) * context.seconds
            try:
                child.wait(timeout=moment if outcome.faults < count else None)
            except subprocess.TimeoutExpired:
                how = context.rng.choice(["all", "all", "alone", "record"])
                if how == "alone":
                    # Its jobs live on, and end while the next Snakemake runs.
                    os.kill(child.pid, signal.SIGKILL)
                    child.wait()
                    context.live_on.append(child.pid)
                else:
                    kill(child)
                if how == "record":
                    shutil.rmtree(folder / ".snakemake", ignore_errors=True)
                outcome.faults += 1
                continue
            if child.returncode:
                log = (folder / "snakemake.log").read_text()[-800:]
                outcome.lost.append(f"workflow: exit status {child.returncode}: {log}")
            break
        context.wait_for_those_that_live_on()
        finish(outcome, folder, "workflow after kills")
        whole(outcome, folder, context.wanted, "workflow after kills")
        shutil.rmtree(folder)


def killed_with_other_values(context: Context, outcome: Outcome, count: int) -> None:
    """A finished run started again with other values and killed at its work; then, every other time, it goes on, or the
    former values come back: of neither may a result of the other stay."""
    other, results = context.changed_config, context.changed
    while outcome.faults < count:
        folder = copied(context)
        child = started(folder, config=other)
        while not locked(folder) and child.poll() is None:
            time.sleep(0.1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=context.rng.uniform(0, 0.25) * context.seconds)
        hit = child.poll() is None
        kill(child)
        outcome.faults += hit
        config, wanted = (other, results) if outcome.faults % 2 else (CONFIG, context.wanted)
        what = f"killed with other values, then {config.stem}"
        finish(outcome, folder, what, config)
        whole(outcome, folder, wanted, what, config)
        shutil.rmtree(folder.parent)
