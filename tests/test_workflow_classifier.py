"""The workflow on text classifiers: the smoke run end to end, nothing twice, exactly what a change touches."""

import csv

import pytest
import rerun
from workflow_runs import N_WORKERS, ROOT, assert_exact_reruns, assert_nothing_to_do, snakemake

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke-classifier")
    config = ROOT / rerun.SMOKE_CLASSIFIER
    found = snakemake(folder, "--cores", N_WORKERS, "--resources", "gpu=1", config=config)
    assert found.returncode == 0, found.stderr[-5000:]
    return folder


def test_the_run_makes_its_report(smoke):
    report = smoke / "results/reports/smoke-classifier"
    assert "smoke-bert" in (report / "index.html").read_text()
    with open(report / "tables/quality.csv", newline="") as handle:
        measures = {row["measure"] for row in csv.DictReader(handle)}
    floors = {"accuracy_majority", "accuracy_bag_of_words", "bag_of_words_loss_nats"}
    assert {"accuracy", "accuracy_low", "accuracy_high", "loss_nats", *floors} <= measures
    assert not list(smoke.rglob("*.tmp"))
    assert not list(smoke.rglob("*.resume"))


def test_a_second_run_does_nothing(smoke):
    assert_nothing_to_do(smoke, ROOT / rerun.SMOKE_CLASSIFIER)


def test_exactly_what_a_change_touches_runs_again(smoke, tmp_path):
    assert_exact_reruns(smoke, rerun.SMOKE_CLASSIFIER, tmp_path)
