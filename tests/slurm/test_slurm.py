"""The SLURM profile on a real SLURM of one node: same bytes, GPUs in turn, failures told.

Not part of `make test`: it installs packages and needs root. `make test-slurm` runs it.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import language_models
import pytest
import yaml
from reruns.patterns import one_cohort
from slurm import node

from crossseed import estimate, layout, plan
from crossseed.config.load import load_files

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"
PROFILED = yaml.safe_load(PROFILE.read_text())
PER_CELL = PROFILED["set-resources"]
SMALL = Path(__file__).parent / "Snakefile"
BIN = Path(sys.executable).parent

# One rule of each kind that asks for a GPU. The jobs compute on the CPU all the same: the node's
# GPU is a pretended one.
GPU_RULES = ["train_smoke_shared", "extract_smoke_shared_0", "sae_topk_x2"]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def slurm():
    try:
        with node.running() as folder:
            yield folder
    except node.NodeError as error:
        pytest.fail(str(error), pytrace=False)


def snakemake(folder, snakefile, *args):
    """Runs Snakemake as from a shell in which no environment is activated."""
    paths = os.environ["PATH"].split(os.pathsep)
    environment = {**os.environ, "PATH": os.pathsep.join(p for p in paths if Path(p) != BIN)}
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


def locally(folder, *args):
    return snakemake(folder, ROOT / "Snakefile", "--config", "device=cpu", "--cores", 2, *args)


def through_slurm(folder, *args, snakefile=ROOT / "Snakefile", rules=None, **edits):
    """Runs Snakemake with the profile, edited for this cluster as its user would."""
    profile = yaml.safe_load(PROFILE.read_text())
    profile["config"]["device"] = "cpu"
    profile["default-resources"].update(slurm_partition="debug", slurm_extra="'--nice=7'")
    profile["set-resources"].update(rules or {})
    profile["slurm-status-command"] = "squeue"
    # Shorter waits, for jobs of seconds.
    profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 5, **edits}
    edited = folder / "profile/config.yaml"
    edited.parent.mkdir(parents=True, exist_ok=True)
    edited.write_text(yaml.safe_dump(profile))
    return snakemake(folder, snakefile, "--workflow-profile", edited.parent, *args)


def shown(folder):
    """What SLURM knows of the jobs submitted from a folder: a dictionary a job."""
    lines = node.ask("scontrol", "--oneliner", "show", "job").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    return [job for job in found if job["WorkDir"] == str(folder)]


def run_small(folder):
    """The folder, exit code and log of a run of the small jobs, of which one cannot succeed."""
    targets = [f"{name}{n}.txt" for name in ("gpu", "gres", "cpu") for n in (1, 2)]
    rules = {"gres": {"gpu": 0, "gres": "gpu:1"}}
    edits = {"snakefile": SMALL, "rules": rules, "restart-times": 1}
    return folder, *through_slurm(folder, *targets, "fails.txt", "long.txt", **edits)


@pytest.fixture(scope="module", autouse=True)
def started(slurm, tmp_path_factory):
    """The small jobs, at once: they are mostly waiting, beside the other tests."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_small, tmp_path_factory.mktemp("small"))


def memories_of_drift(run):
    """Cohort, seed and megabytes of each job of a run's drift study: it loads one to three models."""
    found = []
    for cohort, seed, checkpoint in plan.drifting(run):
        config = run.cohorts[cohort]
        models = {(seed, checkpoint), (seed, run.drift.reference), (config.anchor, checkpoint)}
        found.append((cohort, seed, estimate.memory_mb(config, len(models), comparisons=2)))
    return found


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
            content, n = re.subn(
                rb'(?s)<section aria-labelledby="times">.*?</section>', b"", content
            )
            assert n == 1, "the page has changed: where are its stage times?"
        found[str(name)] = content
    return found


def assert_same_results(folder, other):
    expected, found = artefacts(other), artefacts(folder)
    assert list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def targets(run):
    """Results that need most kinds of job, once or twice: on a node of two cores each takes seconds to start."""
    (cohort,) = run.cohorts
    site, pair = run.cohorts[cohort].sites[0], {"source": 1, "target": 0, "checkpoint": "final"}
    cell = {"cohort": cohort, "site": site, **pair}
    drift = [layout.DRIFT_SEED.format(cohort=cohort, seed=seed) for seed in (0, 1)]
    return [*drift, layout.FITS.format(**cell), layout.TRANSFER.format(**cell)]


def test_a_run_gives_the_same_bytes_as_a_local_run_in_fewer_jobs_than_cells(tmp_path):
    given = one_cohort()
    del given["cohorts"]["smoke-shared"]["sites"][0]
    config = tmp_path / "smoke.yaml"
    config.write_text(yaml.safe_dump(given))
    run = load_files(config)
    smoke = [*targets(run), "--configfile", config]
    code, told = locally(tmp_path / "local", *smoke)
    assert code == 0, told[-5000:]
    folder = tmp_path / "slurm"
    code, told = through_slurm(folder, *smoke, rules={name: {"gpu": 1} for name in GPU_RULES})
    assert code == 0, told[-5000:]

    assert_same_results(folder, tmp_path / "local")
    jobs = shown(folder)
    cells = list((folder / "results").rglob("benchmarks/**/*.tsv"))
    cells_of_drift = memories_of_drift(run)
    seeds = {(cohort, seed) for cohort, seed, _ in cells_of_drift}
    assert len(jobs) == len(cells) - len(cells_of_drift) + len(seeds)
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    # Memory and time are the rules' own; the partition and further options the profile's.
    assert {(job["Partition"], job["Nice"]) for job in jobs} == {("debug", "7")}
    asked = {job["Comment"].split("_wildcards")[0] for job in jobs if "TresPerJob" in job}
    assert asked == {f"rule_{name}" for name in GPU_RULES}
    assert {job["TresPerJob"] for job in jobs if "TresPerJob" in job} == {"gres:gpu:1"}
    # A batch of each seed: the sum of its cells' minutes, the largest of their memories.
    drift = [job for job in jobs if job["Comment"].startswith("rule_drift-")]
    assert len(drift) == len(seeds)
    wanted = set()
    for of in seeds:
        memories = [memory for cohort, seed, memory in cells_of_drift if (cohort, seed) == of]
        minutes = PER_CELL["drift"]["runtime"] * len(memories)
        wanted.add((f"{max(memories)}M", f"{minutes // 60:02}:{minutes % 60:02}:00"))
    assert {(job["MinMemoryNode"], job["TimeLimit"]) for job in drift} == wanted


