"""Single latents: in a turned copy the carried ones do what they did, and can take each other's place."""

import numpy as np
import pytest
from planted import rotation, turned_toy
from test_interventions import loud_toy
from test_steering import rotation_between, toy_sets
from test_transfer import RELU

from crossseed import card, features
from crossseed import steering as s
from crossseed.cohorts.dyck import concepts, sites
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.sae.dictionary import Dictionary, cfg_of

SITE = sites.post(0)
LATENTS = 96


def dictionary_of(subject, sets, seed=0):
    """Random directions, each with the bias at which it fires on a fifth of the tokens."""
    fit = sets["fit"]
    x = subject.start(fit.tokens_nt, SITE).value_ntd.numpy()[fit.keep_nt]
    rng = np.random.default_rng(seed)
    mean = x.mean(axis=0)
    # Directions of the data: others would fire on nothing.
    w = (x[rng.integers(0, len(x), LATENTS)] - mean).T
    w /= np.linalg.norm(w, axis=0)
    bias = -np.quantile((x - mean) @ w, 0.8, axis=0)
    cfg = cfg_of(RELU, 2, 64, SITE)
    return Dictionary(*(v.astype(np.float32) for v in (w, bias, 0.5 * w.T, mean)), cfg)


@pytest.fixture(scope="module")
def planted():
    """A toy, its turned copy, a dictionary of the first and its ports to the second."""
    model = loud_toy()
    one, other = DyckSubject(model), DyckSubject(turned_toy(model, rotation(64)))
    sets = toy_sets()
    maps, _ = rotation_between(one, other, SITE, sets["fit"].tokens_nt)
    dictionary = dictionary_of(one, sets)
    named = {features.PORTED: maps[s.MAPPED], features.SHUFFLED: maps[s.SHUFFLED]}
    named[features.RANDOM] = maps[s.MAPPED]._replace(matrix_dd=rotation(64, seed=9))
    return one, other, sets, dictionary, features.ported(dictionary, named), maps


def chosen_of(one, sets, dictionary):
    told = {"concepts": ["depth_shift"], "trials": 20}
    found = concepts.make(told, [], [], sets)
    return features.choose(one, SITE, dictionary, sets["fit"], found, 4)


def test_latents_are_chosen_by_size_and_by_concept(planted):
    one, _, sets, dictionary, _, _ = planted
    chosen = chosen_of(one, sets, dictionary)
    by = [c.by.split() for c in chosen]
    assert sum(features.ENERGY in names for names in by) == 4
    assert sum("depth_shift" in names for names in by) == 3
    assert len({c.latent for c in chosen}) == len(chosen)
    fit = sets["fit"]
    h = features.latents_at(one, SITE, dictionary, fit.tokens_nt[:128])[fit.keep_nt[:128]]
    energy = np.square(h).sum(axis=0) * np.square(dictionary.W_dec).sum(axis=1)
    assert sorted(energy[[c.latent for c in chosen[:4]]])[0] >= np.sort(energy)[-8]


def test_carried_latents_do_in_a_turned_copy_what_they_did(planted):
    one, other, sets, dictionary, carried, _ = planted
    chosen = chosen_of(one, sets, dictionary)
    models = features.Models(one, other, SITE)
    rows = features.patching(models, dictionary, carried, chosen, sets["eval"], 24, 100, "cell")
    whole = {(r["arm"], r["metric"], r["strength"]): r for r in rows if r["latent"] == ""}
    for strength in (features.OUT, features.PUBLISHED):
        ratio = whole[features.PORTED, "transfer_ratio", strength]
        assert ratio["value"] == pytest.approx(1, abs=1e-3)
        assert ratio["low"] == pytest.approx(1, abs=1e-3)
    agreement = {arm: r["value"] for (arm, metric, _), r in whole.items() if metric == "agreement"}
    assert agreement[features.PORTED] == pytest.approx(1, abs=1e-3)
    nulls = (features.RAW, features.SHUFFLED, features.RANDOM, features.DIRECTION, features.OTHER)
    for arm in nulls:
        assert abs(agreement[arm]) < 0.7, arm
    # The unsigned ratio cannot tell: a random direction moves predictions too.
    assert whole[features.DIRECTION, "transfer_ratio", features.PUBLISHED]["value"] > 0.1
    assert set(features.COLUMNS) - {*features.CELL, "dictionary", "init"} == set(rows[0])


