"""Jobs on a cluster: many small cells in one job, and more memory and time for a job tried again.

Snakemake calls several cells in one cluster job a group. As it stands, version 9.27 starts each of
them by two Snakemakes of its own, stops at the first that fails, and then removes the results of
all. Here the cells of a group run in one Snakemake, one that fails does not stop the others, and
what is whole is kept and counts as done; only the rest is tried again.

Three Snakemakes read the workflow for a group: the one that was started (it submits), one in the
cluster's job, which starts the step (`srun`), and the one in the step, which runs the cells.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import snakemake.api  # first: its modules import each other
import snakemake.jobs
import snakemake.workflow
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource
from snakemake_interface_executor_plugins.settings import ExecMode

GROWING = ("mem_mb", "runtime")
# The id that Snakemake gives where there is no group.
ALONE = "local"


# Batches that a cluster has, by identity.
_under_way: dict[int, Batch] = {}


class Batch(snakemake.jobs.GroupJob):  # type: ignore[misc]
    """A group of cells that succeed and fail one by one."""

    _left: frozenset[Any] | None = None
    _submitted = False

    @property
    def rule(self) -> Any:
        """That of one of its cells: what tells of a submission that failed asks for it."""
        return min(self.jobs, key=str).rule

    def _submitted_from_here(self) -> bool:
        return bool(self.dag.workflow.exec_mode == ExecMode.DEFAULT)

    def _whole(self) -> list[Any]:
        """The cells whose results are there, and which the Snakemake of the step saw succeed.

        All are marked as incomplete when they are submitted; the step takes the mark from each that
        ends well. A cell that never began keeps it, whatever an earlier run left in its place.

        Nothing is known of cells that were never submitted, nor where outputs of failed cells are kept.
        """
        if not self._submitted or self.dag.workflow.execution_settings.keep_incomplete:
            return []
        record = self.dag.workflow.persistence
        record._incomplete_cache = None  # others have written there since
        found = []
        for job in self.jobs:
            marked = record._filter_incomplete_keys([record._get_key(path) for path in job.output])
            if not marked and all(Path(path).exists() for path in job.output):
                found.append(job)
        # All of them, in a job that failed: of the cluster's doing. One is made again, so that
        # the job can succeed.
        return found if len(found) < len(self.jobs) else found[1:]

    def register(self, external_jobid: str | None = None) -> None:
        if self._submitted_from_here():
            super().register(external_jobid=external_jobid)
            self._submitted = True
            _under_way[id(self)] = self

    def log_error(self, msg: str | None = None, aux_logs: Any = None, **more: Any) -> None:
        """Names the cells that failed, not all of the group, and what the cluster said of it."""
        if msg is not None:
            logger.error(msg)
        failed = Batch(self.groupid, self.jobs - frozenset(self._whole()), self.global_resources)
        return super(Batch, failed).log_error(msg=msg, aux_logs=aux_logs, **more)

    async def postprocess(self, error: bool = False, **options: Any) -> None:
        _under_way.pop(id(self), None)
        if not error:
            await super().postprocess(**options)
            return
        if not self._submitted_from_here():
            # Which cells are whole is for the Snakemake that submitted them to say.
            return
        whole = frozenset(self._whole())
        self._left = self.jobs - whole
        for job in self._left:
            await job.postprocess(error=True)
        if whole:
            done = Batch(self.groupid, whole, self.global_resources)
            done.finalize()
            await done.postprocess()
            self.dag._group.update(dict.fromkeys(whole, done))
            self.dag._running.add(done)
            await self.dag.finish(done)

    def _try_again(self, attempt: int) -> None:
        """What is left is the group now. Its scheduled resources have been given back."""
        self._submitted = False
        if self._left is not None:
            self.jobs, self._left = self._left, None
            self._toposorted = self._scheduler_resources = self._jobid = None
            self._input = self._output = self._log = self._all_products = None
            self.finalize()
        super(Batch, type(self)).attempt.fset(self, attempt)

    attempt = property(snakemake.jobs.GroupJob.attempt.fget, _try_again)


class BatchedDAG(DAG):  # type: ignore[misc]
    """The graph of jobs, as it is when the command line has been read and no job runs yet."""

    def update_groups(self) -> None:
        workflow = self.workflow
        group = workflow.group_settings.local_groupid
        if workflow.remote_exec and group != ALONE:
            rules = workflow.dag_settings.allowed_rules
            cells = len(workflow.dag_settings.target_jobs)
            workflow.group_settings.overwrite_groups = dict.fromkeys(rules, group)
            workflow.group_settings.group_components = {group: cells}
            workflow.execution_settings.keep_going = True
            cores = os.environ.get("SLURM_CPUS_PER_TASK")
            if workflow.local_exec and cores:
                # As many at once as the step has cores; the node may have more.
                workflow.global_resources["_cores"] = int(cores)
        super().update_groups()


def in_one_job() -> None:
    """Lets the groups of a workflow be batches; to be called while it is read."""
    snakemake.jobs.GroupJob = Batch
    snakemake.workflow.DAG = BatchedDAG
    atexit.unregister(_mark_again)
    atexit.register(_mark_again)


def _mark_again() -> None:
    """Marks the cells of batches as incomplete that were under way when Snakemake ended.

    Those that had succeeded have no mark any more, and no record yet of what they were made with: a run after an
    interrupt would take them for whole, whatever had been changed in between.
    """
    for batch in _under_way.values():
        for job in batch.jobs:
            job.dag.workflow.persistence.started(job)


def ask_slurm_again() -> None:
    """Makes a question that SLURM does not answer one to which the answer is not known yet.

    Version 2.8 of the executor forgets all running jobs then, and the run waits for ever.
    """
    plugin: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin is None:
        return
    ask = getattr(plugin, "query_job_status", None)
    if ask is None:
        raise WorkflowError(
            "snakemake-executor-plugin-slurm is not of version 2.8, whose waiting for SLURM is mended here; install "
            "crossseed[slurm] with constraints.txt"
        )

    async def patiently(*words: Any) -> tuple[dict[str, str], float]:
        states, seconds = await ask(*words)
        return ({}, 0.0) if states is None else (states, seconds)

    plugin.query_job_status = patiently


def ask_for_more_when_tried_again(workflow: Any) -> None:
    """Multiplies memory and time of each rule by the number of the try; to be called after its
    rules are read. Resources are no part of what a job depends on."""
    for rule in workflow.rules:
        for name in GROWING:
            asked = rule.resources.get(name)
            if asked is not None:
                rule.resources[name] = Resource(name, growing(asked), raw=asked.raw)


def growing(asked: Resource) -> Callable[..., Any]:
    """A request as a function of Snakemake's arguments, multiplied by ``attempt``."""

    def request(wildcards: Any, **known: Any) -> Any:
        value = asked.evaluate(wildcards, **known).value
        # Not where it is still to be determined, from inputs that are not there yet.
        return value * known["attempt"] if isinstance(value, int) else value

    return request