def test_shipped_runs_are_fewer_jobs_than_cells(tmp_path):
    run = ["--configfile", ROOT / "config/neox-mini.yaml", "--dry-run"]
    code, told = through_slurm(tmp_path, *run)
    assert code == 0, told[-5000:]
    batches = [part.split("\n\n[")[0] for part in told.split("Group job ")[1:]]
    assert len(batches) == 14
    named = [set(re.findall(r"^ +rule (\w+):", part, re.MULTILINE)) for part in batches]
    assert all(len(names) == 1 for names in named)
    assert not {name for names in named for name in names} - set(PROFILED["groups"])


def test_rules_that_compute_on_a_gpu_ask_for_one(tmp_path):
    smoke = ["--configfile", ROOT / "config/smoke.yaml", "--dry-run"]
    code, told = through_slurm(tmp_path, *smoke, config={"device": "cuda"})
    assert code == 0, told[-5000:]
    # Those of a batch are indented.
    blocks = re.split(r"\n *(?:local)?rule ", told)[1:]
    asked = {block.split(":")[0] for block in blocks if re.search(r"\bgpu=1\b", block)}
    assert asked == {
        "train_smoke_shared",
        "train_smoke_independent",
        "extract_smoke_shared_0",
        "extract_smoke_independent_1",
        "sae_relu_l1_x2",
        "sae_topk_x2",
        "sae_relu_l1_x2_seed",
        "sae_topk_x2_seed",
        "sae_jump_x2_seed",
        "calibrate",
        "splice",
        "port",
        "steer",
        "features",
        "attribute",
        "causes",
        "bars",
        "drift",
    }


def test_a_check_of_models_runs_where_snakemake_does_and_its_readers_on_nodes(tmp_path):
    target = "results/smoke-hub/activations/seed2/final/blocks.1.hook_mlp_out.h5"
    run = [target, "--configfile", ROOT / "tests/smoke_lm.yaml"]
    folder = tmp_path / "local"
    tokenizer = language_models.train_tokenizer(language_models.write_corpus(folder / "corpus"))
    names = [f"org/tiny-seed{s}{c}" for s in (1, 2) for c in ("", "@step0", "@step10")]
    language_models.write_models(folder / "hub", names, tokenizer)
    shutil.copytree(folder, tmp_path / "slurm")
    code, told = locally(tmp_path / "local", *run)
    assert code == 0, told[-5000:]
    code, told = through_slurm(tmp_path / "slurm", *run)
    assert code == 0, told[-5000:]

    assert_same_results(tmp_path / "slurm", tmp_path / "local")
    rules = [job["Comment"].split("_wildcards")[0] for job in shown(tmp_path / "slurm")]
    assert sorted(rules) == ["rule_extract_smoke_hub_1", "rule_tokens"]
    assert list((tmp_path / "slurm/results/smoke-hub/benchmarks/check").iterdir())


@pytest.fixture(scope="module")
def small(started):
    return started.result()


def test_jobs_with_a_gpu_see_it_and_take_turns(small):
    folder, _, told = small
    jobs = {job["JobId"]: job for job in shown(folder)}
    times = []
    for name, request in (("gpu", "TresPerJob"), ("gres", "TresPerNode")):
        for n in (1, 2):
            assert (folder / f"{name}{n}.txt").exists(), told[-5000:]
            number, devices = (folder / f"{name}{n}.txt").read_text().split()
            assert devices == "0"
            assert jobs[number][request] == "gres:gpu:1"
            times.append((jobs[number]["StartTime"], jobs[number]["EndTime"]))
    times.sort()
    for (_, end), (start, _) in itertools.pairwise(times):
        assert end <= start


def test_jobs_without_a_gpu_run_side_by_side_and_see_none(small):
    folder, _, told = small
    for n in (1, 2):
        assert (folder / f"cpu{n}.txt").exists(), told[-5000:]
        assert (folder / f"cpu{n}.txt").read_text().split()[1] == "none"


def test_a_failure_is_told_and_a_job_out_of_time_goes_on(small):
    folder, code, told = small
    assert code != 0
    assert re.search(r"SLURM status is: 'FAILED'", told)
    assert "the reason it gave" in told
    assert not (folder / "fails.txt").exists()
    assert (folder / "attempts").read_text() == "attempt\n" * 2
    # Retrying keeps the state beside an output.
    assert re.search(r"SLURM status is: 'TIMEOUT'", told)
    assert (folder / "long.txt").read_text() == "whole\n"
