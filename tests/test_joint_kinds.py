"""Kinds of joint SAEs beside each other: crosscoders, universal, mutual and independent ones, and models with nothing in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint_toy import (
    MEASURE,
    TURN,
    TWINS,
    WIDTH,
    Toy,
    cache,
    cache_of,
    fitted,
    held_out,
    independent,
    pairs_of,
    settings,
    sparse_states,
)

from crossseed.alignment.maps import identity
from crossseed.errors import UserError
from crossseed.joint import losses, maps, model
from crossseed.joint.behaviour import behaviour, behaviour_rows, side_by_side
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    condition_sides,
    correlations,
    joint_sides,
    matched,
)
from crossseed.joint.universality import universality

__all__ = ["cache", "held_out", "independent"]


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
