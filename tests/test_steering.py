"""Steering: a turned copy answers to the rotated vector as to its own, and to no other."""

import numpy as np
import pytest
import torch
from hub_folders import VOCABULARY, folder, source
from planted import rotation, turned_neox, turned_toy
from test_interventions import loud_toy

from crossseed import responses as r
from crossseed import steering as s
from crossseed import steering_vectors
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.cohorts.base import Concept, Examples, Published, TokenSet, Trials
from crossseed.cohorts.dyck import concepts, sites, task
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.hub import interventions
from crossseed.errors import UserError

__all__ = ["folder"]

DIRECTIONS, RESAMPLES, SEQUENCES = 100, 100, 6


def toy_sets():
    rows = task.sample_distinct(np.random.default_rng(0), 900, (8, 30))
    found = {}
    for name, part in zip(("fit", "train", "eval"), np.split(rows, 3), strict=True):
        labels = task.label(part)
        told = {"depth": labels.depth_nt, "valid": labels.valid_nt}
        found[name] = TokenSet(part, part != task.PAD, told, np.arange(len(part)))
    return found


def rotation_between(source_, target, site, tokens):
    """The Procrustes map, fitted on activations as a run would."""
    a, b = (x.start(tokens, site).value_ntd.flatten(0, 1).numpy() for x in (source_, target))
    moments = Moments(a.shape[1], b.shape[1])
    moments.add(a, b)
    matrix = m.procrustes(moments.cross_covariance)
    affine = m.AffineMap(matrix, moments.mean_b, moments.mean_a)
    shuffled = Moments(a.shape[1], b.shape[1])
    shuffled.add(np.random.default_rng(0).permutation(a), b)
    wrong = m.AffineMap(m.procrustes(shuffled.cross_covariance), moments.mean_b, moments.mean_a)
    return {s.MAPPED: affine, s.SHUFFLED: wrong}, moments.covariance_b


def run(source_, target, site, concept, fit_tokens, neutral):
    maps, covariance = rotation_between(source_, target, site, fit_tokens)
    a, b = (steering_vectors.vector(model, site, concept) for model in (source_, target))
    rng = np.random.default_rng(1)
    tried = s.arms(a, b, maps, covariance, DIRECTIONS, rng)
    rows = s.study(
        s.Side(source_, a), s.Side(target, b), site, concept, tried, neutral, SEQUENCES, RESAMPLES,
        "cell",
    )  # fmt: skip
    return {(x["arm"], x["measure"], x["metric"], x["dose"]): x for x in rows}


def assert_planted(found, measure):
    mapped, raw = (found[arm, measure, "ratio", None] for arm in (s.MAPPED, s.RAW))
    band = found[s.RANDOM, measure, "ratio", None]
    assert mapped["value"] == pytest.approx(1, abs=1e-3)
    assert mapped["low"] == pytest.approx(1, abs=1e-3)
    assert band["low"] < raw["value"] < band["high"]
    assert found[s.MAPPED, "", "effect_cosine", None]["value"] == pytest.approx(1, abs=1e-3)
    assert abs(found[s.RAW, "", "effect_cosine", None]["value"]) < 0.9
    native_p, mapped_p = (found[arm, measure, "p_random", None] for arm in (s.NATIVE, s.MAPPED))
    assert mapped_p["value"] == pytest.approx(native_p["value"], abs=0.02)
    assert found[s.RAW, measure, "p_random", None]["value"] > 0.01
    native = found[s.NATIVE, measure, "slope", None]
    assert native["low"] > 0 or native["high"] < 0
    n = {row["n"] for row in found.values()}
    assert min(n) > 0
    for dose in s.DOSES:
        assert found[s.NATIVE, "", "ce_added", dose]["low"] is not None
        same = (found[arm, "", "ce_added", dose]["value"] for arm in (s.MAPPED, s.NATIVE))
        assert next(same) == pytest.approx(next(same), abs=2e-3)


