"""Similarity that no rotation changes: the permutation test has its size, and its power."""

import numpy as np
import pytest

from crossseed.alignment.maps import haar_orthogonal
from crossseed.companions import neighbours, shuffle_p

N, D = 240, 8
DOCUMENT = np.repeat(np.arange(N // 12), 12)
POSITION = np.tile(np.arange(12), N // 12)


def p_of(a, b, rng, shuffles=99):
    near = [neighbours(x, DOCUMENT) for x in (a, b)]
    return shuffle_p(a, b, *near, POSITION, rng, shuffles)


def test_a_rotated_copy_has_the_smallest_p():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((N, D))
    found = p_of(a, a @ haar_orthogonal(rng, D), rng)
    assert found == {"cka_p": 0.01, "mutual_knn_p": 0.01}


def test_what_position_alone_makes_alike_is_not_significant():
    """Each model has a vector of its own for each position, and noise: nothing else is shared."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(80):
        of_position = 3 * rng.standard_normal((12, D))
        turned = of_position @ haar_orthogonal(rng, D)
        a, b = (x[POSITION] + rng.standard_normal((N, D)) for x in (of_position, turned))
        p.append(list(p_of(a, b, rng).values()))
    rejected = (np.array(p) <= 0.05).mean(axis=0)
    assert (rejected <= 0.13).all(), rejected
    assert np.mean(p, axis=0) == pytest.approx([0.5, 0.5], abs=0.12)


def test_without_neighbours_only_cka_is_tested():
    rng = np.random.default_rng(2)
    a = rng.standard_normal((N, D))
    assert neighbours(a, np.zeros(N, dtype=int)) is None
    found = shuffle_p(a, a, None, None, POSITION, rng, 19)
    assert found["cka_p"] == 0.05
    assert np.isnan(found["mutual_knn_p"])
