"""Maps by their definitions: what carries back, what Procrustes maximises, the Haar law, what the data decide."""

import numpy as np
import pytest
from aligned import moments_of, rng
from scipy import stats

from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments


def spectrum_between(r, values):
    """A matrix with these singular values between two random bases, and the rotation it hides."""
    u, v = (m.haar_orthogonal(r, len(values)) for _ in range(2))
    return (u * values) @ v.T, u, v


def test_a_map_turns_what_is_left_of_the_mean_and_puts_it_at_the_other():
    affine = m.AffineMap(
        np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 0.5]]),
        np.array([1.0, 5.0]),
        np.array([7.0, 8.0, 9.0]),
    )
    b = np.array([[1.0, 5.0], [2.0, 5.0], [1.0, 7.0]])
    expected = [[7, 8, 9], [7, 10, 9], [5, 8, 10]]
    for dtype in (np.float32, np.float64):
        carried = affine(b.astype(dtype))
        assert carried.dtype == dtype
        assert carried == pytest.approx(np.array(expected))
    assert m.identity(2)(b) == pytest.approx(b)


@pytest.mark.parametrize("kind", ["rotation", "scaled", "sheared", "small"])
def test_a_map_carried_back_is_where_it_was(kind):
    r = rng(1)
    matrix = m.haar_orthogonal(r, 7)
    if kind == "scaled":
        matrix = 300 * matrix
    if kind in ("sheared", "small"):
        matrix = matrix * np.linspace(0.1, 3, 7) * (1e-5 if kind == "small" else 1)
    affine = m.AffineMap(matrix, r.standard_normal(7), np.zeros(7))
    b = r.standard_normal((20, 7))
    assert affine.inverse()(affine(b)) == pytest.approx(b, abs=1e-12)
    assert affine(affine.inverse()(b)) == pytest.approx(b, abs=1e-12)
    moved = affine._replace(shift_out_d=np.arange(7.0))
    assert moved.inverse()(np.arange(7.0)) == pytest.approx(affine.shift_in_d, abs=1e-9)


def test_the_way_back_of_a_rotation_is_its_transpose_to_the_last_bit():
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    both = (
        np.block([[turn, np.zeros((2, 2))], [np.zeros((2, 2)), turn.T]]) @ np.eye(4)[[2, 0, 3, 1]]
    )
    for size in (1.0, 2.0):
        back = m.AffineMap(size * both, np.zeros(4), np.zeros(4)).inverse().matrix_dd
        assert np.array_equal(back, both.T / size)


def test_no_way_back_is_made_of_noise():
    def back(matrix):
        d = len(matrix)
        return m.AffineMap(matrix, np.zeros(d), np.zeros(matrix.shape[1])).inverse()

    near, far = (spectrum_between(rng(2), [1, 1, 1 / condition])[0] for condition in (9e3, 1.1e4))
    assert back(near).matrix_dd @ near == pytest.approx(np.eye(3), abs=1e-9)
    with pytest.raises(ValueError, match=r"1\.1e\+04 times its smallest"):
        back(far)
    with pytest.raises(ValueError, match="noise"):
        back(np.diag([1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="no inverse"):
        back(np.ones((3, 4)))


def test_procrustes_does_better_than_any_other_rotation():
    r = rng(3)
    cross = r.standard_normal((5, 5))
    found = m.procrustes(cross)
    assert found @ found.T == pytest.approx(np.eye(5), abs=1e-12)
    best = np.sum(found * cross)
    assert best == pytest.approx(np.linalg.svd(cross, compute_uv=False).sum())
    assert all(np.sum(m.haar_orthogonal(r, 5) * cross) < best for _ in range(200))


def test_where_the_data_decide_nothing_procrustes_stays_nearest_to_the_identity():
    r = rng(4)
    cross, u, v = spectrum_between(r, [3.0, 1.0, 0.0, 0.0, 0.0])
    found = m.procrustes(cross)
    assert u[:, :2].T @ found == pytest.approx(v[:, :2].T, abs=1e-9)
    assert found @ found.T == pytest.approx(np.eye(5), abs=1e-9)
    for _ in range(200):
        other = u[:, :2] @ v[:, :2].T + u[:, 2:] @ m.haar_orthogonal(r, 3) @ v[:, 2:].T
        assert m.rotation_distance(found) < m.rotation_distance(other)
    # Not so where they decide all, though by little.
    cross, u, v = spectrum_between(r, [3.0, 1.0, 0.1, 0.1, 0.1])
    assert m.procrustes(cross) == pytest.approx(u @ v.T, abs=1e-9)


@pytest.mark.parametrize(("size", "decided"), [(1.5e-6, True), (0.7e-6, False)])
def test_a_millionth_of_the_largest_singular_value_decides(size, decided):
    _, u, v = spectrum_between(rng(5), [1.0] * 4)
    # The last direction is turned round, which the identity would not do.
    v[:, 3] *= -np.sign(u[:, 3] @ v[:, 3])
    cross = (u * [100, 50, 50, 100 * size]) @ v.T
    sign = 1 if decided else -1
    assert m.procrustes(cross) == pytest.approx((u * [1, 1, 1, sign]) @ v.T, abs=1e-6)
    assert m.ranks(cross).numerical == 3 + decided


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3,), (3, 3, 3)])
def test_procrustes_is_of_square_matrices(shape):
    with pytest.raises(ValueError, match="square"):
        m.procrustes(np.ones(shape))


