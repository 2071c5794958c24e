"""The workflow on text classifiers: the smoke run end to end, nothing twice, exactly what a change touches."""

import csv
from collections import Counter

import pytest
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
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke-classifier")
    config = ROOT / patterns.SMOKE_CLASSIFIER
    found = snakemake(folder, "--cores", N_WORKERS, "--resources", "gpu=1", config=config)
    assert found.returncode == 0, found.stderr[-5000:]
    return folder


def test_the_report_reads_well_in_a_browser(smoke):
    assert_reads_well(smoke)


def test_the_run_makes_its_report(smoke):
    report = smoke / "results/reports/smoke-classifier"
    assert "smoke-bert" in (report / "index.html").read_text()
    with open(report / "tables/quality.csv", newline="") as handle:
        measures = {row["measure"] for row in csv.DictReader(handle)}
    floors = {"accuracy_majority", "accuracy_bag_of_words", "bag_of_words_loss_nats"}
    assert {"accuracy", "accuracy_low", "accuracy_high", "loss_nats", *floors} <= measures
    assert not list(smoke.rglob("*.tmp"))
    assert not list(smoke.rglob("*.resume"))


def rows_of(smoke, table):
    path = smoke / f"results/reports/smoke-classifier/tables/{table}.csv"
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_condition_is_measured_beside_its_null(smoke):
    rows = rows_of(smoke, "joint_conditions")
    found = {(row["condition"], row["lambda_cross"]) for row in rows}
    assert {name for name, _ in found} == {
        "1", "2", "3", "3'", "4", "5", "6", "mutual", "universal", "ridge",
    }  # fmt: skip
    assert {weight for name, weight in found if name == "6"} == {"1.0", "0.5"}
    needed = {"universal_share", "top5_r", "dead_share", "l0", "fvu", "kl", "accuracy_change"}
    for name, weight in found:
        own = [r for r in rows if (r["condition"], r["lambda_cross"]) == (name, weight)]
        assert needed <= {row["measure"] for row in own}
        in_sample = {row["matched_on"] for row in own} - {""}
        assert in_sample == ({"fit", "eval"} if name in ("2", "3", "mutual") else {"index"})
        assert all(row["null"] for row in own if row["measure"] == "mean_r" and row["value"])
    # Independent SAEs against themselves.
    first = [r for r in rows if r["condition"] == "1"]
    change = [r for r in first if r["measure"] == "accuracy_change_from_independent"]
    assert [float(r["value"]) for r in change] == [0.0]


def test_the_map_is_held_against_others_and_edits_against_neutral_ones(smoke):
    nulls = rows_of(smoke, "joint_nulls")
    counts = Counter(row["null"] for row in nulls if row["measure"] == "universal")
    assert counts == {
        "identity": 2, "true": 2, "mismatched": 1, "partial": 1, "top": 2, "random": 2,
    }  # fmt: skip
    tests = rows_of(smoke, "joint_tests")
    for row in tests:
        least = (1 + int(row["as_good"])) / (1 + int(row["draws"]))
        assert float(row["p"]) == least >= float(row["p_least"])
    assert {row["draws"] for row in tests if row["how"] == "post_hoc"} == {"99"}
    fits = {(r["map"], r["centered"]): float(r["nre"]) for r in rows_of(smoke, "joint_fits")}
    # Two models from one base are closer than chance, and the fitted rotation closer still.
    assert fits["true", "0"] < fits["identity", "0"] < fits["random", "0"]
    edits = rows_of(smoke, "joint_counterfactuals")
    assert {row["model"] for row in edits} == {"A", "B"}
    assert all(int(row["items"]) >= 20 for row in edits)
    assert all(float(row["p_holm"]) >= float(row["p"]) for row in edits)


def test_every_metric_is_on_its_page(smoke):
    assert_metrics_are_defined(smoke)


def test_every_file_is_as_it_was_written(smoke):
    assert_as_written(smoke, ROOT / patterns.SMOKE_CLASSIFIER)


def test_a_second_run_does_nothing(smoke):
    assert_nothing_to_do(smoke, ROOT / patterns.SMOKE_CLASSIFIER)


def test_processes_of_their_own_give_equal_bytes(smoke, tmp_path):
    """Of the jobs that open a model; the others know nothing of its kind."""
    assert_jobs_alone_give_the_same(smoke, tmp_path / "copy", lambda command: '"kind"' in command)


def test_exactly_what_a_change_touches_runs_again(smoke, tmp_path):
    assert_exact_reruns(smoke, patterns.SMOKE_CLASSIFIER, tmp_path)