def test_taking_a_latent_out_is_what_it_says(planted):
    one, other, sets, dictionary, carried, _ = planted
    latent = chosen_of(one, sets, dictionary)[0]
    models = features.Models(one, other, SITE)
    rows = features.patching(models, dictionary, carried, [latent], sets["eval"], 3, 100, "cell")
    (row,) = (
        r for r in rows
        if (r["arm"], r["metric"], r["strength"], r["latent"]) == ("source", "kl", 1.0, latent.latent)
    )  # fmt: skip
    tokens = sets["eval"]
    run_on = features.spread(len(tokens.tokens_nt), 3)
    start = one.start(tokens.tokens_nt[run_on], SITE)
    own = start.value_ntd
    h = dictionary.encode(own.numpy().reshape(-1, 64))[:, latent.latent].reshape(own.shape[:2])
    changed = own - own.new_tensor(h[..., None] * dictionary.W_dec[latent.latent])
    total, n = 0.0, 0
    keep = tokens.keep_nt[run_on]
    for clean, found in zip(start.logits(own), start.logits(changed), strict=True):
        p, q = clean.log_softmax(-1), found.log_softmax(-1)
        kl = (p.exp() * (p - q)).sum(-1).numpy()
        total, n = total + kl[keep].sum(), n + keep.sum()
    assert row["value"] == pytest.approx(total / n, rel=1e-4)


def test_matching_finds_a_planted_permutation():
    rng = np.random.default_rng(0)
    h = np.maximum(rng.standard_normal((400, 30)), 0).astype(np.float32)
    order = rng.permutation(30)
    other = h[:, order]
    other[:, 3] = 0.0  # dead
    found = features.match(h, other)
    assert 3 not in found.own
    assert len(found.own) == 29
    assert (order[found.own] == found.partner).all()
    assert found.r == pytest.approx(1, abs=1e-5)
    noise = np.maximum(rng.standard_normal((400, 30)), 0).astype(np.float32)
    assert features.match(h, noise).r.mean() < 0.3


def test_partners_take_each_others_place_in_a_turned_copy(planted):
    one, other, sets, dictionary, carried, maps = planted
    models = features.Models(one, other, SITE)
    # The copy's own dictionary: the same one, turned, its latents in another order.
    own = card.carry(dictionary, maps[s.MAPPED])
    order = np.random.default_rng(2).permutation(LATENTS)
    own = own._replace(W_enc=own.W_enc[:, order], b_enc=own.b_enc[order], W_dec=own.W_dec[order])
    rows = features.substitution(models, dictionary, carried, own, sets, 16, 100, "cell")
    found = {(r["arm"], r["metric"], r["coverage"]): r["value"] for r in rows}
    for share in features.COVERAGES:
        assert found[features.PORTED, "quality", share] == pytest.approx(1, abs=1e-3)
    assert found[features.PORTED, "auc", None] == pytest.approx(1, abs=1e-3)
    assert found[features.PORTED, "match_r", None] == pytest.approx(1, abs=1e-3)
    for arm in (features.RAW, features.SHUFFLED, features.RANDOM, features.PERMUTED):
        assert found[arm, "auc", None] < 0.8, arm


def test_nobody_keeps_a_partner_when_they_are_exchanged():
    rng = np.random.default_rng(0)
    for n in (2, 5, 50):
        partner = rng.permutation(n) + 100
        wrong = features._wrong(rng.permutation(n), partner)
        assert sorted(wrong) == sorted(partner)
        assert (wrong != partner).all()


def test_dictionaries_that_never_fire_give_no_rows(planted):
    one, other, sets, dictionary, carried, _ = planted
    dead = dictionary._replace(b_enc=np.full_like(dictionary.b_enc, -1e6))
    assert features.choose(one, SITE, dead, sets["fit"], [], 4) == []
    models = features.Models(one, other, SITE)
    assert features.patching(models, dead, carried, [], sets["eval"], 4, 100, "c") == []
    assert features.substitution(models, dictionary, carried, dead, sets, 4, 100, "c") == []
