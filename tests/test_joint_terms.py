"""Terms of the objective of joint SAEs and their gradients, beside the equations written plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint_toy import CLASSES, TWINS, WIDTH, Toy, cache, pairs_of, settings

from crossseed.alignment.maps import AffineMap, haar_orthogonal
from crossseed.joint import losses, maps, training
from crossseed.joint.coder import Codes
from crossseed.joint.model import JointSAE

__all__ = ["cache"]


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
