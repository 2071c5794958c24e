"""What intervals rest on: units of whole documents, draws of them, and statistics with known answers."""

import numpy as np
import pytest
from scipy import stats

from crossseed import metrics

NAN = float("nan")
# What cannot be said is NaN, without a word of NumPy's.
pytestmark = pytest.mark.filterwarnings("error")


def test_units_begin_where_documents_do():
    document = np.array([3, 3, 3, 5, 6, 6])
    assert metrics.unit_starts(document).tolist() == [0, 3, 4]
    assert metrics.unit_of(document).tolist() == [0, 0, 0, 1, 2, 2]


def test_many_documents_share_at_most_256_units_evenly():
    document = np.repeat(np.arange(512), 3)
    assert metrics.unit_starts(document).tolist() == list(range(0, 1536, 6))
    # One document too many: one unit has two, the others one.
    sizes = np.bincount(metrics.unit_of(np.arange(257)))
    assert sorted(sizes) == [1] * 255 + [2]
    assert np.array_equal(metrics.unit_of(np.arange(256)), np.arange(256))


def test_blocks_hold_as_many_whole_units_as_fit():
    blocks = list(metrics.unit_blocks(np.array([0, 4, 8, 12]), 20, 8))
    assert [(units, rows) for units, rows, _ in blocks] == [
        (slice(0, 2), slice(0, 8)),
        (slice(2, 3), slice(8, 12)),
        (slice(3, 4), slice(12, 20)),
    ]
    assert [local.tolist() for *_, local in blocks] == [[0, 4], [0], [0]]
    # Types that slice anything, an HDF5 file too.
    assert all(type(rows.start) is int and type(rows.stop) is int for _, rows, _ in blocks)


def test_a_unit_longer_than_a_block_stays_whole():
    blocks = list(metrics.unit_blocks(np.array([0, 10]), 12, 3))
    assert [(units, rows, local.tolist()) for units, rows, local in blocks] == [
        (slice(0, 1), slice(0, 10), [0]),
        (slice(1, 2), slice(10, 12), [0]),
    ]


def test_draws_of_units_are_with_replacement_and_equally_likely():
    n, resamples = 4, 20_000
    weights = metrics.resample_weights(np.random.default_rng(0), n, resamples)
    assert weights.shape == (1 + resamples, n)
    assert weights.dtype == np.float64
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == n).all()
    # Binomial(n, 1/n): mean 1, variance 1 − 1/n.
    assert weights[1:].mean(axis=0) == pytest.approx([1] * n, abs=0.03)
    assert weights[1:].var(axis=0) == pytest.approx([1 - 1 / n] * n, abs=0.03)


def test_one_unit_says_nothing_of_its_spread():
    weights = metrics.resample_weights(np.random.default_rng(0), 1, 5)
    assert weights.shape == (6, 1)
    assert weights[0, 0] == 1
    assert np.isnan(weights[1:]).all()
    two = metrics.resample_weights(np.random.default_rng(0), 2, 5)
    assert np.isfinite(two).all()
    assert metrics.estimate(weights[:, 0] * 7) == pytest.approx((7, NAN, NAN), nan_ok=True)


def test_an_interval_leaves_a_fortieth_of_the_resamples_on_either_side():
    resampled = np.random.default_rng(0).permutation(np.arange(1001.0))
    assert metrics.estimate(np.r_[-3, resampled]) == pytest.approx((-3, 25, 975))
    # Resamples in which nothing varies have no value, and do not count.
    lacking = np.r_[-3, resampled, np.full(300, NAN)]
    assert metrics.estimate(lacking) == pytest.approx((-3, 25, 975))
    assert metrics.Estimate(1.0) == pytest.approx((1, NAN, NAN), nan_ok=True)


@pytest.mark.parametrize("n", [3, 12])
def test_the_jackknife_of_a_mean_is_students_interval(n):
    values = np.random.default_rng(n).standard_normal(n)
    without = np.array([np.delete(values, i).mean() for i in range(n)])
    found = metrics.jackknife(float(values.mean()), without)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert found == pytest.approx((values.mean(), low, high))


