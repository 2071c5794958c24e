"""Jobs on a cluster: many small cells in one job, and more memory and time for a job tried again.

Snakemake calls several cells in one cluster job a group. As it stands, version 9.27 starts each of
them by two Snakemakes of its own, stops at the first that fails, and then removes the results of
all. Here the cells of a group run in one Snakemake, one that fails does not stop the others, and
what is whole is kept and counts as done; only the rest is tried again.

Three Snakemakes read the workflow for a group: the one that was started (it submits), one in the
cluster's job, which starts the step (`srun`), and the one in the step, which runs the cells.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import snakemake.api  # first: its modules import each other
import snakemake.jobs
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource
from snakemake_interface_executor_plugins.settings import ExecMode
from snakemake_interface_logger_plugins.common import LogEvent

GROWING = ("mem_mb", "runtime")
# The executor whose groups are batches; any other has Snakemake's own groups.
EXECUTOR = "slurm"
# How the id of a batch begins: by it the Snakemakes of the job and of the step know it.
MARK = "batch-"


class Batch(snakemake.jobs.GroupJob):  # type: ignore[misc]
    """A group of cells that succeed and fail one by one."""

    _left: frozenset[Any] | None = None
    _submitted = False

    @property
    def rule(self) -> Any:
        """That of one of its cells: what tells of a submission that failed asks for it."""
        return min(self.jobs, key=str).rule

    @property
    def jobid(self) -> str:
        return f"{MARK}{super().jobid}"

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
        """Notes the group as running, where this Snakemake submits it; the others run what was submitted."""
        if self._submitted_from_here():
            super().register(external_jobid=external_jobid)
            self._submitted = True

    def log_error(self, msg: str | None = None, aux_logs: Any = None, **more: Any) -> None:
        """Names the cells that failed, not all of the group, and what the cluster said of it."""
        if msg is not None:
            logger.error(msg)
        failed = Batch(self.groupid, self.jobs - frozenset(self._whole()), self.global_resources)
        return super(Batch, failed).log_error(msg=msg, aux_logs=aux_logs, **more)

    async def postprocess(self, error: bool = False, **options: Any) -> None:
        """Of a group that failed: finishes the cells that are whole, and fails the others one by one."""
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
            done._count()
            await self.dag.finish(done)

    def _count(self) -> None:
        """Tells of its cells as Snakemake tells of a group that succeeded: they count as steps done."""
        scheduler = self.dag.workflow.scheduler
        scheduler.finished_jobs += len(self)
        if scheduler.print_progress:
            for job in self:
                about = {"event": LogEvent.JOB_FINISHED, "job_id": job.jobid}
                logger.info(f"Finished jobid: {job.jobid} (Rule: {job.rule.name})", extra=about)
            scheduler.progress()

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


class Batches(snakemake.jobs.GroupJobFactory):  # type: ignore[misc]
    """Makes groups: those of the workflow's own rules are batches, others Snakemake's own."""

    def __init__(self, folders: set[str]) -> None:
        super().__init__()
        self.folders = folders

    def new(self, id: str, jobs: Iterable[Any], resources: Any) -> Any:
        """A batch where all rules are from the folders; the same one for the same cells."""
        cells = frozenset(jobs)
        if not all(is_from(self.folders, job.rule) for job in cells):
            return super().new(id, cells, resources)
        return self.cache.setdefault((id, cells), Batch(id, cells, resources))


class BatchedDAG(DAG):  # type: ignore[misc]
    """The graph of jobs of a run through SLURM."""

    def update_groups(self) -> None:
        """In the job of a batch: one group of all its cells, the rest of which go on when one fails."""
        workflow = self.workflow
        # The command line has been read, and no job runs yet.
        if workflow.remote_exec:
            group = workflow.group_settings.local_groupid
            cells = len(workflow.dag_settings.target_jobs)
            workflow.group_settings.overwrite_groups = dict.fromkeys(
                workflow.dag_settings.allowed_rules, group
            )
            workflow.group_settings.group_components = {group: cells}
            workflow.execution_settings.keep_going = True
            cores = os.environ.get("SLURM_CPUS_PER_TASK")
            if workflow.local_exec and cores:
                # As many at once as the step has cores; the node may have more.
                workflow.global_resources["_cores"] = int(cores)
        super().update_groups()

    def register_running(self, jobs: Iterable[Any]) -> None:
        """Records what results are made with, before SLURM has their jobs, and marks them as incomplete.

        A cell loses its mark in the step that made it. If Snakemake has ended by then, the next start would find no
        mark and the record of whatever was there before, and take the cell for that.
        """
        super().register_running(jobs)
        if not self.workflow.remote_exec:
            cancel_all_of(self.workflow.scheduler._executor)
            self.workflow.async_run(self._record(jobs))

    async def _record(self, jobs: Iterable[Any]) -> None:
        record = self.workflow.persistence
        for group in jobs:
            for job in group if group.is_group() else [group]:
                if not group.is_local and is_from(self.group_job_factory.folders, job.rule):
                    # Recording a job takes its mark: not for a moment, in which Snakemake could be killed.
                    with _marked(record):
                        await record.finished(job)
                    record.started(job)


@contextlib.contextmanager
def _marked(record: Any) -> Iterator[None]:
    """Within it, results keep the mark of being incomplete."""
    unmark = record._unmark_incomplete
    record._unmark_incomplete = lambda key: None
    try:
        yield
    finally:
        record._unmark_incomplete = unmark


class Preparation:
    """Makes the graph of jobs of one workflow, and has it batch the groups of rules from some folders where it runs
    through SLURM."""

    def __init__(self, prepare: MethodType) -> None:
        self._prepare = prepare
        self.folders: set[str] = set()

    def __call__(self, *words: Any, **named: Any) -> Any:
        made = self._prepare(*words, **named)
        workflow: Any = self._prepare.__self__
        if is_of_slurm(workflow):
            if not workflow.remote_exec:
                ask_slurm_again()
            workflow._dag.__class__ = BatchedDAG
            workflow._dag.group_job_factory = Batches(self.folders)
        return made


def is_of_slurm(workflow: Any) -> bool:
    """Whether a Snakemake submits to SLURM, or is one in the job, or the step, of a batch."""
    if workflow.remote_exec:
        return str(workflow.group_settings.local_groupid).startswith(MARK)
    return workflow.executor_plugin is not None and workflow.executor_plugin.name == EXECUTOR


def is_from(folders: set[str], rule: Any) -> bool:
    """Whether the file of a rule lies in one of some folders."""
    return rule.basedir is not None and rule.basedir.get_path_or_uri(secret_free=True) in folders


def prepared(workflow: Any) -> Preparation:
    """The preparation of a workflow, one however often its files are read."""
    if not isinstance(workflow._prepare_dag, Preparation):
        workflow._prepare_dag = Preparation(workflow._prepare_dag)
    found = workflow._prepare_dag
    assert isinstance(found, Preparation)
    return found


def in_one_job(workflow: Any) -> None:
    """Lets the groups of rules be batches that are in the same folder as the file that calls this while it is read."""
    here = workflow.current_basedir.get_path_or_uri(secret_free=True)
    prepared(workflow).folders.add(here)


def ask_slurm_again() -> None:
    """Makes a question that SLURM does not answer one to which the answer is not known yet, and warns of the first.

    Version 2.8 of the executor forgets all running jobs then, and the run waits for ever.

    Raises:
        WorkflowError: the executor for SLURM is not of version 2.8.
    """
    plugin: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin is None:
        return
    ask = getattr(plugin, "query_job_status", None)
    if ask is None:
        raise WorkflowError(
            "snakemake-executor-plugin-slurm is not of version 2.8, whose waiting for SLURM is mended here; "
            "`pip install -c constraints.txt -e '.[slurm]'`"
        )
    if not isinstance(ask, Patience):
        plugin.query_job_status = Patience(ask)


class Patience:
    """A question to SLURM about the state of jobs: an answer always, however empty."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._silent = False

    async def __call__(self, command: str, *words: Any) -> tuple[dict[str, str], float]:
        states, seconds = await self._ask(command, *words)
        if states is None and not self._silent:
            logger.warning(
                f"SLURM does not tell the state of jobs, and is asked again until it does: `{command}` failed, or took "
                "over a minute. Run it in a shell to see what it says."
            )
        elif states is not None and self._silent:
            logger.info("SLURM tells the state of jobs again.")
        self._silent = states is None
        return ({}, 0.0) if states is None else (states, seconds)


