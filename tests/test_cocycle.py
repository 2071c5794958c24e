"""Rotations around a triangle of members: those of one frame compose, those of noise do not."""

import numpy as np
import pytest

from crossseed.activations import open_split
from crossseed.alignment.maps import haar_orthogonal
from crossseed.haar import cocycle


def test_rotations_that_activations_do_not_decide_have_no_plain_tau(tau):
    """Each model of rank 5 in a frame of its own: the completions alone would agree."""
    rng = np.random.default_rng(20)
    rows = [
        {split: rng.standard_normal((n, 5)) @ haar_orthogonal(rng, 16)[:5]
         for split, n in (("fit", 1200), ("train", 100), ("eval", 100))}
        for _ in range(3)
    ]  # fmt: skip
    found = tau(*rows)
    assert found["decided"] == 0
    assert np.isnan(found["tau"])
    assert np.isnan(found["p"])
    assert abs(found["tau_weighted"]) < 0.6


@pytest.fixture
def tau(tmp_path, write_activations):
    """Rows of the cocycle of three or more arrays of activations."""

    def run(*rows):
        paths = [write_activations(tmp_path / f"{i}.h5", x) for i, x in enumerate(rows)]
        with (
            open_split(paths[0], "fit", "origin:site") as a,
            open_split(paths[1], "fit", "origin:site") as b,
            open_split(paths[2], "fit", "origin:site") as c,
        ):
            return cocycle.table({0: a, 1: b, 2: c}, "cell")[0]

    return run


def test_rotations_of_one_frame_compose_and_those_of_noise_do_not(tau, sparse_rows):
    rng = np.random.default_rng(11)
    rows = sparse_rows()
    turned = [
        {split: x @ haar_orthogonal(np.random.default_rng(seed), 16) for split, x in rows.items()}
        for seed in (1, 2, 3)
    ]
    found = tau(*turned)
    assert found["tau"] == pytest.approx(1, abs=1e-3)
    assert found["tau_weighted"] == pytest.approx(1, abs=1e-3)
    assert abs(found["tau_shuffled"]) < 0.5
    assert found["p"] < 0.01
    noise = tau(*({s: rng.standard_normal(x.shape) for s, x in rows.items()} for _ in range(3)))
    assert abs(noise["tau"]) < 4 / 16
