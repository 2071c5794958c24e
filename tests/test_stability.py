"""Stability over SAE seeds: planted sharing is recovered, floors are floors."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import numpy as np
import pytest
from test_matching import planted, unit

from crossseed.alignment.moments import Moments
from crossseed.errors import UserError
from crossseed.matching import criteria as m
from crossseed.pairs import Pair
from crossseed.sae.dictionary import Dictionary
from crossseed.stability import (
    COLUMNS,
    LATENT_COLUMNS,
    NULLS,
    RANDOM,
    RUNGS,
    bridge,
    covariance,
    matched,
    study,
    subspace,
    sweeps,
    together,
)
from crossseed.stability.firing import Correlations
from crossseed.stability.membership import Members


def members_of(inside: np.ndarray) -> Members:
    """SAEs of latents that point at one pool each: inside[s, l] says whether pool latent l is in SAE s."""
    n_seeds, n = inside.shape
    same = np.arange(n)
    pairs = list(itertools.permutations(range(n_seeds), 2))
    found = {(i, j): inside[i] & inside[j] for i, j in pairs}
    live = {i: np.ones(n, dtype=bool) for i in range(n_seeds)}
    return Members(live, found, dict.fromkeys(pairs, same), {p: np.ones(n, bool) for p in pairs})


def test_membership_counts_pairs():
    # Latent 0 is in all, latent 1 in the first two, latent 2 in the first alone.
    inside = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
    members = members_of(inside)
    assert members.reappears(0).tolist() == [1, 0.5, 0]
    assert members.exactly()[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    alone = members.alone(np.random.default_rng(0))
    # With one other: none of two thirds, one third; with both others, latent 2 alone.
    assert alone[0].tolist() == pytest.approx([(1 / 3 + 2 / 3) / 2, 1 / 3])
    assert members.cycles() == {"decoder": 1.0, "agree": 1.0}
    # What never fires is in no SAE.
    dead = members._replace(live={**members.live, 0: np.array([True, True, False])})
    assert dead.exactly()[0].tolist() == pytest.approx([0, 0.5, 0.5])
    assert members.without(1).exactly().shape == (2, 2)


def test_shares_that_are_drawn_per_seed_decay_as_they_should():
    """Planted: every latent is kept by each other SAE with its own probability; the curve is its expectation."""
    rng = np.random.default_rng(1)
    chance = np.r_[np.zeros(3000), np.full(7000, 0.6)]
    base = np.ones(len(chance), dtype=bool)
    inside = np.stack([base, *(rng.random(len(chance)) < chance for _ in range(8))])
    curve = members_of(inside).alone(rng)[0]
    expected = 0.3 + 0.7 * 0.4 ** np.arange(1, 9)
    assert np.allclose(curve, expected, atol=0.01)


def test_unshared_latents_may_span_one_subspace():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((32, 4))).Q.T
    a, b = (rng.standard_normal((50, 4)) @ basis for _ in range(2))
    same = subspace.overlap(a, b)
    # Of four dimensions, those that hold half: any two of four overlap by half; by an eighth or less by chance.
    assert same.value > 2 * same.chance
    random = [
        subspace.overlap(*(rng.standard_normal((40, 32)) for _ in range(2))) for _ in range(20)
    ]
    excess = np.mean([o.value - o.chance for o in random])
    assert abs(excess) < 0.05
    assert subspace.overlap(a[:0], b).rank == 0
    assert subspace.overlap(a, b, rank=4).value == pytest.approx(1)
    assert subspace.overlap(a, b, rank=4).chance == 4 / 32


def test_intervals_over_seeds_hold_what_they_promise():
    """Coverage: latents of an SAE are in others with a probability of its own seed; jackknife intervals of the mean share
    contain the expectation about as often as they say."""
    rng = np.random.default_rng(7)
    held = []
    for _ in range(150):
        effect = rng.normal(0, 0.08, 6)
        found = {
            (i, j): rng.random(300) < 0.5 + effect[i] + effect[j]
            for i, j in itertools.permutations(range(6), 2)
        }
        same = np.arange(300)
        live = {i: np.ones(300, dtype=bool) for i in range(6)}
        members = Members(live, found, dict.fromkeys(found, same), dict.fromkeys(found, live[0]))
        (row,) = (
            r for r in together.decays(members, "", together.Chance(0.0, 0.0), 300, "a test")
            if r["quantity"] == "alone" and r["part"] == "2"
        )  # fmt: skip
        held.append(row["low"] <= 0.5 <= row["high"])
    assert 0.88 <= np.mean(held) <= 1


def test_shares_of_dead_dictionaries_do_not_depend_on_the_matching():
    """Planted: of 240 latents 80 fire, and half of these are shared; dead latents neither hide nor make sharing."""
    rng = np.random.default_rng(8)
    pool = unit(rng.standard_normal((240, 32)))
    order = rng.permutation(240)
    other = unit(rng.standard_normal((240, 32)))
    other[:40] = pool[:40]
    split = Tokens(rng, pool[:80], 1500)
    first = dictionary(m.Directions(pool, pool))
    second = dictionary(m.Directions(other[order], other[order]))
    # Only the first 80 latents of the pool can fire.
    bias = np.where(np.arange(240) < 80, -0.2, -99).astype(np.float32)
    seeds = {
        "seed1": first._replace(b_enc=bias),
        "seed2": second._replace(b_enc=bias[order]),
    }
    by = rows_by(study.study(seeds, split, 0.7, "a test")[0])
    assert by["seed1", "seed2", "strict", "live"]["value"] == pytest.approx(0.5, abs=0.02)
    assert by["", "", "alone", "2"]["value"] == pytest.approx(0.5, abs=0.02)
    assert by["", "", "alone_published", "2"]["value"] == pytest.approx(1 - 40 / 240, abs=0.01)
    firing = by["seed1", "seed2", "firing_r", ""]
    assert firing["value"] > firing["null"] + 0.2
    assert 0 < firing["null"] < 0.3


def test_correlations_are_those_of_numpy():
    rng = np.random.default_rng(3)
    one, other = rng.random((2, 500, 6)).astype(np.float32)
    other[:, 0] = one[:, 1]
    other[:, 5] = 0
    sums = Correlations(2, 6)
    for part in (slice(0, 200), slice(200, 500)):
        sums.add([one[part], other[part]])
    r = sums.between(0, 1)
    expected = np.corrcoef(one.T, other[:, :5].T)[:6, 6:]
    assert np.allclose(r[:, :5], expected, atol=1e-5)
    assert np.isnan(r[:, 5]).all()


class Tokens:
    """Activations that are sums of a few directions of a pool, as a split of a file."""

    def __init__(self, rng: np.random.Generator, directions: np.ndarray, n: int) -> None:
        active = (rng.random((n, len(directions))) < 0.05) * (1 + rng.random((n, len(directions))))
        self.x = (active @ directions).astype(np.float32)
        self.n_tokens, self.width = self.x.shape
        self.document_n = np.repeat(np.arange(n // 50), 50)
        self.path = "planted"

    def rows(self, part: slice) -> np.ndarray:
        return self.x[part]


def dictionary(found: m.Directions) -> Dictionary:
    n, width = found.decoder.shape
    cfg = {"metadata": {"crossseed": {"architecture": "relu_l1"}}}
    return Dictionary(
        found.encoder.T.astype(np.float32),
        np.full(n, -0.5, np.float32),
        found.decoder.astype(np.float32),
        np.zeros(width, np.float32),
        cfg,
        "",
        MappingProxyType({}),
    )


def rows_by(rows):
    return {(r.get("first", ""), r.get("second", ""), r["quantity"], r["part"]): r for r in rows}


def test_a_study_recovers_a_planted_overlap_within_its_interval():
    rng = np.random.default_rng(4)
    n, width, share = 240, 48, 0.35
    pool = unit(rng.standard_normal((n, width)))
    common = round(share * n)
    seeds = {}
    for number in range(4):
        rows = pool.copy()
        rows[common:] = unit(rng.standard_normal((n - common, width)))
        rows = unit(rows + 0.03 * rng.standard_normal(rows.shape))
        order = rng.permutation(n)
        seeds[f"seed{number}"] = dictionary(m.Directions(rows[order], rows[order]))
    split = Tokens(rng, pool, 2000)
    rows, latents = study.study(seeds, split, 0.7, "a test")
    assert all({"cohort", *row} <= set(COLUMNS) | {"cohort"} for row in rows)
    assert all(set(row) <= set(LATENT_COLUMNS) for row in latents)
    by = rows_by(rows)
    for criterion in ("dec", "dual", "strict"):
        row = by["", "", criterion, "all"]
        assert row["value"] == pytest.approx(share, abs=0.01)
        assert row["null"] == 0
        assert row["n"] == 6
        assert by["seed0", "seed1", criterion, "all"]["n"] == n
    assert by["", "", "alone", "4"]["value"] == pytest.approx(1 - share, abs=0.01)
    assert by["", "", "in_exactly", "4"]["value"] == pytest.approx(share, abs=0.01)
    assert by["", "", "cycle", "decoder"]["value"] > share
    assert by["", "", "modes_two", ""]["value"] == 1
    assert by["", "", "strict", "all"]["low"] <= share + 0.01
    assert by["", "", "strict", "all"]["high"] >= share - 0.01
    # Shared latents fire together.
    assert by["", "", "firing_r_of_decoder_partner", ""]["value"] > share
    assert len(latents) == 4 * n
    kept = [row["reappears"] for row in latents]
    assert np.mean(np.array(kept) == 1) == pytest.approx(share, abs=0.01)


def test_copies_in_another_order_are_one_dictionary():
    rng = np.random.default_rng(5)
    first, second, _ = planted(rng, 60, 24, 1.0, noise=0.0)
    split = Tokens(rng, first.decoder, 600)
    rows, _ = study.study(
        {"seed1": dictionary(first), "seed2": dictionary(second)}, split, 0.7, "a test"
    )
    by = rows_by(rows)
    for quantity in ("agree", "dec", "dual", "strict", "max_cos", "pw_mcc", "mmcs"):
        assert by["", "", quantity, "all"]["value"] == pytest.approx(1.0), quantity
    assert by["seed1", "seed2", "firing_r", ""]["value"] == pytest.approx(1.0, abs=1e-5)
    for suffix in ("", "_published"):
        assert by["", "", f"alone{suffix}", "2"]["value"] == 0
        assert by["", "", f"alone{suffix}", "2"]["null"] == 1
        assert by["", "", f"in_exactly{suffix}", "1"]["null"] == 1


def test_pairs_matched_before_give_the_same_tables(tmp_path):
    """As separate jobs match SAEs that are too large for one."""
    rng = np.random.default_rng(15)
    first, second, _ = planted(rng, 60, 24, 0.5)
    seeds = {"seed1": dictionary(first), "seed2": dictionary(second)}
    split = Tokens(rng, first.decoder, 600)
    root = covariance.covariance_root(split)
    sides = {name: matched.both(of.W_dec, of.W_enc, root) for name, of in seeds.items()}
    sides |= matched.random(60, 24, root)
    found = {}
    for one, other in [("seed1", "seed2"), *itertools.combinations(RANDOM, 2)]:
        path = tmp_path / f"{one}-{other}.safetensors"
        spec = {"cohort": "a test", "first": one, "second": other}
        matched.save(path, matched.arrays(sides[one], sides[other]), spec)
        pair, of = matched.load(path, {"cohort": "a test"})
        found[pair] = of
    with pytest.raises(UserError, match="made for cohort = a test"):
        matched.load(path, {"cohort": "another"})
    whole, again = (study.study(seeds, split, 0.7, "a test", matched=of) for of in ({}, found))
    assert repr(whole) == repr(again)


def test_a_dead_null_ends_nothing():
    rng = np.random.default_rng(16)
    first, second, _ = planted(rng, 40, 16, 0.5)
    split = Tokens(rng, first.decoder, 600)
    seeds = {"seed1": dictionary(first), "seed2": dictionary(second)}
    dead = {
        f"shuffled{k + 1}": of._replace(b_enc=np.full(40, -99, np.float32))
        for k, of in enumerate(seeds.values())
    }
    by = rows_by(study.study(seeds, split, 0.7, "a test", shuffled=dead, shuffled_split=split)[0])
    assert np.isnan(by["", "", "strict_on_data", "live"]["shuffled"])
    assert np.isfinite(by["", "", "strict_on_data", "live"]["value"])


def test_dead_and_misshapen_dictionaries_are_refused():
    rng = np.random.default_rng(6)
    first, second, _ = planted(rng, 30, 12, 1.0)
    split = Tokens(rng, first.decoder, 300)
    smaller = m.Directions(second.decoder[:20], second.encoder[:20])
    with pytest.raises(UserError, match=r"different shapes.*seed2"):
        study.study({"seed1": dictionary(first), "seed2": dictionary(smaller)}, split, 0.7)
    dead = [dictionary(d)._replace(b_enc=np.full(30, -99, np.float32)) for d in (first, second)]
    with pytest.raises(UserError, match="no latent of seed1, seed2 fires on planted"):
        study.study(dict(zip(("seed1", "seed2"), dead, strict=True)), split, 0.7)
    with pytest.raises(UserError, match="no latent of seed2 fires"):
        study.study({"seed1": dictionary(first), "seed2": dead[1]}, split, 0.7)


def test_encoders_are_compared_where_activations_vary():
    """Planted: two SAEs with the same decoders, whose encoders are equal on the eight dimensions that vary and random on
    the others. As they stand no encoder agrees; on data all do."""
    rng = np.random.default_rng(9)
    basis = np.linalg.qr(rng.standard_normal((48, 48))).Q
    inside, outside = basis[:, :8].T, basis[:, 8:].T
    decoder = unit(rng.standard_normal((40, 8)) @ inside)
    split = Tokens(rng, decoder, 1500)
    seeds = {}
    for number in range(2):
        more = 3 * rng.standard_normal((40, 40)) / np.sqrt(40) @ outside
        seeds[f"seed{number}"] = dictionary(m.Directions(decoder, decoder + more))
    by = rows_by(study.study(seeds, split, 0.7, "a test")[0])
    assert by["", "", "strict", "live"]["value"] < 0.1
    assert by["", "", "strict_on_data", "live"]["value"] == pytest.approx(1)
    assert by["", "", "strict_on_data", "live"]["null"] < 0.1


def turned_pair(rng, rotation, width=16, n=4000):
    """Moments of a member and of its turned copy."""
    x = rng.standard_normal((n, width)) * np.linspace(0.5, 2, width)
    halves = tuple(Moments(width, width) for _ in range(2))
    for half, rows in zip(halves, np.array_split(x, 2), strict=True):
        half.add(rows, rows @ rotation.T)
    shuffled = Moments(width, width)
    shuffled.add(x, x[rng.permutation(n)] @ rotation.T)
    cell = ("planted", 0, 1, "final", "blocks.0.hook_resid_pre")
    return Pair(cell, halves, shuffled, (np.ones(width), np.ones(width)), None, {})


def test_latents_of_a_turned_copy_are_those_of_the_same_member_after_the_rotation():
    """Planted: the target is the source turned, and so are its SAEs; two SAEs of one member share 60 %."""
    rng = np.random.default_rng(11)
    width, n = 16, 200
    rotation = np.linalg.qr(rng.standard_normal((width, width))).Q
    pool = unit(rng.standard_normal((n, width)))
    seeds = ["seed1", "seed2", "seed3", "seed4"]
    own, turned = {}, {}
    for name in seeds:
        rows = np.where(
            (rng.random(n) < 0.77)[:, None], pool, unit(rng.standard_normal((n, width)))
        )
        rows = rows[rng.permutation(n)]
        own[name] = dictionary(m.Directions(rows, rows))
        # x_b = x_a rotationᵀ, so that directions turn likewise.
        turned[name] = dictionary(m.Directions(rows @ rotation.T, rows @ rotation.T))
    live = {role: dict.fromkeys(seeds, np.ones(n, bool)) for role in ("source", "target")}
    found = bridge.bridge(own, turned, live, turned_pair(rng, rotation), 0.7)
    by = {(row["arm"], row["quantity"]): row for row in found}
    for quantity in ("dec", "pw_mcc", "strict_on_data"):
        ceiling, carried = by["itself", quantity], by["procrustes", quantity]
        assert carried["value"] == pytest.approx(ceiling["value"], abs=1e-3)
        assert ceiling["low"] < ceiling["value"] < ceiling["high"]
        assert ceiling["value"] > by["raw", quantity]["value"] + 0.2
        # A rotation that matches no token is as good as none, and no better than random directions.
        for null in ("random", "shuffled"):
            assert by[null, quantity]["value"] < by["raw", quantity]["value"] + 0.1
    assert by["itself", "strict_on_data"]["value"] == pytest.approx(0.77**2, abs=0.06)
    assert {row["arm"] for row in found} == {"itself", *RUNGS, *NULLS}
    with pytest.raises(UserError, match="same seeds"):
        bridge.bridge(own, {"seed1": turned["seed1"]}, live, turned_pair(rng, rotation), 0.7)


def test_a_map_without_a_way_back_compares_decoders_alone():
    rng = np.random.default_rng(12)
    rows = unit(rng.standard_normal((20, 6)))
    of = dictionary(m.Directions(rows, rows))
    found = bridge.shared(of, of, (np.eye(6), None), np.eye(6), np.ones(20, bool), 0.7)
    assert found == {"dec": 1, "pw_mcc": pytest.approx(1), "mmcs": pytest.approx(1)}


def test_dictionaries_that_differ_in_one_aspect_are_swept():
    base = {"architecture": "topk", "k": 8, "steps": 600, "batch_tokens": 1, "tied_init": True}
    recipes = {
        "topk": base,
        "topk-k4": {**base, "k": 4},
        "topk-long": {**base, "steps": 2400},
        "untied": {**base, "tied_init": False},
        "relu": {"architecture": "relu_l1", "steps": 600, "batch_tokens": 1, "tied_init": True},
        # Differs in two.
        "other": {**base, "k": 2, "steps": 10},
    }
    names = ["topk-x1", "topk-x8", "topk-k4-x8", "topk-long-x8", "untied-x8", "relu-x8", "other-x8"]
    found = {sweep.label: sweep.dictionaries for sweep in sweeps.sweeps(recipes, names)}
    assert found == {
        "latents / width": {1: "topk-x1", 8: "topk-x8"},
        "k, latents a token": {4: "topk-k4-x8", 8: "topk-x8"},
        "training tokens": {600: "topk-x8", 2400: "topk-long-x8"},
        "tied start": {True: "topk-x8", False: "untied-x8"},
        "architecture": {"topk": "topk-x8", "relu_l1": "relu-x8"},
    }
    assert sweeps.sweeps(recipes, ["topk-x8"]) == []
