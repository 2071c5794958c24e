"""Folders of results to which more happened than a run: records removed, times changed, two runs at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from undisturbed import (
    CONFIG,
    Context,
    Outcome,
    artefacts,
    compare,
    copied,
    environment,
    finish,
    kill,
    locked,
    results_of,
    snakemake,
    started,
    unlock,
    whole,
)

DAY = 86400.0
# As many jobs are done again at most.
LATE = 8
# What Snakemake says when a job starts.
BEGUN = "\nlocalrule "


def record_removed(context: Context, outcome: Outcome, count: int) -> None:
    """Snakemake's record of a finished run removed, all of it or that of values and code, and some results too; every
    other time while a run is killed that was to make them again."""
    for number in range(count):
        folder = copied(context)
        # Not the record of passes, which may be deleted and is then written when there is a pass.
        written = [name for job in context.plan for name in job.writes if name in context.wanted]
        for name in context.rng.sample(written, 3):
            (folder / name).unlink()
        if number % 2:
            child = started(folder)
            while not locked(folder) and child.poll() is None:
                time.sleep(0.1)
            time.sleep(context.rng.uniform(0, 15))
            kill(child)
        record = folder / ".snakemake"
        record = context.rng.choice([record, record, record / "metadata"])
        assert record.is_dir()
        shutil.rmtree(record)
        outcome.faults += 1
        finish(outcome, folder, "record removed")
        missing = sorted(set(context.wanted) - set(results_of(folder)))
        if missing:
            # Snakemake makes what the page needs again, not what nothing waits for.
            words = [*snakemake(folder), *missing]
            subprocess.run(words, env=environment(), capture_output=True)
        whole(outcome, folder, context.wanted, "record removed")
        shutil.rmtree(folder.parent)


def clock_changed(context: Context, outcome: Outcome, count: int) -> None:
    """Times of files as a clock that was set gives them, then a run that has work to do: after some results were lost;
    or with other values in the configuration, of which no old result may stay."""
    for number in range(count):
        folder = copied(context)
        config, wanted = CONFIG, context.wanted
        if number % 2:
            config, wanted = context.changed_config, context.changed
        else:
            for path in lost_with_those_after(context, folder):
                path.unlink(missing_ok=True)
        # One clock that was wrong, or one for each file as machines that share a disk may have.
        ahead = context.rng.uniform(-2, 2) * DAY
        one = context.rng.random() < 0.7
        for path in artefacts(folder):
            by = ahead if one else context.rng.uniform(-2, 2) * DAY
            when = (path.stat().st_mtime if one else time.time()) + by
            os.utime(path, (when, when))
        outcome.faults += 1
        what = f"clock changed by {ahead / 3600:.0f} h{'' if one else ' and others'}, {config.stem}"
        finish(outcome, folder, what, config)
        whole(outcome, folder, wanted, what, config)
        shutil.rmtree(folder.parent)


def lost_with_those_after(context: Context, folder: Path) -> list[Path]:
    """What one of the last jobs of the plan, drawn at random, and all that come after it write."""
    jobs = context.plan
    first = context.rng.randrange(len(jobs) - LATE, len(jobs) - 1)
    return [folder / path for job in jobs[first:] for path in job.writes]


def two_at_once(context: Context, outcome: Outcome, count: int) -> None:
    """Two Snakemakes in one folder that has work for both: the second is refused by the lock of the first; or the lock
    is ignored, or removed, and both do the same jobs at the same time."""
    number = 0
    while outcome.faults < count:
        way = ("locked", "no lock", "lock removed")[number % 3]
        number += 1
        if number > 4 * count + 4:
            outcome.lost.append("two at once: seldom at work at the same time")
            break
        folder = copied(context)
        for path in lost_with_those_after(context, folder):
            path.unlink(missing_ok=True)
        more = ["--nolock"] if way == "no lock" else []
        first = started(folder, *more, log="first.log")
        if way == "no lock":
            time.sleep(context.rng.uniform(0, 3))
        else:
            while not locked(folder) and first.poll() is None:
                time.sleep(0.1)
        if way == "lock removed":
            unlock(folder)
        second = started(folder, *more, log="second.log")
        second.wait()
        working = first.poll() is None
        first.wait()
        said = [(folder / name).read_text() for name in ("first.log", "second.log")]
        if way == "locked":
            # Refused while the first was at work, not let in after it.
            hit = working
            if working and not (second.returncode and "lock" in said[1] and BEGUN not in said[1]):
                outcome.lost.append(f"two at once: the second was let in: {said[1][-500:]}")
            if first.returncode:
                outcome.lost.append(f"two at once: the first failed: {said[0][-500:]}")
            outcome.said += hit
        else:
            hit = all(BEGUN in text for text in said)
        outcome.faults += hit
        finish(outcome, folder, f"two at once, {way}")
        whole(outcome, folder, context.wanted, f"two at once, {way}")
        shutil.rmtree(folder.parent)


def same_moment(context: Context, outcome: Outcome, count: int) -> None:
    """The same job twice at once, as two Snakemakes may start it, brought together where each has written a result and is
    about to give it its name: two Snakemakes by chance hardly ever are."""
    names = list(context.known)
    for number in range(count):
        job = context.job(names[number % len(names)])
        folder = job.folder(context.base, context.home)
        both = [job.start(folder, "meet") for _ in range(2)]
        said = [child.communicate()[1] for child in both]
        met = {path.name.rpartition("-")[0] for path in folder.glob("meet-*")}
        # As many as results that the job writes.
        outcome.faults += len(met) >= len(job.wanted) - len(job.inputs)
        for child, err in zip(both, said, strict=True):
            if child.returncode:
                outcome.lost.append(f"{job.name} twice: {child.returncode}: {err[-500:]}")
        compare(outcome, folder, job.wanted, f"{job.name} twice")
        shutil.rmtree(folder)
