"""The SLURM profile on a real SLURM of one node: same bytes, GPUs in turn, failures told.

Not part of `make test`: it installs packages and needs root. `make test-slurm` runs it.
"""

import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from slurm import node

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow/profiles/slurm"
SMALL = Path(__file__).parent / "Snakefile"
BIN = Path(sys.executable).parent

# What a user would edit for this cluster, and shorter waits.
EDITS = ["--default-resources", "slurm_partition=debug", "mem_mb=500", "runtime=10"]
EDITS += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
EDITS += ["--latency-wait", "5", "--config", "device=cpu"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def snakemake(folder, *args, snakefile):
    """Runs Snakemake as from a shell in which no environment is activated."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    paths = environment["PATH"].split(os.pathsep)
    environment["PATH"] = os.pathsep.join(path for path in paths if Path(path) != BIN)
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", folder]
    done = subprocess.run(
        [str(part) for part in (*command, *args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=1800,
        check=False,
    )
    return done.returncode, done.stdout


def through_slurm(folder, *args, snakefile=SMALL):
    folder.mkdir()
    return snakemake(folder, *args, "--workflow-profile", PROFILE, *EDITS, snakefile=snakefile)


@pytest.fixture(scope="module", autouse=True)
def slurm():
    try:
        with node.running() as folder:
            yield folder
    except node.NodeError as error:
        pytest.fail(str(error), pytrace=False)


def artefacts(folder):
    """Bytes of all results, by path: not logs and benchmarks, which hold times; nor the stage
    times on the report page, which are made from the benchmarks."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or {"logs", "benchmarks"} & set(name.parts):
            continue
        content = path.read_bytes()
        if path.name == "index.html":
            content, n = re.subn(rb"(?s)<th>job seconds.*?</table>", b"", content)
            assert n == 1, "the page has changed: where are its stage times?"
        found[str(name)] = content
    return found


def test_slurm_and_a_local_run_give_the_same_bytes(tmp_path):
    smoke = ["--configfile", ROOT / "config/smoke.yaml"]
    code, told = snakemake(
        tmp_path / "local",
        "--cores",
        "2",
        *smoke,
        "--config",
        "device=cpu",
        snakefile=ROOT / "Snakefile",
    )
    assert code == 0, told[-5000:]
    code, told = through_slurm(tmp_path / "slurm", *smoke, snakefile=ROOT / "Snakefile")
    assert code == 0, told[-5000:]
    n_jobs = len(re.findall("has been submitted with SLURM jobid", told))
    assert n_jobs == len(list((tmp_path / "slurm/results").rglob("benchmarks/**/*.tsv"))) > 40
    expected, found = artefacts(tmp_path / "local"), artefacts(tmp_path / "slurm")
    assert list(found) == list(expected)
    assert "results/reports/smoke/index.html" in found
    assert [name for name in expected if found[name] != expected[name]] == []


def jobs(folder, kind):
    """(start, end, CUDA_VISIBLE_DEVICES) of two jobs, by start."""
    found = []
    for n in (1, 2):
        job, devices = (folder / f"{kind}{n}.txt").read_text().split()
        shown = node.ask("scontrol", "--oneliner", "show", "job", job)
        times = [re.search(rf" {name}=(\S+)", shown)[1] for name in ("StartTime", "EndTime")]
        found.append((*map(datetime.fromisoformat, times), devices))
    return sorted(found)


@pytest.mark.parametrize(
    "edits", [[], ["--set-resources", "gpu:gpu=0", "gpu:gres=gpu:1"]], ids=["gpus", "gres"]
)
def test_jobs_with_a_gpu_see_it_and_take_turns(tmp_path, edits):
    code, told = through_slurm(tmp_path / "gpu", "gpu1.txt", "gpu2.txt", *edits)
    assert code == 0, told[-5000:]
    first, second = jobs(tmp_path / "gpu", "gpu")
    assert (first[2], second[2]) == ("0", "0")
    assert first[1] <= second[0]


def test_jobs_without_a_gpu_run_side_by_side_and_see_none(tmp_path):
    code, told = through_slurm(tmp_path / "cpu", "cpu1.txt", "cpu2.txt")
    assert code == 0, told[-5000:]
    first, second = jobs(tmp_path / "cpu", "cpu")
    assert (first[2], second[2]) == ("none", "none")
    assert first[1] > second[0]


def test_a_failure_is_told_and_a_job_out_of_time_goes_on(tmp_path):
    folder = tmp_path / "failures"
    targets = ["fails.txt", "long.txt", "cpu1.txt", "cpu2.txt"]
    code, told = through_slurm(folder, *targets, "--restart-times", "1")
    assert code != 0
    assert re.search(r"SLURM status is: 'FAILED'", told)
    assert "the reason it gave" in told
    assert not (folder / "fails.txt").exists()
    assert (folder / "attempts").read_text() == "attempt\n" * 2
    # The rest is made all the same, and retrying keeps the state beside an output.
    assert (folder / "cpu1.txt").exists()
    assert re.search(r"SLURM status is: 'TIMEOUT'", told)
    assert (folder / "long.txt").read_text() == "whole\n"
