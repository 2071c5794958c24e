"""Planning takes as much a cell in a large run as in a small one: counted, since clocks vary."""

import json
import os
import signal
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


def test_a_run_that_takes_the_place_of_one_that_is_gone_is_asked_anew():
    @once.once_a_run
    def name(run):
        return run.run

    smoke = load_files(ROOT / "config/smoke.yaml")
    places = set()
    for number in range(100):
        run = smoke.model_copy(update={"run": f"run{number}"})
        places.add(id(run))
        assert name(run) == f"run{number}"
        del run
    # Else nothing was put to the test.
    assert len(places) < 100


KILLED = """
import os, signal, sys
from pathlib import Path
from crossseed import plan, specs
from crossseed.config.load import load_files
run = load_files(Path(sys.argv[1]))
for _ in range(2):
    told = [plan.dictionaries(run)[0].name, specs.origin(run, "smoke-shared", 0, "final")]
print(*told, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_kept_of_a_run_goes_when_its_process_is_killed(tmp_path):
    config, home = tmp_path / "run.yaml", tmp_path / "home"
    home.mkdir()
    told = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    places = {key: str(home) for key in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT / "src")}

    def planned(steps):
        told["cohorts"]["smoke-shared"]["training"]["steps"] = steps
        config.write_text(yaml.safe_dump(told))
        words = [sys.executable, "-c", KILLED, str(config)]
        found = subprocess.run(words, capture_output=True, text=True, cwd=home, env=environment)
        assert found.returncode == -signal.SIGKILL, found.stderr[-2000:]
        # What would be read by the next process would have to lie somewhere.
        assert not [path for path in home.rglob("*") if path.is_file()]
        return found.stdout

    first, other = planned(60), planned(61)
    assert first != other
    assert planned(60) == first
