"""Disks that are full."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from undisturbed import Context, Job, Outcome, compare, no_part, orphans


def disk_full(context: Context, outcome: Outcome, count: int) -> None:
    """Writes fail at a size below that of the job's largest file; then there is room."""
    names = list(context.known)
    for number in range(count):
        job = context.job(names[number % len(names)])
        largest = job.largest
        most = int(context.rng.uniform(0, 0.95) * largest)

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        folder = job.folder(context.base, context.home)
        refused(context, outcome, job, folder, preexec_fn=limit)
        shutil.rmtree(folder)


def refused(context: Context, outcome: Outcome, job: Job, folder: Path, **options: Any) -> None:
    """A job that finds no room says so, leaves nothing half written, and does its work once there is."""
    child = job.start(folder, **options)
    _, err = child.communicate()
    outcome.faults += 1
    if child.returncode == 2 and "the disk is full" in err and "Traceback" not in err:
        outcome.said += 1
    else:
        outcome.lost.append(f"{job.name} on a full disk: {child.returncode}: {err[-500:]}")
    no_part(outcome, folder, job.wanted, f"{job.name} on a full disk")
    left = [path for path in orphans(folder) if path.endswith(".tmp")]
    outcome.lost += [f"{job.name} on a full disk: {path} was left" for path in left]
    os.sync()
    if context.make_room is not None:
        context.make_room()
    child = job.start(folder)
    _, err = child.communicate()
    if child.returncode:
        outcome.lost.append(f"{job.name} with room again: {err[-500:]}")
    compare(outcome, folder, job.wanted, f"{job.name} with room again")


def small_disk(context: Context, outcome: Outcome, count: int) -> None:
    """A file system of its own, filled but for a little; needs the right to mount one."""
    mounted = context.home / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True).returncode:
        return
    filler = mounted / "filler"
    names = list(context.known)
    try:
        for number in range(count):
            job = context.job(names[number % len(names)])
            folder = job.folder(context.base, mounted)
            largest = job.largest
            free = os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize
            room = int(context.rng.uniform(0.05, 0.9) * largest)
            with open(filler, "wb") as handle:
                handle.write(bytes(max(0, free - room)))
            context.make_room = filler.unlink
            refused(context, outcome, job, folder)
            context.make_room = None
            shutil.rmtree(folder)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
