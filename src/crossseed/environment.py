"""What Snakemake, and the processes that it starts, find around them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

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
