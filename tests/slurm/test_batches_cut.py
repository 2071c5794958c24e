"""Batches over results of another configuration: nothing of these is taken for new. Needs no SLURM, but its executor."""

import base64
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slurm

SNAKEFILE = """
from crossseed import batches, environment

batches.in_one_job(workflow)

onstart:
    environment.mark_what_is_made_again(workflow)

rule all:
    input: "all.txt"

rule cell:
    output: "cells/{n}.txt"
    params: value=config["value"]
    shell: "mkdir -p cells; echo {params.value} > {output}"

rule collect:
    input: expand("cells/{n}.txt", n=range(5))
    output: "all.txt"
    localrule: True
    shell: "cat {input} > {output}"
"""
BATCHED = [
    *("--executor", "slurm", "--jobs", "5", "--groups", "cell=g", "--group-components", "g=25"),
    *("--default-resources", "slurm_account=a", "slurm_partition=p", "mem_mb=100", "runtime=5"),
    *("--retries", "1", "--rerun-incomplete", "--slurm-init-seconds-before-status-checks", "1"),
]
# A SLURM whose job 1 ends with two of the five cells whole, and job 2 with all of the others; that says nothing
# the first two times it is asked.
SUBMITS = """#!/bin/sh
echo job >> submitted
wc -l < submitted
"""
ANSWERS = """#!/bin/sh
echo asked >> questions
test $(wc -l < questions) -gt 2 || exit 1
jobs=$(wc -l < submitted)
cells=$(test $jobs = 1 && echo 0 1 || echo 2 3 4)
if ! test -e ended$jobs; then
    mkdir -p cells; touch ended$jobs
    for n in $cells; do
        echo 1 > cells/$n.txt
        rm .snakemake/incomplete/$(printf cells/$n.txt | base64)
    done
fi
echo "1|FAILED"
test $jobs = 1 || echo "2|COMPLETED"
"""
CANCELS = "#!/bin/sh\necho $@ >> cancelled\n"
SLOW = "#!/bin/sh\necho asked >> questions\nsleep 5\n"
REFUSES = "#!/bin/sh\necho QOSMaxSubmitJobPerUserLimit >&2\nexit 1\n"
TAKES = "#!/bin/sh\necho 7\n"


@pytest.fixture
def run(tmp_path):
    """Starts Snakemake in a folder, with a program in the place of `sbatch`."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "bin").mkdir()

    def start(value, *more, sbatch=None, squeue="#!/bin/sh\n"):
        environment = dict(os.environ)
        if sbatch:
            lasting = "#!/bin/sh\necho MinJobAge = 3600 sec\n"
            silent = {"scancel": CANCELS, "squeue": squeue, "scontrol": lasting}
            known = dict.fromkeys(("sacctmgr", "sshare"), "#!/bin/sh\necho a\n")
            programs = {**silent, **known, "sinfo": "#!/bin/sh\necho p\n", "sbatch": sbatch}
            for name, text in programs.items():
                (tmp_path / "bin" / name).write_text(text)
                (tmp_path / "bin" / name).chmod(0o755)
            environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
        command = [sys.executable, "-m", "snakemake", "--config", f"value={value}", *more]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def ended(child):
    said, _ = child.communicate(timeout=120)
    return child.returncode, said


def cells(folder):
    return {path.name: path.read_text().strip() for path in (folder / "cells").glob("*.txt")}


def test_a_refused_batch_leaves_nothing_that_passes_for_new(run, tmp_path):
    code, said = ended(run(0, "--cores", "2"))
    assert code == 0, said
    code, said = ended(run(1, *BATCHED, sbatch=REFUSES))
    assert code == 1, said
    assert "QOSMax" in said, said
    code, said = ended(run(1, "--cores", "2", "--rerun-incomplete"))
    assert code == 0, said
    assert set(cells(tmp_path).values()) == {"1"}
    assert (tmp_path / "all.txt").read_text() == "1\n" * 5


def cut_short(run, folder, number=signal.SIGINT):
    """Stops a run with value 1 whose batch has made two cells of five."""
    child = run(1, *BATCHED, "--slurm-status-command", "squeue", sbatch=TAKES)
    marks = folder / ".snakemake/incomplete"
    while "SLURM jobid" not in (told := child.stdout.readline()):
        assert told, "no submission"
    # What the step does: two cells are whole, and have no mark any more.
    (folder / "cells").mkdir(exist_ok=True)
    for n in (0, 1):
        mark = marks / base64.b64encode(f"cells/{n}.txt".encode()).decode()
        # It is set again, with the job's number, when SLURM has taken it.
        while '"7"' not in mark.read_text():
            time.sleep(0.1)
        (folder / f"cells/{n}.txt").write_text("1\n")
        mark.unlink()
    child.send_signal(number)
    try:
        child.wait(60)
    except subprocess.TimeoutExpired:
        # Snakemake does not hear a signal that comes while it runs a coroutine to its end.
        child.send_signal(number)
    ended(child)


def test_cells_of_a_batch_that_was_cut_short_are_made_again(run, tmp_path):
    cut_short(run, tmp_path)
    code, said = ended(run(2, "--cores", "2", "--rerun-incomplete"))
    assert code == 0, said
    assert set(cells(tmp_path).values()) == {"2"}


def test_the_same_values_keep_what_was_whole_when_a_batch_was_cut_short(run, tmp_path):
    cut_short(run, tmp_path)
    code, said = ended(run(1, "--cores", "2", "--rerun-incomplete"))
    assert code == 0, said
    assert re.search(r"^cell +3$", said, re.MULTILINE), said
    assert set(cells(tmp_path).values()) == {"1"}


def test_old_values_are_made_again_after_a_batch_that_was_killed(run, tmp_path):
    code, said = ended(run(2, "--cores", "2"))
    assert code == 0, said
    cut_short(run, tmp_path, signal.SIGKILL)
    ended(run(1, "--unlock"))
    code, said = ended(run(2, "--cores", "2", "--rerun-incomplete"))
    assert code == 0, said
    assert set(cells(tmp_path).values()) == {"2"}


def test_whole_cells_of_a_failed_batch_count_and_a_silent_slurm_is_told_of_once(run, tmp_path):
    asking = ("--slurm-status-command", "squeue")
    child = run(1, *BATCHED, *asking, sbatch=SUBMITS, squeue=ANSWERS)
    code, said = ended(child)
    assert code == 0, said
    assert re.findall(r"(\d) of 7 steps", said) == ["2", "5", "6", "7"]
    assert said.count("SLURM does not tell the state of jobs") == 1
    assert said.count("SLURM tells the state of jobs again") == 1


def test_jobs_are_cancelled_while_slurm_is_asked_after_them(run, tmp_path):
    asking = ("--slurm-status-command", "squeue")
    child = run(1, *BATCHED, *asking, sbatch=TAKES, squeue=SLOW)
    while not (tmp_path / "questions").exists():
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = ended(child)
    (name,) = re.findall(r"SLURM run ID: (\S+)", said)
    assert f"--name={name}\n" in (tmp_path / "cancelled").read_text()
