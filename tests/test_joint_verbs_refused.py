"""Joint SAEs through the verbs: what is no pair, of another pair, or cannot be scored is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from joint_jobs import (
    CLS,
    LENGTH,
    SEP,
    SITE,
    TURN,
    WIDTH,
    Turned,
    cache_spec,
    files,
    maps,
    model,
    pair,
    pair_spec,
    token_set,
    tokens,
    trained,
    training_spec,
    whole,
)

from crossseed import cli
from crossseed.activations import write_tokens
from crossseed.cohorts.base import DEVELOPMENT, TokenSet
from crossseed.cohorts.classifier import upper as uppers
from crossseed.joint.files import read_sae

__all__ = ["files", "maps", "pair", "tokens", "whole"]


def refused(verb, spec, *options):
    return cli.main([verb, "--spec", json.dumps(spec), *map(str, options)])


def test_models_that_are_no_pair_are_refused(files, maps, pair, tmp_path, capsys):
    options = [*files, "--maps", maps, "--history", tmp_path / "h", "--out", tmp_path / "o"]
    other = uppers.Upper(model(), SITE, "other", "cpu", "other words", (CLS, SEP))
    pair[137] = other
    assert refused("joint_train", training_spec("6"), *options) == 2
    said = capsys.readouterr().err
    assert "'planted' and model 'other' are no pair: tokenizer is words, there other words" in said
    spec = training_spec("6", k=65)
    pair[137] = Turned(pair[42], TURN)
    assert refused("joint_train", spec, *options) == 2
    assert "k 65 exceeds the 64 latents of the dictionary" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_caches_of_other_models_are_refused(files, maps, tmp_path, capsys):
    options = [*files, "--out", tmp_path / "o"]
    stale = pair_spec(center=False, special_tokens=True)
    stale["caches"] = {**stale["caches"], "target": "another"}
    assert refused("joint_maps", stale, *options) == 2
    assert "the file is stale" in capsys.readouterr().err
    turned = ("--source", files[3], "--target", files[1], "--out", tmp_path / "o")
    assert refused("joint_maps", pair_spec(center=False, special_tokens=True), *turned) == 2
    assert "the file is stale" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "float16", "scale": 1e5}, "not finite in float16"),
        ({"length": LENGTH + 1}, "longer than its 12 positions"),
        ({"label": 3}, "labels from 0 to 3 are not classes 0 to 2"),
        ({"label": -1}, "-1 means an unlabelled split"),
    ],
)
def test_what_cannot_be_cached_or_scored_is_refused(
    change, said, pair, whole, tmp_path, capsys, monkeypatch
):
    sets = {name: token_set(whole, 20, 5) for name in ("fit", "train", "eval", DEVELOPMENT)}
    if "length" in change:
        longer = np.full((20, change["length"]), 5)
        labels = {"class": np.zeros_like(longer)}
        sets["eval"] = TokenSet(longer, longer > 0, labels, np.arange(20))
    if "label" in change:
        labels = sets["fit"].labels["class"].copy()
        labels[:1], labels[1:2] = change["label"], 0
        sets["fit"] = sets["fit"]._replace(labels={"class": labels})
    if "scale" in change:
        pair[42] = pair[137] = Turned(whole, TURN * change["scale"])
    write_tokens(tmp_path / "tokens.h5", {}, sets, {})
    dtype = change.get("dtype", "float32")
    status = 0
    for seed in (42, 137):
        spec = cache_spec(seed, dtype=dtype)
        out = tmp_path / f"{seed}.h5"
        status += refused("joint_cache", spec, "--tokens", tmp_path / "tokens.h5", "--out", out)
    if status == 0:
        spec = pair_spec(center=False, special_tokens=True)
        both = ("--source", tmp_path / "42.h5", "--target", tmp_path / "137.h5")
        assert refused("joint_maps", spec, *both, "--out", tmp_path / "maps.h5") == 2
    told = capsys.readouterr().err
    assert said in told
    if "label" in change:
        assert f"{tmp_path / '137.h5'}: fit: labels" in told


def test_an_sae_of_another_pair_is_refused(files, maps, tmp_path):
    sae = trained(training_spec("4", epochs=1), files, maps, tmp_path)
    assert read_sae(sae, pair_spec(), "4").sae.n_latents == 4 * WIDTH
    from crossseed.errors import UserError

    with pytest.raises(UserError, match="made for training = 4, but this job needs 5"):
        read_sae(sae, pair_spec(), "5")
    with pytest.raises(UserError, match="made for target_seed = 137"):
        read_sae(sae, {**pair_spec(), "target_seed": 7}, "4")