class Cancelling:
    """Cancels all SLURM jobs of a run, by the name that they share."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._cancel = executor.cancel_jobs

    def __call__(self, known: list[Any]) -> None:
        words = ["scancel", f"--name={self._executor.run_uuid}"]
        if self._executor._submitted_job_clusters:
            words.append("--clusters=all")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            logger.warning(
                f"Jobs of this run may go on in SLURM; cancel them before another start: {' '.join(words)} "
                f"({done.stderr.strip()})"
            )
        self._cancel(known)


def cancel_all_of(executor: Any) -> None:
    """Has an executor cancel all its jobs when Snakemake is interrupted.

    Version 2.8 knows none while it waits for SLURM to tell their state, and leaves them then.
    """
    if not isinstance(executor.cancel_jobs, Cancelling):
        executor.cancel_jobs = Cancelling(executor)


class Growing(Resource):  # type: ignore[misc]
    """A request that is multiplied by the number of the try."""


def ask_for_more_when_tried_again(workflow: Any) -> None:
    """Multiplies memory and time by the number of the try, of the rules whose groups are batches; to be called after
    they are read. Resources are no part of what a job depends on."""
    for rule in workflow.rules:
        for name in GROWING if is_from(prepared(workflow).folders, rule) else ():
            asked = rule.resources.get(name)
            if asked is not None and not isinstance(asked, Growing):
                rule.resources[name] = Growing(name, growing(asked), raw=asked.raw)


def growing(asked: Resource) -> Callable[..., Any]:
    """A request as a function of Snakemake's arguments, multiplied by ``attempt``."""

    def request(wildcards: Any, **known: Any) -> Any:
        value = asked.evaluate(wildcards, **known).value
        # Not where it is still to be determined, from inputs that are not there yet.
        return value * known["attempt"] if isinstance(value, int) else value

    return request
