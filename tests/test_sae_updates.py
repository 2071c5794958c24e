"""A step of SAE training in pieces: blocks of latents against all at once, and against PyTorch's own Adam and clipping."""

import numpy as np
import pytest
import torch
from small_saes import CONFIGS

from crossseed.sae import training

WIDTH, LATENTS, STEPS = 16, 48, 4
# Seven does not divide the latents.
ROWS = 7


def trainer(make, grad_clip, absorb=True):
    arrays = training.initial_arrays(WIDTH, LATENTS, False, "updates")
    config = make(grad_clip=grad_clip, warmup_steps=0, absorb_norms=absorb)
    return training.Trainer(config, arrays, "cpu")


def batches():
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.standard_normal((200, WIDTH), np.float32)) for _ in range(STEPS)]


@pytest.mark.parametrize("grad_clip", [None, 1e-3])
@pytest.mark.parametrize("make", CONFIGS)
def test_blocks_of_latents_are_updated_as_all_at_once(make, grad_clip, monkeypatch):
    whole = trainer(make, grad_clip)
    assert len(whole.blocks) == 1
    monkeypatch.setattr(training, "UPDATE_BYTES", 4 * WIDTH * ROWS)
    parts = trainer(make, grad_clip)
    assert len(parts.blocks) == 7
    for number, batch in enumerate(batches()):
        whole.step(batch, number)
        parts.step(batch, number)
    for name, found in parts.tensors().items():
        np.testing.assert_allclose(found, whole.tensors()[name], rtol=2e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("absorb", [True, False])
@pytest.mark.parametrize("grad_clip", [None, 1e-3])
@pytest.mark.parametrize("make", CONFIGS)
def test_a_step_is_adam_on_projected_and_clipped_gradients(make, grad_clip, absorb, monkeypatch):
    monkeypatch.setattr(training, "UPDATE_BYTES", 4 * WIDTH * ROWS)
    ours, copy = (trainer(make, grad_clip, absorb) for _ in range(2))
    leaves = [torch.nn.Parameter(value.detach().clone()) for value in copy.trained]
    adam = torch.optim.Adam(leaves, lr=1.0, eps=1e-8)
    for number, batch in enumerate(batches()):
        ours.step(batch, number)
        with torch.no_grad():
            for value, leaf in zip(copy.trained, leaves, strict=True):
                value.copy_(leaf)
            copy.gradients.clear()
            copy.objective.gradients(copy.weights, batch, copy.gradients)
            fired = copy.gradients.activity > 0
            copy.weights.silent_tokens.add_(len(batch)).masked_fill_(fired, 0)
            unit = copy.weights.W_dec
            along = (copy.gradients.W_dec * unit).sum(dim=1, keepdim=True)
            copy.gradients.W_dec -= along * unit
        for leaf, gradient in zip(leaves, copy.gradients.in_order(), strict=True):
            leaf.grad = gradient.clone()
        if grad_clip is not None:
            before = torch.nn.utils.clip_grad_norm_(leaves, grad_clip)
            assert before > grad_clip
        adam.param_groups[0]["lr"] = ours.config.lr * training.rate_factor(number, ours.config)
        adam.step()
        with torch.no_grad():
            for value, leaf in zip(copy.trained, leaves, strict=True):
                value.copy_(leaf)
            norms = copy.weights.W_dec.norm(dim=1)
            copy.weights.W_dec.div_(norms[:, None])
            if absorb:
                copy.weights.W_enc.mul_(norms)
                copy.weights.b_enc.mul_(norms)
                copy.objective.rescale(copy.weights, norms)
            for value, leaf in zip(copy.trained, leaves, strict=True):
                leaf.copy_(value)
    for name, found in ours.arrays().items():
        # Rounding of a gradient near 0 may turn its first step around: Adam's steps know signs alone.
        near = np.isclose(found, copy.arrays()[name], rtol=1e-3, atol=1e-5)
        assert near.mean() > 0.99, name


@pytest.mark.parametrize("absorb", [None, True, False])
@pytest.mark.parametrize("make", CONFIGS)
def test_norms_go_where_they_are_said_to_to_the_last_bit(make, absorb, monkeypatch):
    """Ours and Adam alone, whose norms are then absorbed, or dropped: the same bytes. None: nothing is said of them."""
    said = {} if absorb is None else {"absorb_norms": absorb}
    # A rate at which norms are far from 1.
    config = make(lr=0.05, warmup_steps=0, **said)
    arrays = training.initial_arrays(WIDTH, LATENTS, False, "updates")
    ours, plain = (training.Trainer(config, arrays, "cpu") for _ in range(2))
    for number, batch in enumerate(batches()):
        ours.step(batch, number)
        weights = plain.weights
        with torch.no_grad(), monkeypatch.context() as patched:
            # Adam alone: rows divided by one.
            patched.setattr(
                torch.linalg, "vector_norm", lambda unit, dim, out: out.copy_(torch.ones(len(unit)))
            )
            plain.step(batch, number)
        norms = torch.linalg.vector_norm(weights.W_dec, dim=1)
        assert (norms - 1).abs().max() > 1e-3
        weights.W_dec.div_(norms[:, None])
        if absorb is not False:
            weights.W_enc.mul_(norms)
            weights.b_enc.mul_(norms)
            plain.objective.rescale(weights, norms)
        for name, found in ours.tensors().items():
            assert np.array_equal(found, plain.tensors()[name]), name
    torch.testing.assert_close(ours.weights.W_dec.norm(dim=1), torch.ones(LATENTS))
