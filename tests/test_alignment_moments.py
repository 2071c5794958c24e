"""Moments in whatever blocks, kinds and places they come are those of all rows together."""

import numpy as np
import pytest
import torch

from crossseed.alignment.moments import Moments
from crossseed.alignment.streaming import DeviceMoments

NAMES = ("mean_a", "mean_b", "covariance_a", "covariance_b", "cross_covariance")
DEVICE = torch.device("cpu")


def rows(n=2500, seed=0, dtype=np.float64):
    """Pairs of 4 and 3 dimensions, dependent on each other, far from the origin, whose mean drifts."""
    r = np.random.default_rng(seed)
    a = r.standard_normal((n, 4)) @ r.standard_normal((4, 4)) + np.linspace(20, 23, n)[:, None]
    b = a[:, :3] @ r.standard_normal((3, 3)) + r.standard_normal((n, 3)) - 40
    return a.astype(dtype), b.astype(dtype)


def exact(a, b):
    """By NumPy, in double precision."""
    both = np.cov(b.T.astype(float), a.T.astype(float), bias=True)
    means = (values.mean(axis=0, dtype=float) for values in (a, b))
    return dict(zip(NAMES, (*means, both[3:, 3:], both[:3, :3], both[:3, 3:]), strict=True))


def streamed(kind, a, b, bounds=(), **kept):
    found = Moments(4, 3, **kept) if kind is Moments else DeviceMoments(4, 3, DEVICE, **kept)
    for part in np.split(np.arange(len(a)), bounds):
        block = a[part], b[part]
        found.add(*(block if kind is Moments else map(torch.from_numpy, block)))
    return found if kind is Moments else found.moments()


def assert_same(found, expected, names=NAMES, tolerance=1e-10):
    for name in names:
        assert getattr(found, name) == pytest.approx(expected[name], abs=tolerance), name


@pytest.mark.parametrize("kind", [Moments, DeviceMoments])
@pytest.mark.parametrize("bounds", [(), (700, 900), (1, 1, 2100)])
def test_streamed_moments_are_those_of_all_rows(kind, bounds):
    a, b = rows()
    found = streamed(kind, a, b, bounds)
    assert found.n == 2500
    assert type(found) is Moments
    assert_same(found, exact(a, b))


@pytest.mark.parametrize("kind", [Moments, DeviceMoments])
def test_single_precision_far_from_the_origin_loses_little(kind):
    a, b = rows()
    a = (a + np.array([3000, -3000, 8000, 0])).astype(np.float32)
    b = (b + np.array([3000, -3000, 8000])).astype(np.float32)
    found = streamed(kind, a, b, (700, 900))
    assert_same(found, exact(a, b), ("mean_a", "mean_b"), 1e-3)
    # Without the provisional centring the covariances would be off by more than one.
    assert_same(found, exact(a, b), NAMES[2:], 2e-3)


@pytest.mark.parametrize("kind", [Moments, DeviceMoments])
def test_without_the_members_own_covariances_the_rest_is_the_same(kind):
    a, b = rows()
    found = streamed(kind, a, b, (800,), cross_only=True)
    assert_same(found, exact(a, b), ("mean_a", "mean_b", "cross_covariance"))


def test_those_own_covariances_are_not_kept_then():
    """They would be most of the memory of a wide pair of models."""
    sums = Moments(4, 3, cross_only=True), DeviceMoments(4, 3, DEVICE, cross_only=True)
    for found in sums:
        a, b = rows(50)
        found.add(*((a, b) if isinstance(found, Moments) else map(torch.from_numpy, (a, b))))
        square = [value.shape for value in vars(found).values() if getattr(value, "ndim", 0) == 2]
        assert square == [(3, 4)]
    whole = Moments(4, 3), DeviceMoments(4, 3, DEVICE)
    assert not any(found.cross_only for found in whole)


