"""Geometry of joint SAEs, and how many sequences decide a map: planted, and beside chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from joint_toy import (
    TURN,
    WIDTH,
    cache,
    trained,
)

from crossseed.alignment.maps import haar_orthogonal
from crossseed.errors import UserError
from crossseed.joint import fits, maps, model, samplesize
from crossseed.joint.geometry import (
    geometry,
    mean_absolute_cosine,
    projection,
    random_absolute_cosine,
)
from crossseed.joint.maps import Pairs
from crossseed.joint.sides import (
    decoders,
    joint_sides,
)
from crossseed.joint.tables import CELL, HALF_COLUMNS, SIZE_COLUMNS

__all__ = ["cache", "trained"]


def test_geometry_has_its_floor(trained):
    config, one = trained["6"]
    sae = model.of_arrays(config, one.arrays)
    unit = decoders(joint_sides(sae))
    found = geometry(unit)
    assert found["cosine_random"] == pytest.approx(0.2, abs=0.01)
    assert 0.1 < found["cosine"] < 0.4
    few = np.arange(sae.n_latents) < 2
    rows = sae.decoder_of(0)[:2]
    assert geometry(unit, few)["cosine"] == pytest.approx(abs(rows[0] @ rows[1]), abs=1e-6)
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((2000, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert mean_absolute_cosine(rows) == pytest.approx(random_absolute_cosine(24), rel=0.01)
    assert random_absolute_cosine(1) == pytest.approx(1)
    assert math.isnan(mean_absolute_cosine(rows[:1]))
    axes = haar_orthogonal(rng, 24)[:2]
    planar = rng.standard_normal((50, 2)) * [3, 1] @ axes
    found = projection(planar)
    assert sum(found.shares) == pytest.approx(1)
    centred = planar - planar.mean(axis=0)
    assert np.allclose(np.linalg.norm(found.coordinates, axis=1), np.linalg.norm(centred, axis=1))
    assert found.shares[0] > found.shares[1]


# How many tokens decide W


def test_sample_size_sees_what_is_decided():
    """Planted: two strong directions that few sequences decide, and weak ones under noise that none do."""
    rng = np.random.default_rng(12)
    scale = np.r_[30, 20, np.full(WIDTH - 2, 1.0)]
    a = rng.standard_normal((2000, WIDTH)) * scale
    b = a @ TURN.T + 4 * rng.standard_normal(a.shape)
    pairs, held_out = (
        Pairs(a[part], b[part], np.arange(1000) // 5) for part in (slice(1000), slice(1000, 2000))
    )
    cross = maps.cross_product(maps.moments(pairs))
    counts = samplesize.shared_components(cross)
    assert counts["k95_squared"] == counts["k99_squared"] == 2
    assert counts["k95_squared"] <= counts["k95"] <= counts["k99"] <= WIDTH
    within = samplesize.axes(cross, 2)
    sizes = samplesize.curve(pairs, held_out, [5, 10, 40, 160, 200], within)
    assert [one.tokens for one in sizes] == [25, 50, 200, 800, 1000]
    assert sizes[-1].distance.whole == pytest.approx(0, abs=1e-6)
    assert sizes[0].distance.whole > sizes[2].distance.whole > sizes[3].distance.whole
    first = sizes[0].distance
    assert first.whole**2 == pytest.approx(first.inside**2 + first.outside**2)
    assert first.of_most == pytest.approx(first.whole / 8)
    assert first.of_random == pytest.approx(first.whole / np.sqrt(32))
    # The little that is decided soon is what counts for the error: there halves know far more of each other than chance.
    assert first.of_most_inside < 0.05 < first.of_most
    assert first.inside_of_random < 0.2 < first.outside_of_random
    assert sizes[-1].flat is None
    assert sizes[3].flat
    doubled = (sizes[1].nre - sizes[2].nre) / sizes[1].nre / 2
    assert sizes[1].gain == pytest.approx(doubled)
    apart = samplesize.halves(pairs, within, False, 6)
    # A tiny spread goes with a large distance.
    assert apart.sd < apart.mean / 5
    assert apart.inside_mean < apart.outside_mean / 10
    assert apart.inside_of_random < 0.2 < apart.outside_of_random
    assert apart.of_random == pytest.approx(apart.mean / np.sqrt(2 * WIDTH))
    with pytest.raises(UserError, match="not ascending"):
        samplesize.curve(pairs, held_out, [10, 5], within)
    with pytest.raises(UserError, match="not ascending"):
        samplesize.curve(pairs, held_out, [201], within)
    with pytest.raises(UserError, match="1 sequences have no halves"):
        samplesize.halves(pairs.rows(pairs.sequence_n == 0), within)
    with pytest.raises(UserError, match="no cross-product"):
        samplesize.shared_components(0 * cross)


def test_the_distance_of_random_maps_is_that_of_haar_draws():
    rng = np.random.default_rng(13)
    q = [haar_orthogonal(rng, 128) for _ in range(2)]
    within = samplesize.axes(rng.standard_normal((128, 128)), 10)
    found = samplesize.distance(*q, within)
    assert found.of_random == pytest.approx(1, rel=0.02)
    # Small as it is, it is what chance gives.
    assert found.inside < found.outside / 5
    assert found.of_most_inside < 0.3
    assert found.inside_of_random == pytest.approx(1, abs=0.2)
    assert found.outside_of_random == pytest.approx(1, rel=0.02)
    all_of_it = samplesize.distance(*q, samplesize.axes(rng.standard_normal((128, 128)), 128))
    assert all_of_it.inside_of_random == pytest.approx(found.of_random)
    assert math.isnan(all_of_it.outside_of_random)


def test_halves_of_models_that_have_nothing_in_common_are_as_far_apart_as_chance():
    """A null: activations without means that have nothing to do with each other."""
    rng = np.random.default_rng(15)
    a, b = rng.standard_normal((2, 4000, 32))
    # Planted beside it: two strong directions in common.
    scale = np.r_[20, 10, np.full(30, 0.5)]
    shared = a * scale @ haar_orthogonal(rng, 32)
    for planted, other in ((False, b), (True, shared + rng.standard_normal(b.shape))):
        pairs = Pairs(a * scale if planted else a, other, np.arange(4000) // 10)
        (one,) = fits.halves({"fit": pairs}, False, 10, "t")
        *_, size, _ = fits.sizes(pairs, pairs, [50, 100, 200, 400], False, "t")
        assert {*CELL, *one} == set(HALF_COLUMNS)
        assert {*CELL, *size} == set(SIZE_COLUMNS)
        if planted:
            assert one["inside_mean"] < one["null_inside"] / 5
            assert size["inside"] < size["null_inside"] / 5
            assert size["nre"] < size["null_nre"] / 2
        else:
            assert one["of_random"] == pytest.approx(1, abs=0.1)
            for own, null in (("mean", "null_mean"), ("inside_mean", "null_inside")):
                assert one[own] == pytest.approx(one[null], rel=0.15)
            assert size["inside"] == pytest.approx(size["null_inside"], rel=0.3)
            assert size["nre"] == pytest.approx(size["null_nre"], rel=0.1)
