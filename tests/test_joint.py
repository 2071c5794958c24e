"""Joint SAEs of two models: a planted rotation is what it takes to share latents, terms are what they say they are,
and a killed training ends as if it had not been."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from crossseed.alignment.maps import AffineMap, haar_orthogonal, identity
from crossseed.cohorts.base import Scored
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint import cache as caches
from crossseed.joint import coder, effects, fits, losses, maps, model, nulls, samplesize, training
from crossseed.joint.arms import Arm
from crossseed.joint.behaviour import behaviour, behaviour_rows, side_by_side
from crossseed.joint.coder import Codes
from crossseed.joint.conditions import of_condition
from crossseed.joint.config import JointEvaluation, JointTraining
from crossseed.joint.geometry import (
    geometry,
    mean_absolute_cosine,
    projection,
    random_absolute_cosine,
)
from crossseed.joint.maps import Pairs
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    Pairing,
    Side,
    blocks,
    condition_sides,
    correlations,
    decoders,
    joint_sides,
    matched,
)
from crossseed.joint.tables import CELL, HALF_COLUMNS, SIZE_COLUMNS, TEST_COLUMNS
from crossseed.joint.universality import shifted_product, universality
from crossseed.joint.upper import Cache
from crossseed.resume import Resume

WIDTH, CLASSES, LENGTH = 16, 3, 12
EXAMPLES = 240


def settings(**changes):
    own = {
        "expansion": 4, "k": 4, "aux_k": 16, "lr": 5e-3, "batch": 16, "epochs": 12, "weight_decay": 0.0,
        "early_stopping_patience": None, **changes,
    }  # fmt: skip
    return JointTraining.model_validate(own)


MEASURE = JointEvaluation(resamples=100, shifts=3)


class Toy:
    """Mixes tokens by attention to their mean, then an MLP; reads a class off the mean state. Behind `turn` it computes
    the same of turned activations."""

    def __init__(self, seed=0, turn=None):
        rng = np.random.default_rng(seed)

        def weight(*shape):
            return torch.from_numpy(rng.standard_normal(shape) / np.sqrt(shape[0])).float()

        self.into, self.out = weight(WIDTH, 32), weight(32, WIDTH)
        self.head = 2 * weight(WIDTH, CLASSES)
        self.turn = torch.eye(WIDTH) if turn is None else torch.from_numpy(turn).float()

    def __call__(self, h_bld, mask_bl, at_bp=None):
        own = mask_bl.unsqueeze(2).to(h_bld)
        x = h_bld @ self.turn
        mean = (x * own).sum(dim=1, keepdim=True) / own.sum(dim=1, keepdim=True)
        x = x + torch.tanh((x + mean) @ self.into) @ self.out
        logits = ((x * own).sum(dim=1) / own.sum(dim=1)) @ self.head
        return x @ self.turn.T, logits


def sparse_states(n=EXAMPLES, seed=0, pool=0):
    """Sums of few of 40 directions, and where they are tokens."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(100 + pool).standard_normal((40, WIDTH))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    active = rng.random((n, LENGTH, 40)) < 0.06
    h = (active * (0.5 + rng.exponential(size=active.shape))) @ directions
    h += 0.02 * rng.standard_normal(h.shape)
    lengths = rng.integers(4, LENGTH + 1, n)
    return h.astype(np.float32), np.arange(LENGTH) < lengths[:, None]


def cache_of(h, mask, uppers, dtype=np.float32):
    with torch.no_grad():
        passed = [
            u(torch.from_numpy(x), torch.from_numpy(mask)) for u, x in zip(uppers, h, strict=True)
        ]
    special = np.zeros_like(mask)
    special[:, 0] = True
    n = len(mask)
    logits = tuple(one[1].numpy() for one in passed)
    return Cache(
        h=tuple(x.astype(dtype) for x in h),
        next=tuple(one[0].numpy().astype(dtype) for one in passed),
        logits=logits,
        mask=mask, special=special, labels=logits[0].argmax(axis=1),
        tokens=np.zeros(mask.shape, int), document=np.arange(n),
    )  # fmt: skip


TURN = haar_orthogonal(np.random.default_rng(7), WIDTH)
# B's states are A's times TURNᵀ, and its upper half turns them back: h_B @ TURN = h_A.
TWINS = (Toy(), Toy(turn=TURN))


def twins(n=EXAMPLES, seed=0):
    """A, and B which is A turned at the site and turned back above."""
    h, mask = sparse_states(n, seed)
    return cache_of((h, (h @ TURN.T).astype(np.float32)), mask, TWINS)


@pytest.fixture(scope="module")
def cache():
    return twins()


@pytest.fixture(scope="module")
def held_out():
    return twins(120, seed=1)


def fitted(config, cache, carried, path, held_out=None, **more):
    uppers = more.pop("uppers", TWINS)
    return training.train(
        config, carried, uppers, cache, held_out, "cpu", Resume(path / "x", {}), "cell", **more
    )


def pairs_of(cache, n=100):
    return cache.pairs(np.arange(n))


# W


def test_the_planted_rotation_is_recovered_and_only_that_way_round(cache, held_out):
    found = maps.true(pairs_of(cache))
    assert np.abs(found.matrix_dd - TURN).max() < 1e-5
    said = maps.directions(found, pairs_of(held_out))
    assert said.aligned < 1e-5
    assert said.aligned < min(said.transposed, said.raw) / 100
    assert abs(said.determinant) == pytest.approx(1)
    # The published line of the singular value decomposition gives the same.
    a, b, *_ = pairs_of(cache)
    u, _, vt = np.linalg.svd(a.T.astype(float) @ b)
    assert np.allclose(vt.T @ u.T, found.matrix_dd, atol=1e-6)
    assert np.abs(maps.true(pairs_of(cache), center=True).matrix_dd - TURN).max() < 1e-5


