"""Maps between two models for joint SAEs: the planted rotation is recovered, nulls of W are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from joint_toy import TURN, WIDTH, cache, held_out, pairs_of

from crossseed.alignment.maps import identity
from crossseed.errors import UserError
from crossseed.joint import maps
from crossseed.joint.maps import Pairs

__all__ = ["cache", "held_out"]


# W


def test_the_planted_rotation_is_recovered_and_only_that_way_round(cache, held_out):
    found = maps.true(pairs_of(cache))
    assert np.abs(found.matrix_dd - TURN).max() < 1e-5
    said = maps.directions(found, pairs_of(held_out))
    assert said.aligned < 1e-5
    assert said.aligned < min(said.transposed, said.raw) / 100
    assert abs(said.determinant) == pytest.approx(1)
    # The published line of the singular value decomposition gives the same.
    a, b, *_ = pairs_of(cache)
    u, _, vt = np.linalg.svd(a.T.astype(float) @ b)
    assert np.allclose(vt.T @ u.T, found.matrix_dd, atol=1e-6)
    assert np.abs(maps.true(pairs_of(cache), center=True).matrix_dd - TURN).max() < 1e-5


def test_a_centred_map_carries_the_mean():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, WIDTH))
    b = a @ TURN.T + 3 * rng.standard_normal(WIDTH)
    pairs = Pairs(a, b, np.arange(300) // 5)
    assert maps.nre(maps.true(pairs, center=True), pairs) < 1e-10
    assert maps.nre(maps.true(pairs), pairs) > 0.1
    assert maps.nre(maps.ridge(pairs, center=True), pairs) < 1e-3
    # What a LayerNorm leaves undecided goes by the rotation, so that there is a way back.
    flat = np.eye(WIDTH) - 1 / WIDTH
    thin = Pairs(a @ flat, a @ flat @ TURN.T, np.arange(300) // 5)
    assert np.linalg.cond(maps.ridge(thin).matrix_dd) < 1.01
    stretch = np.eye(WIDTH) + 0.15 * rng.standard_normal((WIDTH, WIDTH))
    linear = Pairs(a, a @ stretch, np.arange(300) // 5)
    assert maps.nre(maps.ridge(linear), linear) < 1e-3 < maps.nre(maps.true(linear), linear)
    # Of what B does not say of A little is carried, but all has a way back.
    noise = Pairs(a, rng.standard_normal(a.shape), np.arange(300) // 5)
    assert np.linalg.cond(maps.ridge(noise).matrix_dd) <= maps.MOST_SPREAD
    assert maps.nre(maps.ridge(noise), noise) < maps.nre(maps.true(noise), noise)


def test_nulls_of_w_are_what_they_say(cache):
    rng, pairs = np.random.default_rng(1), pairs_of(cache)
    errors = {
        "true": maps.nre(maps.true(pairs), pairs),
        "part": maps.nre(maps.shuffled(rng, pairs, 0.5), pairs),
        "mismatched": maps.nre(maps.shuffled(rng, pairs), pairs),
        "haar": maps.nre(maps.haar(rng, WIDTH), pairs),
        "permutation": maps.nre(maps.permutation(pairs), pairs),
        "identity": maps.nre(maps.unaligned(WIDTH), pairs),
    }
    assert errors["true"] < 1e-5
    assert errors["true"] < errors["part"] < errors["mismatched"]
    assert min(errors["haar"], errors["identity"], errors["mismatched"]) > 0.8
    assert errors["permutation"] < errors["identity"]
    for kind in ("identity", "haar"):
        found = [maps.restricted(rng, pairs, r, kind) for r in (4, WIDTH - 1, WIDTH)]
        for one in found:
            assert np.allclose(one.matrix_dd @ one.matrix_dd.T, np.eye(WIDTH), atol=1e-10)
        assert maps.nre(found[0], pairs) > maps.nre(found[1], pairs)
        assert np.abs(found[2].matrix_dd - TURN).max() < 1e-5
        # The leading directions are carried as by W.
        leading = np.linalg.eigh(pairs.b_nd.T @ pairs.b_nd)[1][:, ::-1][:, :4]
        assert np.allclose(leading.T @ found[0].matrix_dd, leading.T @ TURN, atol=1e-3)
    order = maps.shuffled_rows(rng, 1000, 0.3)
    assert (order != np.arange(1000)).sum() == 300
    assert sorted(order) == list(range(1000))


def test_maps_refuse_what_they_cannot_fit(cache):
    pairs, rng = pairs_of(cache, 3), np.random.default_rng(0)
    with pytest.raises(UserError, match="not of the same tokens"):
        maps.true(pairs._replace(b_nd=pairs.b_nd[1:]))
    with pytest.raises(UserError, match="no tokens"):
        maps.true(pairs.rows(np.zeros(len(pairs.a_nd), bool)))
    with pytest.raises(UserError, match="not finite"):
        maps.true(pairs._replace(a_nd=pairs.a_nd * np.inf))
    with pytest.raises(UserError, match=r"share of 1\.5"):
        maps.shuffled(rng, pairs, 1.5)
    with pytest.raises(UserError, match="17 principal directions of 16"):
        maps.restricted(rng, pairs, 17, "haar")
    with pytest.raises(UserError, match="across halves"):
        maps.ridge(pairs.rows(pairs.sequence_n == 0))
    with pytest.raises(UserError, match="activations of model A are 0"):
        maps.nre(identity(WIDTH), pairs._replace(a_nd=0 * pairs.a_nd))
    with pytest.raises(UserError, match="no way back"):
        maps.back(identity(WIDTH)._replace(matrix_dd=np.diag(np.arange(WIDTH))))