@pytest.mark.parametrize("kind", [Moments, DeviceMoments])
def test_a_block_whose_rows_are_not_pairs_is_refused(kind):
    found = kind(4, 3) if kind is Moments else kind(4, 3, DEVICE)
    a, b = rows(9)
    block = (a[:5], b) if kind is Moments else (torch.from_numpy(a[:5]), torch.from_numpy(b))
    with pytest.raises(ValueError, match="5 and 9 rows"):
        found.add(*block)
    assert found.n == 0


@pytest.mark.parametrize("kind", [Moments, DeviceMoments])
def test_without_tokens_there_is_no_mean(kind):
    found = streamed(kind, *rows(0))
    assert found.n == 0
    for name in ("mean_a", "mean_b"):
        with pytest.raises(ValueError, match="no tokens"):
            getattr(found, name)


def test_sums_on_the_device_lose_nothing_of_single_precision():
    found = DeviceMoments(4, 3, DEVICE)
    found.add(torch.zeros(1, 4), torch.zeros(1, 3))
    block = torch.ones(7, 4)
    block[0] = 2**25  # beside which a one is lost in 32 bits
    found.add(block, -block[:, :3])
    assert (8 * found.moments().mean_a).tolist() == [2**25 + 6] * 4
    assert (8 * found.moments().mean_b).tolist() == [-(2**25) - 6] * 3


def test_sums_stay_on_the_device():
    kept = vars(DeviceMoments(4, 3, torch.device("meta"))).values()
    tensors = [value for value in kept if isinstance(value, torch.Tensor)]
    assert len(tensors) == 5
    assert {value.device.type for value in tensors} == {"meta"}


def test_an_empty_block_changes_nothing():
    a, b = rows()
    assert_same(streamed(Moments, a, b, (0, 0, 800, 800, 2500)), exact(a, b))
    assert_same(streamed(DeviceMoments, a, b, (0, 0, 800, 800, 2500)), exact(a, b))


@pytest.mark.parametrize("cross_only", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 800, 2500])
def test_merged_moments_are_those_of_both(cut, cross_only):
    a, b = rows()
    first, second = (
        streamed(Moments, a[part], b[part], cross_only=cross_only)
        for part in (slice(0, cut), slice(cut, None))
    )
    names = [name for name in NAMES if not cross_only or not name.startswith("covariance")]
    for found in (first.merged(second), second.merged(first)):
        assert found.n == 2500
        assert_same(found, exact(a, b), names)
        assert found.cross_only == cross_only
    # Nothing was added to what was merged.
    if cut == 800:
        assert_same(first, exact(a[:cut], b[:cut]), names)
        assert_same(second, exact(a[cut:], b[cut:]), names)


def test_single_and_double_precision_merge():
    a, b = rows()
    single = streamed(Moments, a[:800].astype(np.float32), b[:800].astype(np.float32))
    found = single.merged(streamed(Moments, a[800:], b[800:]))
    assert_same(found, exact(a, b), tolerance=1e-3)


def test_swapped_moments_are_of_the_same_pairs_the_other_way_round():
    a, b = rows()
    found, expected = streamed(Moments, a, b, (900,)).swapped(), exact(a, b)
    assert found.n == 2500
    assert found.mean_a == pytest.approx(expected["mean_b"])
    assert found.mean_b == pytest.approx(expected["mean_a"])
    assert found.covariance_a == pytest.approx(expected["covariance_b"])
    assert found.covariance_b == pytest.approx(expected["covariance_a"])
    assert found.cross_covariance == pytest.approx(expected["cross_covariance"].T)


def test_known_moments_are_said_again_and_merge():
    a, b = rows()
    expected = exact(a[:800], b[:800])
    known = Moments.known(800, **expected)
    assert known.n == 800
    assert_same(known, expected, tolerance=1e-12)
    assert_same(known.merged(streamed(Moments, a[800:], b[800:])), exact(a, b))
