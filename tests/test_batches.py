"""What a job that is tried again asks for, and which groups are batches. How these fail and succeed: tests/slurm."""

import asyncio
import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake.api import (
    DAGSettings,
    ExecutionSettings,
    GroupSettings,
    OutputSettings,
    RemoteExecutionSettings,
    ResourceSettings,
    SchedulingSettings,
    SnakemakeApi,
    WorkflowSettings,
)
from snakemake.common.tbdstring import TBDString
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.jobs import GroupJob
from snakemake.resources import Resource
from snakemake.settings.enums import Quietness
from snakemake.target_jobs import TargetSpec
from snakemake_interface_executor_plugins.settings import ExecMode

from crossseed import batches

PROFILE = Path(__file__).parent.parent / "workflow/profiles/slurm/config.yaml"


@pytest.mark.parametrize("asked", [1500, lambda wildcards: 1500, lambda wildcards, input: 1500])
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_each_try_asks_for_as_much_more(asked, attempt):
    grown = Resource("mem_mb", batches.growing(Resource("mem_mb", asked)))
    known = {"attempt": attempt, "input": [], "threads": 1, "rulename": "any"}
    assert grown.evaluate({}, **known).value == 1500 * attempt


def test_what_is_not_known_yet_does_not_grow():
    def unknown(wildcards):
        return TBDString()

    grown = batches.growing(Resource("mem_mb", unknown))
    assert isinstance(grown({}, attempt=2), TBDString)


def test_a_whole_batch_of_the_profile_fits_a_common_partition():
    profile = yaml.safe_load(PROFILE.read_text())
    groups, asked = profile["groups"], profile["set-resources"]
    assert set(groups.values()) == set(profile["group-components"])
    for rule, group in groups.items():
        minutes = asked[rule]["runtime"]
        assert minutes * profile["group-components"][group] <= 240, rule


OURS = """
from crossseed import batches

batches.in_one_job(workflow)

rule one:
    output: "one/{n}.txt"
    resources: mem_mb=100, runtime=lambda wildcards: 7
    shell: "echo > {output}"

rule two:
    output: "two/{n}.txt"
    resources: mem_mb=200
    shell: "echo > {output}"

batches.ask_for_more_when_tried_again(workflow)
"""
# Two statements read the file twice.
THEIRS = """
module ours:
    snakefile: "ours/Snakefile"

use rule one from ours as our_*
use rule two from ours as our_* with:
    resources: mem_mb=300

rule theirs:
    output: "theirs/{n}.txt"
    resources: mem_mb=400
    shell: "echo > {output}"

rule all:
    default_target: True
    input: expand("{name}/{n}.txt", name=["one", "two", "theirs"], n=range(3))
"""
GROUPS = {"our_one": "one", "our_two": "two", "theirs": "theirs"}


