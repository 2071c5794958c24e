"""What is measured on joint SAEs: sums in blocks, memory, nulls that find nothing in nothing."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
import torch
from joint_toy import (
    MEASURE,
    TURN,
    TWINS,
    WIDTH,
    cache,
    cache_of,
    pairs_of,
    settings,
    sparse_states,
)

from crossseed.alignment.maps import identity
from crossseed.joint import effects, fits, maps, nulls
from crossseed.joint.arms import Arm
from crossseed.joint.coder import Codes
from crossseed.joint.conditions import of_condition
from crossseed.joint.config import JointEvaluation
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    Pairing,
    Side,
    blocks,
    correlations,
    matched,
)
from crossseed.joint.tables import CELL, TEST_COLUMNS
from crossseed.joint.universality import shifted_product, universality
from crossseed.joint.upper import Cache

__all__ = ["cache"]


# What is measured


class Fixed:
    """Codes that are given."""

    def __init__(self, codes):
        self.codes_nf = codes
        self.config, self.device, self.n_latents = settings(), "cpu", codes.shape[1]

    def codes_of(self, h_nd, model):
        # The first activation is the token's number.
        return Codes(
            torch.from_numpy(self.codes_nf[h_nd[:, 0].long().numpy()]),
            torch.arange(self.n_latents).expand(len(h_nd), -1),
            self.n_latents,
        )


def numbered(n, length, first=0):
    """A cache whose activations say which token they are."""
    h = np.zeros((n, length, WIDTH), np.float32)
    h[..., 0] = first + np.arange(n * length).reshape(n, length)
    mask = np.ones((n, length), bool)
    return cache_of((h, h), mask, TWINS)


def test_correlations_in_blocks_are_those_of_all_tokens(monkeypatch):
    rng = np.random.default_rng(8)
    n_tokens, n_latents = 40 * 5, 12
    a = np.maximum(rng.standard_normal((n_tokens, n_latents)), 0).astype(np.float32)
    b = np.maximum(0.8 * a + 0.4 * rng.standard_normal(a.shape), 0).astype(np.float32)
    # Dead in both, dead in B, too rare in A, constant.
    a[:, 0] = b[:, 0] = b[:, 1] = 0
    a[9:, 2] = 0
    a[:, 3] = b[:, 3] = 1
    sides = tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))
    cache = numbered(40, 5)
    partner = rng.permutation(n_latents)
    for tokens in (7, 4096):
        monkeypatch.setattr(blocks, "__defaults__", (False, tokens, False))
        for pairing in (None, Pairing(partner, partner)):
            found = universality(sides, cache, MEASURE, "t", pairing=pairing)
            own = b if pairing is None else b[:, partner]
            with np.errstate(invalid="ignore", divide="ignore"):
                wanted = [np.corrcoef(a[:, i], own[:, i])[0, 1] for i in range(n_latents)]
            assert np.allclose(found.r_f, np.nan_to_num(wanted), atol=1e-6)
            active = ((a > 0).sum(axis=0) >= 10) & ((own > 0).sum(axis=0) >= 10)
            assert np.array_equal(found.active_f, active)
            n_active = int(active.sum())
            universal = int((active & (np.nan_to_num(wanted) >= 0.7)).sum())
            values = {key: one.estimate.value for key, one in found.measured.items()}
            assert values["universal"] == universal
            assert values["universal_share"] == pytest.approx(universal / n_active)
            assert values["dead_share"] == pytest.approx(1 - n_active / n_latents)
            order = np.argsort(-np.where(active, (a + own).mean(axis=0), -1))
            top = np.nan_to_num(wanted)[order[: min(10, n_active)]].mean()
            assert values["top10_r"] == pytest.approx(top, abs=1e-6)
            assert found.used == {"top10_r": min(10, n_active), "top100_r": n_active}
            assert found.n_rows == n_tokens
    pooled = universality(sides, cache, MEASURE, "t", pooled=True)
    means = [x.reshape(40, 5, n_latents).mean(axis=1) for x in (a, b)]
    assert pooled.r_f[5] == pytest.approx(
        np.corrcoef(means[0][:, 5], means[1][:, 5])[0, 1], abs=1e-6
    )
    assert pooled.n_rows == 40
    product = shifted_product(a, b, 31)
    assert np.allclose(product, (a * np.roll(b, 31, axis=0)).sum(axis=0), atol=1e-4)


def test_a_null_of_latents_that_share_their_density(monkeypatch):
    """Planted: latents fire independently, as densely as can be; the null says what they have, and so does r."""
    rng = np.random.default_rng(9)
    a, b = ((rng.random((3000, 40)) < 0.3).astype(np.float32) for _ in range(2))
    sides = tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))
    found = universality(sides, numbered(300, 10), MEASURE, "t")
    low, high = found.measured["mean_r"].estimate[1:]
    assert low <= 0 <= high
    assert abs(found.measured["mean_r"].null) < 0.02
    assert found.null_r_sf.std() == pytest.approx(1 / np.sqrt(3000), rel=0.3)


def test_matching_in_sample_makes_correlations_of_nothing():
    """A null: latents that have nothing to do with each other, matched on the tokens they are scored on and on others; what
    matching makes of nothing is in its null too. Planted beside it: latents of which half are the same in another order."""
    rng = np.random.default_rng(14)
    cache = numbered(40, 10)

    def sides(same=0):
        a, b = ((rng.random((400, 60)) < 0.2).astype(np.float32) for _ in range(2))
        b[:, :same] = a[:, :same][:, ::-1]
        return tuple(Side(Fixed(x), m) for m, x in enumerate((a, b)))

    def measured(scored, on, pooled=False):
        pairing = matched(correlations(on, cache))
        found = universality(scored, cache, MEASURE, "t", pairing=pairing, pooled=pooled)
        assert found.null_r_sf.shape == (1, 60)
        return found.measured

    scored = sides()
    held_out = measured(scored, sides())["mean_r"]
    assert abs(held_out.estimate.value) < 0.03
    assert abs(held_out.null) < 0.03
    in_sample = measured(scored, scored)
    assert in_sample["mean_r"].estimate.value > 0.08
    assert in_sample["mean_r"].null == pytest.approx(in_sample["mean_r"].estimate.value, abs=0.03)
    # Tokens are pooled after they were shifted, as they were matched.
    pooled = measured(scored, scored, pooled=True)["mean_r"]
    assert pooled.estimate.value > 0.05
    assert pooled.null == pytest.approx(pooled.estimate.value, abs=0.05)
    planted = sides(30)
    found = measured(planted, planted)
    assert found["universal"].estimate.value == 30
    assert found["universal"].null == 0
    assert found["mean_r"].estimate.value > found["mean_r"].null + 0.3


def test_how_much_is_in_memory_does_not_grow_with_the_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "BLOCK_ROWS", 256)
    width, length = 32, 16
    rng, peaks = np.random.default_rng(16), []
    for n in (200, 1600):
        shape = (n, length, width)
        h = [np.memmap(tmp_path / f"{n}{m}", np.float16, "w+", shape=shape) for m in "ab"]
        for x in h:
            x[:] = rng.standard_normal(shape)
        cache = Cache(
            h=tuple(h), next=tuple(h), logits=(np.zeros((n, 2), np.float32),) * 2,
            mask=np.ones((n, length), bool), special=np.zeros((n, length), bool),
            labels=np.zeros(n, int), tokens=np.zeros((n, length), np.int8), document=np.arange(n),
        )  # fmt: skip
        train = cache.coded_tokens(True)
        tracemalloc.start()
        rows = list(fits.sizes(train, train, [10, 50, 100], False, "t"))
        halves = list(fits.halves({"train": train}, False, 2, "t"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Eight times the tokens: masks and sums of sequences alone are more.
    assert peaks[1] < 2 * peaks[0] < 2 * n * length * width
    # What lies in memory as a whole says the same.
    pairs = cache.pairs(np.arange(n))
    assert [row["tokens"] for row in rows] == [160, 800, 1600]
    for one, other in zip(rows, fits.sizes(pairs, pairs, [10, 50, 100], False, "t"), strict=True):
        assert one["distance"] == pytest.approx(other["distance"], rel=1e-6)
        assert one["nre"] == pytest.approx(other["nre"], rel=1e-9)
    (other,) = fits.halves({"train": pairs}, False, 2, "t")
    assert halves[0]["tokens"] == other["tokens"] == n * length
    assert halves[0]["mean"] == pytest.approx(other["mean"], rel=1e-6)


# Maps against others


def test_nulls_are_centred_where_w_is():
    """Planted: B is A turned, and each has a mean of its own; what a map does not carry of it is no fault of its matrix."""
    rng = np.random.default_rng(17)
    h, mask = sparse_states(60, seed=17)
    own = 2 * rng.standard_normal((2, WIDTH)).astype(np.float32)
    cache = cache_of((h + own[0], h @ TURN.T.astype(np.float32) + own[1]), mask, TWINS)
    pairs = cache.pairs(np.arange(60))
    errors = {
        (null, center): maps.nre(nulls.map_of(Arm(null), pairs, center, "t"), pairs)
        for null in ("true", "identity", "random")
        for center in (False, True)
    }
    assert errors["true", True] < 1e-5 < errors["true", False]
    # Against the spread about the mean alone, not the means' distance.
    spread = np.sqrt(
        np.square(pairs.a_nd - pairs.a_nd.mean(axis=0)).sum() / np.square(pairs.a_nd).sum()
    )
    for null in ("identity", "random"):
        assert errors[null, True] < 1.8 * spread < errors[null, False]
    config, _ = of_condition(settings(init="distinct"), "1")
    sae = JointSAE(config, WIDTH, identity(WIDTH), models=(0,))
    true = maps.true(pairs, center=True)
    rows = {
        (row["map"], row["against"], row["statistic"]): row
        for row in nulls.post_hoc_rows(
            sae, cache, cache, {"true": true}, True, JointEvaluation(active_tokens=1),
            {"random": 99, "mismatched": 99}, "t",
        )
    }  # fmt: skip
    assert {key[0] for key in rows} == {"true", "identity", "permutation"}
    assert all({*CELL, *row} == set(TEST_COLUMNS) for row in rows.values())
    for against in ("random", "mismatched"):
        one = rows["true", against, "nre"]
        assert one["value"] == pytest.approx(errors["true", True], abs=1e-6)
        assert one["null_best"] < 1.8 * spread
        # What encoders read of the two is the same, for each token by its own scale.
        assert rows["true", against, "encoder_r"]["value"] == pytest.approx(
            np.mean(correlations_of(sae, cache, true, pairs)), abs=1e-5
        )
        assert rows["true", against, "encoder_r"]["p"] == 0.01
    assert rows["identity", "random", "nre"]["value"] == pytest.approx(errors["identity", True])
    # Of shuffled tokens W has the mean and no more: with it, as far off as a random rotation.
    assert rows["true", "mismatched", "nre"]["null_mean"] == pytest.approx(
        rows["true", "random", "nre"]["null_mean"], rel=0.1
    )


def correlations_of(sae, cache, carried, pairs):
    """Of what each encoder reads in A, and in B through a map, token by token."""
    a, b = (sae.own_frame(torch.from_numpy(x)) for x in (pairs.a_nd, pairs.b_nd))
    shift = carried.shift_out_d - carried.shift_in_d @ carried.matrix_dd
    u = b.u_nd.double().numpy() @ carried.matrix_dd + shift / b.scale_n1.double().numpy()
    rows = nulls.active_encoder(sae, cache, 1)
    pre = [x @ rows.T for x in (a.u_nd.double().numpy(), u)]
    return [np.corrcoef(x, y)[0, 1] for x, y in zip(pre[0].T, pre[1].T, strict=True)]


def test_tests_without_training_say_that_no_latent_is_active(cache):
    config, _ = of_condition(settings(), "1")
    sae = JointSAE(config, WIDTH, identity(WIDTH), models=(0,))
    least = JointEvaluation(active_tokens=10**6)
    found = {"true": maps.true(pairs_of(cache))}
    rows = list(nulls.post_hoc_rows(sae, cache, cache, found, False, least, {"random": 99}, "t"))
    assert len(rows) == 3 * 3
    for row in rows:
        if row["statistic"] == "nre":
            assert row["p"] == (0.01 if row["map"] == "true" else pytest.approx(row["p"]))
            assert row["latents"] is None
        else:
            assert row["latents"] == 0
            assert math.isnan(row["value"])
            assert math.isnan(row["p"])


def test_latents_are_chosen_without_a_look_at_what_is_scored(monkeypatch):
    """Planted: a latent that tells a class on `fit`, in both models, and never fires on `eval`."""
    rng = np.random.default_rng(18)
    fit, scored = numbered(40, 10), numbered(40, 10, first=400)
    labels = np.arange(40) % 2
    fit, scored = (dataclasses.replace(x, labels=labels) for x in (fit, scored))
    codes = (rng.random((800, 3)) < 0.3).astype(np.float32)
    codes[:400, 0] = np.repeat(labels == 0, 10)
    codes[400:, 0] = 0
    sides = tuple(Side(Fixed(codes), m) for m in (0, 1))
    first, *_ = effects.chosen(sides, fit, scored, ["x", "y"], 1, MEASURE)
    assert (first.label, first.latent, first.universal) == ("x", 0, False)
    assert first.tells == (1, 1)
    # What does not fire on enough tokens of `fit` is not chosen, whatever it does elsewhere.
    codes[:400, 0] = 0
    codes[:5, 0] = 1
    codes[400:, 0] = np.repeat(labels == 0, 10)
    assert 0 not in {
        one.latent for one in effects.chosen(sides, fit, scored, ["x", "y"], 3, MEASURE)
    }
