"""What runs take on cores: by hand on the smallest, and the page kept in step."""

import math
from pathlib import Path

import pytest
import yaml

from crossseed import cli, costs, estimate, plan
from crossseed.config.load import load_files, load_run
from crossseed.estimate import rates

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/beyond-one-cluster.md"
COUNTED = [*sorted((ROOT / "config").glob("*.yaml")), *sorted((ROOT / "docs").rglob("*.yaml"))]


def test_the_page_is_what_make_docs_writes():
    assert costs.put(PAGE, map(load_files, COUNTED)) == PAGE.read_text(), "run: make docs"


def test_every_shipped_run_and_a_pair_of_10b_are_on_the_page():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for path in COUNTED:
        assert any(row.startswith(f"| {load_files(path).run} |") for row in rows), path
    (pair,) = (ROOT / "docs/hypothetical").glob("*.yaml")
    run = load_files(pair)
    (config,) = run.cohorts.values()
    assert config.width == 5120
    assert sum(config.most_tokens(split) for split in ("fit", "train", "eval")) > 100e6
    assert len(config.sites) > 2


def test_cpu_seconds_are_starts_held_gpus_and_units():
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    # Without cells that compute on a core alone, only starts, and cores that wait for a GPU.
    config |= dict.fromkeys(["transfer", "splice", "haar", "port", "steering", "features"])
    config |= {"stability": None, "claims": None, "drift": None}
    del config["dictionaries"]["jump"]
    run = load_run(config)
    stages = estimate.stages(run)
    held = sum(stage.gpu_seconds for stage in stages)
    starts = sum(stage.jobs for stage in stages if not stage.gpu_seconds) * costs.START_SECONDS
    assert held > 0
    assert costs.cpu_seconds(run) == pytest.approx(held + starts)
    whole = load_files(ROOT / "config/smoke.yaml")
    (width,) = plan.widths(whole)
    more = costs.cpu_seconds(whole) - sum(
        stage.gpu_seconds or stage.jobs * costs.START_SECONDS for stage in estimate.stages(whole)
    )
    pairs, journeys, places = 4, 2, 4
    assert (len(plan.crossed(whole)), len(plan.places(whole))) == (pairs, places)
    # At the width of the toys every unit but sums and trials is what its calls take.
    assert width == 64
    at_least = pairs * (3.8 + 0.905 + 1.255) + 2 * journeys * 3.9625 + places * 2.17 + 4.5
    assert at_least < more < 1.2 * at_least


def test_units_grow_as_they_say():
    of = {
        width: load_files(ROOT / f"config/{name}.yaml")
        for width, name in ((64, "smoke"), (512, "pythia-70m"))
    }
    small, large = (next(iter(of[width].cohorts.values())) for width in (64, 512))
    wide = next(iter(load_files(ROOT / "docs/hypothetical/pair-10b.yaml").cohorts.values()))
    assert wide.width == 5120
    measured = {(unit.stage, unit.width): unit.seconds for unit in costs.UNITS}
    # The tests of a pair take less than their calls at either width; at ten times 512 they take a thousand times.
    assert measured["haar", 512] < measured["haar", 64]
    for config in (small, large):
        assert costs._seconds("haar", config) == pytest.approx(measured["haar", 64])
    for stage in ("haar", "null", "cocycle"):
        assert costs._seconds(stage, wide) == pytest.approx(measured[stage, 512] * 10**3)
    assert math.isclose(costs._seconds("fits", large), 3.8)
    assert costs._seconds("fits", wide) == pytest.approx(rates.FIT_SECONDS * 5**3)


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("No marks.\n")
    assert cli.main(["plan", str(COUNTED[0]), "--costs", str(page)]) == 2
    assert "has no lines" in capsys.readouterr().err
    assert page.read_text() == "No marks.\n"
