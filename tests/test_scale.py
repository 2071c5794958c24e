"""Planning takes as much a cell in a large run as in a small one: counted, since clocks vary."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT

from crossseed import once
from crossseed.config.load import load_files

GRID = "pythia-70m"
# Each twice the one before.
CHECKPOINTS = (2, 4, 8)
# A cell more may cost this much more in the larger run: counts are exact.
GROWTH = 1.01


def grid(folder, n):
    """A corner of the nine-seed grid at some checkpoints, with every study of pairs and members."""
    config = yaml.safe_load((ROOT / f"config/{GRID}.yaml").read_text())
    cohort = config["cohorts"][GRID]
    cohort["seeds"] = [1, 2, 3]
    cohort["sites"] = cohort["sites"][:2]
    cohort["checkpoints"] = [f"step{1000 * (k + 1)}" for k in range(n - 1)] + ["step143000"]
    for variant in config["dictionaries"].values():
        variant["expansions"] = [8]
    path = folder / f"{n}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def growth(folder, remember):
    """By kind of work, what a cell more takes in the larger run beside the smaller; and the jobs."""
    configs = [grid(folder, n) for n in CHECKPOINTS]
    command = [sys.executable, Path(__file__).parent / "counted.py", remember, folder, *configs]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr[-3000:]
    small, middle, large = (json.loads(line) for line in found.stdout.splitlines())
    jobs = [run["jobs"] for run in (small, middle, large)]
    assert jobs[0] > 50
    assert jobs[2] - jobs[1] == 2 * (jobs[1] - jobs[0])
    return {
        kind: (large[kind] - middle[kind]) / (2 * (middle[kind] - small[kind]))
        for kind in ("calls", "stats")
    }


@pytest.mark.slow
def test_planning_takes_as_much_a_cell_in_a_large_run(tmp_path):
    found = growth(tmp_path, remember=1)
    assert found["calls"] < GROWTH
    assert found["stats"] < GROWTH


@pytest.mark.slow
def test_a_plan_that_looks_through_all_cells_for_each_is_noticed(tmp_path):
    assert growth(tmp_path, remember=0)["calls"] > GROWTH


def test_what_is_kept_of_a_run_is_not_that_of_another():
    asked = []

    @once.once_a_run
    def name(run, more=""):
        asked.append(run.run)
        return run.run + more

    runs = [load_files(ROOT / f"config/{stem}.yaml") for stem in ("smoke", "toy-full")]
    for _ in range(2):
        assert [name(run) for run in runs] == ["smoke", "toy-full"]
        assert name(runs[0], more="!") == "smoke!"
    assert asked == ["smoke", "toy-full", "smoke"]
    # A copy may hold other values.
    assert name(runs[0].model_copy(update={"run": "other"})) == "other"
