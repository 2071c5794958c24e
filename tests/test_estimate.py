"""What a run takes: arithmetic by hand on a small run, and headers of configs kept in step."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from crossseed import cli, estimate
from crossseed.config.load import load_files, load_run
from crossseed.estimate import rates
from crossseed.haar import null

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))
NEOX = "smoke-neox"

SEEDS, SITES, WIDTH = 3, 2, 16
# Sequences of 16 positions, of which the first is left out.
ROWS = {"fit": 20 * 15, "train": 40 * 15, "eval": 10 * 15}
ROW_BYTES = {"float32": 4 * WIDTH + 14, "float16": 2 * WIDTH + 14}


@pytest.fixture
def config():
    """One cohort of three trained models, two sites, one variant of SAEs on every member."""
    found = yaml.safe_load((ROOT / "tests/smoke_lm.yaml").read_text())
    cohort = copy.deepcopy(found["cohorts"][NEOX])
    cohort["seeds"] = [0, 1, 2]
    cohort["tokens"] |= {"fit": 20, "train": 40, "eval": 10}
    shape, tokens = cohort["model"], cohort["tokens"]
    assert (shape["width"], shape["layers"], shape["mlp_width"]) == (WIDTH, 2, 32)
    assert (tokens["context"], tokens["keep_first_position"]) == (16, False)
    assert len(cohort["sites"]) == SITES
    smoke = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    variant = copy.deepcopy(smoke["dictionaries"]["relu-l1"])
    assert (variant["expansions"], len(variant["inits"]), variant["members"]) == ([2], 2, "all")
    return {
        "run": "by-hand",
        "cohorts": {NEOX: cohort},
        "dictionaries": {"relu-l1": {**variant, "steps": 40, "batch_tokens": 128}},
        "transfer": {"pairs": "anchor", "resamples": 100, "directions": [1], "untrained": None},
        "splice": None,
        "haar": None,
        "port": None,
        "steering": None,
        "features": None,
        "attribution": None,
        "joint": None,
        "weights": None,
        "stability": None,
        "bars": None,
        "lenses": None,
        "claims": None,
        "drift": {"reference": "final", "checkpoints": ["step10", "final"], "dictionaries": []},
    }


def stages(config):
    return {stage.name: stage for stage in estimate.stages(load_run(config))}


def test_jobs_are_those_counted_by_hand(config):
    found = {name: stage.jobs for name, stage in stages(config).items()}
    assert found == {
        "train": SEEDS,
        "extract": SEEDS,
        "sae": SEEDS * SITES,
        "align": 2 * SITES,
        "fits": 2 * SITES,
        "shared": 2,
        "shared_transfer": 2,
        "transfer": 3 * SITES,
        "cosine": 2 * SITES,
        "drift": SEEDS * 2,
    }


def test_untrained_targets_splicing_and_tests_are_counted_too(config):
    config["transfer"]["untrained"] = "step0"
    config["splice"] = {"sequences": 4}
    config["haar"] = {"draws": 1000, "power_draws": 20}
    found = stages(config)
    # Two targets; the anchor is none.
    assert found["extract"].jobs == SEEDS + 2
    assert found["splice"].jobs == found["haar"].jobs == 2 * SITES
    assert found["across"].jobs == found["cocycle"].jobs == SITES
    assert found["ks"].jobs == 1
    assert found["null"].jobs == 2  # of sizes 16 and 8
    assert found["power"].jobs == 1
    # Clean twice, zero and mean; every arm alone, and with two SAEs as the source's own is.
    arms = estimate.most_arms(config["transfer"]["directions"]) + 1
    ways = 4 + arms + 2 * (arms + 1)
    assert found["splice"].flop == 2 * SITES * ways * ROWS["eval"] * 2 * 12 * WIDTH**2 * 2
    config["cohorts"][NEOX]["checkpoints"] = ["step0", "final"]
    assert stages(config)["extract"].jobs == 2 * SEEDS


def test_interventions_are_counted_by_hand(config):
    config["port"] = {"dictionaries": ["relu-l1"], "map": "procrustes", "sequences": 4}
    config["steering"] = {"concepts": [], "prompts": ["recipient"], "directions": 100}
    config["steering"] |= {"trials": 4, "sequences": 2}
    config["features"] = {"dictionary": "relu-l1-x2", "latents": 2, "sequences": 2}
    config["attribution"] = {"members": "anchor", "right": [2], "midpoint": [], "gauss": [4]}
    config["attribution"] |= {"batches": 2, "sequences": 2}
    found = stages(config)
    # Two targets and two inits.
    assert found["port"].jobs == 2 * SITES * 2
    assert found["steer"].jobs == found["features"].jobs == 2 * SITES
    assert found["attribute"].jobs == 1
    config["attribution"]["members"] = "all"
    assert stages(config)["attribute"].jobs == SEEDS
    assert all(stages(config)[name].flop > 0 for name in ("port", "steer", "features", "attribute"))


def test_null_draws_on_disk_are_as_estimated(tmp_path):
    null.write(tmp_path / "null.h5", null.draw(16, 2000), {"d": 16, "draws": 2000})
    assert (tmp_path / "null.h5").stat().st_size == pytest.approx(2000 * rates.NULL_BYTES, rel=0.1)


@pytest.mark.parametrize("dtype", ROW_BYTES)
def test_activations_on_disk(config, dtype):
    config["cohorts"][NEOX]["activation_dtype"] = dtype
    expected = SEEDS * SITES * sum(ROWS.values()) * ROW_BYTES[dtype]
    assert stages(config)["extract"].disk_bytes == expected


def test_the_estimated_size_of_activations_is_that_of_a_file(write_activations, tmp_path):
    """On a file large enough that its header counts for nothing."""
    rng = np.random.default_rng(0)
    rows = {split: rng.standard_normal((20_000, WIDTH)) for split in ROWS}
    size = write_activations(tmp_path / "a.h5", rows).stat().st_size
    # Tokens of the toy take a byte, of language models two.
    assert size == pytest.approx(60_000 * ROW_BYTES["float32"], rel=0.03)


def test_models_and_saes_on_disk(config):
    found = stages(config)
    matrices = 2 * 320 * WIDTH + 2 * (4 * WIDTH**2 + 2 * WIDTH * 32)
    kept = 3  # step0, step10, final
    assert found["train"].disk_bytes == SEEDS * kept * 4 * matrices
    n = 2 * WIDTH
    weights = WIDTH * n + n + n * WIDTH + WIDTH
    assert found["sae"].disk_bytes == SEEDS * SITES * 2 * 4 * weights


def test_arithmetic_of_training_and_of_the_rest(config):
    found = stages(config)
    matrices = 2 * 320 * WIDTH + 2 * (4 * WIDTH**2 + 2 * WIDTH * 32)
    steps, rows, context = 30, 8, 24
    recipe = config["cohorts"][NEOX]["training"]
    assert (recipe["steps"], recipe["batch_rows"], recipe["context"]) == (steps, rows, context)
    assert found["train"].flop == SEEDS * 6 * matrices * steps * rows * context
    forward = 2 * 12 * WIDTH**2 * 2
    assert found["extract"].flop == SEEDS * sum(ROWS.values()) * forward
    # Two products forward, three backward, 2 FLOP each: encoder and decoder have width × n weights.
    n = 2 * WIDTH
    assert found["sae"].flop == SEEDS * SITES * 2 * 40 * 128 * 10 * WIDTH * n
    # The anchor: 2 models at step10, itself at the end; the two others: 3 and 2.
    assert found["drift"].flop == (2 + 1 + 2 * (3 + 2)) * (ROWS["fit"] + ROWS["eval"]) * forward


def test_gpu_seconds_are_arithmetic_at_the_rate_and_a_start_a_job(config):
    # So many steps of so large a batch that arithmetic, not the least time a step, decides.
    config["cohorts"][NEOX]["training"] |= {"batch_rows": 10**7}
    train = stages(config)["train"]
    start = rates.GPU_START_SECONDS
    assert train.flop / rates.MODEL_RATE > start
    assert train.gpu_seconds == pytest.approx(
        train.flop / rates.MODEL_RATE + SEEDS * start, rel=1e-12
    )
    config["cohorts"][NEOX]["training"] |= {"batch_rows": 1}
    train = stages(config)["train"]
    least = SEEDS * 30 * rates.MODEL_STEP_SECONDS
    assert train.gpu_seconds == pytest.approx(least + SEEDS * start, rel=1e-12)
    assert stages(config)["align"].gpu_seconds == 0


def test_drift_holds_the_gpu_while_maps_are_fitted(config):
    """The time of fits grows with the third power of the width, two a site and job."""
    found = stages(config)["drift"]
    start = rates.GPU_START_SECONDS
    # Three seeds beside their references, two of them at two checkpoints beside the anchor.
    fits = (3 + 4) * SITES * rates.FIT_SECONDS * (WIDTH / 1024) ** 3
    seconds = found.flop / rates.MODEL_RATE + 6 * start + fits
    assert found.gpu_seconds == pytest.approx(seconds, rel=1e-12)


def test_downloads_are_those_of_members_from_the_hub(config):
    assert estimate.downloads(load_run(config)) == 0
    run = load_files(ROOT / "config/pythia-70m.yaml")
    weights = 4 * (12 * 6 * 512**2 + 131_072 * 512)
    # One checkpoint of nine seeds, and the one that counts as untrained.
    drift = {run.drift.reference, *run.drift.checkpoints} if run.drift else set()
    assert (
        estimate.downloads(run) == 9 * len({"step143000", run.transfer.untrained} | drift) * weights
    )


def test_memory_is_that_of_weights_and_sums():
    """A drift job on two models of 12 B parameters, by hand."""
    cohort = load_files(ROOT / "config/pair-12b.yaml").cohorts["mistral-nemo"]
    weights = 2 * (12 * 40 * 5120**2 + 131_072 * 5120)  # bfloat16
    matrix = 8 * 5120**2
    assert cohort.loaded_bytes == weights
    assert 22e9 < weights < 28e9
    block = 2 * rates.BLOCK_TOKENS * 2 * 5120 * 4  # two sites, twice, float32
    alone = estimate.memory_mb(cohort, models=1)
    assert alone == pytest.approx(rates.BASE_MB + (weights + block) / 1e6, abs=1)
    drift = estimate.memory_mb(cohort, models=2, comparisons=2)
    sums = 2 * 2 * rates.DRIFT_MATRICES * matrix
    fit = 3 * rates.DRIFT_MATRICES * matrix
    loaded = 2 * (weights + block)
    assert drift == pytest.approx(rates.BASE_MB + (loaded + sums + fit) / 1e6, abs=1)


def test_published_sizes_of_a_shipped_config():
    """Pythia-70m by hand: 9 seeds, 7 sites of 512, 8,704 sequences of 256, half precision."""
    run = load_files(ROOT / "config/pythia-70m.yaml")
    found = {stage.name: stage for stage in estimate.stages(run)}
    # Of the eight untrained targets, what maps are fitted and measured on.
    sequences = 9 * (256 + 8192 + 256) + 8 * (256 + 256)
    assert found["extract"].disk_bytes == 7 * sequences * 256 * (2 * 512 + 14)
    both = {8: 2 * 512 * 4096 + 4096 + 512, 32: 2 * 512 * 16384 + 16384 + 512}
    assert found["sae"].disk_bytes == 9 * 7 * 3 * 4 * sum(both.values())  # relu-l1 twice, topk once


def sizes(text):
    """Bytes in the order in which a line names them."""
    units = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
    return [float(n) * units[unit] for n, unit in re.findall(r"([\d.]+) (MB|GB|TB)", text)]


def test_temporary_activations_are_no_result(config):
    config["cohorts"][NEOX]["tokens"]["train"] = 10_000
    config["keep_activations"] = True
    (kept,) = sizes(estimate.short(load_run(config)))
    config["keep_activations"] = False
    left, passing = sizes(estimate.short(load_run(config)))
    assert left < kept
    assert left + passing == pytest.approx(kept, abs=0.11e6)
    activations = SEEDS * SITES * (20 + 10_000 + 10) * 15 * ROW_BYTES["float32"]
    assert passing == pytest.approx(activations, abs=0.06e6)


@pytest.mark.parametrize(
    ("n", "said"),
    [(0, "0.0 MB"), (1.26e6, "1.3 MB"), (999e6, "999.0 MB"), (2e9, "2.0 GB"), (3.21e12, "3.2 TB")],
)
def test_sizes_are_said_in_a_unit_that_suits(n, said):
    assert estimate.size(n) == said


# --- the verb and the headers -----------------------------------------------------------


def test_plan_lists_stages_and_with_estimate_what_they_take(config, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    assert cli.main(["plan", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["stage", "jobs"]
    assert [line.split() for line in lines[1:]] == [
        [name, str(stage.jobs)] for name, stage in stages(config).items()
    ]
    assert cli.main(["plan", str(path), "--estimate"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["stage", "jobs", "disk", "FLOP", "GPU-hours"]
    short = [line for line in out.splitlines() if line.startswith("Estimate: ")]
    assert short == [estimate.short(load_run(config))]
    assert not list(tmp_path.glob("results"))


def test_later_files_are_laid_over_earlier_ones(config, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "b.yaml").write_text("drift: null\n")
    assert cli.main(["plan", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]) == 0
    assert "drift" not in capsys.readouterr().out


def test_a_missing_or_wrong_config_is_one_sentence(config, tmp_path, capsys):
    assert cli.main(["plan", str(tmp_path / "none.yaml"), "--estimate"]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.fullmatch(rf"crossseed plan: {tmp_path}/none\.yaml: cannot be read .*\n", said.err)
    config["transfer"]["resamples"] = 1
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["plan", str(tmp_path / "bad.yaml")]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert f"{tmp_path}/bad.yaml: transfer.resamples = 1" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_open_with_their_estimate(path):
    text = path.read_text()
    header = text[: text.index("\nrun:")]
    stated = [line for line in header.splitlines() if line.startswith("# Estimate: ")]
    assert stated == [f"# {estimate.short(load_files(path))}"], "to mend it: make docs"


def test_make_docs_writes_the_estimates(tmp_path):
    """The recipe's loop, on a copy whose header is wrong."""
    recipe = (ROOT / "Makefile").read_text()
    (loop,) = re.findall(r"^\t(set -e; for config (?:.*\\\n)*.*)", recipe, re.M)
    copied = tmp_path / "config" / "smoke.yaml"
    copied.parent.mkdir()
    right = (ROOT / "config/smoke.yaml").read_text()
    wrong = re.sub("^# Estimate: .*", "# Estimate: 9 TB.", right, flags=re.M)
    assert wrong != right
    copied.write_text(wrong)
    command = loop.replace("$$", "$").replace("$(BIN)/crossseed", f"{sys.executable} -m crossseed")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert copied.read_text() == right
