"""Text classifiers: folders, members, and the part above a site."""

import json

import numpy as np
import pytest
import torch
from classifiers import (
    COHORT,
    SHIPPED,
    SITE,
    changed,
    home,
    made,
    paths,
    plain,
    reading,
    seed42,
    seed137,
    tokenizer_files,
    train,
)

from crossseed import specs
from crossseed.cohorts.base import FINAL
from crossseed.cohorts.classifier import (
    data,
    members,
    training,
    upper,
)
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.errors import UserError
from crossseed.joint.upper import check_pair
from crossseed.store import read_table

__all__ = ["home", "seed42", "seed137"]


def test_plain_transformers_loads_the_folder_and_finds_the_logged_accuracy(home, seed42):
    from transformers import AutoTokenizer

    folder = home / "seed42" / FINAL
    model, tokenizer = plain(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    told = specs.tokens(changed(), COHORT)["data"]
    texts, label_n = data.sentences(told, SHIPPED).parts["eval"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        hit = model(**inputs).logits.argmax(-1).numpy() == label_n
    found = read_table(home / "seed42/quality.csv", training.QUALITY_COLUMNS)
    (logged,) = (
        float(r["value"])
        for r in found
        if r["measure"] == "accuracy" and r["distribution"] == "eval"
    )
    assert hit.mean() == pytest.approx(logged)
    says = json.loads((folder / "config.json").read_text())["crossseed"]
    assert (says["seed"], says["classes"]) == (42, ["negative", "positive"])


def test_activations_are_those_of_the_model_that_sees_no_padding(home, seed42):
    folder = home / "seed42" / FINAL
    sets, _ = made(home)
    tokens_nt, keep_nt = sets["eval"].tokens_nt, sets["eval"].keep_nt
    assert not keep_nt.all()
    sites = [SITE, "blocks.1.hook_mlp_out"]
    member = members.load(reading(), paths(folder), sites, "cpu")
    found = member.activations(tokens_nt, sites)
    model = plain(folder)
    for row, keep in enumerate(keep_nt):
        ids = torch.from_numpy(tokens_nt[row][keep][None].astype(np.int64))
        with torch.no_grad():
            alone = model(ids, output_hidden_states=True).hidden_states[1][0].numpy()
        np.testing.assert_allclose(found[SITE][row][keep], alone, atol=2e-6)
    on_device = member.activations_on_device(torch.from_numpy(tokens_nt), sites)
    assert np.array_equal(on_device[SITE].numpy(), found[SITE])


def test_a_folder_of_another_seed_is_refused(home, seed42):
    with pytest.raises(UserError, match="weights of seed 42, expected 137"):
        members.load(reading(137), paths(home / "seed42" / FINAL), [SITE], "cpu")


@pytest.fixture(scope="module")
def cut(home, seed42):
    return upper.load(reading(), paths(home / "seed42" / FINAL), SITE, "cpu")


def test_below_and_above_a_site_make_the_whole_model(home, cut):
    model = plain(home / "seed42" / FINAL)
    sets, _ = made(home)
    tokens_nt = sets["eval"].tokens_nt
    attend = torch.from_numpy(sets["eval"].keep_nt)
    with torch.no_grad():
        whole = model(
            torch.from_numpy(tokens_nt.astype(np.int64)),
            attention_mask=attend.long(),
            output_hidden_states=True,
        )
    clean = cut.clean(tokens_nt)
    assert torch.equal(clean.attend_nt, attend)
    for found, expected in (
        (clean.site_ntd[attend], whole.hidden_states[1][attend]),
        (clean.next_ntd[attend], whole.hidden_states[2][attend]),
        (clean.logits_nc, whole.logits),
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert cut.classes == ["negative", "positive"]


def test_gradients_flow_to_the_activations_alone(home, cut):
    sets, _ = made(home)
    clean = cut.clean(sets["eval"].tokens_nt[:3])
    site = clean.site_ntd.clone().requires_grad_(True)
    above = cut(site, clean.attend_nt)
    (above.logits_nc.sum() + above.next_ntd[clean.attend_nt].sum()).backward()
    assert site.grad[clean.attend_nt].abs().sum() > 0
    # What is at padding reaches no token.
    assert site.grad[~clean.attend_nt].abs().max() == 0
    assert not any(p.requires_grad or p.grad is not None for p in cut.model.parameters())
    assert not cut.model.training


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("blocks.1.hook_normalized_resid_post", "is the output of its last block"),
        ("blocks.0.hook_mlp_out", "is within a block"),
        ("blocks.7.hook_normalized_resid_post", "does not exist"),
    ],
)
def test_a_site_with_nothing_above_it_is_refused(home, seed42, site, said):
    with pytest.raises(UserError, match=said):
        upper.load(reading(), paths(home / "seed42" / FINAL), site, "cpu")


def test_activations_of_another_model_are_refused_by_value(cut):
    with pytest.raises(UserError, match="activations are 15 wide, but it is 16 wide"):
        cut(torch.zeros(2, 5, 15), torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(UserError, match="sequences of 33 tokens are longer than its 32 positions"):
        cut(torch.zeros(2, 33, 16), torch.ones(2, 33, dtype=torch.bool))
    with pytest.raises(UserError, match="sequences of 33 tokens are longer than its 32 positions"):
        cut.clean(np.ones((1, 33), np.int64))


def test_members_that_are_no_pair_are_refused_by_name_and_value(home, seed137, cut, tmp_path):
    other = upper.load(reading(137), paths(home / "seed137" / FINAL), SITE, "cpu")
    check_pair(cut, other)
    train(home, tmp_path / "wide", model__width=32)
    wide = upper.load(reading(), paths(tmp_path / "wide" / FINAL), SITE, "cpu")
    with pytest.raises(UserError, match="no pair: width is 16, there 32"):
        check_pair(cut, wide)
    tk.make(specs.tokenizer(changed(data__seed=1), COHORT), tokenizer_files(tmp_path), SHIPPED)
    train(tmp_path, tmp_path / "words", data__seed=1)
    words = upper.load(reading(), paths(tmp_path / "words" / FINAL), SITE, "cpu")
    with pytest.raises(UserError, match=r"no pair: (tokenizer|vocabulary) is "):
        check_pair(cut, words)
