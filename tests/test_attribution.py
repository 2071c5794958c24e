"""Attribution: quadrature that is exact where it should be, and errors that shrink as they must."""

import numpy as np
import pytest
from hub_folders import folder, source
from test_interventions import loud_toy
from test_steering import toy_sets

from crossseed import ablation
from crossseed import attribution as a
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.hub import interventions
from crossseed.metrics import pearson

__all__ = ["folder"]

POINTS = {"right": [1, 4, 32], "midpoint": [4, 16], "gauss": [1, 4, 8]}


def test_nodes_integrate_what_they_should():
    for rule in a.RULES:
        for n in (1, 3, 8):
            t, weights = a.nodes(rule, n)
            assert weights.sum() == pytest.approx(1)
            assert ((t > 0) & (t <= 1)).all()
    # Gauss and Legendre: polynomials up to degree 2n − 1, exactly.
    t, weights = a.nodes("gauss", 4)
    assert weights @ t**7 == pytest.approx(1 / 8, abs=1e-12)
    t, weights = a.nodes("right", 4)
    assert list(t) == [0.25, 0.5, 0.75, 1.0]
    t, weights = a.nodes("midpoint", 4)
    assert weights @ t == pytest.approx(0.5)


@pytest.fixture(scope="module")
def toy_rows():
    rows = a.study(DyckSubject(loud_toy(volume=4)), toy_sets(), ("head", "mlp"), POINTS, 5, 3)
    return rows, a.summary(rows, 100, "toy")


def test_effects_are_those_of_ablating_to_the_mean(toy_rows):
    rows, _ = toy_rows
    cells = {(row["component"], row["batch"]) for row in rows}
    assert len(cells) == 10 * 5
    subject, sets = DyckSubject(loud_toy(volume=4)), toy_sets()
    place = "blocks.1.attn.hook_z.2"
    chosen = a.spread(len(sets["eval"].tokens_nt), 15)
    batch = ablation.Batch(subject, sets["eval"], chosen[:3])
    fit = sets["fit"]
    some = a.spread(len(fit.tokens_nt), a.MEAN_SEQUENCES)
    start = subject.start(fit.tokens_nt[some], place)
    mean = start.value_ntd.numpy()[fit.keep_nt[some]].mean(axis=0)
    start = subject.start(batch.tokens, place)
    value = start.value_ntd.clone()
    before = batch.losses(start, value)
    value[:] = ablation.torch.from_numpy(mean)
    after = batch.losses(start, value)
    expected = float(after[0] - before[0])
    (row,) = (
        r for r in rows if (r["component"], r["batch"], r["method"]) == (place, 0, a.PATCHING)
    )
    assert row["measured_nats"] == pytest.approx(expected, rel=1e-4)
    # One sequence alone: the ablation of a batch that holds no other.
    (alone,) = (
        r for r in rows if (r["component"], r["batch"], r["method"]) == (place, 0, a.ONE_SEQUENCE)
    )
    single = ablation.Batch(subject, sets["eval"], chosen[:1])
    start = subject.start(single.tokens, place)
    effect = ablation.ablated(single, start, ablation.torch.from_numpy(mean))
    assert alone["predicted_nats"] == pytest.approx(effect.measured, rel=1e-3, abs=1e-5)
    assert alone["passes"] == pytest.approx(1 / 3)


def test_integrated_gradients_reach_completeness(toy_rows):
    """With points enough, the sum over the path is the measured effect."""
    _, summary = toy_rows
    errors = {
        (r["method"], r["points"]): r["value"] for r in summary if r["metric"] == "relative_error"
    }
    assert errors["right", 32] < errors["right", 4] < errors["right", 1]
    assert errors["right", 32] < 0.05
    assert errors["gauss", 8] < errors["gauss", 4] < errors["gauss", 1]
    assert errors["gauss", 8] < errors["right", 32]
    assert errors["midpoint", 16] < errors["right", 32]
    # A right Riemann sum's error falls as 1/n; a midpoint's faster, as far as ReLUs let it.
    assert errors["right", 4] / errors["right", 32] > 4
    assert errors["midpoint", 4] / errors["midpoint", 16] > 3
    r = {(x["method"], x["points"]): x["value"] for x in summary if x["metric"] == "pearson"}
    assert r["gauss", 8] > 0.999
    assert r["gauss", 8] > r[a.SIZE, 0]


def test_one_point_of_the_right_sum_is_attribution_patching(toy_rows):
    rows, _ = toy_rows
    by = {(r["component"], r["batch"], r["method"], r["points"]): r for r in rows}
    for (component, batch, method, points), row in by.items():
        if (method, points) == ("right", 1):
            patched = by[component, batch, a.PATCHING, 1]
            assert row["predicted_nats"] == pytest.approx(patched["predicted_nats"], abs=1e-6)
            assert patched["passes"] == pytest.approx(2 / 10)


def test_baselines_are_what_they_say(toy_rows):
    rows, summary = toy_rows
    measured = {(r["component"], r["batch"]): r["measured_nats"] for r in rows}
    for row in rows:
        if row["method"] == a.OTHER_BATCH:
            other = measured[row["component"], (row["batch"] - 1) % 5]
            assert row["predicted_nats"] == other
            assert row["passes"] == 1
        if row["method"] in (a.SIZE, a.GRADIENT_SIZE):
            assert row["predicted_nats"] >= 0
    ranked = {r["method"] for r in summary if r["metric"] == "relative_error"}
    assert not {a.SIZE, a.GRADIENT_SIZE} & ranked
    assert set(a.COLUMNS) - set(a.MEMBER) == set(summary[0])
    assert set(a.CELL_COLUMNS) - set(a.MEMBER) == set(rows[0])
    for row in summary:
        assert (
            np.isnan(row["low"]) or row["low"] <= row["value"] + 1e-9 or row["metric"] != "pearson"
        )


def test_language_models_have_blocks_and_residuals_too(folder):
    subject = interventions.load_source(source(folder, "neox"), "float32", "cpu")
    rng = np.random.default_rng(0)
    sets = {
        name: TokenSet(rng.integers(0, 61, (12, 10)), np.ones((12, 10), bool), {}, np.arange(12))
        for name in ("fit", "eval")
    }
    kinds = ("head", "mlp", "block", "residual")
    rows = a.study(subject, sets, kinds, {"gauss": [8]}, 2, 3)
    assert {r["kind"] for r in rows} == set(kinds)
    summary = a.summary(rows, 50, "lm")
    assert {r["kinds"] for r in summary} == {"head+mlp", "block", "residual"}
    error = {
        r["kinds"]: r["value"]
        for r in summary
        if (r["method"], r["metric"]) == ("gauss", "relative_error")
    }
    assert max(error.values()) < 0.2, error


def test_nothing_correlates_with_what_does_not_vary():
    assert pearson(np.ones(4), np.arange(4.0)) != pearson(np.ones(4), np.arange(4.0))
