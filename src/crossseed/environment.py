"""What Snakemake, and the processes that it starts, find around them."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake_interface_executor_plugins.settings import ExecMode

from crossseed.leases import SLOTS

# Of jobs and seconds: Snakemake's own.
USUAL_LIMIT = (100, 1)


def use_this_installation() -> None:
    """Lets child processes find this interpreter as ``python``, and this package.

    So that jobs run whether or not the interpreter's environment is activated. An environment
    that a job activates itself still comes first on PATH.
    """
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)


def share_gpus(slots: int) -> None:
    """Tells child processes how many of them may hold one GPU, unless the user's environment does."""
    os.environ.setdefault(SLOTS, str(slots))


def without_rate_limit(workflow: Any) -> None:
    """Takes away the limit on how many jobs may start in a second, from Snakemake's `onstart`.

    Snakemake 9 never retires the timers of that limit: each finished job leaves one behind that makes the scheduler look
    at all that is ready every second, and some hundreds of them fill a core. The limit's option does not take "none". A
    limit that the user set stays.
    """
    limit = workflow.scheduler.job_rate_limiter
    if limit is not None and (limit.max_jobs, limit.timespan) == USUAL_LIMIT:
        workflow.scheduler.job_rate_limiter = None


def mark_what_is_made_again(workflow: Any) -> None:
    """Marks results that are to be made anew as incomplete, from Snakemake's `onstart`; each loses its mark when it is.

    A job that fails takes its results with it. What had been made from these still lies there, and to the next start it
    is newer than all its inputs: Snakemake would find nothing to do, and tables of the old configuration would stay.
    """
    if workflow.exec_mode != ExecMode.DEFAULT:
        return
    for job in workflow.dag.needrun_jobs():
        if any(Path(path).exists() for path in job.output):
            workflow.persistence.started(job)


def nothing_from_the_future(workflow: Any) -> None:
    """Sets the times of results that are dated in the future to now, in their order, from Snakemake's `onstart`.

    As a clock that was set back leaves them, or files that came from a machine whose clock is ahead. Whatever is made from
    them is older than they are; Snakemake calls that a skewed clock, fails, and takes the job's results away, old and new.

    Raises:
        WorkflowError: an input that is not the run's own to touch is dated so; nothing has been done then.
    """
    if workflow.exec_mode != ExecMode.DEFAULT:
        return
    jobs = list(workflow.dag.jobs)
    made = {str(path) for job in jobs for path in job.output}
    used = {str(path) for job in jobs for path in job.input}
    # By the clock of the file system, which on a cluster is not this machine's.
    folder = "results" if os.path.isdir("results") else workflow.persistence.path
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
        now = os.stat(file.name).st_mtime_ns
    dated = {path: time for path in made | used if (time := _time(path)) is not None}
    ahead = sorted((time, path) for path, time in dated.items() if time > now)
    others = [path for _, path in ahead if path not in made and not path.startswith("results/")]
    if others:
        when = datetime.fromtimestamp(dated[others[-1]] / 1e9)
        raise WorkflowError(
            f"{others[-1]} is dated in the future ({when:%Y-%m-%d %H:%M:%S}), so that nothing made from it would be newer than it "
            "is: set this machine's clock if it is wrong, otherwise `touch` the file"
        )
    if not ahead:
        return
    foreign = [path for _, path in ahead if _stamp(path).stat().st_uid != os.geteuid()]
    if foreign and os.geteuid() != 0:
        raise WorkflowError(
            f"{foreign[0]} is dated in the future and belongs to another user, who alone can set its time: ask for `touch` on "
            f"it, and on {len(foreign) - 1} more"
        )
    logger.warning(
        f"{len(ahead)} results are dated in the future, such as {ahead[-1][1]} "
        f"({datetime.fromtimestamp(ahead[-1][0] / 1e9):%Y-%m-%d %H:%M:%S}): their times are set to now, in the same order"
    )
    # After all others, which keep their times.
    last = max((time for time in dated.values() if time <= now), default=now - 10**9)
    for number, (_, path) in enumerate(ahead, 1):
        time = last + (now - last) * number // len(ahead)
        os.utime(_stamp(path), ns=(time, time))


def _stamp(path: str) -> Path:
    """The file whose time counts: of a folder that a job made, one that Snakemake put into it, if it did."""
    inside = Path(path, ".snakemake_timestamp")
    return inside if inside.exists() else Path(path)


def _time(path: str) -> int | None:
    """In nanoseconds; None of what is not there."""
    try:
        return _stamp(path).stat().st_mtime_ns
    except FileNotFoundError:
        return None