@pytest.fixture
def theirs(tmp_path):
    """The graph of somebody's workflow that uses ours as a module, as an executor would run it."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/Snakefile").write_text(OURS)
    (tmp_path / "Snakefile").write_text(THEIRS)
    with contextlib.ExitStack() as stack:

        def read(executor, remote=False, group="local", folder=tmp_path):
            api = stack.enter_context(SnakemakeApi(OutputSettings(quiet={Quietness.ALL})))
            cores = ResourceSettings(cores=1)
            workflow_api = api.workflow(cores, snakefile=folder / "Snakefile", workdir=tmp_path)
            named = {} if remote else GROUPS
            groups = GroupSettings(named, dict.fromkeys(named.values(), 3), group)
            cells = [TargetSpec("our_one", {"n": str(n)}) for n in range(3)]
            given = DAGSettings(target_jobs=cells, allowed_rules={"our_one"}) if remote else None
            dag = workflow_api.dag(given)
            workflow = dag.workflow_api._workflow
            mode = ExecMode.REMOTE if remote else ExecMode.DEFAULT
            workflow.workflow_settings = WorkflowSettings(exec_mode=mode)
            workflow.group_settings = groups
            workflow.remote_execution_settings = RemoteExecutionSettings()
            workflow.execution_settings = ExecutionSettings()
            workflow.scheduling_settings = SchedulingSettings()
            settings = SimpleNamespace(local_exec=executor == "local", dryrun_exec=False)
            workflow._executor_plugin = SimpleNamespace(
                name=executor, common_settings=settings, executor=object
            )
            workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
            workflow._build_dag()
            workflow.async_run(workflow.dag.postprocess(update_needrun=False))
            return workflow

        yield read


def kinds(workflow):
    """The type of each group, by the rule of its jobs."""
    dag = workflow.dag
    found = {job.rule.name: type(dag.get_job_group(job)) for job in dag.jobs}
    return {name: kind for name, kind in found.items() if name in GROUPS}


def test_only_groups_of_our_rules_are_batches_in_a_workflow_that_uses_ours(theirs):
    workflow = theirs("slurm")
    ours = dict.fromkeys(("our_one", "our_two"), batches.Batch)
    assert kinds(workflow) == {**ours, "theirs": GroupJob}
    assert type(workflow.dag) is batches.BatchedDAG


@pytest.mark.parametrize("executor", ["kubernetes", "cluster-generic"])
def test_with_another_executor_groups_are_snakemakes_own(theirs, executor):
    workflow = theirs(executor)
    assert set(kinds(workflow).values()) == {GroupJob}
    assert type(workflow.dag) is DAG


def test_in_a_local_run_nothing_is_changed(theirs):
    workflow = theirs("local")
    assert set(kinds(workflow).values()) == {type(None)}
    assert type(workflow.dag) is DAG


def test_the_job_of_a_batch_runs_its_cells_in_one_snakemake(theirs):
    workflow = theirs("slurm-jobstep", remote=True, group="batch-1")
    groups = {workflow.dag.get_job_group(job) for job in workflow.dag.jobs}
    assert [len(group) for group in groups] == [3]
    assert {group.groupid for group in groups} == {"batch-1"}
    assert workflow.execution_settings.keep_going


@pytest.mark.parametrize("executor", ["slurm-jobstep", "local"])
def test_the_job_of_any_other_group_is_snakemakes_own(theirs, executor):
    workflow = theirs(executor, remote=True, group="1")
    assert type(workflow.dag) is DAG
    assert workflow.group_settings.overwrite_groups == {}
    assert not workflow.execution_settings.keep_going


def test_another_workflow_of_the_process_is_as_it_was(theirs, tmp_path):
    theirs("slurm")
    other = tmp_path / "other"
    other.mkdir()
    alone = THEIRS.split("rule theirs")[1].replace('["one", "two", "theirs"]', '["theirs"]')
    (other / "Snakefile").write_text(f"rule theirs{alone}")
    workflow = theirs("slurm", folder=other)
    assert kinds(workflow) == {"theirs": GroupJob}
    assert type(workflow.dag) is DAG


def test_requests_grow_once_however_often_the_workflow_is_read(theirs):
    workflow = theirs("slurm")
    batches.ask_for_more_when_tried_again(workflow)
    asked = {}
    for job in workflow.dag.jobs:
        if job.rule.name in GROUPS:
            job.attempt = 3
            asked[job.rule.name] = (job.resources.mem_mb, job.resources.get("runtime"))
    assert asked == {"our_one": (300, 21), "our_two": (900, None), "theirs": (400, None)}


class Plugin:
    """In the place of the executor plugin: answers in turn; None is a question that failed."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def query_job_status(self, command, logger):
        answer = self.answers.pop(0)
        return (None, None) if answer is None else (answer, 0.5)


def test_a_silent_slurm_is_asked_again_and_told_of_once(monkeypatch):
    said = []
    monkeypatch.setattr(batches.logger, "warning", said.append)
    known = {"7": "RUNNING"}
    plugin = Plugin(known, None, None, None, known, None)
    monkeypatch.setitem(sys.modules, "snakemake_executor_plugin_slurm", plugin)
    for _ in range(2):
        batches.ask_slurm_again()

    def ask():
        return asyncio.run(plugin.query_job_status("squeue --me", None))

    assert ask() == (known, 0.5)
    assert said == []
    assert [ask() for _ in range(3)] == [({}, 0.0)] * 3
    assert len(said) == 1
    assert "`squeue --me` failed" in said[0]
    assert ask() == (known, 0.5)
    assert ask() == ({}, 0.0)
    assert len(said) == 2


def test_a_plugin_of_another_version_is_refused_where_it_is_used(theirs, monkeypatch):
    monkeypatch.setitem(sys.modules, "snakemake_executor_plugin_slurm", object())
    theirs("kubernetes")
    with pytest.raises(WorkflowError, match="is not of version"):
        theirs("slurm")
