"""The workflow on language models: the smoke run end to end, and the Pythia grid on local folders."""

import csv

import changes
import language_models
import pytest
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

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke_lm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke-lm")
    language_models.write_inputs(folder)
    config = ROOT / patterns.SMOKE_LM
    found = snakemake(folder, "--cores", N_WORKERS, "--resources", "gpu=1", config=config)
    assert found.returncode == 0, found.stderr[-5000:]
    return folder


def test_the_report_reads_well_in_a_browser(smoke_lm):
    assert_reads_well(smoke_lm)


def test_the_language_model_run_makes_its_report(smoke_lm):
    report = smoke_lm / "results/reports/smoke-lm"
    page = (report / "index.html").read_text()
    for cohort in ("smoke-neox", "smoke-hub"):
        assert cohort in page
    with open(report / "tables/drift.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["cohort"], row["checkpoint"]) for row in rows} == {
        (cohort, name) for cohort in ("smoke-neox", "smoke-hub") for name in ("step0", "final")
    }
    with open(report / "tables/quality.csv", newline="") as handle:
        measures = {row["measure"] for row in csv.DictReader(handle)}
    assert {"loss_nats", "unigram_loss_nats", "bigram_loss_nats"} <= measures
    with open(report / "tables/absorption.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["cohort"] for row in rows} == {"smoke-neox", "smoke-hub"}
    assert {row["init"] for row in rows} == {"", "seed1", "seed2", "random"}
    assert "<h4>Absorption</h4>" in page
    assert not list(smoke_lm.rglob("*.tmp"))
    assert not list(smoke_lm.rglob("*.resume"))


def test_every_metric_is_on_its_page(smoke_lm):
    assert_metrics_are_defined(smoke_lm)


def test_every_file_is_as_it_was_written(smoke_lm):
    assert_as_written(smoke_lm, ROOT / patterns.SMOKE_LM)


def test_a_second_run_does_nothing(smoke_lm):
    assert_nothing_to_do(smoke_lm, ROOT / patterns.SMOKE_LM)


def test_processes_of_their_own_give_equal_bytes(smoke_lm, tmp_path):
    """Of the jobs that open a model; the others know nothing of its kind."""
    assert_jobs_alone_give_the_same(
        smoke_lm, tmp_path / "copy", lambda command: '"kind"' in command
    )


def test_exactly_what_a_change_touches_runs_again(smoke_lm, tmp_path):
    assert_exact_reruns(smoke_lm, patterns.SMOKE_LM, tmp_path)


def test_the_pythia_grid_runs_on_local_folders(tmp_path):
    """config/pythia-70m.yaml on models of its names, width and depth, with less of everything: the
    first, a middle and the last of its sites."""
    config = changes.read(ROOT / "config/pythia-70m.yaml")
    cohort = config["cohorts"]["pythia-70m"]
    cohort["seeds"] = [1, 2]
    cohort["sites"] = cohort["sites"][::3]
    config["keep_activations"] = False
    tokenizer = language_models.train_tokenizer(
        language_models.write_corpus(tmp_path / "corpus", documents=200, words=400)
    )
    language_models.write_models(
        tmp_path / "hub",
        [
            cohort["model"]["id"].format(seed=seed, checkpoint=checkpoint)
            for seed in (1, 2)
            for checkpoint in ("step143000", "step0")
        ],
        tokenizer,
        width=cohort["model"]["width"],
        layers=cohort["model"]["layers"],
        heads=8,
    )
    cohort["model"]["folder"] = "hub"
    cohort["corpus"] = {"source": "folder", "path": "corpus", "text_field": "text"}
    cohort["corpus"]["min_characters"] = 200
    cohort["tokens"] |= {"fit": 8, "train": 8, "eval": 8}
    config["dictionaries"] = {"topk": config["dictionaries"]["topk"]}
    config["dictionaries"]["topk"] |= {"expansions": [1], "steps": 3, "batch_tokens": 512}
    config["dictionaries"]["topk"] |= {"warmup_steps": 1, "decay_steps": 1, "aux_k": 64}
    config["transfer"]["resamples"] = 100
    config["splice"]["sequences"] = 2
    # Draws at this width take minutes; `make bench` makes them.
    config["haar"] = None
    # What models of this width take minutes for is run on smaller ones.
    config |= {"steering": None, "features": None, "attribution": None}
    config["port"]["sequences"] = 2
    config["claims"]["dictionary"] = "topk-x1"
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(config))
    found = snakemake(tmp_path, "--cores", N_WORKERS, config=tmp_path / "grid.yaml")
    assert found.returncode == 0, found.stderr[-5000:]
    with open(tmp_path / "results/reports/pythia-70m/tables/transfer.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["site"] for row in rows} == set(cohort["sites"])
    assert {row["arm"] for row in rows} >= {"raw", "procrustes", "resampled", "untrained"}
    # Their last readers are done.
    assert not list((tmp_path / "results/pythia-70m/activations").rglob("*.h5"))
    again = snakemake(tmp_path, "--cores", "1", config=tmp_path / "grid.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr
