"""Language models cut after a block: the parts together are the whole, and gradients flow to the activations alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.hub.upper import Upper
from crossseed.errors import UserError
from crossseed.joint.upper import check_pair

WORDS, WIDTH, LAYERS, LENGTH = 50, 16, 3, 10
SITE = "blocks.1.hook_resid_post"


def model(family, width=WIDTH, words=WORDS):
    import transformers as t

    torch.manual_seed(0)
    same = {"vocab_size": words, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    if family == "gpt_neox":
        config = t.GPTNeoXConfig(hidden_size=width, intermediate_size=32, **same)
        return t.GPTNeoXForCausalLM(config).eval()
    if family == "llama":
        config = t.LlamaConfig(hidden_size=width, intermediate_size=32, **same)
        return t.LlamaForCausalLM(config).eval()
    config = t.GPT2Config(vocab_size=words, n_embd=width, n_layer=LAYERS, n_head=2, n_positions=32)
    return t.GPT2LMHeadModel(config).eval()


def tokens(n=6, seed=0):
    found = np.random.default_rng(seed).integers(0, WORDS, (n, LENGTH))
    keep = np.ones_like(found, bool)
    keep[:, 0] = False
    return TokenSet(found, keep, {}, np.arange(n) // 2)


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "llama"])
def test_the_parts_are_the_whole(family):
    whole = model(family)
    cut = Upper(whole, family, SITE, "tiny", "cpu")
    scored = cut.scored(tokens(), 4, "a")
    clean = cut.clean(scored.tokens_nt, scored.at_np)
    with torch.no_grad():
        found = whole(torch.from_numpy(scored.tokens_nt), output_hidden_states=True)
    # The last entry is normed; those before are outputs of blocks.
    assert torch.allclose(clean.site_ntd, found.hidden_states[2], atol=1e-5)
    at = torch.from_numpy(scored.at_np)
    wanted = torch.take_along_dim(found.logits, at[:, :, None], dim=1)
    assert torch.allclose(clean.logits_npv, wanted, atol=1e-5)
    mask = torch.from_numpy(scored.mask_nt)
    above = cut(clean.site_ntd, mask, at)
    assert torch.allclose(above.next_ntd, clean.next_ntd, atol=1e-5)
    assert torch.allclose(above.logits_npv, clean.logits_npv, atol=1e-5)
    # Elsewhere the model is as it was.
    with torch.no_grad():
        again = whole(torch.from_numpy(scored.tokens_nt)).logits
    assert torch.equal(again, found.logits)
    changed = clean.site_ntd.clone().requires_grad_()
    cut(changed, mask, at).logits_npv.square().sum().backward()
    assert changed.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in whole.parameters())
    # What comes after a prediction does not decide it.
    last = scored.at_np.max(axis=1)
    assert all((changed.grad[row, end + 1 :] == 0).all() for row, end in enumerate(last))


def test_predictions_are_drawn_alike_for_all_members_and_said_by_the_tokens():
    cuts = [Upper(model("gpt2"), "gpt2", SITE, name, "cpu") for name in "ab"]
    found = [cut.scored(tokens(), 4, "cohort", "eval") for cut in cuts]
    assert np.array_equal(found[0].at_np, found[1].at_np)
    one = found[0]
    assert one.at_np.shape == one.label.shape == (6, 4)
    rows = np.arange(6)[:, None]
    assert np.array_equal(one.label, one.tokens_nt[rows, one.at_np + 1])
    assert (np.diff(one.at_np, axis=1) > 0).all()
    assert one.at_np.max() < LENGTH - 1
    assert np.array_equal(one.special_nt, ~tokens().keep_nt)
    assert one.mask_nt.all()
    # Over many sequences every position that has a next token is drawn as often.
    many = cuts[0].scored(tokens(3000), 4, "x").at_np
    counts = np.bincount(many.ravel(), minlength=LENGTH - 1)
    assert counts.min() > 0.9 * counts.mean()
    assert cuts[0].scored(tokens(), 99, "x").at_np.shape == (6, LENGTH - 1)


def test_what_cannot_be_cut_or_passed_is_refused():
    whole = model("gpt_neox")
    for site, said in (
        ("blocks.2.hook_resid_post", "last block, so that there is no next one"),
        ("blocks.1.hook_mlp_out", "within a block"),
        ("blocks.9.hook_resid_post", "there are layers 0 to 2"),
    ):
        with pytest.raises(UserError, match=f"model 'tiny'.*{said}"):
            Upper(whole, "gpt_neox", site, "tiny", "cpu")
    cut = Upper(whole, "gpt_neox", SITE, "tiny", "cpu")
    h, at = torch.zeros(2, LENGTH, WIDTH), torch.zeros(2, 1, dtype=torch.long)
    mask = torch.ones(2, LENGTH, dtype=torch.bool)
    with pytest.raises(UserError, match="8 wide, but it is 16 wide"):
        cut(h[..., :8], mask, at)
    with pytest.raises(UserError, match="none are given"):
        cut(h, mask)
    mask[0, -1] = False
    with pytest.raises(UserError, match="padding"):
        cut(h, mask, at)
    with pytest.raises(UserError, match="50 embeddings"):
        cut.clean(np.full((1, 4), WORDS), np.zeros((1, 1), np.int64))
    short = Upper(model("gpt2"), "gpt2", SITE, "short", "cpu")
    with pytest.raises(UserError, match="longer than its 32 positions"):
        short.clean(np.zeros((1, 33), np.int64), np.zeros((1, 1), np.int64))


def test_models_that_are_no_pair_are_refused():
    one = Upper(model("gpt2"), "gpt2", SITE, "one", "cpu", "words")
    check_pair(one, Upper(model("gpt2"), "gpt2", SITE, "two", "cpu", "words"))
    for other, said in (
        (
            Upper(model("gpt2", width=8), "gpt2", SITE, "two", "cpu", "words"),
            "width is 16, there 8",
        ),
        (Upper(model("gpt2", words=60), "gpt2", SITE, "two", "cpu", "words"), "vocabulary is 50"),
        (Upper(model("gpt2"), "gpt2", SITE, "two", "cpu", "others"), "tokenizer is words, there"),
    ):
        with pytest.raises(UserError, match=f"'one' and model 'two' are no pair: {said}"):
            check_pair(one, other)
