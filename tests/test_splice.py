"""Splicing: a model's own activations change nothing, others' change what they should."""

import numpy as np
import pytest
import torch
from hub_folders import TOKENS_NT, folder, source

from crossseed import splice as study
from crossseed.activations import open_split
from crossseed.alignment import maps as m
from crossseed.carried import Carried
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import sites
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.hub import interventions
from crossseed.errors import UserError
from crossseed.pairs import Readers

__all__ = ["folder"]


def test_a_model_without_head_is_refused(folder, tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder / "lab" / "neox")
    model.save_pretrained(tmp_path / "lab" / "bare")
    with pytest.raises(UserError, match="lack"):
        interventions.load_source(interventions.Source("lab/bare", str(tmp_path)), "float32", "cpu")


def test_the_next_token_is_the_target_and_the_last_has_none(folder):
    causal = interventions.load_source(source(folder, "gpt2"), "float32", "cpu")
    (targets,) = causal.targets(TOKENS_NT, {})
    assert (targets[:, :-1] == TOKENS_NT[:, 1:]).all()
    assert (targets[:, -1] == -1).all()
    bert = interventions.load_source(source(folder, "bert"), "float32", "cpu")
    assert (bert.targets(TOKENS_NT, {})[0] == TOKENS_NT).all()


# --- the study ----------------------------------------------------------------------------

T, N = 12, 40


@pytest.fixture
def toy(tmp_path, write_activations):
    """Runs the study of a toy model with itself rotated as the target; rows by arm and metric."""

    def run(carried=lambda a: a):
        model = DyckTransformer(3).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(8)  # an untrained model would predict nothing
        site = sites.post(0)
        subject = DyckSubject(model)
        rng = np.random.default_rng(0)
        tokens = rng.integers(1, 9, (N, T)).astype(np.uint8)
        labels = {k: rng.integers(0, 2, (N, T)).astype(np.uint8) for k in ("depth", "valid")}
        found = TokenSet(tokens, np.ones((N, T), bool), labels, np.arange(N))
        rows = subject.start(tokens, site).value_ntd.numpy().reshape(N * T, -1)
        a = write_activations(tmp_path / "a.h5", dict.fromkeys(("fit", "train", "eval"), rows))
        b = write_activations(
            tmp_path / "b.h5", dict.fromkeys(("fit", "train", "eval"), carried(rows))
        )
        rotation = m.haar_orthogonal(np.random.default_rng(1), 64)
        mean = rows.mean(axis=0).astype(np.float64)
        maps = {
            "procrustes": m.AffineMap(rotation, np.zeros(64), np.zeros(64)),
            "random": m.AffineMap(m.haar_orthogonal(rng, 64), mean, mean),
            "untrained": m.AffineMap(-rotation, np.zeros(64), np.zeros(64)),
            "resampled": m.identity(64),
        }
        moments = carried(rows).mean(axis=0), np.cov(carried(rows).T)
        tried = Carried(maps, moments, np.zeros((64, 0)))
        # Before training the target computed the source's activations upside down.
        before = write_activations(
            tmp_path / "c.h5", dict.fromkeys(("fit", "train", "eval"), -carried(rows))
        )
        with (
            open_split(a, "eval", "origin:site") as s,
            open_split(b, "eval", "origin:site") as t,
            open_split(before, "eval", "origin:site") as u,
        ):
            rows, evidence = study.splice(
                subject, site, found, Readers(s, t, u), {}, tried, 30, 100, "cell"
            )
        return {(r["arm"], r["metric"]): r for r in rows}, {r["metric"]: r for r in evidence}

    return run


def test_a_rotated_copy_recovers_all_and_a_random_rotation_does_not(toy):
    rotation = m.haar_orthogonal(np.random.default_rng(1), 64)
    found, evidence = toy(lambda a: a @ rotation.T)
    assert found["clean", "kl"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["procrustes", "kl"]["value"] == pytest.approx(0, abs=1e-4)
    assert found["random", "kl"]["value"] > 0.05
    assert found["zero", "ce_recovered"]["value"] == 0
    assert found["mean_ablation", "ce_recovered_mean"]["value"] == 0
    assert found["procrustes", "ce_recovered"]["value"] == pytest.approx(1, abs=1e-3)
    assert found["clean", "ce"]["n_tokens"] == 3 * 30 * T
    assert found["zero", "kl_recovered"]["value"] == 0
    assert found["procrustes", "kl_recovered"]["value"] == pytest.approx(1, abs=1e-3)
    assert found["random", "kl_recovered"]["value"] < 0.9
    for metric in ("ce_recovered", "kl_recovered"):
        assert evidence[metric]["best_null"] == "random"


def test_each_arm_is_run_on_what_it_stands_for(toy):
    """The source's own for the ceiling, the untrained target, noise of the target's moments."""
    rotation = m.haar_orthogonal(np.random.default_rng(1), 64)
    found, _ = toy(lambda a: a @ rotation.T)
    assert found["resampled", "kl"]["value"] == pytest.approx(0, abs=1e-9)
    # Its map undoes what the untrained target did; of the target itself it would make the opposite.
    assert found["untrained", "kl"]["value"] == pytest.approx(0, abs=1e-4)
    # Noise of the right mean and covariance predicts worse than the activations themselves.
    assert found["gaussian", "kl"]["value"] > 0.05
