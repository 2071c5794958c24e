"""A planted pair of classifiers, and jobs of joint SAEs on it through the verbs."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from crossseed import cli
from crossseed.activations import write_tokens
from crossseed.alignment.maps import haar_orthogonal
from crossseed.cohorts.base import DEVELOPMENT, TokenSet
from crossseed.cohorts.classifier import upper as uppers
from crossseed.joint.conditions import Condition, of_condition
from crossseed.joint.config import JointEvaluation, TrainingSettings

WIDTH, WORDS, LENGTH = 16, 30, 12


PAD, CLS, SEP = 0, 1, 2


SITE = "blocks.0.hook_normalized_resid_post"


TURN = haar_orthogonal(np.random.default_rng(7), WIDTH)


CELL = {
    "cohort": "planted", "source_seed": 42, "target_seed": 137, "checkpoint": "final", "site": SITE,
}  # fmt: skip


SETTINGS = TrainingSettings(
    expansion=4, k=4, aux_k=16, lr=1e-2, batch=16, epochs=8, early_stopping_patience=3
)


EVALUATION = JointEvaluation(resamples=100, shifts=3)


def model():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LENGTH, pad_token_id=PAD, num_labels=3,
        initializer_range=0.5,
    )  # fmt: skip
    found = BertForSequenceClassification(config)
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, torch.nn.LayerNorm):
                # As it starts, it leaves a direction in which nothing decides a rotation.
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return found


class Turned:
    """A model whose activations at the site are turned, and turned back above: it computes the same function."""

    def __init__(self, upper, turn_dd):
        self.upper, self.turn = upper, torch.from_numpy(turn_dd).float()
        for name in ("where", "width", "alike", "scored"):
            setattr(self, name, getattr(upper, name))

    def __call__(self, h_bld, mask_bl, at_bp=None):
        return self.upper(h_bld @ self.turn, mask_bl)

    def clean(self, tokens_nt, at_np=None):
        found = self.upper.clean(tokens_nt)
        return found._replace(site_ntd=found.site_ntd @ self.turn.T)


@pytest.fixture(scope="module")
def whole():
    return uppers.Upper(model(), SITE, "planted", "cpu", "words", (CLS, SEP))


@pytest.fixture
def pair(whole, monkeypatch):
    """What `load` gives for the two members; a test may put another in."""
    found = {42: whole, 137: Turned(whole, TURN)}
    monkeypatch.setattr(uppers, "load", lambda spec, paths, site, device: found[spec["seed"]])
    return found


def token_set(whole, n, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, LENGTH + 1, n)
    tokens = rng.integers(3, WORDS, (n, LENGTH))
    tokens[:, 0] = CLS
    places = np.arange(LENGTH)
    tokens[places == lengths[:, None] - 1] = SEP
    tokens[places >= lengths[:, None]] = PAD
    label = whole.clean(tokens).logits_nc.argmax(dim=1).numpy()
    labels = {"class": np.broadcast_to(label[:, None], tokens.shape).copy()}
    return TokenSet(tokens, tokens != PAD, labels, np.arange(n))


@pytest.fixture(scope="module")
def tokens(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens.h5"
    sizes = {"fit": 80, "train": 240, "eval": 120, DEVELOPMENT: 40}
    sets = {split: token_set(whole, n, seed) for seed, (split, n) in enumerate(sizes.items())}
    write_tokens(path, {}, sets, {})
    return path


def run(verb, spec, *options):
    code = cli.main([verb, "--spec", json.dumps(spec), *map(str, options)])
    assert code == 0
    return code


def cache_spec(seed, **changes):
    member = {"kind": "classifier", "cohort": "planted", "seed": seed, "checkpoint": "final"}
    return {
        "kind": "classifier", "cohort": "planted", "site": SITE, "member": member, "dtype": "float32",
        "source": f"origin{seed}:{SITE}", "development": None, "predictions": None, **changes,
    }  # fmt: skip


def pair_spec(**more):
    roles = {"source": 42, "target": 137}
    return {
        **CELL,
        "kind": "classifier",
        "caches": {role: f"origin{seed}:{SITE}" for role, seed in roles.items()},
        "members": {role: cache_spec(seed)["member"] for role, seed in roles.items()},
        **more,
    }


@pytest.fixture
def files(pair, tokens, tmp_path):
    """Options that name the caches of the pair."""
    for seed in pair:
        run("joint_cache", cache_spec(seed), "--tokens", tokens, "--out", tmp_path / f"{seed}.h5")
    return ("--source", tmp_path / "42.h5", "--target", tmp_path / "137.h5")


@pytest.fixture
def maps(files, tmp_path):
    spec = pair_spec(center=False, special_tokens=True)
    run("joint_maps", spec, *files, "--out", tmp_path / "maps.h5")
    return tmp_path / "maps.h5"


def training_spec(condition, name=None, models=(0, 1), **changes):
    settings, carried = of_condition(SETTINGS.model_copy(update=changes), condition)
    told = {"settings": settings.model_dump(), "map": carried}
    return pair_spec(training=name or condition, models=list(models), **told)


def trained(spec, files, maps, folder):
    out = folder / f"{spec['training']}.safetensors"
    options = ["--history", folder / f"{spec['training']}.csv", "--out", out]
    run("joint_train", spec, *files, "--maps", maps, *options)
    return out


def evaluated(condition, saes, files, maps, folder, independent=()):
    row = Condition(condition)
    names = [path.name.removesuffix(".safetensors") for path in saes]
    others = [path.name.removesuffix(".safetensors") for path in independent]
    spec = pair_spec(
        condition=row._asdict(), trainings=names, independent=others, lambda_cross=1.0,
        evaluation=EVALUATION.model_dump(), map=row.map,
    )  # fmt: skip
    out = folder / f"{row.name}-table.csv"
    options = ["--saes", *saes, "--independent", *independent, "--maps", maps]
    run("joint_evaluate", spec, *files, *options, "--latents", folder / "latents.csv", "--out", out)
    return rows_of(out)


def rows_of(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def row_of(table, measure, **wanted):
    wanted = {"rows": "tokens", **wanted}
    (row,) = [
        row
        for row in table
        if row["measure"] == measure and all(row[k] in (v, "") for k, v in wanted.items())
    ]
    return row


def value(table, measure, **wanted):
    return float(row_of(table, measure, **wanted)["value"])


def null(table, measure):
    return float(row_of(table, measure)["null"])