def test_a_centred_map_carries_the_mean():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, WIDTH))
    b = a @ TURN.T + 3 * rng.standard_normal(WIDTH)
    pairs = Pairs(a, b, np.arange(300) // 5)
    assert maps.nre(maps.true(pairs, center=True), pairs) < 1e-10
    assert maps.nre(maps.true(pairs), pairs) > 0.1
    assert maps.nre(maps.ridge(pairs, center=True), pairs) < 1e-3
    # What a LayerNorm leaves undecided goes by the rotation, so that there is a way back.
    flat = np.eye(WIDTH) - 1 / WIDTH
    thin = Pairs(a @ flat, a @ flat @ TURN.T, np.arange(300) // 5)
    assert np.linalg.cond(maps.ridge(thin).matrix_dd) < 1.01
    stretch = np.eye(WIDTH) + 0.15 * rng.standard_normal((WIDTH, WIDTH))
    linear = Pairs(a, a @ stretch, np.arange(300) // 5)
    assert maps.nre(maps.ridge(linear), linear) < 1e-3 < maps.nre(maps.true(linear), linear)
    # Of what B does not say of A little is carried, but all has a way back.
    noise = Pairs(a, rng.standard_normal(a.shape), np.arange(300) // 5)
    assert np.linalg.cond(maps.ridge(noise).matrix_dd) <= maps.MOST_SPREAD
    assert maps.nre(maps.ridge(noise), noise) < maps.nre(maps.true(noise), noise)


def test_nulls_of_w_are_what_they_say(cache):
    rng, pairs = np.random.default_rng(1), pairs_of(cache)
    errors = {
        "true": maps.nre(maps.true(pairs), pairs),
        "part": maps.nre(maps.shuffled(rng, pairs, 0.5), pairs),
        "mismatched": maps.nre(maps.shuffled(rng, pairs), pairs),
        "haar": maps.nre(maps.haar(rng, WIDTH), pairs),
        "permutation": maps.nre(maps.permutation(pairs), pairs),
        "identity": maps.nre(maps.unaligned(WIDTH), pairs),
    }
    assert errors["true"] < 1e-5
    assert errors["true"] < errors["part"] < errors["mismatched"]
    assert min(errors["haar"], errors["identity"], errors["mismatched"]) > 0.8
    assert errors["permutation"] < errors["identity"]
    for kind in ("identity", "haar"):
        found = [maps.restricted(rng, pairs, r, kind) for r in (4, WIDTH - 1, WIDTH)]
        for one in found:
            assert np.allclose(one.matrix_dd @ one.matrix_dd.T, np.eye(WIDTH), atol=1e-10)
        assert maps.nre(found[0], pairs) > maps.nre(found[1], pairs)
        assert np.abs(found[2].matrix_dd - TURN).max() < 1e-5
        # The leading directions are carried as by W.
        leading = np.linalg.eigh(pairs.b_nd.T @ pairs.b_nd)[1][:, ::-1][:, :4]
        assert np.allclose(leading.T @ found[0].matrix_dd, leading.T @ TURN, atol=1e-3)
    order = maps.shuffled_rows(rng, 1000, 0.3)
    assert (order != np.arange(1000)).sum() == 300
    assert sorted(order) == list(range(1000))


def test_maps_refuse_what_they_cannot_fit(cache):
    pairs, rng = pairs_of(cache, 3), np.random.default_rng(0)
    with pytest.raises(UserError, match="not of the same tokens"):
        maps.true(pairs._replace(b_nd=pairs.b_nd[1:]))
    with pytest.raises(UserError, match="no tokens"):
        maps.true(pairs.rows(np.zeros(len(pairs.a_nd), bool)))
    with pytest.raises(UserError, match="not finite"):
        maps.true(pairs._replace(a_nd=pairs.a_nd * np.inf))
    with pytest.raises(UserError, match=r"share of 1\.5"):
        maps.shuffled(rng, pairs, 1.5)
    with pytest.raises(UserError, match="17 principal directions of 16"):
        maps.restricted(rng, pairs, 17, "haar")
    with pytest.raises(UserError, match="across halves"):
        maps.ridge(pairs.rows(pairs.sequence_n == 0))
    with pytest.raises(UserError, match="activations of model A are 0"):
        maps.nre(identity(WIDTH), pairs._replace(a_nd=0 * pairs.a_nd))
    with pytest.raises(UserError, match="no way back"):
        maps.back(identity(WIDTH)._replace(matrix_dd=np.diag(np.arange(WIDTH))))


# Losses


def sparse_codes(rng, n_tokens=7, n_latents=20, k=3):
    latents = np.stack([rng.permutation(n_latents)[:k] for _ in range(n_tokens)])
    values = torch.from_numpy(rng.standard_normal((n_tokens, k))).requires_grad_()
    return Codes(values, torch.from_numpy(latents), n_latents)


def dense_codes(values, latents, n_latents):
    found = np.zeros((len(values), n_latents))
    np.put_along_axis(found, latents, values, axis=1)
    return found


def numeric_gradient(loss, x, step=1e-6):
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        found[place] = (loss(up) - loss(down)) / (2 * step)
    return found


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def plain_kl(clean, found):
    p, q = log_softmax(clean), log_softmax(found)
    return (np.exp(p) * (p - q)).sum(axis=1).mean()


def plain_ds(clean, mask, found):
    squares = [((found - clean)[i, j] ** 2).mean() for i, j in zip(*np.nonzero(mask), strict=True)]
    return sum(squares) / len(squares)


def plain_cosines(first, second):
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    cosine = rows[0] @ rows[1].T
    return 1 - (cosine.max(axis=1).mean() + cosine.max(axis=0).mean()) / 2


def check_term(ours, plain, x):
    """A term and its gradient, against NumPy and finite differences."""
    tensor = torch.from_numpy(x).requires_grad_()
    loss = ours(tensor)
    (gradient,) = torch.autograd.grad(loss, tensor)
    assert float(loss.detach()) == pytest.approx(plain(x), abs=1e-6)
    assert np.allclose(gradient.numpy(), numeric_gradient(plain, x), atol=1e-6)


def in_64_bits(monkeypatch):
    """Finite differences want 64 bits; the terms reduce in 32."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)


def test_terms_are_what_they_say(monkeypatch):
    in_64_bits(monkeypatch)
    rng = np.random.default_rng(3)
    clean, logits = rng.standard_normal((2, 5, CLASSES))
    check_term(
        lambda x: losses.kl(torch.from_numpy(clean), x), lambda x: plain_kl(clean, x), logits
    )
    states, found = rng.standard_normal((2, 3, 4, 5))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    check_term(
        lambda x: losses.downstream(x, torch.from_numpy(states), torch.from_numpy(mask), 7),
        lambda x: plain_ds(states, mask, x),
        found,
    )
    check_term(
        lambda x: losses.downstream(x, torch.from_numpy(states), None),
        lambda x: ((x - states) ** 2).mean(),
        found,
    )
    check_term(losses.local, lambda x: (x**2).mean(), found[0])
    error, rhat = rng.standard_normal((2, 6, 5))
    for dead, scale in ((4, 0.25), (16, 1.0), (40, 1.0)):
        check_term(
            lambda x, dead=dead: losses.aux(x, torch.from_numpy(error), dead, 16),
            lambda x, scale=scale: scale * ((x + error) ** 2).mean(),
            rhat,
        )
    target = torch.from_numpy(error).requires_grad_()
    assert not losses.aux(torch.zeros(6, 5), target, 3, 16).requires_grad
    first, second = rng.standard_normal((2, 9, 5))
    unit = [torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (first, second)]
    assert float(losses.mutual(*unit)) == pytest.approx(plain_cosines(first, second))
    check_term(
        lambda x: losses.mutual(x / x.norm(dim=1, keepdim=True), unit[1]),
        lambda x: plain_cosines(x, second),
        first,
    )


@pytest.mark.parametrize(("reduction", "over"), [("mean", 20), ("sum", 1)])
def test_the_cross_loss_of_kept_latents_is_that_of_all(reduction, over):
    rng = np.random.default_rng(4)
    a, b = sparse_codes(rng), sparse_codes(rng)
    # Some latents are kept by both.
    b.latents_nk[:4, :2] = a.latents_nk[:4, :2]
    b.latents_nk[:4, 2] = (b.latents_nk[:4, :2].amax(dim=1) + 1) % 20
    shared = (a.latents_nk[:, :, None] == b.latents_nk[:, None]).any()
    assert shared
    loss = losses.cross(a, b, reduction)
    found = torch.autograd.grad(loss, (a.values_nk, b.values_nk))

    def plain(x, own, other):
        one = dense_codes(x, own.latents_nk.numpy(), 20)
        two = dense_codes(other.values_nk.detach().numpy(), other.latents_nk.numpy(), 20)
        return ((one - two) ** 2).sum() / 7 / over

    own = a.values_nk.detach().numpy()
    assert float(loss.detach()) == pytest.approx(plain(own, a, b), abs=1e-12)
    for gradient, first, second in ((found[0], a, b), (found[1], b, a)):
        x = first.values_nk.detach().numpy()
        wanted = numeric_gradient(lambda x, f=first, s=second: plain(x, f, s), x)
        assert np.allclose(gradient.numpy(), wanted, atol=1e-6)
    assert np.allclose(a.dense().detach(), dense_codes(own, a.latents_nk.numpy(), 20))


def naive_terms(config, sae, batch, uppers, dead):
    """The joint objective by dense products and autograd, in 64 bits, from the equations."""
    w = {name: t.detach().double().requires_grad_() for name, t in sae.coders[0].weights.items()}
    turn = torch.from_numpy(sae.carried.matrix_dd)
    shift = torch.from_numpy(
        sae.carried.shift_out_d - sae.carried.shift_in_d @ sae.carried.matrix_dd
    )
    decoder = w["W_dec"] / w["W_dec"].norm(dim=1, keepdim=True)
    found, codes = {name: [] for name in ("kl", "ds", "local", "aux")}, []
    for m in (0, 1):
        h = batch.coded(m).double()
        mu = h.mean(dim=1, keepdim=True) if config.norm == "layernorm" else 0.0
        z = h - mu
        sigma = z.square().mean(dim=1, keepdim=True).sqrt() if config.norm != "none" else 1.0
        frame = turn if m else torch.eye(WIDTH).double()
        t = shift if m else torch.zeros(WIDTH).double()
        x = h @ frame + t
        u = (x - (mu * torch.ones_like(h)) @ frame) / sigma
        pre = u @ w["W_enc"].T + w["b_enc"]
        kept = pre.topk(config.k, dim=1)
        values = kept.values.relu() if config.relu_after_topk else kept.values
        c = torch.zeros_like(pre).scatter(1, kept.indices, values)
        codes.append(c)
        xhat = sigma * (c @ decoder + w["b_dec"]) + (mu * torch.ones_like(h)) @ frame
        hhat = (xhat - t) @ torch.linalg.inv(frame)
        full = batch.h_mbld[m].double().flatten(0, 1).clone()
        full[batch.coded_n] = hhat
        states, logits = uppers[m](full.view(batch.h_mbld[m].shape), batch.mask_bl)
        p, q = batch.logits_mbc[m].double().log_softmax(1), logits.log_softmax(1)
        found["kl"].append((p.exp() * (p - q)).sum(dim=1).mean())
        difference = (states - batch.next_mbld[m].double()).square()
        found["ds"].append(
            difference[batch.mask_bl].mean() if config.mask_ds else difference.mean()
        )
        found["local"].append((xhat - x).square().mean())
        if len(dead):
            pre_dead = pre[:, dead]
            chosen = pre_dead.topk(min(config.aux_k, len(dead)), dim=1)
            fires = torch.zeros_like(pre_dead).scatter(1, chosen.indices, chosen.values)
            r = sigma * (fires @ decoder[dead])
            scale = min(1, len(dead) / config.aux_k)
            found["aux"].append(scale * (r - (x - xhat).detach()).square().mean())
    terms = {name: torch.stack(values).mean() for name, values in found.items() if values}
    squares = (codes[0] - codes[1]).square()
    terms["cross"] = squares.mean() if config.cross_reduction == "mean" else squares.sum(1).mean()
    return terms, w


class Toy64(Toy):
    def __init__(self, toy):
        self.__dict__ = {name: value.double() for name, value in toy.__dict__.items()}


@pytest.mark.parametrize("n_dead", [0, 5, 30])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "layernorm", "relu_after_topk": False, "cross_reduction": "sum"},
        {"norm": "none", "mask_ds": False, "special_tokens": False},
    ],
)
def test_a_step_has_the_gradients_of_the_equations(cache, changes, n_dead):
    config = settings(**changes)
    rng = np.random.default_rng(5)
    carried = AffineMap(haar_orthogonal(rng, WIDTH), *0.3 * rng.standard_normal((2, WIDTH)))
    sae = JointSAE(config, WIDTH, carried)
    trainer = training.Trainer(config, sae, TWINS, training.plan_of(config, cache))
    batch = cache.batch(np.arange(6), config.special_tokens, "cpu")
    dead = torch.arange(n_dead)
    terms, _ = trainer.terms(batch, [dead if n_dead else None], training=True)
    wanted, weights = naive_terms(config, sae, batch, [Toy64(t) for t in TWINS], dead)
    assert terms.keys() == wanted.keys()
    for name, term in terms.items():
        assert float(term.detach()) == pytest.approx(float(wanted[name].detach()), rel=1e-5), name
        found = torch.autograd.grad(
            term, sae.parameters(), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        plain = torch.autograd.grad(
            wanted[name], list(weights.values()), retain_graph=True, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        for key, one, other in zip(weights, found, plain, strict=True):
            size = max(1.0, float(other.abs().max()))
            assert torch.allclose(one.double(), other, atol=1e-6 * size), (name, key)


def test_frozen_models_and_w_are_no_parameters(cache):
    sae = JointSAE(settings(), WIDTH, maps.true(pairs_of(cache)))
    assert sum(p.numel() for p in sae.parameters()) == 2 * WIDTH * 64 + 64 + WIDTH
    before = sae.arrays()
    trainer = training.Trainer(settings(), sae, TWINS, training.plan_of(settings(), cache))
    # The rate starts at 0, as it does where the optimiser is the study's.
    trainer.step(cache.batch(np.arange(8), True, "cpu"), 0)
    assert np.array_equal(sae.arrays()["W_enc/0"], before["W_enc/0"])
    trainer.step(cache.batch(np.arange(8), True, "cpu"), 1)
    changed = {name for name, x in sae.arrays().items() if not np.array_equal(x, before[name])}
    assert changed == {"W_enc/0", "b_enc/0", "W_dec/0", "b_dec/0"}


def test_pads_keep_their_activations(cache):
    batch = cache.batch(np.arange(6), False, "cpu")
    new = batch.hijacked(1, torch.full_like(batch.coded(1), 9.0))
    coded = cache.coded(False)[:6, : new.shape[1]]
    assert (new.numpy()[coded] == 9).all()
    assert np.array_equal(new.numpy()[~coded], cache.h[1][:6, : new.shape[1]][~coded])
    assert new.shape[1] == cache.mask[:6].sum(axis=1).max()


# Training


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """Joint SAEs of the twins, by map: with W, and without."""
    carried = {"true": maps.true(pairs_of(cache)), "identity": maps.unaligned(WIDTH)}
    return {
        condition: (
            config,
            fitted(config, cache, carried[name], tmp_path_factory.mktemp(condition)),
        )
        for condition in ("4", "5", "6")
        for config, name in [of_condition(settings(), condition)]
    }


def test_the_rotation_is_what_makes_latents_universal(trained, held_out):
    found = {
        condition: universality(
            joint_sides(model.of_arrays(config, one.arrays)), held_out, MEASURE, "t"
        )
        for condition, (config, one) in trained.items()
    }
    for condition in ("5", "6"):
        measured = found[condition].measured
        assert measured["universal_share"].estimate.value > 0.99
        assert measured["top10_r"].estimate.value > 0.999
        assert measured["active"].estimate.value > 30
        # Its own null: latents of the same density that have nothing to do with each other.
        assert measured["universal_share"].null == 0
        assert abs(measured["mean_r"].null) < 0.02
        low, high = measured["mean_r"].estimate[1:]
        assert low <= measured["mean_r"].estimate.value <= high
    without = found["4"].measured
    assert without["universal_share"].estimate.value < 0.05
    assert found["4"].used["top100_r"] == without["active"].estimate.value < 100


def test_training_explains_and_keeps_the_behaviour(trained, held_out):
    config, one = trained["6"]
    losses_of = [row["total"] for row in one.history]
    assert losses_of[-1] < 0.3 * losses_of[0]
    start = JointSAE(config, WIDTH, identity(WIDTH))
    sae = model.of_arrays(config, one.arrays)
    found = behaviour(sae, TWINS, held_out)
    rows = behaviour_rows(found, MEASURE, "t")
    before = behaviour_rows(behaviour(start, TWINS, held_out), MEASURE, "t")
    assert rows["fvu"].value < 0.3 < before["fvu"].value
    assert rows["kl"].value < before["kl"].value / 5
    assert rows["l0"].value <= config.k
    assert rows["accuracy_clean"].value == 100
    assert rows["accuracy_change"].value == pytest.approx(100 - rows["accuracy_hijacked"].value)
    # Twins behave alike: both columns are one, up to rounding.
    assert np.allclose(found.kl_em[:, 0], found.kl_em[:, 1], atol=1e-4)
    again = behaviour_rows(found, MEASURE, "t", independent=found)
    assert again["accuracy_change_from_independent"].value == 0
    with pytest.raises(UserError, match="measure both on the same split"):
        few = found._replace(hijacked_em=found.hijacked_em[1:])
        behaviour_rows(found, MEASURE, "t", independent=few)


def test_the_cross_loss_is_lower_where_it_is_trained(cache, tmp_path):
    """Where W is only half right, the cross loss draws the codes together."""
    half = maps.restricted(np.random.default_rng(2), pairs_of(cache), 12, "haar")
    ends = {}
    for weight in (0.0, 20.0):
        config = settings(lambda_cross=weight, epochs=6)
        one = fitted(config, cache, half, tmp_path)
        sae = model.of_arrays(config, one.arrays)
        batch = cache.batch(np.arange(60), True, "cpu")
        a, b = sae([batch.coded(0), batch.coded(1)]).codes
        own = float(losses.cross(a, b, "mean").detach())
        ends[weight] = own / float(a.dense().detach().square().mean())
    assert ends[20.0] < 0.9 * ends[0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"early_stopping_patience": 2},
        {"kind": "universal", "lambda_cross": 0.0},
        {"kind": "crosscoder", "lambda_cross": 0.0},
    ],
)
def test_resume_after_a_kill_is_bit_exact(cache, held_out, tmp_path, changes):
    config = settings(epochs=3, dead_window=0.1, **changes)
    outside = held_out if config.early_stopping_patience else None
    carried = maps.true(pairs_of(cache))
    whole = fitted(config, cache, carried, tmp_path, outside)

    class Killed(Exception):
        pass

    resume = Resume(tmp_path / "y", {}, seconds=0)

    def run(after_step=lambda step: None):
        return training.train(
            config, carried, TWINS, cache, outside, "cpu", resume, "cell", after_step=after_step
        )

    for stop in (4, 15, 37):

        def kill(step, stop=stop):
            if step == stop:
                raise Killed

        with pytest.raises(Killed):
            run(kill)
    again = run()
    assert again.history == whole.history
    assert (again.steps, again.kept_epoch) == (whole.steps, whole.kept_epoch)
    for name, value in whole.arrays.items():
        assert np.array_equal(value, again.arrays[name]), name


def test_patience_ends_training_and_keeps_the_best(cache, held_out, tmp_path, monkeypatch):
    """Planted: the held-out loss is lowest after the second of eight epochs."""
    planted = [3.0, 2.0, 2.5, 2.0, 9.0]
    monkeypatch.setattr(training.Trainer, "held_out", lambda trainer, cache: planted.pop(0))
    config = settings(epochs=8, early_stopping_patience=2)
    one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path, held_out)
    assert [row["held_out"] for row in one.history] == [3, 2, 2.5, 2]
    assert (one.kept_epoch, planted) == (2, [9])
    assert one.steps == 4 * 15
    shorter = settings(epochs=8, early_stopping_patience=None)
    states = {}

    class Stop(Exception):
        pass

    def look(step):
        if step == 30:
            raise Stop

    resume = Resume(tmp_path / "z", {}, seconds=0)
    with pytest.raises(Stop):
        training.train(
            shorter, maps.true(pairs_of(cache)), TWINS, cache, None, "cpu", resume, "cell",
            after_step=look,
        )  # fmt: skip
    states, _ = resume.load()
    for name, array in one.arrays.items():
        assert np.array_equal(array, states[name]), name


def test_the_held_out_loss_is_that_of_the_trained(cache, held_out, tmp_path):
    config = settings(epochs=2, early_stopping_patience=2)
    one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path, held_out)
    sae = model.of_arrays(config, one.arrays)
    trainer = training.Trainer(config, sae, TWINS, training.plan_of(config, cache))
    wanted = one.history[one.kept_epoch - 1]["held_out"]
    assert trainer.held_out(held_out) == pytest.approx(wanted, rel=1e-6)
    assert one.history[1]["held_out"] < one.history[0]["held_out"]


def test_batches_end_training_and_the_rate_ends_at_zero(cache, tmp_path):
    config = settings(batches=7)
    plan = training.plan_of(config, cache)
    assert plan.steps == 7
    assert fitted(config, cache, identity(WIDTH), tmp_path).steps == 7
    with pytest.raises(UserError, match="k 65 exceeds the 64 latents"):
        JointSAE(settings(k=65), WIDTH, identity(WIDTH))


def test_latents_are_dead_after_a_window_of_silence_in_both_models(cache):
    config = settings(dead_window=0.25, k=2, expansion=8)
    sae = JointSAE(config, WIDTH, maps.true(pairs_of(cache)))
    plan = training.plan_of(config, cache)
    trainer = training.Trainer(config, sae, TWINS, plan)
    assert trainer.dead_after == round(plan.tokens / 4)
    with torch.no_grad():
        sae.coders[0].weights["b_enc"][:64] -= 99.0
    silent = np.zeros(128, int)
    for step in range(6):
        batch = cache.batch(np.arange(16 * step, 16 * step + 16), True, "cpu")
        h = [batch.coded(m) for m in (0, 1)]
        fires = [sae.codes_of(x, m).dense().detach().numpy() for m, x in enumerate(h)]
        wanted = np.flatnonzero(silent >= trainer.dead_after)
        assert trainer.dead()[0] is None or np.array_equal(trainer.dead()[0], wanted)
        assert (trainer.dead()[0] is None) == (not len(wanted))
        terms = trainer.step(batch, step)
        assert ("aux" in terms) == bool(len(wanted))
        silent += len(h[0])
        silent[(fires[0] != 0).any(axis=0) | (fires[1] != 0).any(axis=0)] = 0
        assert np.array_equal(trainer.silent[0].numpy(), silent)
    assert (silent[:64] >= trainer.dead_after).all()
    off = training.Trainer(settings(lambda_aux=0.0), sae, TWINS, plan)
    off.silent += 10**6
    assert off.dead() == [None]


# The others


def test_kinds_share_one_encoder_and_decoder(cache):
    """Every kind reconstructs both models, and natively: back through W, with the norm undone."""
    for kind in ("joint", "mutual", "crosscoder", "universal"):
        config = settings(kind=kind, lambda_cross=float(kind == "joint"), init="distinct")
        sae = JointSAE(config, WIDTH, maps.true(pairs_of(cache)))
        assert len(sae.coders) == (1 if kind in ("joint", "crosscoder") else 2)
        h = [torch.from_numpy(x) for x in pairs_of(cache, 20)[:2]]
        passed = sae(h, training=kind == "crosscoder")
        for m, (error, native) in enumerate(zip(passed.error, passed.native, strict=True)):
            turn = torch.from_numpy(TURN).float() if m else torch.eye(WIDTH)
            assert torch.allclose((native - h[m]) @ turn, error, atol=1e-4)
        if kind in ("mutual", "universal"):
            first, second = (coder.arrays()["W_enc"] for coder in sae.coders)
            assert not np.array_equal(first, second)
    with pytest.raises(UserError, match="takes one model, not 2"):
        JointSAE(settings(kind="independent", lambda_cross=0.0), WIDTH, identity(WIDTH))
    with pytest.raises(UserError, match="takes two models, not 1"):
        JointSAE(settings(), WIDTH, identity(WIDTH), models=(0,))
    with pytest.raises(UserError, match="fit it at the same site"):
        JointSAE(settings(), WIDTH, identity(8))


def test_crosscoders_keep_k_on_average_and_use_a_threshold(cache, held_out, tmp_path):
    config = settings(kind="crosscoder", lambda_cross=0.0)
    carried = maps.true(pairs_of(cache))
    one = fitted(config, cache, carried, tmp_path)
    sae = model.of_arrays(config, one.arrays)
    rows = behaviour_rows(behaviour(sae, TWINS, held_out), MEASURE, "t")
    assert 0.6 * config.k < rows["l0"].value < 1.6 * config.k
    assert rows["fvu"].value < 0.5
    # Concatenated decoder columns have length 1, so that models share it.
    norms = np.linalg.norm(np.split(sae.coders[0].decoder().detach().numpy(), 2, axis=1), axis=2)
    assert np.allclose(np.square(norms).sum(axis=0), 1, atol=1e-5)
    # Encoded from one model alone, latents that were learnt on both agree a little, which chance does not.
    found = universality(joint_sides(sae), held_out, MEASURE, "t")
    assert found.measured["mean_r"].estimate.low > 0.05
    assert abs(found.measured["mean_r"].null) < 0.02


def test_mutual_regularisation_draws_decoders_together(cache, tmp_path):
    ends = {}
    for weight in (0.0, 3.0):
        config = settings(
            kind="mutual", lambda_cross=0.0, lambda_mutual=weight, init="distinct", epochs=5
        )
        one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path)
        sae = model.of_arrays(config, one.arrays)
        rows = [torch.from_numpy(sae.decoder_of(m)) for m in (0, 1)]
        ends[weight] = float(losses.mutual(*rows))
    assert ends[3.0] < 0.5 * ends[0.0]


def test_universal_saes_decode_each_model_from_either_code(cache, held_out, tmp_path):
    """Without W: its own encoder and decoder of each model find what the rotation would."""
    config = settings(kind="universal", lambda_cross=0.0, init="distinct", epochs=24, lr=1e-2)
    one = fitted(config, cache, identity(WIDTH), tmp_path)
    sae = model.of_arrays(config, one.arrays)
    found = universality(joint_sides(sae), held_out, MEASURE, "t")
    assert found.measured["universal_share"].estimate.value > 0.5
    assert found.measured["universal_share"].null < 0.05


@pytest.fixture(scope="module")
def independent(cache, tmp_path_factory):
    """SAEs of A and of B, each of one model alone, from distinct starts."""
    config, _ = of_condition(settings(init="distinct", epochs=24, lr=1e-2), "1")
    path = tmp_path_factory.mktemp("independent")
    return [
        model.of_arrays(
            config,
            fitted(config, cache, identity(WIDTH), path, models=(m,)).arrays,
            models=(m,),
        )
        for m in (0, 1)
    ]


def test_independent_saes_agree_after_matching_or_transfer_alone(independent, cache, held_out):
    a, b = independent
    carried = maps.true(pairs_of(cache))

    def share(condition, pairing=None, pooled=False, null=False):
        sides = condition_sides(condition, a, b, carried)
        found = universality(
            sides, held_out, MEASURE, "t", pairing=pairing, pooled=pooled
        ).measured["universal_share"]
        return found.null if null else found.estimate.value

    def pairing(condition, on):
        sides = condition_sides(condition, a, b, carried)
        return matched(correlations(sides, on))

    by_index = share("1")
    by_matching = share("2", pairing("2", cache))
    assert by_index < 0.1
    assert by_matching > by_index + 0.2
    # What is matched to other tokens is no match, on those that are scored neither.
    assert share("2", pairing("2", cache)._replace(partner=pairing("2", cache).null)) < 0.1
    assert share("2", pairing("2", held_out), null=True) < 0.1
    # A's SAE encodes what the planted W carries over exactly as it encodes A.
    assert share("3'") > 0.99
    # B's SAE has never seen what the third condition shows it.
    assert share("3", pairing("3", cache)) < by_matching
    assert 0 <= share("2", pairing("2", cache), pooled=True) <= 1
    with pytest.raises(UserError, match="condition 5 has no independent SAEs"):
        condition_sides("5", a, b, carried)
    both = side_by_side(*(behaviour(one, TWINS, held_out) for one in independent))
    assert both.kl_em.shape == (len(held_out), 2)
    assert behaviour_rows(both, MEASURE, "t")["fvu"].value < 0.4


def test_unrelated_models_share_nothing_whatever_w(tmp_path):
    """A null: B's states have nothing to do with A's."""
    (h_a, mask), (h_b, _) = sparse_states(seed=10), sparse_states(seed=20, pool=5)
    uppers = Toy(), Toy(3)
    cache = cache_of((h_a, h_b), mask, uppers)
    carried = maps.true(cache.pairs(np.arange(200)))
    one = fitted(settings(), cache, carried, tmp_path, uppers=uppers)
    sae = model.of_arrays(settings(), one.arrays)
    found = universality(joint_sides(sae), cache, MEASURE, "t")
    assert found.measured["universal"].estimate.value == 0
    assert found.measured["active"].estimate.value > 20
    live = found.active_f
    assert abs(found.r_f[live].mean()) < 0.06
    # Shifts leave the spread of chance correlations as it is.
    assert found.null_r_sf[:, live].std() == pytest.approx(found.r_f[live].std(), abs=0.05)


# What is measured


class Fixed:
    """Codes that are given."""

    def __init__(self, codes):
        self.codes_nf = codes
        self.config, self.device, self.n_latents = settings(), "cpu", codes.shape[1]

    def codes_of(self, h_nd, model):
        # The first activation is the token's number.
        return Codes(
            torch.from_numpy(self.codes_nf[h_nd[:, 0].long().numpy()]),
            torch.arange(self.n_latents).expand(len(h_nd), -1),
            self.n_latents,
        )


def numbered(n, length, first=0):
    """A cache whose activations say which token they are."""
    h = np.zeros((n, length, WIDTH), np.float32)
    h[..., 0] = first + np.arange(n * length).reshape(n, length)
    mask = np.ones((n, length), bool)
    return cache_of((h, h), mask, TWINS)


def test_correlations_in_blocks_are_those_of_all_tokens(monkeypatch):
    rng = np.random.default_rng(8)
    n_tokens, n_latents = 40 * 5, 12
    a = np.maximum(rng.standard_normal((n_tokens, n_latents)), 0).astype(np.float32)
    b = np.maximum(0.8 * a + 0.4 * rng.standard_normal(a.shape), 0).astype(np.float32)
    # Dead in both, dead in B, too rare in A, constant.
    a[:, 0] = b[:, 0] = b[:, 1] = 0
    a[9:, 2] = 0
    a[:, 3] = b[:, 3] = 1
    sides = tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))
    cache = numbered(40, 5)
    partner = rng.permutation(n_latents)
    for tokens in (7, 4096):
        monkeypatch.setattr(blocks, "__defaults__", (False, tokens, False))
        for pairing in (None, Pairing(partner, partner)):
            found = universality(sides, cache, MEASURE, "t", pairing=pairing)
            own = b if pairing is None else b[:, partner]
            with np.errstate(invalid="ignore", divide="ignore"):
                wanted = [np.corrcoef(a[:, i], own[:, i])[0, 1] for i in range(n_latents)]
            assert np.allclose(found.r_f, np.nan_to_num(wanted), atol=1e-6)
            active = ((a > 0).sum(axis=0) >= 10) & ((own > 0).sum(axis=0) >= 10)
            assert np.array_equal(found.active_f, active)
            n_active = int(active.sum())
            universal = int((active & (np.nan_to_num(wanted) >= 0.7)).sum())
            values = {key: one.estimate.value for key, one in found.measured.items()}
            assert values["universal"] == universal
            assert values["universal_share"] == pytest.approx(universal / n_active)
            assert values["dead_share"] == pytest.approx(1 - n_active / n_latents)
            order = np.argsort(-np.where(active, (a + own).mean(axis=0), -1))
            top = np.nan_to_num(wanted)[order[: min(10, n_active)]].mean()
            assert values["top10_r"] == pytest.approx(top, abs=1e-6)
            assert found.used == {"top10_r": min(10, n_active), "top100_r": n_active}
            assert found.n_rows == n_tokens
    pooled = universality(sides, cache, MEASURE, "t", pooled=True)
    means = [x.reshape(40, 5, n_latents).mean(axis=1) for x in (a, b)]
    assert pooled.r_f[5] == pytest.approx(
        np.corrcoef(means[0][:, 5], means[1][:, 5])[0, 1], abs=1e-6
    )
    assert pooled.n_rows == 40
    product = shifted_product(a, b, 31)
    assert np.allclose(product, (a * np.roll(b, 31, axis=0)).sum(axis=0), atol=1e-4)


def test_a_null_of_latents_that_share_their_density(monkeypatch):
    """Planted: latents fire independently, as densely as can be; the null says what they have, and so does r."""
    rng = np.random.default_rng(9)
    a, b = ((rng.random((3000, 40)) < 0.3).astype(np.float32) for _ in range(2))
    sides = tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))
    found = universality(sides, numbered(300, 10), MEASURE, "t")
    low, high = found.measured["mean_r"].estimate[1:]
    assert low <= 0 <= high
    assert abs(found.measured["mean_r"].null) < 0.02
    assert found.null_r_sf.std() == pytest.approx(1 / np.sqrt(3000), rel=0.3)


def test_matching_in_sample_makes_correlations_of_nothing():
    """A null: latents that have nothing to do with each other, matched on the tokens they are scored on and on others; what
    matching makes of nothing is in its null too. Planted beside it: latents of which half are the same in another order."""
    rng = np.random.default_rng(14)
    cache = numbered(40, 10)

    def sides(same=0):
        a, b = ((rng.random((400, 60)) < 0.2).astype(np.float32) for _ in range(2))
        b[:, :same] = a[:, :same][:, ::-1]
        return tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))

    def measured(scored, on, pooled=False):
        pairing = matched(correlations(on, cache))
        found = universality(scored, cache, MEASURE, "t", pairing=pairing, pooled=pooled)
        assert found.null_r_sf.shape == (1, 60)
        return found.measured

    scored = sides()
    held_out = measured(scored, sides())["mean_r"]
    assert abs(held_out.estimate.value) < 0.03
    assert abs(held_out.null) < 0.03
    in_sample = measured(scored, scored)
    assert in_sample["mean_r"].estimate.value > 0.08
    assert in_sample["mean_r"].null == pytest.approx(in_sample["mean_r"].estimate.value, abs=0.03)
    # Tokens are pooled after they were shifted, as they were matched.
    pooled = measured(scored, scored, pooled=True)["mean_r"]
    assert pooled.estimate.value > 0.05
    assert pooled.null == pytest.approx(pooled.estimate.value, abs=0.05)
    planted = sides(30)
    found = measured(planted, planted)
    assert found["universal"].estimate.value == 30
    assert found["universal"].null == 0
    assert found["mean_r"].estimate.value > found["mean_r"].null + 0.3


def test_geometry_has_its_floor(trained):
    config, one = trained["6"]
    sae = model.of_arrays(config, one.arrays)
    unit = decoders(joint_sides(sae))
    found = geometry(unit)
    assert found["cosine_random"] == pytest.approx(0.2, abs=0.01)
    assert 0.1 < found["cosine"] < 0.4
    few = np.arange(sae.n_latents) < 2
    rows = sae.decoder_of(0)[:2]
    assert geometry(unit, few)["cosine"] == pytest.approx(abs(rows[0] @ rows[1]), abs=1e-6)
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((2000, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert mean_absolute_cosine(rows) == pytest.approx(random_absolute_cosine(24), rel=0.01)
    assert random_absolute_cosine(1) == pytest.approx(1)
    assert math.isnan(mean_absolute_cosine(rows[:1]))
    axes = haar_orthogonal(rng, 24)[:2]
    planar = rng.standard_normal((50, 2)) * [3, 1] @ axes
    found = projection(planar)
    assert sum(found.shares) == pytest.approx(1)
    centred = planar - planar.mean(axis=0)
    assert np.allclose(np.linalg.norm(found.coordinates, axis=1), np.linalg.norm(centred, axis=1))
    assert found.shares[0] > found.shares[1]


# How many tokens decide W


def test_sample_size_sees_what_is_decided():
    """Planted: two strong directions that few sequences decide, and weak ones under noise that none do."""
    rng = np.random.default_rng(12)
    scale = np.r_[30, 20, np.full(WIDTH - 2, 1.0)]
    a = rng.standard_normal((2000, WIDTH)) * scale
    b = a @ TURN.T + 4 * rng.standard_normal(a.shape)
    pairs, held_out = (
        Pairs(a[part], b[part], np.arange(1000) // 5) for part in (slice(1000), slice(1000, 2000))
    )
    cross = maps.cross_product(maps.moments(pairs))
    counts = samplesize.shared_components(cross)
    assert counts["k95_squared"] == counts["k99_squared"] == 2
    assert counts["k95_squared"] <= counts["k95"] <= counts["k99"] <= WIDTH
    within = samplesize.axes(cross, 2)
    sizes = samplesize.curve(pairs, held_out, [5, 10, 40, 160, 200], within)
    assert [one.tokens for one in sizes] == [25, 50, 200, 800, 1000]
    assert sizes[-1].distance.whole == pytest.approx(0, abs=1e-6)
    assert sizes[0].distance.whole > sizes[2].distance.whole > sizes[3].distance.whole
    first = sizes[0].distance
    assert first.whole**2 == pytest.approx(first.inside**2 + first.outside**2)
    assert first.of_most == pytest.approx(first.whole / 8)
    assert first.of_random == pytest.approx(first.whole / np.sqrt(32))
    # The little that is decided soon is what counts for the error: there halves know far more of each other than chance.
    assert first.of_most_inside < 0.05 < first.of_most
    assert first.inside_of_random < 0.2 < first.outside_of_random
    assert sizes[-1].flat is None
    assert sizes[3].flat
    doubled = (sizes[1].nre - sizes[2].nre) / sizes[1].nre / 2
    assert sizes[1].gain == pytest.approx(doubled)
    apart = samplesize.halves(pairs, within, False, 6)
    # A tiny spread goes with a large distance.
    assert apart.sd < apart.mean / 5
    assert apart.inside_mean < apart.outside_mean / 10
    assert apart.inside_of_random < 0.2 < apart.outside_of_random
    assert apart.of_random == pytest.approx(apart.mean / np.sqrt(2 * WIDTH))
    with pytest.raises(UserError, match="not ascending"):
        samplesize.curve(pairs, held_out, [10, 5], within)
    with pytest.raises(UserError, match="not ascending"):
        samplesize.curve(pairs, held_out, [201], within)
    with pytest.raises(UserError, match="1 sequences have no halves"):
        samplesize.halves(pairs.rows(pairs.sequence_n == 0), within)
    with pytest.raises(UserError, match="no cross-product"):
        samplesize.shared_components(0 * cross)


def test_the_distance_of_random_maps_is_that_of_haar_draws():
    rng = np.random.default_rng(13)
    q = [haar_orthogonal(rng, 128) for _ in range(2)]
    within = samplesize.axes(rng.standard_normal((128, 128)), 10)
    found = samplesize.distance(*q, within)
    assert found.of_random == pytest.approx(1, rel=0.02)
    # Small as it is, it is what chance gives.
    assert found.inside < found.outside / 5
    assert found.of_most_inside < 0.3
    assert found.inside_of_random == pytest.approx(1, abs=0.2)
    assert found.outside_of_random == pytest.approx(1, rel=0.02)
    all_of_it = samplesize.distance(*q, samplesize.axes(rng.standard_normal((128, 128)), 128))
    assert all_of_it.inside_of_random == pytest.approx(found.of_random)
    assert math.isnan(all_of_it.outside_of_random)


def test_halves_of_models_that_have_nothing_in_common_are_as_far_apart_as_chance():
    """A null: activations without means that have nothing to do with each other."""
    rng = np.random.default_rng(15)
    a, b = rng.standard_normal((2, 4000, 32))
    # Planted beside it: two strong directions in common.
    scale = np.r_[20, 10, np.full(30, 0.5)]
    shared = a * scale @ haar_orthogonal(rng, 32)
    for planted, other in ((False, b), (True, shared + rng.standard_normal(b.shape))):
        pairs = Pairs(a * scale if planted else a, other, np.arange(4000) // 10)
        (one,) = fits.halves({"fit": pairs}, False, 10, "t")
        *_, size, _ = fits.sizes(pairs, pairs, [50, 100, 200, 400], False, "t")
        assert {*CELL, *one} == set(HALF_COLUMNS)
        assert {*CELL, *size} == set(SIZE_COLUMNS)
        if planted:
            assert one["inside_mean"] < one["null_inside"] / 5
            assert size["inside"] < size["null_inside"] / 5
            assert size["nre"] < size["null_nre"] / 2
        else:
            assert one["of_random"] == pytest.approx(1, abs=0.1)
            for own, null in (("mean", "null_mean"), ("inside_mean", "null_inside")):
                assert one[own] == pytest.approx(one[null], rel=0.15)
            assert size["inside"] == pytest.approx(size["null_inside"], rel=0.3)
            assert size["nre"] == pytest.approx(size["null_nre"], rel=0.1)


def test_how_much_is_in_memory_does_not_grow_with_the_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "BLOCK_ROWS", 256)
    width, length = 32, 16
    rng, peaks = np.random.default_rng(16), []
    for n in (200, 1600):
        shape = (n, length, width)
        h = [np.memmap(tmp_path / f"{n}{m}", np.float16, "w+", shape=shape) for m in "ab"]
        for x in h:
            x[:] = rng.standard_normal(shape)
        cache = Cache(
            h=tuple(h), next=tuple(h), logits=(np.zeros((n, 2), np.float32),) * 2,
            mask=np.ones((n, length), bool), special=np.zeros((n, length), bool),
            labels=np.zeros(n, int), tokens=np.zeros((n, length), np.int8), document=np.arange(n),
        )  # fmt: skip
        train = cache.coded_tokens(True)
        tracemalloc.start()
        rows = list(fits.sizes(train, train, [10, 50, 100], False, "t"))
        halves = list(fits.halves({"train": train}, False, 2, "t"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Eight times the tokens: masks and sums of sequences alone are more.
    assert peaks[1] < 2 * peaks[0] < 2 * n * length * width
    # What lies in memory as a whole says the same.
    pairs = cache.pairs(np.arange(n))
    assert [row["tokens"] for row in rows] == [160, 800, 1600]
    for one, other in zip(rows, fits.sizes(pairs, pairs, [10, 50, 100], False, "t"), strict=True):
        assert one["distance"] == pytest.approx(other["distance"], rel=1e-6)
        assert one["nre"] == pytest.approx(other["nre"], rel=1e-9)
    (other,) = fits.halves({"train": pairs}, False, 2, "t")
    assert halves[0]["tokens"] == other["tokens"] == n * length
    assert halves[0]["mean"] == pytest.approx(other["mean"], rel=1e-6)


# Maps against others


def test_nulls_are_centred_where_w_is():
    """Planted: B is A turned, and each has a mean of its own; what a map does not carry of it is no fault of its matrix."""
    rng = np.random.default_rng(17)
    h, mask = sparse_states(60, seed=17)
    own = 2 * rng.standard_normal((2, WIDTH)).astype(np.float32)
    cache = cache_of((h + own[0], h @ TURN.T.astype(np.float32) + own[1]), mask, TWINS)
    pairs = cache.pairs(np.arange(60))
    errors = {
        (null, center): maps.nre(nulls.map_of(Arm(null), pairs, center, "t"), pairs)
        for null in ("true", "identity", "random")
        for center in (False, True)
    }
    assert errors["true", True] < 1e-5 < errors["true", False]
    # Against the spread about the mean alone, not the means' distance.
    spread = np.sqrt(
        np.square(pairs.a_nd - pairs.a_nd.mean(axis=0)).sum() / np.square(pairs.a_nd).sum()
    )
    for null in ("identity", "random"):
        assert errors[null, True] < 1.8 * spread < errors[null, False]
    config, _ = of_condition(settings(init="distinct"), "1")
    sae = JointSAE(config, WIDTH, identity(WIDTH), models=(0,))
    true = maps.true(pairs, center=True)
    rows = {
        (row["map"], row["against"], row["statistic"]): row
        for row in nulls.post_hoc_rows(
            sae, cache, cache, {"true": true}, True, JointEvaluation(active_tokens=1),
            {"random": 99, "mismatched": 99}, "t",
        )
    }  # fmt: skip
    assert {key[0] for key in rows} == {"true", "identity", "permutation"}
    assert all({*CELL, *row} == set(TEST_COLUMNS) for row in rows.values())
    for against in ("random", "mismatched"):
        one = rows["true", against, "nre"]
        assert one["value"] == pytest.approx(errors["true", True], abs=1e-6)
        assert one["null_best"] < 1.8 * spread
        # What encoders read of the two is the same, for each token by its own scale.
        assert rows["true", against, "encoder_r"]["value"] == pytest.approx(
            np.mean(correlations_of(sae, cache, true, pairs)), abs=1e-5
        )
        assert rows["true", against, "encoder_r"]["p"] == 0.01
    assert rows["identity", "random", "nre"]["value"] == pytest.approx(errors["identity", True])
    # Of shuffled tokens W has the mean and no more: with it, as far off as a random rotation.
    assert rows["true", "mismatched", "nre"]["null_mean"] == pytest.approx(
        rows["true", "random", "nre"]["null_mean"], rel=0.1
    )


def correlations_of(sae, cache, carried, pairs):
    """Of what each encoder reads in A, and in B through a map, token by token."""
    a, b = (sae.own_frame(torch.from_numpy(x)) for x in (pairs.a_nd, pairs.b_nd))
    shift = carried.shift_out_d - carried.shift_in_d @ carried.matrix_dd
    u = b.u_nd.double().numpy() @ carried.matrix_dd + shift / b.scale_n1.double().numpy()
    rows = nulls.active_encoder(sae, cache, 1)
    pre = [x @ rows.T for x in (a.u_nd.double().numpy(), u)]
    return [np.corrcoef(x, y)[0, 1] for x, y in zip(pre[0].T, pre[1].T, strict=True)]


def test_tests_without_training_say_that_no_latent_is_active(cache):
    config, _ = of_condition(settings(), "1")
    sae = JointSAE(config, WIDTH, identity(WIDTH), models=(0,))
    least = JointEvaluation(active_tokens=10**6)
    found = {"true": maps.true(pairs_of(cache))}
    rows = list(nulls.post_hoc_rows(sae, cache, cache, found, False, least, {"random": 99}, "t"))
    assert len(rows) == 3 * 3
    for row in rows:
        if row["statistic"] == "nre":
            assert row["p"] == (0.01 if row["map"] == "true" else pytest.approx(row["p"]))
            assert row["latents"] is None
        else:
            assert row["latents"] == 0
            assert math.isnan(row["value"])
            assert math.isnan(row["p"])


def test_latents_are_chosen_without_a_look_at_what_is_scored(monkeypatch):
    """Planted: a latent that tells a class on `fit`, in both models, and never fires on `eval`."""
    rng = np.random.default_rng(18)
    fit, scored = numbered(40, 10), numbered(40, 10, first=400)
    labels = np.arange(40) % 2
    fit, scored = (dataclasses.replace(x, labels=labels) for x in (fit, scored))
    codes = (rng.random((800, 3)) < 0.3).astype(np.float32)
    codes[:400, 0] = np.repeat(labels == 0, 10)
    codes[400:, 0] = 0
    sides = tuple(Side(Fixed(codes), m) for m in (0, 1))
    first, *_ = effects.chosen(sides, fit, scored, ["x", "y"], 1, MEASURE)
    assert (first.label, first.latent, first.universal) == ("x", 0, False)
    assert first.tells == (1, 1)
    # What does not fire on enough tokens of `fit` is not chosen, whatever it does elsewhere.
    codes[:400, 0] = 0
    codes[:5, 0] = 1
    codes[400:, 0] = np.repeat(labels == 0, 10)
    assert 0 not in {
        one.latent for one in effects.chosen(sides, fit, scored, ["x", "y"], 3, MEASURE)
    }


# The bench


def test_the_bench_has_every_part_of_a_step(monkeypatch, capsys):
    path = Path(__file__).parent.parent / "benchmarks" / "joint.py"
    spec = importlib.util.spec_from_file_location("joint_bench", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench, "SIZES", ((16, 2, 4),))
    rows = bench.joint("here", repeats=1)
    assert all(set(row) == set(bench.COLUMNS) for row in rows)
    alive = {row["what"]: row for row in rows if not row["dead"]}
    dead = {row["what"]: row for row in rows if row["dead"]}
    parts = {"passes above the site", "SAE with AuxK", "losses", "Adam", "silent latents"}
    assert set(alive) == parts | {bench.FLOOR, bench.STEP}
    assert set(dead) - set(alive) == {"of this AuxK"}
    for of in (alive, dead):
        assert of[bench.FLOOR]["ratio_to_floor"] == of[bench.STEP]["share_of_step"] == 1


# Refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({f"lambda_{name}": -0.5}, rf"lambda_{name}\s.*-0\.5") for name in losses.TERMS),
        ({"kind": "universal"}, r"lambda_cross 1\.0 has no meaning for kind universal"),
        ({"lambda_mutual": 2.0}, r"lambda_mutual 2\.0 has no meaning for kind joint"),
        (
            {"kind": "crosscoder", "lambda_cross": 0.0, "relu_after_topk": False},
            "relu_after_topk false",
        ),
        ({"norm": "batch"}, "norm"),
        ({"kk": 3}, "kk"),
    ],
)
def test_settings_are_refused_by_name_and_value(changes, said):
    with pytest.raises(ValidationError, match=f"(?s){said}"):
        settings(**changes)


def test_defaults_are_the_published_settings():
    config = JointTraining()
    assert config.expansion * 768 == 6144
    sizes = [6144 * 768 + 6144, 768 * 6144 + 768]
    assert sum(sizes) == 9_444_096
    arrays = coder.initial_arrays(8, 64, 42)
    assert sum(x.size for x in arrays.values()) == 2 * 8 * 64 + 64 + 8
    assert np.allclose(arrays["W_dec"].T @ arrays["W_dec"], np.eye(8), atol=1e-5)
    one, name = of_condition(config, "4")
    assert (one.lambda_cross, name) == (0, "identity")
    assert of_condition(config, "6") == (config, "true")
    assert of_condition(config, "5")[1] == "true"
    assert of_condition(config, "1")[0].kind == "independent"


def test_caches_refuse_what_cannot_be_scored(cache):
    def changed(**changes):
        return dataclasses.replace(cache, **changes)

    with pytest.raises(UserError, match="unlabelled split"):
        changed(labels=cache.labels - 5)
    with pytest.raises(UserError, match="unlabelled split"):
        changed(labels=cache.labels + 5)
    with pytest.raises(UserError, match="next of B is of shape"):
        changed(next=(cache.next[0], cache.next[1][:-1]))
    with pytest.raises(UserError, match="no tokens"):
        changed(mask=cache.mask & False)
    alone = changed(special=cache.mask)
    config = settings(special_tokens=False)
    sides = joint_sides(JointSAE(config, WIDTH, identity(WIDTH)))
    with pytest.raises(UserError, match="nothing but special tokens"):
        next(blocks(sides, alone))


def test_what_cannot_be_read_is_said_with_its_file_and_split(cache):
    where = "a.h5, b.h5: eval"

    def changed(**changes):
        return dataclasses.replace(cache, where=where, **changes)

    with pytest.raises(UserError, match=f"{where}: labels from"):
        changed(labels=cache.labels - 5)
    with pytest.raises(UserError, match=f"{where}: cached next of B"):
        changed(next=(cache.next[0], cache.next[1][:-1]))
    with pytest.raises(UserError, match=f"{where}: a cached example has no tokens"):
        changed(mask=cache.mask & False)
    alone = changed(special=cache.mask)
    sae = JointSAE(settings(special_tokens=False), WIDTH, identity(WIDTH))
    with pytest.raises(UserError, match=f"{where}: an example has nothing but special"):
        next(blocks(joint_sides(sae), alone))
    broken = changed(h=(cache.h[0] * np.nan, cache.h[1]))
    for tokens in (broken.coded_tokens(True), broken.pairs(np.arange(9))):
        with pytest.raises(UserError, match=f"{where}: activations that W is fitted on are not"):
            maps.true(tokens)
    with pytest.raises(UserError, match=f"{where}: 240 sequences|{where}: sizes"):
        samplesize.curve(changed().coded_tokens(True), changed().coded_tokens(True), [999], None)
    nothing = np.zeros((2, 3), bool)
    empty = Scored(nothing.astype(int), nothing, nothing, np.zeros(2, int), None, np.arange(2))
    with pytest.raises(UserError, match=r"c\.h5: fit has no tokens"):
        caches._trimmed(empty, "c.h5: fit")


def test_training_refuses_a_patience_it_cannot_have(cache, held_out, tmp_path):
    config = settings(early_stopping_patience=3)
    with pytest.raises(UserError, match="early_stopping_patience 3 needs held-out"):
        fitted(config, cache, identity(WIDTH), tmp_path)
    with pytest.raises(UserError, match="early_stopping_patience None uses no held-out"):
        fitted(settings(), cache, identity(WIDTH), tmp_path, held_out)
    broken = dataclasses.replace(cache, next=(cache.next[0] * np.nan, cache.next[1]))
    with pytest.raises(TrainingDiverged, match="not finite at step"):
        fitted(settings(), broken, identity(WIDTH), tmp_path)
    assert not list(tmp_path.glob(".*resume"))


def test_half_precision_trains_as_well(cache, held_out, tmp_path):
    fvu = {}
    for precision in ("float32", "bf16-mixed"):
        config = settings(precision=precision, epochs=4)
        one = fitted(config, cache, maps.true(pairs_of(cache)), tmp_path)
        assert one.arrays["W_enc/0"].dtype == np.float32
        sae = model.of_arrays(config, one.arrays)
        found = behaviour(sae, TWINS, held_out)
        fvu[precision] = behaviour_rows(found, MEASURE, "t")["fvu"].value
    assert fvu["bf16-mixed"] == pytest.approx(fvu["float32"], rel=0.1)
    assert fvu["bf16-mixed"] != fvu["float32"]


def test_mixed_precision_compares_passes_of_one_precision(cache, monkeypatch):
    """Planted: an SAE that gives back what it reads. What is left of the losses above would be rounding."""
    config = settings(precision="bf16-mixed")
    sae = JointSAE(config, WIDTH, identity(WIDTH))
    monkeypatch.setattr(JointSAE, "_native", lambda self, y_nd, one, model: one.u_nd * one.scale_n1)
    trainer = training.Trainer(config, sae, TWINS, training.plan_of(config, cache))
    terms, _ = trainer.terms(cache.batch(np.arange(32), True, "cpu"), None, training=True)
    assert float(terms["ds"].detach()) < 1e-10
    assert float(terms["kl"].detach()) < 1e-7
    assert float(terms["local"].detach()) > 0.01


def test_a_gpu_is_told_to_give_the_same_bits(cache, tmp_path, monkeypatch):
    """Flags that can be set without one."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn

    def flags():
        return (
            torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark,
            cuda.math_sdp_enabled(), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
        )  # fmt: skip

    before = flags()
    with training.reproducible("cuda"):
        assert flags() == (True, True, False, True, False, False)
    assert flags() == before
    inside, asked = [], []

    @contextlib.contextmanager
    def spied(device):
        inside.append(device)
        yield
        inside.clear()

    monkeypatch.setattr(training, "reproducible", spied)
    fitted(
        settings(batches=2), cache, identity(WIDTH), tmp_path,
        after_step=lambda step: asked.append(list(inside)),
    )  # fmt: skip
    assert asked == [["cpu"], ["cpu"]]


def test_mixed_precision_leaves_what_w_carries_exact(cache):
    sae = JointSAE(settings(precision="bf16-mixed"), WIDTH, maps.true(pairs_of(cache)))
    h = torch.from_numpy(pairs_of(cache, 5).b_nd)
    exact = sae.normalised(h, 1).u_nd
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sae.normalised(h, 1).u_nd, exact)
