"""Five lenses: what is planted is seen, what is not there is not."""

from __future__ import annotations

import numpy as np
import pytest
from test_bars import SETS, model_of
from test_gauge import MODEL, state_of

from crossseed.alignment.maps import haar_orthogonal
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.errors import UserError
from crossseed.gauge import element
from crossseed.gauge.weights import folded
from crossseed.lenses import (
    COLUMNS,
    LENSES,
    agreement,
    dictionaries,
    edges,
    mlp,
    regions,
    roles,
    study,
    weights,
)


def by(rows):
    return {(r["component"], r["quantity"], r["part"]): r for r in rows}


def test_what_weights_say_does_not_depend_on_the_gauge():
    g = element.random(np.random.default_rng(0), MODEL)._replace(
        heads=element.identity(MODEL).heads
    )
    ours, theirs = (by(weights.measure(w)) for w in (MODEL, element.apply(g, MODEL)))
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        assert row["value"] == pytest.approx(theirs[key]["value"], rel=1e-8), key


def test_norms_and_circuits_are_those_of_the_products():
    rows = by(weights.measure(MODEL))
    head = "blocks.1.attn.hook_z.2"
    ov = MODEL.output[1, 2].T @ MODEL.value[1, 2]
    assert rows[head, "norm", "ov"]["value"] == pytest.approx(np.linalg.norm(ov))
    assert rows[head, "singular_value", "ov 0"]["value"] == pytest.approx(np.linalg.norm(ov, 2))
    pairs = [r for key, r in rows.items() if key[:2] == (head, "ov_pair")]
    assert len(pairs) == weights.MOST_PAIRS
    assert all(" → " in r["part"] for r in pairs)


def test_patterns_are_counted_exactly_and_their_maps_are_the_mlps():
    rng = np.random.default_rng(1)
    planted = rng.random((5, 256)) < 0.3
    active = planted[rng.integers(0, 5, 4000)]
    rows = by(regions.measure(MODEL, 0, active, rng.permuted(active, axis=0)))
    name = mlp(0)
    curve = [(int(k[2]), r["value"], r["null"]) for k, r in rows.items() if k[1] == "patterns"]
    assert max(curve)[1:] == (5, 4000)
    assert rows[name, "patterns_lower_bound", ""]["value"] == 5
    assert rows[name, "neurons_dead", ""]["value"] == (~planted.any(axis=0)).sum()
    numbers = (active[:, None] == planted).all(axis=-1).argmax(axis=1)
    counts = np.bincount(numbers)
    assert rows[name, "region_tokens", "0"]["value"] == counts.max()
    on = planted[counts.argmax()]
    # The same map as what the MLP does to a small step within the region.
    step = np.random.default_rng(2).standard_normal((64, 1))
    inside = MODEL.writes[0].T @ (on[:, None] * (MODEL.reads[0] @ step))
    affine = MODEL.writes[0][on].T @ MODEL.reads[0][on]
    assert np.allclose(affine @ step, inside)
    assert rows[name, "region_norm", "0"]["value"] == pytest.approx(np.linalg.norm(affine))


class Additive:
    """A graph whose loss is the sum of what its removed edges cost, one of them only while another stays."""

    parts = ("a",)

    def __init__(self, costs: np.ndarray) -> None:
        self.costs = costs
        self.edges = [type("Edge", (), {"source": "a"})() for _ in costs]

    def losses(self, cut_ke: np.ndarray) -> np.ndarray:
        found = cut_ke @ self.costs
        # The last edge matters only as long as the first stays.
        return found + np.where((cut_ke[:, -1] == 1) & (cut_ke[:, 0] == 0), 1.0, 0.0)


def test_pruning_keeps_what_is_needed_and_goes_on_until_nothing_goes():
    costs = np.array([0.0, 0.5, 0.0, 0.0005, 0.0])
    kept, rounds = edges.prune(Additive(costs), 1e-3)
    # In the first round the last edge is needed; once the first is gone, it is not.
    assert list(kept) == [False, True, False, False, False]
    assert rounds == 3
    rows = by(edges.measure(Additive(costs), Additive(costs), [1e-3], np.random.default_rng(0)))
    added = rows["model", "loss_added", "0.001"]
    assert added["value"] == pytest.approx(0.0005)
    assert added["null"] > 0.1


def test_a_planted_role_is_found_in_any_basis():
    rng = np.random.default_rng(2)
    found = {}
    for split in ("fit", "eval"):
        tokens = task.sample_train(rng, 200, (2, 40))
        labels = task.label(tokens)
        named = {"depth": labels.depth_nt, "valid": labels.valid_nt}
        found[split] = roles.features(tokens, named, tokens != task.PAD)
    directions = rng.standard_normal((task.N_DEPTHS, 64))
    written = {
        split: f["depth"] @ directions + 0.1 * rng.standard_normal((len(f["depth"]), 64))
        for split, f in found.items()
    }
    turn = haar_orthogonal(rng, 64)
    rows, turned = (
        by(
            roles.measure(
                "c",
                (written["fit"] @ basis, found["fit"]),
                (written["eval"] @ basis, found["eval"]),
                np.random.default_rng(3),
            )
        )
        for basis in (np.eye(64), turn)
    )
    for key, row in rows.items():
        assert row["value"] == pytest.approx(turned[key]["value"], abs=1e-8)
    assert rows["c", "explained", "all"]["value"] > 0.95
    assert rows["c", "unique", "depth"]["value"] > 0.5
    assert rows["c", "read_out", "depth"]["value"] > 0.95
    assert abs(rows["c", "explained", "all"]["null"]) < 0.05
    assert all(abs(rows["c", "unique", g]["value"]) < 0.02 for g in ("kind", "family", "position"))


