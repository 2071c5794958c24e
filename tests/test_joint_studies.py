"""What is made of joint SAEs: tests of maps, means over pairs; planted, and planted nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from crossseed.alignment.maps import haar_orthogonal, identity
from crossseed.cohorts.base import DEVELOPMENT, TokenSet
from crossseed.config.joint import JointStudy
from crossseed.errors import UserError
from crossseed.joint import arms, cache, conditions, nulls, pooled, tables
from crossseed.joint.conditions import Condition
from crossseed.joint.nulls import Alike

# Conditions


def test_rows_of_the_table_and_the_saes_they_are_measured_on():
    rows = conditions.conditions(
        conditions.CONDITIONS, conditions.BASELINES, ["shared", "distinct"], [0.5, 2.0]
    )
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert names[:8] == [
        f"{name}-{init}" for name in ("1", "2", "3", "3prime") for init in ("shared", "distinct")
    ]
    assert names[8:] == [
        "4", "5", "6", "6-lambda0.5", "6-lambda2", "crosscoder", "mutual-shared",
        "universal-shared", "ridge",
    ]  # fmt: skip
    assert Condition("3'", "distinct").trainings == ["1-distinct-a", "1-distinct-b"]
    assert Condition("6", "", 0.5).trainings == ["6-lambda0.5"]
    for one in (Condition("3'", "distinct"), Condition("6", "", 1e-5), Condition("4")):
        assert Condition.of_name(one.name) == one
    assert [row.condition for row in rows if row.map == "true"] == ["3", "3", "3'", "3'"]


def test_retrainings_of_more_draws_leave_the_others_be():
    few = arms.groups(20, 1, [0.5], [4, 8], ["identity", "haar"])
    more = arms.groups(35, 1, [0.5], [4, 8], ["identity", "haar"])
    assert {name: more[name] for name in few} == few
    assert set(more) - set(few) == {"random20", "random30"}
    assert sum(map(len, more.values())) == 2 + 1 + 1 + 4 + 35
    assert [one.draw for one in more["random30"]] == [30, 31, 32, 33, 34]
    assert list(arms.of_plain(arms.plain(more["top"]))) == more["top"]
    assert list(arms.groups(0, 0, [], [], [])) == ["fitted"]


def test_pairs_are_the_anchors_or_those_listed():
    told = {"training": {}, "evaluation": {}, "nulls": None, "sizes": None, "counterfactuals": None}
    study = JointStudy.model_validate(told)
    assert study.pairs_of([1, 2, 3], 2) == [(2, 1), (2, 3)]
    listed = JointStudy.model_validate({**told, "pairs": [[42, 137], [99, 7]]})
    assert listed.pairs_of([7, 42, 99, 137], 7) == [(42, 137), (99, 7)]


# Early stopping


def test_development_is_taken_off_train_in_whole_documents():
    document = np.repeat([0, 1, 2, 3], [3, 2, 4, 3])
    train = TokenSet(np.arange(24).reshape(12, 2), np.ones((12, 2), bool), {}, document)
    found = cache.with_development({"train": train}, 4)
    assert found["train"].document_n.tolist() == [0] * 3 + [1] * 2
    assert found[DEVELOPMENT].document_n.tolist() == [2] * 4 + [3] * 3
    assert len(cache.with_development({"train": train}, 3)["train"].tokens_nt) == 9
    with pytest.raises(UserError, match=r"joint\.development = 10 takes all 12"):
        cache.with_development({"train": train}, 10)
    own = {"train": train, DEVELOPMENT: train}
    assert cache.with_development(own, 99) == own


# Maps against others


def moments(a, b):
    """Of activations that are not normalised, so that what a map adds is not divided."""
    b = np.hstack([b, np.ones((len(b), 1))])
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    n = len(a)
    return Alike(a0.T @ a0 / n, b0.T @ b0 / n, b0.T @ a0 / n, float((a**2).sum()), b.T @ b, b.T @ a)


def rotation(matrix):
    return identity(len(matrix))._replace(matrix_dd=matrix)


def test_what_needs_no_training_is_what_it_says():
    rng = np.random.default_rng(0)
    turn = haar_orthogonal(rng, 8)
    a = rng.standard_normal((500, 8)) + 1
    b = a @ turn.T + 0.1 * rng.standard_normal(a.shape)
    encoder = rng.standard_normal((30, 8))
    found = nulls.post_hoc(rotation(turn), moments(a, b), encoder, 0.7)
    carried = b @ turn
    wanted = [
        np.corrcoef(x, y)[0, 1]
        for x, y in zip((a @ encoder.T).T, (carried @ encoder.T).T, strict=True)
    ]
    assert found.encoder_r == pytest.approx(np.mean(wanted))
    assert found.encoder_share == 1
    error = np.linalg.norm(carried - a) / np.linalg.norm(a)
    assert found.nre == pytest.approx(error)


def test_a_haar_draw_is_one_among_others_and_the_planted_map_is_not():
    """Planted: p of draws from the null is uniform, and the planted rotation has the least there is."""
    rng = np.random.default_rng(1)
    turn = haar_orthogonal(rng, 8)
    a = rng.standard_normal((300, 8))
    of = moments(a, a @ turn.T)
    encoder = rng.standard_normal((40, 8))

    def statistic(matrix):
        return nulls.post_hoc(rotation(matrix), of, encoder, 0.7).encoder_r

    null = np.array([statistic(haar_orthogonal(rng, 8)) for _ in range(199)])
    own = nulls.against_draws(statistic(turn), null, "encoder_r")
    assert (own["as_good"], own["p"], own["p_least"]) == (0, 1 / 200, 1 / 200)
    p = [
        nulls.against_draws(statistic(haar_orthogonal(rng, 8)), null, "encoder_r")["p"]
        for _ in range(200)
    ]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)
    less = nulls.against_draws(0.1, np.array([0.2, 0.3, 0.05]), "nre")
    assert (less["as_good"], less["null_best"], less["p"]) == (1, 0.05, 0.5)


def retraining(null, draw, nre, universal, pair=137, cohort="c"):
    cell = {
        "cohort": cohort,
        "source_seed": 42,
        "target_seed": pair,
        "checkpoint": "f",
        "site": "s",
    }
    arm = {"null": null, "draw": draw, "share": "", "directions": "", "complement": ""}
    more = {"active": 50.0, "universal": universal, "universal_share": universal / 50}
    return [{**cell, **arm, "nre": nre, "measure": key, "value": x} for key, x in more.items()]


def test_retrainings_are_held_against_each_other_kind():
    rows = [*retraining("true", 0, 0.2, 40.0), *retraining("identity", 0, 0.9, 10.0)]
    rows += [row for d in range(19) for row in retraining("random", d, 1.4, d / 10)]
    found = {(r["map"], r["against"], r["statistic"]): r for r in nulls.retrained_rows(rows)}
    one = found["true", "random", "universal"]
    assert {*tables.CELL, *one} == set(tables.TEST_COLUMNS)
    assert (one["as_good"], one["draws"], one["p"]) == (0, 19, 0.05)
    assert one["null_best"] == pytest.approx(1.8)
    assert found["true", "random", "nre"]["as_good"] == 0
    assert found["identity", "true", "universal"]["as_good"] == 1
    # More active latents are not better.
    assert not any(key[2] == "active" for key in found)
    # One retraining of each says nothing of what another start does.
    assert not any(row["how"] == "replicated" for row in nulls.retrained_rows(rows))


def test_retrainings_without_a_value_stay_among_the_draws():
    """A share of no active latents is not dropped: it is worse than any, and nothing is better than it."""
    nan = float("nan")
    rows = [*retraining("true", 0, 0.2, 40.0), *retraining("identity", 0, 0.9, nan)]
    rows += [row for d in range(9) for row in retraining("random", d, 1.4, nan if d < 5 else 60.0)]
    found = {(r["map"], r["against"], r["statistic"]): r for r in nulls.retrained_rows(rows)}
    one = found["true", "random", "universal"]
    assert (one["draws"], one["as_good"], one["p"], one["null_mean"]) == (9, 4, 0.5, 60)
    none = found["identity", "random", "universal"]
    assert (none["draws"], none["p"]) == (9, 1)
    assert np.isnan(none["value"])
    alone = nulls.against_draws(nan, np.array([nan, nan]), "universal_share")
    assert np.isnan(alone["p"])
    assert alone["draws"] == 2


@pytest.mark.parametrize("planted", [0.0, 30.0])
def test_w_is_held_against_what_another_start_does(planted):
    """Planted: starts move counts by far; W adds something to each, or nothing."""
    rng = np.random.default_rng(6)
    p = []
    for _ in range(60 if planted == 0 else 3):
        rows = []
        for start in range(5):
            common = 50 + 20 * rng.standard_normal()
            for null, more in (("identity", 0.0), ("true", planted)):
                value = common + more + 3 * rng.standard_normal()
                rows += retraining(null, start, 0.2, value)
        (one,) = (
            row
            for row in nulls.retrained_rows(rows)
            if (row["how"], row["statistic"]) == ("replicated", "universal")
        )
        p.append(one["p"])
        assert {*tables.CELL, *one} == set(tables.TEST_COLUMNS)
        assert one["p_least"] == 1 / 32
        assert one["null_sd"] > 5
    if planted:
        assert one["value"] == pytest.approx(planted, abs=6)
        assert 0 < one["low"] < one["value"] < one["high"]
        assert p == [1 / 32] * 3
        # Held against one draw each of the other, as published, starts decide too.
        (alone,) = (
            row
            for row in nulls.retrained_rows(rows)
            if (row["how"], row["map"], row["statistic"]) == ("retrained", "true", "universal")
        )
        assert alone["draws"] == 5
    else:
        assert np.mean(np.array(p) <= 0.1) < 0.25
        assert np.mean(p) == pytest.approx(0.5, abs=0.12)


def test_replicates_have_starts_of_their_own_that_both_maps_share():
    found = arms.groups(2, 1, [], [], [], replicates=3)
    assert list(found) == ["fitted", "fitted1", "fitted2", "mismatched", "random0"]
    assert [one.start for one in found["fitted2"]] == [2, 2]
    # Other draws are of maps.
    assert [one.start for one in found["random0"]] == [0, 0]


# Over pairs


def test_means_over_pairs_with_their_spread():
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.1, 8)
    table = pd.DataFrame(
        [
            {
                "cohort": "c", "source_seed": 1, "target_seed": n, "checkpoint": "f", "site": "s",
                "condition": "6", "init": None, "lambda_cross": 1.0, "rows": "tokens",
                "matched_on": "index", "measure": "universal_share", "value": value, "null": 0.0,
            }
            for n, value in enumerate(values)
        ]
    )  # fmt: skip
    kinship = {"c": {"data": "set", "kind_of_seed": "finetune"}}
    (row,) = pooled.over_pairs(table, kinship)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["low"] < values.mean() < row["high"]
    assert row["high"] - row["low"] == pytest.approx(4 * row["sd"] / np.sqrt(8), rel=0.3)
    assert (row["pairs"], row["data"], row["init"]) == (8, "set", "")
    (alone,) = pooled.over_pairs(table[:1], kinship)
    assert alone["sd"] is None
    assert np.isnan(alone["low"])


@pytest.mark.parametrize("planted", [True, False])
def test_the_error_of_a_map_says_what_it_makes_universal_only_if_it_does(planted):
    rng = np.random.default_rng(3)
    rows = []
    for pair, draw in itertools.product(range(6), range(20)):
        nre = float(rng.uniform(0.1, 1.4))
        universal = (100 * (1.4 - nre) if planted else 70) + 5 * rng.standard_normal()
        kind = "random" if draw > 4 else "partial"
        rows += retraining(kind, draw, nre, universal, pair)
    found = {(r["scope"], r["draws"]): r for r in pooled.regressions(pd.DataFrame(rows))}
    one = found["all", "all"]
    assert (one["points"], one["pairs"]) == (120, 6)
    assert found["c", "no random"]["points"] == 30
    if planted:
        assert one["r2"] > 0.9
        assert one["slope_low"] > 0.9
    else:
        assert one["slope_low"] < 0 < one["slope_high"]


def test_the_published_points_are_a_subset_of_their_own():
    """Those on a line; maps that the study has not, and further retrainings with those it has, lie off it."""
    rows = []
    for pair in range(2):
        kinds = [
            ("identity", 0.5),
            ("true", 0.2),
            ("mismatched", 1.0),
            ("partial", 0.4),
            ("top", 0.6),
        ]
        for kind, nre in kinds:
            off = 500 if kind in ("partial", "top") else 0
            rows += retraining(kind, 0, nre, 100 * (1.4 - nre) + off, pair)
            rows += retraining(kind, 1, nre, 900, pair)
        for draw in range(30):
            rows += retraining("random", draw, 1.4 - draw / 1000, draw / 10, pair)
    found = {(r["scope"], r["draws"]): r for r in pooled.regressions(pd.DataFrame(rows))}
    one = found["all", "published"]
    assert (one["points"], one["pairs"]) == (66, 2)
    assert one["r2"] == pytest.approx(1)
    assert found["all", "all"]["points"] == 80
    assert found["all", "all"]["r2"] < 0.9
