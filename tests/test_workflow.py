"""The workflow on the toy: the smoke run end to end, nothing twice, exactly what a change touches."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import rerun
import yaml
from reruns import patterns
from workflow_runs import (
    N_WORKERS,
    ROOT,
    assert_as_written,
    assert_exact_reruns,
    assert_jobs_alone_give_the_same,
    assert_metrics_are_defined,
    assert_nothing_to_do,
    assert_reads_well,
    snakemake,
)

from crossseed import cli
from crossseed.alignment import ladder
from crossseed.sae import formats

SMOKE = yaml.safe_load((ROOT / patterns.SMOKE).read_text())
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    found = snakemake(folder, "--cores", "8", "--resources", "gpu=1")
    assert found.returncode == 0, found.stderr[-5000:]
    return folder


def test_the_smoke_run_makes_its_report(smoke):
    report = smoke / "results/reports/smoke"
    page = (report / "index.html").read_text()
    # Readable offline; figures and packed tables may have any letters.
    assert "http" not in re.sub(r"[A-Za-z0-9+/=]{100,}", "", page)
    made = ("quality", "training", "dictionaries", "fits", "directions", "transfer", "evidence")
    made += ("splice", "decoder_cosine", "haar", "ks", "phases", "power", "drift")
    made += ("ports", "steering", "features", "attribution", "attribution_cells")
    for name in (*made, "weights", "joint", "causes", "bars", "lenses"):
        assert (report / f"tables/{name}.csv").stat().st_size > 0
        assert f"tables/{name}.csv" in page
    figures = {path.name for path in (report / "figures").iterdir()}
    for stem in (
        "ev-relu-l1-x2",
        "firing-topk-x2",
        "decoder-cosine",
        "steering-doses",
        "steering-regimes",
        "features",
        "attribution",
        "attribution-cost",
        "weights",
        "weights-joint",
        "bars",
        "edges",
        "drift-checkpoint",
        "drift-seed",
        "training",
    ):
        assert {f"{stem}.svg", f"{stem}.png"} <= figures
    assert not list(smoke.rglob("*.tmp"))
    assert not list(smoke.rglob("*.resume"))


def test_the_report_reads_well_in_a_browser(smoke):
    assert_reads_well(smoke)


def test_steering_has_every_arm_side_by_side(smoke):
    with open(smoke / "results/reports/smoke/tables/steering.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    slopes = [row for row in rows if row["metric"] == "slope"]
    # Of two seeds no other pair could lend its rotation.
    arms = {"native", "mapped", "raw", "shuffled", "random", "shaped"}
    for cohort in SMOKE["cohorts"]:
        for concept in SMOKE["steering"]["concepts"]:
            of = [r for r in slopes if (r["cohort"], r["concept"]) == (cohort, concept)]
            assert {row["arm"] for row in of} == arms
            assert all(row["low"] and row["high"] for row in of)
    page = (smoke / "results/reports/smoke/index.html").read_text()
    for words in ("another seed's, rotated", "another seed's, raw", "native", "random directions"):
        assert words.replace("'", "&#39;") in page


def test_bars_have_every_candidate_by_both_protocols(smoke):
    with open(smoke / "results/reports/smoke/tables/bars.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    candidates = {"itself", "sibling", "averaged", "swapped", "split", "taught", "program"}
    for cohort in SMOKE["cohorts"]:
        of = [row for row in rows if row["cohort"] == cohort]
        assert {row["candidate"] for row in of} == candidates
        # The program has no components in common with the model.
        for candidate in candidates - {"program"}:
            judged = {(r["bar"], r["protocol"]) for r in of if r["candidate"] == candidate}
            assert judged == {
                (b, p) for b in ["B", "P", "C", "Pr"] for p in ("published", "rigorous")
            }
    page = (smoke / "results/reports/smoke/index.html").read_text()
    for words in ("best of all symmetries", "the hand-compiled program", "Five lenses"):
        assert words in page


def test_sae_seeds_are_compared_and_their_penalty_calibrated(smoke):
    study = SMOKE["stability"]
    tables = smoke / "results/reports/smoke/tables"
    with open(tables / "stability.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["dictionary"] for row in rows} == {f"{n}-x2" for n in study["dictionaries"]}
    assert {row["site"] for row in rows} == set(study["sites"])
    with open(tables / "calibration.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    # SAEs of the variant that is matched between members are calibrated on each.
    assert {row["seed"] for row in rows if row["cohort"] == "smoke-shared"} == {"0", "1"}
    tried = [row for row in rows if (row["cohort"], row["seed"]) == ("smoke-shared", "0")]
    (chosen,) = (row for row in tried if row["chosen"] == "1")
    # The penalty that was found is the one that the SAEs say they were trained with.
    folders = list(
        smoke.glob("results/smoke-shared/dictionaries/seed0/**/relu-l1-x2-seed*/cfg.json")
    )
    assert len(folders) == study["seeds"]
    for path in folders:
        spec = json.loads(path.read_text())["metadata"]["crossseed"]["spec"]
        assert spec["variant"]["l1"] == float(chosen["penalty"])
    page = (smoke / "results/reports/smoke/index.html").read_text()
    for words in ("<h4>Stability</h4>", "(wanted 20)", "compare SAE seeds"):
        assert words in page


def test_latents_of_sae_seeds_are_explained(smoke):
    study = SMOKE["stability"]["interpret"]
    tables = smoke / "results/reports/smoke/tables"
    with open(tables / "interpret.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["dictionary"] for row in rows} == {f"{n}-x2" for n in study["dictionaries"]}
    assert {row["cohort"] for row in rows} == set(SMOKE["cohorts"])
    assert {row["quantity"] for row in rows} == {"detection", "fuzzing"}
    assert all(row["value"] and row["null"] for row in rows)
    assert (tables / "interpret_steps.csv").exists()
    (found,) = smoke.glob("results/smoke-shared/stability/seed0/**/*-interpret-explanations.jsonl")
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    own = [row for row in rows if (row["cohort"], row["seed"]) == ("smoke-shared", "0")]
    told = {int(row["latent"]) for row in own}
    assert {line["latent"] for line in lines} == told
    assert all(len(line["shown"]) == study["train_examples"] for line in lines)
    assert list(smoke.glob("results/*/stability/**/*-delphi/latents/*/config.json"))
    page = (smoke / "results/reports/smoke/index.html").read_text()
    for words in ("<h4>Interpretability</h4>", "another model and scorer", 'id="interpret"'):
        assert words in page


def test_a_rotation_of_the_same_pair_is_no_mismatched_one(smoke, monkeypatch, capsys):
    """A job of the run by hand, its own moments given for those of another pair."""
    log = next(smoke.glob("results/*/logs/steer/*/final/*.log"))
    command = shlex.split(log.read_text().splitlines()[0])[2:]
    maps = command[command.index("--maps") + 1]
    monkeypatch.chdir(smoke)
    at = command.index("--mismatched") + 1
    assert cli.main([*command[:at], maps, *command[at:]]) == 2
    assert "a mismatched rotation is that of another target" in capsys.readouterr().err


def test_ported_dictionaries_score_what_their_cards_say(smoke):
    """Read again from their folders, on the target's activations."""
    cards = list(smoke.glob("results/*/ports/**/card.csv"))
    assert len(cards) == 4
    for path in cards:
        found = formats.dictionary_of(formats.read(path.parent))
        with open(path, newline="") as handle:
            card = {
                (r["arm"], r["metric"]): float(r["value"] or "nan") for r in csv.DictReader(handle)
            }
        cohort, _, pair, checkpoint, site = path.parts[-7:-2]
        target = pair.split("-")[1]
        activations = smoke / "results" / cohort / "activations" / target / checkpoint
        with h5py.File(activations / f"{site}.h5") as file:
            x = file["eval/activations"][:]
        error = np.square(x - found.decode(found.encode(x))).sum()
        ev = 1 - error / np.square(x - x.mean(axis=0)).sum()
        assert ev == pytest.approx(card["ported", "ev"], abs=1e-4), (cohort, path)


