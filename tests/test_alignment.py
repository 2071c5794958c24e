"""Planted rotations come back; what the data do not decide is not claimed."""

import functools

import numpy as np
import pytest
from aligned import moments_of, rng
from hypothesis import given, settings
from hypothesis import strategies as st

from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments

# In blocks, as activations are read.
moments_of = functools.partial(moments_of, blocks=7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 48))
def test_planted_rotation_is_recovered(seed, d):
    r = rng(seed)
    rotation = m.haar_orthogonal(r, d)
    a = r.standard_normal((20 * d, d)) @ np.diag(1 / np.sqrt(np.arange(1, d + 1))) + r.normal(
        size=d
    )
    b = (a - 3.0) @ rotation.T
    found = m.procrustes(moments_of(a, b).cross_covariance)
    assert np.abs(found - rotation).max() < 1e-10


def test_planted_rotation_is_recovered_inside_the_identified_subspace_only():
    r = rng(1)
    rotation = m.haar_orthogonal(r, 32)
    basis = np.linalg.qr(r.standard_normal((32, 12)))[0]
    a = r.standard_normal((4000, 12)) @ basis.T
    b = a @ rotation.T
    found = m.procrustes(moments_of(a, b).cross_covariance)
    assert np.abs(b @ found - a).max() < 1e-9
    assert np.abs(found - rotation).max() > 0.05
    halves = moments_of(a[:2000], b[:2000]), moments_of(a[2000:], b[2000:])
    assert m.identified_directions(*halves).shape[1] == 12
    assert m.ranks(moments_of(a, b).cross_covariance).numerical == 12


def test_a_rank_deficient_model_against_itself_gives_the_identity():
    r = rng(11)
    a = (r.standard_normal((900, 5)) @ r.standard_normal((5, 16))).astype(np.float32)
    assert np.abs(m.procrustes(moments_of(a, a).cross_covariance) - np.eye(16)).max() < 1e-4


def test_a_model_against_itself_gives_the_identity():
    a = rng(2).standard_normal((500, 16))
    assert np.abs(m.procrustes(moments_of(a, a).cross_covariance) - np.eye(16)).max() < 1e-10


def test_unrelated_activations_identify_no_direction():
    r = rng(3)
    a, b = r.standard_normal((2, 4000, 32))
    halves = moments_of(a[::2], b[::2]), moments_of(a[1::2], b[1::2])
    assert m.identified_directions(*halves).shape[1] <= 2


def test_moments_equal_numpy_in_both_precisions():
    r = rng(4)
    a = r.standard_normal((3000, 8)) * 5 + 100
    b = r.standard_normal((3000, 6)) + a[:, :6]
    exact = np.cov(b.T, a.T, bias=True)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-6)):
        found = moments_of(a.astype(dtype), b.astype(dtype))
        assert np.allclose(found.covariance_b, exact[:6, :6], rtol=tolerance, atol=tolerance * 25)
        assert np.allclose(found.cross_covariance, exact[:6, 6:], rtol=0, atol=tolerance * 50)
        assert np.allclose(found.covariance_a, exact[6:, 6:], rtol=0, atol=tolerance * 100)
        assert np.allclose(found.mean_a, a.mean(axis=0), rtol=1e-6)


def test_float32_streaming_loses_little_of_a_rotation():
    r = rng(5)
    d = 64
    a = r.standard_normal((6000, d)) @ np.diag(1 / np.arange(1, d + 1)) + 10 * r.standard_normal(d)
    b = a @ m.haar_orthogonal(r, d).T + 0.01 * r.standard_normal((6000, d))
    exact = m.procrustes(moments_of(a, b).cross_covariance)
    found = m.procrustes(moments_of(a.astype(np.float32), b.astype(np.float32)).cross_covariance)
    assert np.linalg.norm(found - exact) / np.sqrt(2 * d) < 1e-4


def test_merged_moments_equal_moments_of_all_rows():
    r = rng(6)
    a, b = r.standard_normal((1000, 5)) + 7, r.standard_normal((1000, 5)) - 3
    whole = moments_of(a, b)
    merged = moments_of(a[:300], b[:300]).merged(moments_of(a[300:], b[300:]))
    assert merged.n == whole.n
    for name in ("mean_a", "mean_b", "covariance_a", "covariance_b", "cross_covariance"):
        assert np.allclose(getattr(merged, name), getattr(whole, name), atol=1e-10)