@pytest.mark.parametrize("name", concepts.NAMES)
def test_a_turned_toy_answers_to_the_rotated_vector_alone(name):
    model = loud_toy()
    with torch.no_grad():
        for block in model.blocks:
            block.ln1.gain.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    one, other = DyckSubject(model), DyckSubject(turned_toy(model, rotation(64)))
    sets = toy_sets()
    told = {"concepts": [name], "trials": 60}
    (concept,) = concepts.make(told, [], [], sets)
    found = run(one, other, sites.post(0), concept, sets["fit"].tokens_nt, sets["eval"])
    defined = [k for k in s.MEASURES if (s.RANDOM, k, "ratio", None) in found]
    for measure in defined:
        assert_planted(found, measure)
    # An untrained toy knows no violation: its own vector moves nothing there, and no share is given.
    assert defined or name == "sticky_suppression"
    slopes = [found[arm, "margin", "slope", None]["value"] for arm in (s.MAPPED, s.NATIVE)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3, abs=1e-4)
    # What a copy loses to the published vector is another thing than what the source loses.
    assert (s.WITHIN, "", "accuracy_drop", 4.0) in found
    assert (s.AS_PUBLISHED, "", "kl", 4.0) in found
    for metric in ("kl", "accuracy_drop"):
        published, within = (
            found[arm, "", metric, 4.0]["value"] for arm in (s.AS_PUBLISHED, s.WITHIN)
        )
        ratio = found.get((s.AS_PUBLISHED, "", f"{metric}_ratio", 4.0))
        assert ratio is None or ratio["value"] == pytest.approx(published / within)
    # The copy's other heads lose as much as the source's would.
    assert found[s.MAPPED, "", "kl_ratio", 1.0]["value"] > 0


def lm_concept(seed=0):
    rng = np.random.default_rng(seed)

    def prompts(n, token):
        rows = rng.integers(0, VOCABULARY, (n, 9))
        rows[:, 4] = token
        return rows

    last = np.zeros((40, 9), dtype=bool)
    last[:, -1] = True
    classes = [Examples(prompts(40, token), last / 40) for token in (3, 7)]
    trials = Trials(prompts(40, 5), last, "token", np.full((40, 2), (9, 11)), np.full((40, 1), 13))
    nowhere = Published(np.zeros_like(last), np.zeros(0, dtype=np.int64))
    return Concept("planted", *classes, trials, nowhere)


def test_a_turned_language_model_answers_to_the_rotated_vector_alone(folder):
    one = interventions.load_source(source(folder, "neox"), "float32", "cpu")
    with torch.no_grad():
        one.base.final_layer_norm.bias.zero_()
    turn = rotation(32, fixes_ones=True)
    other = interventions.HubSubject(turned_neox(one.model, turn), "gpt_neox", "turned", "cpu")
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, VOCABULARY, (60, 12))
    same = (x.model(input_ids=torch.from_numpy(tokens)).logits for x in (one, other))
    assert torch.allclose(next(same), next(same), atol=1e-3)
    neutral = TokenSet(tokens[:10], np.ones((10, 12), bool), {}, np.arange(10))
    found = run(one, other, "blocks.0.hook_resid_post", lm_concept(), tokens, neutral)
    for measure in s.MEASURES:
        assert_planted(found, measure)


def test_slopes_are_those_of_a_linear_readout():
    """At the last site of a toy whose norm is taken away, logits are linear in the vector."""
    model = loud_toy()
    model.ln_f.forward = lambda x: x
    subject = DyckSubject(model)
    sets = toy_sets()
    (concept,) = concepts.make({"concepts": ["depth_shift"], "trials": 20}, [], [], sets)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 64))
    found = r.responses(subject, sites.LAST, concept, vectors)
    weights = np.ones((1, len(found.n_u)))
    slopes = s._slopes(found, weights)[0]
    readout = vectors @ model.W_U_depth.double().numpy().T
    intended, old = 5, 4
    others = [c for c in range(9) if c not in (intended, old)]
    control = readout[:, others].mean(axis=1)
    expected = np.stack([readout[:, intended] - control, control - readout[:, old]], axis=1)
    assert slopes[:, :2] == pytest.approx(expected, abs=1e-4)
    assert slopes[:, 2] == pytest.approx(expected.sum(axis=1), abs=1e-4)
    shifts = found.moved.sum(axis=-1) / found.n_u.sum()
    for j, dose in enumerate(s.DOSES):
        assert shifts[:, j, :2] == pytest.approx(dose * expected, abs=1e-3)
        assert shifts[:, j, 2] == pytest.approx(dose * expected.sum(axis=1), abs=1e-3)
    centred = readout - readout.mean(axis=1, keepdims=True)
    # Between the logits of tokens and of validity.
    assert found.slopes[:, 40:49] == pytest.approx(centred, abs=1e-4)


