"""Models resumed at a place: own activations change nothing, others arrive, gradients are true."""

import numpy as np
import pytest
import torch
from hub_folders import LAYERS, MODELS, TOKENS_NT, all_sites, folder, source

from crossseed.cohorts.dyck import sites
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.hub import interventions
from crossseed.errors import UserError

__all__ = ["folder"]

TOY_TOKENS = np.random.default_rng(0).integers(1, 9, (3, 12)).astype(np.uint8)


def loud_toy(seed=3, volume=8):
    model = DyckTransformer(seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(volume)  # an untrained model would predict nothing
    return model


def noise(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def places_of(subject, more=()):
    return [*more, *(place for found in subject.components.values() for place in found)]


def check(subject, tokens, places, clean):
    """At every place: own activations give the clean logits, others other ones; several changes at
    once are what each gives alone, and chosen positions what all give there."""
    chosen = np.random.default_rng(1).random(tokens.shape) < 0.5
    chosen[0, 0] = True
    for place in places:
        start = subject.start(tokens, place)
        own = start.value_ntd
        for found, expected in zip(start.logits(own.clone()), clean, strict=True):
            assert torch.allclose(found, expected, atol=1e-4), place
        changed = own + noise(own)
        both = torch.cat([own, changed])
        for everywhere, there, alone in zip(
            start.logits(both), start.logits(both, chosen), start.logits(changed), strict=True
        ):
            n = len(tokens)
            assert torch.allclose(everywhere[n:], alone, atol=2e-5), place
            assert (everywhere[n:] - everywhere[:n]).abs().max() > 1e-3, place
            expected = everywhere.view(2, n, *everywhere.shape[1:])[:, torch.from_numpy(chosen)]
            assert torch.allclose(there, expected, atol=2e-5), place


@pytest.mark.parametrize("name", MODELS)
def test_language_models_resume_at_every_place(folder, name):
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    with torch.no_grad():
        tokens = torch.from_numpy(TOKENS_NT.astype(np.int64))
        clean = [subject.model(input_ids=tokens, use_cache=False).logits.float()]
    check(subject, TOKENS_NT, places_of(subject, all_sites(folder, name)), clean)
    with torch.no_grad():
        again = subject.model(input_ids=tokens, use_cache=False).logits
    assert torch.equal(again, clean[0]), "a change stayed"


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_model_says_what_one_does_that_runs_whole(folder, name):
    """What was kept of the blocks up to the place has nothing of the change in it."""
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    tokens = torch.from_numpy(TOKENS_NT.astype(np.int64))
    for place in places_of(subject, all_sites(folder, name)):
        start = subject.start(TOKENS_NT, place)
        changed = start.value_ntd + noise(start.value_ntd)
        (resumed,) = start.logits(changed)
        with torch.no_grad(), subject.tapped(start.place, lambda _, changed=changed: changed):
            whole = subject.model(input_ids=tokens, use_cache=False).logits.float()
        assert torch.allclose(resumed, whole, atol=2e-5), place


def test_nothing_before_an_mlp_runs_again(folder):
    """Neither the blocks below it, nor the attention beside it, nor it itself."""
    subject = interventions.load_source(source(folder, "neox"), "float32", "cpu")
    start = subject.start(TOKENS_NT, "blocks.1.hook_mlp_out")
    ran = []
    for name, module in subject.blocks.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = lambda x, name=name, run=module.forward: (ran.append(name), run(x))[1]
    start.logits(start.value_ntd)
    above = range(2, len(subject.blocks))
    assert {int(name.split(".")[0]) for name in ran} == set(above)
    assert len(ran) == 4 * len(above)


def test_the_toy_resumes_at_every_place():
    model = loud_toy()
    with torch.no_grad():
        clean = list(model(torch.from_numpy(TOY_TOKENS).long()))
    subject = DyckSubject(model)
    check(subject, TOY_TOKENS, places_of(subject, sites.SITES), clean)


@pytest.mark.parametrize("name", MODELS)
def test_activations_are_those_that_are_read(folder, name):
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    for site in all_sites(folder, name):
        read = subject.reader.activations_on_device(TOKENS_NT, [site])[site]
        assert torch.allclose(subject.start(TOKENS_NT, site).value_ntd, read, atol=1e-6), site


@pytest.mark.parametrize("name", ["neox-sequential", "gpt2", "llama"])
def test_a_change_at_resid_mid_reaches_the_sum_and_the_norm(folder, name):
    """Replaced by zero, the block's output is what its MLP makes of zero."""
    layer = LAYERS - 1
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    start = subject.start(TOKENS_NT, f"blocks.{layer}.hook_resid_mid")
    with subject.tapped(start.place, torch.zeros_like):
        read = subject.reader.activations_on_device(
            TOKENS_NT, [f"blocks.{layer}.hook_{at}" for at in ("resid_post", "mlp_out")]
        )
    post, mlp = (read[f"blocks.{layer}.hook_{at}"] for at in ("resid_post", "mlp_out"))
    assert torch.allclose(post, mlp, atol=1e-5)


@pytest.mark.parametrize("name", ["neox", "llama", "gpt2"])
def test_an_mlp_taken_out_is_taken_out_of_its_blocks_contribution(folder, name):
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    layer = LAYERS - 1
    block = subject.start(TOKENS_NT, f"blocks.{layer}.hook_contribution")
    mlp = subject.start(TOKENS_NT, f"blocks.{layer}.hook_mlp_out")
    (without,) = block.logits(block.value_ntd - mlp.value_ntd)
    (same,) = mlp.logits(torch.zeros_like(mlp.value_ntd))
    assert torch.allclose(without, same, atol=2e-5)


@pytest.mark.parametrize("name", ["neox", "llama", "gpt2"])
def test_heads_together_make_up_attention(folder, name):
    """Taken out one by one, what they write is, up to the bias, the whole of attention's output."""
    subject = interventions.load_source(source(folder, name), "float32", "cpu")
    layer = LAYERS - 1
    site = f"blocks.{layer}.hook_attn_out"
    whole = subject.start(TOKENS_NT, site).value_ntd
    left = torch.zeros_like(whole)
    for head in range(subject.n_heads):
        place = subject._place(f"blocks.{layer}.attn.hook_z.{head}")
        with subject.tapped(place, torch.zeros_like):
            left += whole - subject.reader.activations_on_device(TOKENS_NT, [site])[site]
    # The bias of the output matrix stays whatever heads are out.
    constant = (whole - left).flatten(0, 1)
    assert torch.allclose(constant, constant[:1].expand_as(constant), atol=2e-5)


def test_gradients_are_those_of_small_changes(folder):
    toy = DyckSubject(loud_toy())
    cases = [(toy, TOY_TOKENS, "blocks.0.attn.hook_z.2"), (toy, TOY_TOKENS, sites.mid(1))]
    neox = interventions.load_source(source(folder, "neox"), "float32", "cpu")
    cases += [(neox, TOKENS_NT, place) for place in places_of(neox)[:1]]
    cases += [(neox, TOKENS_NT, "blocks.0.hook_contribution")]
    for subject, tokens, place in cases:
        start = subject.start(tokens, place)
        value = start.value_ntd.clone().requires_grad_(True)
        weights = [noise(x, 1) for x in start.logits(start.value_ntd)]
        total = sum((w * x).sum() for w, x in zip(weights, start.logits(value), strict=True))
        (gradient,) = torch.autograd.grad(total, value)
        step = gradient * (1e-2 / gradient.norm())

        def at(x, start=start, weights=weights):
            found = zip(weights, start.logits(x), strict=True)
            return sum((w.double() * logits.double()).sum() for w, logits in found)

        own = start.value_ntd
        found = (at(own + step) - at(own - step)) / 2
        assert float(found) == pytest.approx(float((gradient * step).sum()), rel=2e-2), place


def test_places_that_do_not_exist_are_refused(folder):
    neox = interventions.load_source(source(folder, "neox"), "float32", "cpu")
    with pytest.raises(UserError, match="layers 0 to"):
        neox.start(TOKENS_NT, "blocks.99.hook_resid_post")
    with pytest.raises(UserError, match="heads"):
        neox.start(TOKENS_NT, "blocks.0.attn.hook_z.99")
    with pytest.raises(UserError, match="expected one of"):
        DyckSubject(loud_toy()).start(TOY_TOKENS, "blocks.7.hook_resid_post")