def test_a_planted_dictionary_is_transcoded_and_shuffled_targets_are_not():
    rng = np.random.default_rng(4)
    reads, writes = rng.standard_normal((2, 32, 16))
    x = rng.standard_normal((4000, 16)).astype(np.float32)
    y = (np.maximum(x @ reads.T - 3, 0) @ writes).astype(np.float32)
    own = dictionaries.train(x[:3000], y[:3000], 64, 1e-4, 3e-3, 400, 0)
    null = dictionaries.train(x[:3000], y[rng.permutation(3000)], 64, 1e-4, 3e-3, 400, 0)
    held = x[3000:], y[3000:]
    rows = by(
        dictionaries.measure(mlp(0), "transcoder", 4, *((found, held) for found in (own, null)))
    )
    ev = rows[mlp(0), "transcoder_ev", "x4"]
    assert ev["value"] > 0.7
    assert ev["null"] < 0.1
    assert np.allclose(own.W_dec.detach().norm(dim=1), 1, atol=1e-5)


def test_a_dictionary_tells_sparse_vectors_from_gaussian_ones_of_the_same_moments():
    rng = np.random.default_rng(5)
    parts = rng.standard_normal((24, 16))
    active = (rng.random((5000, 24)) < 0.05) * (1 + rng.exponential(size=(5000, 24)))
    x = (active @ parts).astype(np.float32)
    drawn = dictionaries.gaussian(x[:4000], 5000, rng)
    assert np.allclose(np.cov(drawn, rowvar=False), np.cov(x, rowvar=False), atol=1.0)
    found = [
        (dictionaries.train(of[:4000], of[:4000], 64, 3e-2, 3e-3, 1000, 0), (of[4000:],) * 2)
        for of in (x, drawn)
    ]
    rows = by(dictionaries.measure("a head", "dictionary", 4, *found))
    ev, l0 = (rows["a head", f"dictionary_{name}", "x4"] for name in ("ev", "l0"))
    assert ev["value"] > 0.9
    assert l0["value"] < 0.7 * l0["null"]


def test_flipped_neurons_are_counted():
    active = np.array([[True, False, True], [False, False, True]])
    row = regions.flipped("a head", active, ~active, active)
    assert (row["value"], row["null"]) == (3, 0)


def test_lenses_that_agree_and_lenses_that_do_not():
    up = np.arange(8.0)
    by_lens = agreement.ranks(
        {"a": up, "b": up**2, "c": -up, "unknown": [*up[:7], np.nan], "nothing": []}
    )
    assert list(by_lens) == ["a", "b", "c"]
    assert by_lens["a"][7] == 1
    found = {(a.first, a.second): a for a in agreement.agreements(by_lens)}
    assert found["a", "b"].rho == pytest.approx(1)
    assert found["a", "b"].p == pytest.approx(0.001, abs=2e-3)
    assert found["a", "c"].rho == pytest.approx(-1)
    assert found["a", "c"].p > 0.9
    assert agreement.apart(by_lens, 7, 4) == [("a", "c"), ("b", "c")]
    assert agreement.apart(by_lens, 4, 4) == []


def test_a_list_that_names_no_component_is_refused():
    subject = DyckSubject(model_of(state_of(3)))
    with pytest.raises(UserError, match=r"name none; expected some of head, mlp, blocks\.0"):
        study.chosen(subject, [])
    with pytest.raises(UserError, match=r"name blocks\.7\.hook_mlp_out"):
        study.chosen(subject, ["head", "blocks.7.hook_mlp_out"])


def test_all_lenses_are_in_the_table():
    state = state_of(3)
    spec = {
        "components": ["mlp", "blocks.0.attn.hook_z.1"],
        "transcoder": {"expansions": [2], "l1": 1e-3, "lr": 1e-3, "steps": 5},
        "thresholds": [0.05],
        "rows": 4,
    }
    subject = DyckSubject(model_of(state))
    gauge_free = dyck.from_state(folded(state, dyck.gains(), "a test"))
    rows = study.study(subject, gauge_free, {**SETS, "train": SETS["fit"]}, spec, "a test")
    assert {row["lens"] for row in rows} == set(LENSES)
    assert all(set(row) == set(COLUMNS[3:]) for row in rows)
    named = {row["component"] for row in rows if row["lens"] == "constructive"}
    assert named == {mlp(0), mlp(1), "blocks.0.attn.hook_z.1"}
    assert all(np.isfinite(row["value"]) for row in rows)