def test_a_ratio_to_nothing_is_undefined():
    """Where the native response may be zero, no share of it is given."""
    doses = len(s.DOSES)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, doses, 3, 30))
    nothing = np.zeros((1, doses, 30))
    response = r.Responses(np.ones(30), noise, nothing, nothing, np.zeros((2, 30)), np.ones((1, 4)), None, np.zeros(30))  # fmt: skip
    weights = s.resample_weights(rng, 30, 200)
    slopes = {s.NATIVE: s._slopes(response, weights)}
    slopes |= dict.fromkeys(s.NULLS, np.zeros((1, 100, 3)))
    table = s._Table("c")
    s._against(table, s.NATIVE, slopes, np.ones(4), response)
    ratios = [row["value"] for row in table.rows if row["metric"] == "ratio"]
    covered = [row["low"] <= 0 <= row["high"] for row in table.rows if row["metric"] == "slope"]
    assert any(covered)
    assert all(np.isnan(v) == zero for v, zero in zip(ratios, covered, strict=True))


def test_what_shared_weights_pin():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 20))
    assert steering_vectors.pinned_share(rows[0] - rows[3], rows) == (pytest.approx(1), 5)
    outside = rng.standard_normal(20)
    outside -= np.linalg.lstsq(rows.T, outside, rcond=None)[0] @ rows
    assert steering_vectors.pinned_share(outside, rows) == (pytest.approx(0, abs=1e-12), 5)
    assert steering_vectors.pinned_share(outside, np.zeros((0, 20))) == (0.0, 0)
    toy = DyckSubject(loud_toy())
    found = concepts.pinned(toy, ["W_E", "W_U_depth"], 64)
    # Nine tokens in use, six columns of the positional table, eight differences of depths.
    assert steering_vectors.pinned_share(np.ones(64), found)[1] == 9 + 6 + 8


def test_random_directions_are_even_or_shaped():
    rng = np.random.default_rng(0)
    even = steering_vectors.random_directions(rng, 4000, 8)
    assert np.linalg.norm(even, axis=1) == pytest.approx(1)
    assert np.abs(even.mean(axis=0)).max() < 0.05
    covariance = np.diag([100.0, 1, 1, 1])
    shaped = steering_vectors.shaped_directions(rng, 4000, covariance)
    assert np.square(shaped[:, 0]).mean() > 0.8


def test_a_concept_that_is_never_seen_is_refused():
    sets = toy_sets()
    rows = sets["train"].tokens_nt.copy()
    rows[:, 3:] = task.PAD
    labels = task.label(rows)
    shallow = TokenSet(
        rows, rows != task.PAD, {"depth": labels.depth_nt, "valid": labels.valid_nt}, np.arange(300)
    )
    told = {"concepts": ["depth_shift"], "trials": 20}
    (concept,) = concepts.make(told, [], [], {**sets, "train": shallow})
    with pytest.raises(UserError, match=r"depth_shift: no position shows the class"):
        steering_vectors.vector(DyckSubject(loud_toy()), sites.LAST, concept)


def test_the_names_of_toy_concepts_are_those_of_the_configuration():
    import typing

    from crossseed.config.interventions import SteeringStudy

    field = SteeringStudy.model_fields["concepts"].annotation
    assert typing.get_args(typing.get_args(field)[0]) == concepts.NAMES