def test_unpaired_blocks_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        Moments(2, 2).add(np.ones((3, 2)), np.ones((4, 2)))


@pytest.mark.parametrize("rows", [2, 3, 50])
def test_shuffling_stays_within_position_and_leaves_no_row_in_place(rows):
    position = np.tile(np.arange(10), rows)
    found = m.shuffle_within_position(rng(7), position)
    assert sorted(found) == list(range(10 * rows))
    assert (position[found] == position).all()
    assert (found != np.arange(10 * rows)).all()
    again = m.shuffle_within_position(rng(8), position)
    assert (found != again).any() == (rows > 2)


def test_few_long_sequences_do_not_bring_the_pairing_back():
    """Blocks of 32 sequences: a share of 1/32 true pairs would give nearly the true rotation."""
    r = rng(12)
    n_positions, n_sequences, d = 256, 32, 32
    spectrum = 1 / np.arange(1, d + 1)
    rotation = m.haar_orthogonal(r, d)
    position = np.tile(np.arange(n_positions), n_sequences)
    shuffled, paired = Moments(d, d), Moments(d, d)
    for _ in range(8):
        a = r.standard_normal((len(position), d)) * spectrum
        b = a @ rotation.T
        shuffled.add(a[m.shuffle_within_position(r, position)], b)
        paired.add(a, b)
    fitted = m.arms(paired, shuffled, m.haar_orthogonal(r, d))
    assert np.abs(fitted["procrustes"].matrix_dd - rotation).max() < 1e-5
    error = np.square(fitted["shuffled"](b) - a).sum() / np.square(a - a.mean(axis=0)).sum()
    assert 1 - error < 0


def test_shuffled_pairs_carry_no_token():
    r = rng(8)
    a = r.standard_normal((5000, 16))
    b = a @ m.haar_orthogonal(r, 16).T
    position = np.tile(np.arange(25), 200)
    shuffled = moments_of(a[m.shuffle_within_position(r, position)], b)
    paired = moments_of(a, b)
    fitted = m.arms(paired, shuffled, m.haar_orthogonal(r, 16))

    def alignment_ev(arm):
        return 1 - np.square(fitted[arm](b) - a).sum() / np.square(a - a.mean(axis=0)).sum()

    assert alignment_ev("procrustes") > 1 - 1e-9
    assert alignment_ev("shuffled") < -0.5
    assert alignment_ev("random") < -0.5
    assert set(fitted) == set(m.ARMS)


def test_every_arm_but_raw_matches_the_mean():
    r = rng(9)
    a, b = r.standard_normal((400, 6)) + 5, r.standard_normal((400, 6)) - 2
    fitted = m.arms(moments_of(a, b), moments_of(a, b), m.haar_orthogonal(r, 6))
    for arm, affine in fitted.items():
        carried = affine(b).mean(axis=0)
        assert np.allclose(carried, b.mean(axis=0) if arm == "raw" else a.mean(axis=0))


def test_haar_draws_are_orthogonal_and_of_both_determinants():
    draws = [m.haar_orthogonal(rng(seed), 9) for seed in range(40)]
    assert all(np.abs(q @ q.T - np.eye(9)).max() < 1e-12 for q in draws)
    assert {round(np.linalg.det(q)) for q in draws} == {-1, 1}
    distances = [m.rotation_distance(q) for q in draws]
    assert abs(np.mean(distances) - np.sqrt(18)) < 0.2


def test_effective_rank_counts_equal_singular_values():
    assert m.ranks(np.diag([2.0, 2, 2, 0, 0])).effective == pytest.approx(3)


def test_gaussian_rows_have_the_moments_asked_for():
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    rows = m.gaussian_rows(rng(10), np.array([3.0, -1.0]), covariance, 200_000)
    assert np.allclose(rows.mean(axis=0), [3, -1], atol=0.02)
    assert np.allclose(np.cov(rows.T), covariance, atol=0.03)


def test_procrustes_refuses_what_it_cannot_fit():
    with pytest.raises(ValueError, match="square"):
        m.procrustes(np.ones((3, 4)))
    with pytest.raises(ValueError, match="finite"):
        m.procrustes(np.full((3, 3), np.nan))