def test_the_jackknife_needs_three_finite_values():
    for without in ([1.0, 2.0], [1.0, 2.0, NAN], [1.0, 2.0, np.inf]):
        found = metrics.jackknife(1.5, np.array(without))
        assert found == pytest.approx((1.5, NAN, NAN), nan_ok=True)


def test_holm_steps_down():
    # The smallest four times, the next three times, and never below one that came before.
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.7, 0.2]) == pytest.approx([0.7, 0.4])
    assert metrics.holm([0.9, 0.6, 0.8]).tolist() == [1, 1, 1]
    single = metrics.holm(np.array([0.01, 0.04], np.float32))
    assert single == pytest.approx([0.02, 0.04])
    assert single.dtype == np.float64


def test_holm_rejects_a_true_null_of_a_family_as_seldom_as_promised():
    rng = np.random.default_rng(1)
    families = rng.random((4000, 5))
    families[:, 0] = 1e-6  # one that is false
    rejected = np.array([metrics.holm(p) < 0.05 for p in families])
    assert rejected[:, 0].all()
    assert rejected[:, 1:].any(axis=1).mean() == pytest.approx(0.05, abs=0.012)


def test_unit_rows_keep_their_direction_and_zeros_stay():
    rows = np.array([[[3.0, 4.0], [0.0, 0.0]], [[0.0, -0.2], [5.0, 0.0]]])
    expected = [[[0.6, 0.8], [0, 0]], [[0, -1], [1, 0]]]
    assert metrics.unit_rows(rows) == pytest.approx(np.array(expected))


def test_pearson_of_a_planted_mixture():
    one, two = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    assert metrics.pearson(one + 7, 0.6 * one + 0.8 * two - 5) == pytest.approx(0.6)
    assert metrics.pearson(2 * one - 4, 3 - 0.5 * one) == pytest.approx(-1)
    assert metrics.pearson(1e-9 * one, 1e-5 * (0.6 * one + 0.8 * two)) == pytest.approx(0.6)
    assert metrics.pearson(one, two) == 0
    assert np.isnan(metrics.pearson(one, np.full(4, 2.0)))
    assert np.isnan(metrics.pearson(np.full(4, 2.0), one))


def test_sums_of_units_lose_nothing_of_single_precision():
    values = np.ones((6, 2), np.float32)
    values[0] = 2**25  # beside which a one is lost in 32 bits
    found = metrics.sum_units(values, np.array([0, 3, 4]))
    assert found.dtype == np.float64
    assert found.tolist() == [[2**25 + 2] * 2, [1, 1], [2, 2]]
    assert metrics.sum_units(values[:, 0], np.array([0, 5])).tolist() == [2**25 + 4, 1]


def test_equal_values_share_the_mean_of_their_ranks():
    assert metrics.ranks(np.array([3.0, 1.0, 3.0, 0.0, 3.0])).tolist() == [4, 2, 4, 1, 4]
    assert metrics.ranks(np.array([[2.0, 2.0], [1.0, 0.0]])).tolist() == [[1.5, 1.5], [2, 1]]
    assert metrics.ranks(np.array([5.0])).tolist() == [1]


def test_means_leave_out_what_is_not_a_number():
    values = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN], [5.0, 0.0, 1.0], [NAN, 7.0, NAN]])
    assert metrics.nan_mean(values) == pytest.approx([2, NAN, 2, 7], nan_ok=True)


def test_shares_are_of_live_latents_and_strictly_above():
    correlations = np.array([[0.5, 0.6, NAN, 0.2, 0.9]] * 2)
    assert metrics.share_above(correlations, 0.5) == pytest.approx((0.5, 0.5, 0.5))
    assert metrics.mean_correlation(correlations) == pytest.approx((0.55, 0.55, 0.55))