def test_transfer_table_has_every_arm_and_self(smoke):
    with open(smoke / "results/reports/smoke/tables/transfer.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    arms = {row["arm"] for row in rows if row["source_seed"] != row["target_seed"]}
    of_maps = {*ladder.arms_of(SMOKE["transfer"]["directions"])}
    of_maps |= {"untrained", "resampled", "shared"}
    assert arms == {*of_maps, "gaussian"}
    assert {row["arm"] for row in rows if row["source_seed"] == row["target_seed"]} == {"raw"}
    firing = {row["arm"] for row in rows if row["metric"] == "firing_r"}
    assert firing == of_maps
    with open(smoke / "results/reports/smoke/tables/splice.csv", newline="") as handle:
        spliced = {row["arm"] for row in csv.DictReader(handle)}
    assert spliced == {*arms, "own", "clean", "zero", "mean_ablation"}

    def ev(cohort, target):
        return {
            (row["dictionary"], row["init"]): row["value"]
            for row in rows
            if row["cohort"] == cohort
            and row["target_seed"] == target
            and row["site"] == "blocks.0.hook_resid_pre"
            and (row["arm"], row["metric"]) == ("raw", "ev")
        }

    # Embeddings are shared, so at the first site raw activations are the anchor's own.
    assert ev("smoke-shared", "1") == ev("smoke-shared", "0")
    assert ev("smoke-independent", "101") != ev("smoke-independent", "100")


def test_every_metric_is_on_its_page(smoke):
    assert_metrics_are_defined(smoke)


def test_every_file_is_as_it_was_written(smoke):
    assert_as_written(smoke, ROOT / patterns.SMOKE)


def test_tables_of_another_configuration_are_told(smoke, tmp_path):
    """By the command lines in their jobs' logs, where Snakemake's record may be gone."""
    config = {**SMOKE, "transfer": SMOKE["transfer"] | {"resamples": 101}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    command = ["verify", "results", "--configfile", str(tmp_path / "other.yaml")]
    found = subprocess.run(
        [sys.executable, "-m", "crossseed", *command], cwd=smoke, capture_output=True, text=True
    )
    assert found.returncode == 2
    told = re.findall(r"^(\S+): was made with (\S+) = ", found.stdout, re.M)
    assert {key for _, key in told} == {"resamples"}
    kinds = {path.split("/")[2] for path, _ in told}
    assert {"fits", "transfer", "splice"} <= kinds


def test_verify_passes_over_what_a_configuration_does_not_have(smoke, tmp_path):
    """Studies that another configuration leaves out are no problem, and no crash."""
    studies = ("splice", "port", "steering", "features", "attribution", "weights", "bars", "lenses")
    config = {**SMOKE, **dict.fromkeys((*studies, "drift"))}
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(config))
    command = ["verify", "results", "--configfile", str(tmp_path / "less.yaml")]
    found = subprocess.run(
        [sys.executable, "-m", "crossseed", *command], cwd=smoke, capture_output=True, text=True
    )
    assert "Traceback" not in found.stderr, found.stderr[-2000:]
    told = re.findall(r"^results/(\S+): was made with", found.stdout, re.M)
    # What is over all studies is of this one's own.
    assert {path.split("/")[0] for path in told} <= {"reports"}, told[:5]


def test_a_second_run_does_nothing(smoke):
    assert_nothing_to_do(smoke, ROOT / patterns.SMOKE)


def test_every_job_log_opens_with_its_command_line(smoke):
    logs = list(smoke.rglob("*.log"))
    assert len(logs) > 40
    for log in logs:
        if ".snakemake" not in log.parts:
            assert log.read_text().startswith("$ crossseed "), log


def test_every_leaf_has_a_case():
    assert {leaf for leaf in rerun.covered() if leaf[1] not in rerun.TAGS} == {
        leaf for leaf in rerun.leaves() if leaf[1] not in rerun.TAGS
    }


def test_exactly_what_a_change_touches_runs_again(smoke, tmp_path):
    assert_exact_reruns(smoke, patterns.SMOKE, tmp_path)


def test_the_docs_show_the_rerun_table():
    text = (ROOT / "docs/reruns.md").read_text()
    between = text.split("<!-- rerun table: python tests/rerun.py -->\n")[1].split("<!--")[0]
    assert between == rerun.table(), "run: python tests/rerun.py, and put its table there"


KINDS = ("*.csv", "*.h5", "*.safetensors", "cfg.json", "figures/*.svg")


def same_bytes(folder, others):
    paths = sorted(path for kind in KINDS for path in folder.rglob(kind))
    assert paths
    for path in paths:
        assert path.read_bytes() == (others / path.relative_to(folder)).read_bytes(), path


def test_a_second_run_by_one_core_gives_equal_bytes(smoke, tmp_path):
    """All of it, by one core where the smoke run had eight, in another place and under another hash seed."""
    found = snakemake(tmp_path, "--cores", "1", "--resources", "gpu=1", hash_seed="7")
    assert found.returncode == 0, found.stderr[-5000:]
    same_bytes(smoke / "results", tmp_path / "results")


def test_processes_of_their_own_give_equal_bytes(smoke, tmp_path):
    found = assert_jobs_alone_give_the_same(smoke, tmp_path / "copy")
    assert found >= {
        "tokens", "train", "extract", "sae", "calibrate", "align", "fits", "shared", "transfer", "splice", "cosine",
        "shared_transfer", "port", "steer", "features", "attribute", "stability", "bridge", "interpret", "weights",
        "causes", "bars", "lenses", "null", "power", "haar", "across", "ks", "published", "drift",
    }  # fmt: skip


def test_the_report_is_equal_bytes_when_made_again(smoke, tmp_path):
    shutil.copytree(smoke, tmp_path / "copy")
    report = tmp_path / "copy/results/reports/smoke"
    shutil.rmtree(report)
    found = snakemake(tmp_path / "copy", "--cores", N_WORKERS, hash_seed="7")
    assert found.returncode == 0, found.stderr[-5000:]
    same_bytes(smoke / "results/reports/smoke", report)


def test_bad_config_is_told_before_any_job(smoke, tmp_path):
    config = {**SMOKE, "transfer": SMOKE["transfer"] | {"resamples": 1}}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    found = snakemake(tmp_path, "--cores", "1", config=tmp_path / "bad.yaml")
    assert found.returncode != 0
    assert "bad.yaml: transfer.resamples = 1" in found.stderr + found.stdout
    assert not (tmp_path / "results").exists()


def test_a_damaged_artefact_fails_by_name_and_is_made_again(smoke, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(smoke, folder)
    maps = folder / "results/smoke-shared/maps/seed0-seed1/final/blocks.1.hook_resid_mid.h5"
    data = bytearray(maps.read_bytes())
    data[len(data) // 2 :] = b""
    maps.write_bytes(bytes(data))
    out = "results/smoke-shared/decoder_cosine/seed0-seed1/final/blocks.1.hook_resid_mid.csv"
    found = snakemake(folder, out, "--cores", "1", "--forcerun", "cosine")
    assert found.returncode != 0
    log = (folder / "results/smoke-shared/logs/cosine/seed0-seed1/final").glob("*mid.log")
    assert "blocks.1.hook_resid_mid.h5: is truncated" in next(log).read_text()
    maps.unlink()
    found = snakemake(folder, out, "--cores", "1")
    assert found.returncode == 0, found.stderr[-3000:]
