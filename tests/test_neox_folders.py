"""Folders of trained language models: plain transformers reads them, and those of others or damaged ones are refused."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from small_neox import (
    COHORT,
    STEPS,
    home,
    identity_of,
    quality,
    run_in,
    seed0,
    seed1,
)

from crossseed import specs
from crossseed.cohorts.base import FINAL
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.neox import members, training
from crossseed.cohorts.neox import tokenizer as tk
from crossseed.cohorts.neox.config import NAMES
from crossseed.cohorts.text.corpus import part_of
from crossseed.errors import UserError

__all__ = ["home", "seed0", "seed1"]


@pytest.mark.parametrize(("checkpoint", "step"), [("step10", 10), (FINAL, STEPS)])
def test_plain_transformers_loads_the_folders_and_finds_the_logged_loss(
    home, seed0, checkpoint, step
):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM

    folder = home / "seed0" / checkpoint
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, GPTNeoXForCausalLM)
    assert tokenizer.eos_token == tk.END_OF_TEXT
    assert model.config.eos_token_id == tokenizer.eos_token_id
    # By hand: held-out documents, joined, in rows, loss over all but each row's first token.
    texts = [path.read_text() for path in (home / "corpus").iterdir()]
    held_out = sorted((t for t in texts if part_of(t, 0) >= 0.5), key=lambda t: part_of(t, 0))
    text = "".join(t + tk.END_OF_TEXT for t in held_out)
    ids = torch.tensor(tokenizer(text).input_ids[: 16 * 24]).reshape(16, 24)
    with torch.no_grad():
        losses = [float(model(input_ids=row[None], labels=row[None]).loss) for row in ids]
    assert np.mean(losses) == pytest.approx(quality(home)[step, "loss_nats"], abs=1e-5)


def test_the_untrained_folder_holds_the_initial_weights(home, seed0):
    from transformers import AutoModelForCausalLM

    shape = run_in(home).cohorts[COHORT].model
    model = AutoModelForCausalLM.from_pretrained(home / "seed0" / "step0")
    expected = training.make_model(0, shape, 24, model.config.eos_token_id).state_dict()
    found = model.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def reading(home, seed=0, checkpoint=FINAL):
    return specs.extract(run_in(home), COHORT, seed, checkpoint)


def load(folder, spec, sites=("blocks.1.hook_resid_post",)):
    return members.load(spec, [folder / name for name in NAMES], list(sites), "cpu")


def test_activations_equal_those_of_the_plain_model(home, seed0):
    from transformers import AutoModelForCausalLM

    folder = home / "seed0" / FINAL
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    kept = {}
    for layer, block in enumerate(model.gpt_neox.layers):
        site = names.name(layer, "hook_resid_post")
        block.register_forward_hook(
            lambda _, __, out, site=site: kept.update(
                {site: out[0] if isinstance(out, tuple) else out}
            )
        )
    ids = np.random.default_rng(0).integers(320, size=(5, 24))
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(ids), output_hidden_states=True)
    member = load(folder, reading(home), ("blocks.0.hook_resid_pre", *kept))
    found = member.activations(ids, ["blocks.0.hook_resid_pre", *kept])
    assert len(kept) == 2
    assert member.width("blocks.0.hook_resid_pre") == 16
    assert np.array_equal(found["blocks.0.hook_resid_pre"], out.hidden_states[0].numpy())
    for site, value in kept.items():
        assert np.array_equal(found[site], value.numpy()), site


def test_members_have_digests_of_their_own(home, seed0, seed1):
    digests = {
        load(home / f"seed{seed}" / checkpoint, reading(home, seed, checkpoint)).digest
        for seed in (0, 1)
        for checkpoint in ("step0", "step10", FINAL)
    }
    assert len(digests) == 6


def test_folders_say_what_their_weights_are(home, seed0):
    for checkpoint in ("step0", "step10", FINAL):
        told = json.loads(seed0[f"{checkpoint}/config.json"])["crossseed"]
        assert (told["cohort"], told["seed"], told["checkpoint"]) == (COHORT, 0, checkpoint)
        assert told["text"] == identity_of(home)["inputs"]["text"]


@pytest.fixture
def folder(home, seed0, tmp_path):
    shutil.copytree(home / "seed0" / FINAL, tmp_path / FINAL)
    return tmp_path / FINAL


def edited(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(change(config)))


def test_a_folder_of_another_member_is_refused_by_name(home, seed0, folder):
    load(folder, reading(home))
    for key, other in (
        ("seed", reading(home, seed=1)),
        ("checkpoint", reading(home, checkpoint="step10")),
        ("cohort", {**reading(home), "cohort": "other"}),
    ):
        with pytest.raises(UserError, match=rf"{re.escape(str(folder))}: weights of {key} .*own"):
            load(folder, other)


def test_swapped_or_damaged_weights_are_refused_by_name(home, seed0, folder):
    weights = folder / "model.safetensors"
    original = weights.read_bytes()
    damaged = bytearray(original)
    damaged[-3] ^= 1
    for data in (seed0["step10/model.safetensors"], bytes(damaged), original[:-8], b"", None):
        weights.unlink() if data is None else weights.write_bytes(data)
        with pytest.raises(UserError, match=rf"{re.escape(str(weights))}: .*delete it"):
            load(folder, reading(home))
    weights.write_bytes(original)
    load(folder, reading(home))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: {k: v for k, v in config.items() if k != "crossseed"},
        lambda config: [config],
        lambda config: {**config, "crossseed": "yes"},
        lambda config: {**config, "use_parallel_residual": False},
        lambda config: {**config, "hidden_act": "relu"},
    ],
    ids=["no-provenance", "a-list", "a-word", "blocks-in-sequence", "another-activation"],
)
def test_an_edited_or_foreign_config_is_refused_by_name(home, folder, change):
    edited(folder, change)
    with pytest.raises(UserError, match=rf"{re.escape(str(folder))}.*delete .*run again"):
        load(folder, reading(home))


@pytest.mark.parametrize("text", [None, "", "{", "\0"])
def test_an_unreadable_config_is_refused_by_name(home, folder, text):
    (folder / "config.json").unlink() if text is None else (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=rf"{re.escape(str(folder))}.*: not readable.*run again"):
        load(folder, reading(home))
