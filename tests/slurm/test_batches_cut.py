"""Batches over results of another configuration: nothing of these is taken for new. Needs no SLURM, but its executor."""

import base64
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slurm

SNAKEFILE = """
from crossseed import batches, environment

batches.in_one_job()

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
REFUSES = "#!/bin/sh\necho QOSMaxSubmitJobPerUserLimit >&2\nexit 1\n"
TAKES = "#!/bin/sh\necho 7\n"


@pytest.fixture
def run(tmp_path):
    """Starts Snakemake in a folder, with a program in the place of `sbatch`."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "bin").mkdir()

    def start(value, *more, sbatch=None):
        environment = dict(os.environ)
        if sbatch:
            silent = dict.fromkeys(("scancel", "squeue"), "#!/bin/sh\n")
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


def test_cells_of_a_batch_that_was_cut_short_are_made_again(run, tmp_path):
    child = run(1, *BATCHED, "--slurm-status-command", "squeue", sbatch=TAKES)
    marks = tmp_path / ".snakemake/incomplete"
    while len(list(marks.glob("*"))) < 5:
        assert child.poll() is None
        time.sleep(0.1)
    # What the step does: two cells are whole, and have no mark any more.
    (tmp_path / "cells").mkdir(exist_ok=True)
    for n in (0, 1):
        (tmp_path / f"cells/{n}.txt").write_text("1\n")
        (marks / base64.b64encode(f"cells/{n}.txt".encode()).decode()).unlink()
    child.send_signal(signal.SIGINT)
    ended(child)
    code, said = ended(run(2, "--cores", "2", "--rerun-incomplete"))
    assert code == 0, said
    assert set(cells(tmp_path).values()) == {"2"}
