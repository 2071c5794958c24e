"""Metrics against their definitions, and intervals that cover."""

import numpy as np
import pytest
from scipy import stats

from crossseed import metrics


def sample(n=2000, d=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.arange(1, d + 1) + 4 * rng.standard_normal(d)
    xhat = x + 0.3 * rng.standard_normal((n, d)) + 0.2
    sequence = np.sort(rng.integers(0, 90, size=n))
    return x, xhat, sequence


def filled(x, xhat, sequence, rows=300):
    starts = metrics.unit_starts(sequence)
    sums = metrics.ErrorSums(len(starts), x.shape[1])
    for units, part, local in metrics.unit_blocks(starts, len(x), rows):
        sums.add(units, local, x[part], xhat[part], np.full(part.stop - part.start, 3))
    return sums, metrics.resample_weights(np.random.default_rng(1), len(starts), 100)


def test_units_are_whole_sequences_and_blocks_cover_every_row():
    _, _, sequence = sample()
    starts = metrics.unit_starts(sequence)
    assert len(starts) == len(np.unique(sequence))
    assert all(s == 0 or sequence[s] != sequence[s - 1] for s in starts)
    many = metrics.unit_starts(np.arange(5000))
    assert len(many) == metrics.MAX_UNITS
    covered = np.concatenate(
        [np.arange(p.start, p.stop) for _, p, _ in metrics.unit_blocks(starts, 2000, 300)]
    )
    assert np.array_equal(covered, np.arange(2000))


def test_explained_variances_equal_their_definitions():
    x, xhat, sequence = sample()
    sums, weights = filled(x, xhat, sequence)
    error = xhat - x
    centred = x - x.mean(axis=0)
    ev = 1 - np.square(error).sum() / np.square(centred).sum()
    assert sums.ev(weights)[0] == pytest.approx(ev, abs=1e-12)
    assert sums.fvu(weights)[0] == pytest.approx(1 - ev, abs=1e-12)
    published = 1 - np.square(error).mean() / x.var(ddof=1)
    assert sums.ev_published(weights)[0] == pytest.approx(published, abs=1e-12)
    dictlearn = 1 - error.var(axis=0).sum() / x.var(axis=0).sum()
    assert sums.ev_dictlearn(weights)[0] == pytest.approx(dictlearn, abs=1e-12)
    assert sums.mse(weights)[0] == pytest.approx(np.square(error).mean(), abs=1e-12)
    assert sums.l0(weights)[0] == 3
    assert published > ev  # offsets between dimensions flatter the published figure


def test_constant_guess_at_the_mean_explains_nothing():
    x, _, sequence = sample()
    sums, weights = filled(x, np.broadcast_to(x.mean(axis=0), x.shape), sequence)
    assert sums.ev(weights)[0] == pytest.approx(0, abs=1e-9)


def test_intervals_of_ev_cover_the_truth_at_their_level():
    rng = np.random.default_rng(2)
    truth, covered = 1 - 0.25, 0
    for _ in range(200):
        x = rng.standard_normal((1000, 2))
        xhat = x + 0.5 * rng.standard_normal((1000, 2))
        sums, weights = filled(x, xhat, np.repeat(np.arange(100), 10))
        found = metrics.estimate(sums.ev(weights))
        covered += found.low <= truth <= found.high
    assert 175 <= covered <= 199


def firing(a, b, sequence):
    starts = metrics.unit_starts(sequence)
    own = metrics.LatentSums(len(starts), a.shape[1])
    sums = metrics.FiringSums(own)
    for units, part, local in metrics.unit_blocks(starts, len(a), 300):
        own.add(units, local, a[part])
        sums.add(units, local, a[part], b[part])
    return sums, metrics.resample_weights(np.random.default_rng(1), len(starts), 100)


def test_firing_correlation_equals_numpy_over_live_latents():
    rng = np.random.default_rng(3)
    a = np.maximum(rng.standard_normal((1500, 5)), 0).astype(np.float32)
    b = np.maximum(a + rng.standard_normal((1500, 5)), 0).astype(np.float32)
    a[:, 1] = 0  # dead in one
    b[:, 2] = 0.7  # constant in the other
    sums, weights = firing(a, b, np.repeat(np.arange(150), 10))
    r = sums.correlations(weights)
    assert sums.live().tolist() == [True, False, False, True, True]
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in (0, 3, 4)]
    assert np.allclose(r[0], expected, atol=1e-6)
    mean = metrics.mean_correlation(r)
    assert mean.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert mean.low < mean.value < mean.high


def test_equal_firing_correlates_fully_and_no_live_latent_gives_nan():
    a = np.maximum(np.random.default_rng(4).standard_normal((800, 3)), 0)
    sequence = np.repeat(np.arange(80), 10)
    sums, weights = firing(a, a, sequence)
    assert np.allclose(sums.correlations(weights), 1)
    assert metrics.share_above(sums.correlations(weights), 0.5).value == 1
    sums, weights = firing(np.zeros((800, 3)), a, sequence)
    assert np.isnan(metrics.mean_correlation(sums.correlations(weights)).value)


def test_independent_firing_has_an_interval_around_zero():
    rng = np.random.default_rng(5)
    a, b = np.maximum(rng.standard_normal((2, 3000, 40)), 0)
    sums, weights = firing(a, b, np.repeat(np.arange(300), 10))
    found = metrics.mean_correlation(sums.correlations(weights))
    assert found.low < 0 < found.high


def test_ranks_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 4, (3, 2, 30)).astype(float), rng.standard_normal((2, 9))):
        np.testing.assert_array_equal(metrics.ranks(values), stats.rankdata(values, axis=-1))
    lacking = metrics.ranks(np.array([[1.0, np.nan], [2.0, 1.0]]))
    np.testing.assert_array_equal(lacking, [[np.nan, np.nan], [2, 1]])