def test_one_entry_that_is_not_finite_is_refused():
    cross = np.eye(3)
    cross[1, 2] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        m.procrustes(cross)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_draws_have_the_law_of_haar(d):
    """Their trace, and entries in every corner, as of SciPy's draws."""
    r, n = rng(6), 1500
    found = np.array([m.haar_orthogonal(r, d) for _ in range(n)])
    assert np.abs(found @ found.transpose(0, 2, 1) - np.eye(d)).max() < 1e-12
    if d == 1:
        assert abs(found.sum()) < 4 * np.sqrt(n)
        return
    known = stats.ortho_group(d, seed=7).rvs(n)
    measured = [
        (q[:, 0, 0], q[:, -1, -1], q[:, 0, -1], q[:, -1, 0], np.trace(q, axis1=1, axis2=2))
        for q in (found, known)
    ]
    for one, other in zip(*measured, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-4
    assert np.linalg.det(found).mean() == pytest.approx(0, abs=0.13)


def test_rows_of_a_position_change_places_and_one_alone_cannot():
    position = np.array([4, 0, 4, 9, 0, 4])
    seen = {tuple(m.shuffle_within_position(r, position)) for r in map(rng, range(40))}
    # Two ways round a circle of three, one of two.
    assert seen == {(2, 4, 5, 3, 1, 0), (5, 4, 0, 3, 1, 2)}


def test_every_arm_is_what_its_name_says():
    r = rng(8)
    a = r.standard_normal((60, 4))
    paired, shuffled = moments_of(a, a + 1), moments_of(a, r.standard_normal((60, 4)))
    random = m.haar_orthogonal(r, 4)
    found = m.arms(paired, shuffled, random)
    assert tuple(found) == ("raw", "mean", "random", "shuffled", "procrustes")
    assert tuple(found) == m.ARMS
    assert np.array_equal(found["raw"].matrix_dd, np.eye(4))
    assert not found["raw"].shift_in_d.any()
    assert not found["raw"].shift_out_d.any()
    assert np.array_equal(found["mean"].matrix_dd, np.eye(4))
    assert np.array_equal(found["random"].matrix_dd, random)
    assert found["procrustes"].matrix_dd == pytest.approx(np.eye(4), abs=1e-12)
    expected = m.procrustes(shuffled.cross_covariance)
    assert found["shuffled"].matrix_dd == pytest.approx(expected)
    for arm in m.ARMS[1:]:
        assert found[arm](a + 1).mean(axis=0) == pytest.approx(a.mean(axis=0)), arm


def test_the_distance_of_a_turn_is_that_of_its_angle():
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]]
    assert m.rotation_distance(turn) == pytest.approx(2 * np.sqrt(2) * np.sin(0.25))
    assert m.rotation_distance(-np.eye(9)) == pytest.approx(6)


def test_ranks_of_planted_singular_values():
    cross, *_ = spectrum_between(rng(9), 0.1 * np.array([0.5, 0.25, 0.25, 0]))
    found = m.ranks(cross)
    assert found.effective == pytest.approx(2**1.5)
    assert found.numerical == 3
    assert m.ranks(np.zeros((4, 4))) == (0, 0)


def test_directions_on_which_halves_agree_span_what_was_planted():
    r = rng(10)
    shared = np.linalg.qr(r.standard_normal((12, 3)))[0]
    halves = []
    for _ in range(2):
        common = 5 * r.standard_normal((3000, 3)) * [1, 0.8, 0.6]
        a, b = (common @ shared.T + 0.3 * r.standard_normal((3000, 12)) for _ in range(2))
        halves.append(moments_of(a, b))
    found = m.identified_directions(*halves)
    assert found.shape[0] == 12
    # The three are found; one of noise may agree by chance.
    assert 3 <= found.shape[1] <= 5
    assert np.linalg.norm(found.T @ shared) ** 2 == pytest.approx(3, abs=0.02)


def test_agreement_counts_above_nine_tenths_and_where_the_target_varies():
    """Halves that differ by a known turn in each of three planes."""
    d, turns = 7, np.array([0.1, 0.4, 0.5])

    def known(angles, spread=1.0):
        turn = np.eye(d)
        for i, angle in enumerate(angles):
            plane = slice(2 * i, 2 * i + 2)
            turn[plane, plane] = [
                [np.cos(angle), np.sin(angle)],
                [-np.sin(angle), np.cos(angle)],
            ]
        varies = np.diag([7.0, 6, 5, 4, 3, 2, spread])
        return Moments.known(10, np.zeros(d), np.zeros(d), varies, varies, varies @ turn @ both)

    both = m.haar_orthogonal(rng(12), d)

    # cos .4 = .92, cos .5 = .88.
    for spread, expected in (
        (1.0, [0, 1, 2, 3, 6]),
        (1.5e-5, [0, 1, 2, 3, 6]),
        (6.5e-6, [0, 1, 2, 3]),
    ):
        found = m.identified_directions(known(np.zeros(3), spread), known(turns, spread))
        assert sorted(np.abs(found).argmax(axis=0)) == expected
        assert np.abs(found).max(axis=0) == pytest.approx(1)


def test_normal_rows_are_single_precision_and_lie_where_their_covariance_says():
    r = rng(11)
    direction = np.array([0.6, 0.0, 0.8])
    rows = m.gaussian_rows(r, np.array([1.0, 2, 3]), 4 * np.outer(direction, direction), 5000)
    assert rows.dtype == np.float32
    assert rows.shape == (5000, 3)
    along = (rows - [1, 2, 3]) @ direction
    assert rows == pytest.approx(np.arange(1, 4) + np.outer(along, direction), abs=1e-5)
    assert along.std() == pytest.approx(2, rel=0.05)
