"""What joint SAEs refuse, by name and value."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from joint_toy import WIDTH, cache, settings
from pydantic import ValidationError

from crossseed.alignment.maps import identity
from crossseed.cohorts.base import Scored
from crossseed.errors import UserError
from crossseed.joint import cache as caches
from crossseed.joint import coder, losses, maps, samplesize
from crossseed.joint.conditions import of_condition
from crossseed.joint.config import JointTraining
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    blocks,
    joint_sides,
)

__all__ = ["cache"]


# The bench


def test_the_bench_has_every_part_of_a_step(monkeypatch, capsys):
    path = Path(__file__).parent.parent / "benchmarks" / "joint.py"
    spec = importlib.util.spec_from_file_location("joint_bench", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench, "SIZES", ((16, 2, 4),))
    rows = bench.joint("here", repeats=1)
    assert all(set(row) == set(bench.COLUMNS) for row in rows)
    alive = {row["what"]: row for row in rows if not row["dead"]}
    dead = {row["what"]: row for row in rows if row["dead"]}
    parts = {"passes above the site", "SAE with AuxK", "losses", "Adam", "silent latents"}
    assert set(alive) == parts | {bench.FLOOR, bench.STEP}
    assert set(dead) - set(alive) == {"of this AuxK"}
    for of in (alive, dead):
        assert of[bench.FLOOR]["ratio_to_floor"] == of[bench.STEP]["share_of_step"] == 1


# Refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({f"lambda_{name}": -0.5}, rf"lambda_{name}\s.*-0\.5") for name in losses.TERMS),
        ({"kind": "universal"}, r"lambda_cross 1\.0 has no meaning for kind universal"),
        ({"lambda_mutual": 2.0}, r"lambda_mutual 2\.0 has no meaning for kind joint"),
        (
            {"kind": "crosscoder", "lambda_cross": 0.0, "relu_after_topk": False},
            "relu_after_topk false",
        ),
        ({"norm": "batch"}, "norm"),
        ({"kk": 3}, "kk"),
    ],
)
def test_settings_are_refused_by_name_and_value(changes, said):
    with pytest.raises(ValidationError, match=f"(?s){said}"):
        settings(**changes)


def test_defaults_are_the_published_settings():
    config = JointTraining()
    assert config.expansion * 768 == 6144
    sizes = [6144 * 768 + 6144, 768 * 6144 + 768]
    assert sum(sizes) == 9_444_096
    arrays = coder.initial_arrays(8, 64, 42)
    assert sum(x.size for x in arrays.values()) == 2 * 8 * 64 + 64 + 8
    assert np.allclose(arrays["W_dec"].T @ arrays["W_dec"], np.eye(8), atol=1e-5)
    one, name = of_condition(config, "4")
    assert (one.lambda_cross, name) == (0, "identity")
    assert of_condition(config, "6") == (config, "true")
    assert of_condition(config, "5")[1] == "true"
    assert of_condition(config, "1")[0].kind == "independent"


def test_caches_refuse_what_cannot_be_scored(cache):
    def changed(**changes):
        return dataclasses.replace(cache, **changes)

    with pytest.raises(UserError, match="unlabelled split"):
        changed(labels=cache.labels - 5)
    with pytest.raises(UserError, match="unlabelled split"):
        changed(labels=cache.labels + 5)
    with pytest.raises(UserError, match="next of B is of shape"):
        changed(next=(cache.next[0], cache.next[1][:-1]))
    with pytest.raises(UserError, match="no tokens"):
        changed(mask=cache.mask & False)
    alone = changed(special=cache.mask)
    config = settings(special_tokens=False)
    sides = joint_sides(JointSAE(config, WIDTH, identity(WIDTH)))
    with pytest.raises(UserError, match="nothing but special tokens"):
        next(blocks(sides, alone))


def test_what_cannot_be_read_is_said_with_its_file_and_split(cache):
    where = "a.h5, b.h5: eval"

    def changed(**changes):
        return dataclasses.replace(cache, where=where, **changes)

    with pytest.raises(UserError, match=f"{where}: labels from"):
        changed(labels=cache.labels - 5)
    with pytest.raises(UserError, match=f"{where}: cached next of B"):
        changed(next=(cache.next[0], cache.next[1][:-1]))
    with pytest.raises(UserError, match=f"{where}: a cached example has no tokens"):
        changed(mask=cache.mask & False)
    alone = changed(special=cache.mask)
    sae = JointSAE(settings(special_tokens=False), WIDTH, identity(WIDTH))
    with pytest.raises(UserError, match=f"{where}: an example has nothing but special"):
        next(blocks(joint_sides(sae), alone))
    broken = changed(h=(cache.h[0] * np.nan, cache.h[1]))
    for tokens in (broken.coded_tokens(True), broken.pairs(np.arange(9))):
        with pytest.raises(UserError, match=f"{where}: activations that W is fitted on are not"):
            maps.true(tokens)
    with pytest.raises(UserError, match=f"{where}: 240 sequences|{where}: sizes"):
        samplesize.curve(changed().coded_tokens(True), changed().coded_tokens(True), [999], None)
    nothing = np.zeros((2, 3), bool)
    empty = Scored(nothing.astype(int), nothing, nothing, np.zeros(2, int), None, np.arange(2))
    with pytest.raises(UserError, match=r"c\.h5: fit has no tokens"):
        caches._trimmed(empty, "c.h5: fit")
