"""The four bars: planted copies pass them, decoys do not, and what is counted is what happens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_gauge import state_of
from test_paths import token_set

from crossseed import bars
from crossseed.bars import causal
from crossseed.bars.behavioural import behaviour_rows
from crossseed.bars.causal import causal_rows, cumulative_row
from crossseed.bars.effects import Causes, Effects, cause_rows
from crossseed.bars.effects import causes_of as causes_from
from crossseed.bars.judge import itself
from crossseed.bars.probe import Probe
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import behaviour, decoys
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.gauge import element, search
from crossseed.gauge.weights import folded
from crossseed.seeding import generator


def repeated(found: TokenSet, times: int) -> TokenSet:
    """The same sequences in every batch, so that what is measured on one holds on the others."""
    return TokenSet(
        np.tile(found.tokens_nt, (times, 1)),
        np.tile(found.keep_nt, (times, 1)),
        {name: np.tile(values, (times, 1)) for name, values in found.labels.items()},
        np.arange(times * len(found.tokens_nt)),
    )


SETS = {"fit": token_set(1, 64), "eval": repeated(token_set(2, 8), 4)}
SAME = np.tile(np.arange(4), (2, 1))


def model_of(state) -> DyckTransformer:
    found = DyckTransformer(0)
    found.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in state.items()})
    return found.eval()


def causes_of(state, points: int = 2) -> tuple[Probe, Causes]:
    probe = Probe(DyckSubject(model_of(state)), SETS, 4, 8)
    return probe, probe.causes(points)


@pytest.fixture(scope="module")
def primary():
    state = state_of(3)
    return state, *causes_of(state)


def rows_of(primary, candidate, heads) -> dict[tuple[str, str, str, str], dict]:
    rows = causal_rows(primary, candidate, heads, heads, 20, "a test")
    return {(r["bar"], r["protocol"], r["part"], r["predictor"]): r for r in rows}


def test_causes_survive_their_table(primary):
    _, _, causes = primary
    rows = [{k: "" if v != v else str(v) for k, v in r.items()} for r in cause_rows(causes)]
    for ours, theirs in zip(causes_from(rows), causes, strict=True):
        assert ours.names == theirs.names
        for one, other in zip(ours[1:], theirs[1:], strict=True):
            assert np.array_equal(one, other, equal_nan=True)


def test_integrated_gradients_come_close_to_what_they_integrate_to(primary):
    _, probe, causes = primary
    for effects, coarse in zip(probe.causes(12), causes, strict=True):
        fine_error, error = (np.abs(e.integrated - e.measured).max() for e in (effects, coarse))
        assert fine_error < 0.05 * np.abs(effects.measured).max()
        assert fine_error < error
    published = causes.components.published[:, 0]
    assert np.allclose(published, causes.components.measured[:, 0], rtol=0.1, atol=0.05)
    # The study's two bars are two batches.
    assert np.isnan(causes.components.published).all(axis=0).tolist() == [False, False, True, True]


def test_a_copy_with_its_heads_in_another_order_is_told_apart_only_by_the_match(primary):
    """Planted: the same model by another element of the group. Found heads make all bars those of the model
    itself; the given names do not."""
    state, _, causes = primary
    weights = dyck.from_state(folded(state, dyck.gains(), "a test"))
    rng = np.random.default_rng(0)
    moved = element.apply(element.random(rng, weights), weights)
    found = search.align(rng, moved, weights, 2, 4)
    _, copy = causes_of({k: v.astype(np.float32) for k, v in dyck.to_state(moved).items()})
    own, matched = rows_of(causes, causes, SAME), rows_of(causes, copy, found.element.heads)
    named = rows_of(causes, copy, SAME)
    for part, bar in ((bars.COMPONENTS, bars.PR), (bars.EDGES, bars.C)):
        key = bar, bars.RIGOROUS, part, bars.MEASURED
        assert matched[key]["value"] == pytest.approx(own[key]["value"], abs=1e-3)
        assert named[key]["value"] < matched[key]["value"] - 0.05
        assert matched[key]["p"] < 0.05 < named[key]["p"]
    as_published = matched[bars.C, bars.PUBLISHED, bars.COMPONENTS, bars.MEASURED]
    assert as_published["value"] == pytest.approx(1.0, abs=1e-4)
    assert as_published["passes"] == 1


def test_names_of_unrelated_models_say_nothing(primary):
    """Null: heads of a model from another draw, under whatever names, are matched by chance."""
    _, _, causes = primary
    p = []
    for seed in range(4):
        _, other = causes_of(state_of(20 + seed), points=0)
        rows = rows_of(causes, other, SAME)
        p.append(rows[bars.PR, bars.RIGOROUS, bars.COMPONENTS, bars.MEASURED]["p"])
    assert max(p) > 0.05


def test_the_order_of_ones_own_effects_is_the_best(primary):
    _, probe, causes = primary
    row = cumulative_row(causes, probe, causes, SAME, 5, "a test")
    assert row["value"] == pytest.approx(1.0)
    assert row["null"] == 0
    assert row["passes"] == ""


def effects_by_head(causes: Causes) -> np.ndarray:
    effects = dict(
        zip(causes.components.names, causes.components.measured.mean(axis=1), strict=True)
    )
    return np.array(
        [[effects[f"blocks.{layer}.attn.hook_z.{h}",] for h in range(4)] for layer in range(2)]
    )


def test_splitting_a_head_keeps_the_function_and_changes_its_causes(primary):
    """Planted: a head that writes nothing, beside the one that matters most."""
    state, _, causes = primary
    effects = np.abs(effects_by_head(causes))
    layer, most = np.unravel_index(effects.argmax(), effects.shape)
    quiet = int(effects[layer].argmin())
    silent = dict(state)
    silent[f"blocks.{layer}.attn.W_O"] = state[f"blocks.{layer}.attn.W_O"].copy()
    silent[f"blocks.{layer}.attn.W_O"][quiet] = 0
    _, before = causes_of(silent, points=0)
    by_head = effects_by_head(before)
    assert np.unravel_index(np.abs(by_head).argmax(), by_head.shape) == (layer, most)
    split = decoys.split(silent, by_head)
    tokens = torch.from_numpy(SETS["eval"].tokens_nt).long()
    with torch.no_grad():
        for one, other in zip(model_of(silent)(tokens), model_of(split)(tokens), strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    _, after = causes_of(split, points=0)
    change = effects_by_head(after) - by_head
    assert abs(change[layer, most]) > 0.1 * abs(by_head[layer, most])
    assert abs(change[layer, quiet]) > 0.1 * abs(by_head[layer, most])


def invented(rng: np.random.Generator) -> Causes:
    """Effects of no model: of every component and edge their own, the same on all batches."""
    heads = [(f"blocks.{layer}.attn.hook_z.{h}",) for layer in range(2) for h in range(4)]
    of_edges = [(name, "logits") for (name,) in heads] + [("blocks.0.hook_mlp_out", "logits")]
    return Causes(
        *(
            Effects(names, *np.tile(rng.standard_normal((len(names), 1)), (4, 1, 4)))
            for names in ([*heads, ("blocks.0.hook_mlp_out",)], of_edges)
        )
    )


def test_the_null_of_other_names_rejects_as_often_as_it_says(monkeypatch):
    """Calibration: effects that have nothing to do with each other, under 5 % of all names as large."""
    monkeypatch.setattr(causal, "NAMES_DRAWN", 39)
    rng = np.random.default_rng(11)
    p = []
    for number in range(300):
        rows = causal_rows(invented(rng), invented(rng), SAME, SAME, 0, "null", number)
        p += [r["p"] for r in rows if r["part"] == bars.HEADS and r["predictor"] == bars.MEASURED]
    # 5 % of 300, and three standard deviations more.
    assert 3 <= sum(value <= 0.05 for value in p) <= 27
    assert abs(np.mean(p) - 0.5) < 0.06


def test_a_copy_by_symmetry_is_never_rejected(primary):
    """Planted: the same function in other weights; what float32 makes of it is no gap."""
    state, _, causes = primary
    weights = dyck.from_state(folded(state, dyck.gains(), "a test"))
    for seed in range(3):
        moves = ("query_key", "value_output", "neurons", "scale", "residual")
        moved = element.apply(element.random(np.random.default_rng(seed), weights, moves), weights)
        _, copy = causes_of({k: v.astype(np.float32) for k, v in dyck.to_state(moved).items()}, 0)
        for row in causal_rows(causes, copy, SAME, SAME, 20, "a test", seed):
            assert not (row["gap_low"] > 0 and row["gap"] > bars.NOTICED)


def test_gaps_of_nothing_are_seldom_reliable():
    """Calibration: batches of two models with the same effects and noise of their own."""
    rng = np.random.default_rng(12)
    called = []
    for _ in range(400):
        truth = rng.standard_normal((10, 1))
        predicted, own, other = (truth + 0.5 * rng.standard_normal((10, 8)) for _ in range(3))
        gap = causal._gap(predicted, own, other, causal._halves(8))
        called.append(gap.low > 0)
    # 2.5 % of 400, and three standard deviations more.
    assert np.mean(called) < 0.05


def test_a_model_is_not_below_itself_and_another_is(primary):
    _, _, causes = primary
    own = rows_of(causes, causes, SAME)
    _, other = causes_of(state_of(20), points=0)
    theirs = rows_of(causes, other, SAME)
    for part, bar in ((bars.COMPONENTS, bars.PR), (bars.EDGES, bars.C)):
        key = bar, bars.RIGOROUS, part, bars.MEASURED
        assert (own[key]["gap"], own[key]["gap_low"]) == (0, 0)
        assert theirs[key]["gap_low"] > 0


def test_every_decoy_is_judged_and_breaks_what_it_should(primary):
    state, _, causes = primary
    spec = {
        "lengths": (2, 20), "sequences": 128, "batch_rows": 32, "batches": 4, "rows": 8, "orders": 3,
        "taught_steps": 60, "resamples": 20,
    }  # fmt: skip
    rows = itself(model_of(state), state, causes, SETS, spec, "a test")

    def of(candidate: str, **wanted: str) -> dict:
        (row,) = [
            r for r in rows
            if r["candidate"] == candidate and all(r[k] == v for k, v in wanted.items())
        ]  # fmt: skip
        return row

    kl = {"bar": bars.B, "quantity": "kl", "part": "all mean"}
    # Teaching brings behaviour back, and not the parameters.
    assert of(bars.TAUGHT, **kl)["value"] < 0.5 * of(bars.SPLIT, **kl)["value"]
    parameters = {"bar": bars.P, "protocol": bars.RIGOROUS}
    assert of(bars.ITSELF, **parameters, part="all")["value"] < 1e-6
    assert of(bars.ITSELF, **parameters, part=bars.MOVED)["value"] < 1e-6
    assert of(bars.ITSELF, **parameters, part="all")["rejected"] == ""
    # The published search leaves the model where it is, and a moved copy of it away from it.
    as_published = {"bar": bars.P, "protocol": bars.PUBLISHED}
    assert of(bars.ITSELF, **as_published, part="all")["value"] < 1e-9
    assert of(bars.ITSELF, **as_published, part=bars.MOVED)["passes"] == 0
    assert of(bars.AVERAGED, **as_published)["rejected"] == 1
    for decoy in (bars.AVERAGED, bars.SWAPPED, bars.SPLIT, bars.TAUGHT):
        assert of(decoy, **parameters)["rejected"] == 1
        assert {r["bar"] for r in rows if r["candidate"] == decoy} == {"B", "P", "C", "Pr"}
    assert {r["bar"] for r in rows if r["candidate"] == bars.PROGRAM} == {"B"}


def test_published_decoys_are_what_they_say(primary):
    state, _, _ = primary
    rows = decoys.averaged(state)["W_U_depth"]
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[8], state["W_U_depth"][8])
    assert not np.array_equal(rows[0], rows[2])
    twice = decoys.swapped(decoys.swapped(state))
    assert all(np.array_equal(twice[name], value) for name, value in state.items())
    assert np.array_equal(decoys.swapped(state)["blocks.0.mlp.W_in"], state["blocks.1.mlp.W_in"])


class Uniform(torch.nn.Module):
    def forward(self, tokens):
        return [torch.zeros(*tokens.shape, n) for n in (40, 9, 2)]


def test_a_stream_measures_behaviour():
    models = {"first": behaviour.Program(), "uniform": Uniform()}
    stream = behaviour.stream(models, 600, 64, (2, 20), generator("a test"), "cpu")
    ones = np.ones((1, len(stream.counts)))
    right, uniform = (stream.rates(name, ones, [0, 1, 2])[0] for name in models)
    loss, smoothed, wrong, divergence = range(4)
    assert (right[:, loss] < 1e-6).all()
    assert (right[:, wrong] == 0).all()
    # What smoothing charges for confidence, by the published measure: nearly its threshold.
    assert (right[:, smoothed] > 5e-5).all()
    assert (right[:, divergence] == 0).all()
    expected = np.log([40, 9, 2])
    assert np.allclose(uniform[:, loss], expected)
    assert np.allclose(uniform[:, divergence], expected, atol=1e-4)
    assert stream.per_second > 0
    rows = behaviour_rows(stream, "first", "labels", 50, "a test")
    judged = {r["part"]: r["passes"] for r in rows if r["quantity"] == "cross_entropy"}
    assert judged["all depth"] == 1
    assert judged["train mean"] == ""
    assert all(math.isfinite(r["value"]) for r in rows)


def test_a_stream_is_the_same_however_long_its_sums_are():
    """Bounded memory: units are shared by batches that lie far apart, and nothing is lost."""
    models = {"first": behaviour.Program()}
    short = behaviour.stream(models, 2 * behaviour.MOST_UNITS, 1, (2, 4), generator("b"), "cpu")
    assert len(short.counts) == behaviour.MOST_UNITS
    assert short.counts.sum() > 2 * behaviour.MOST_UNITS
