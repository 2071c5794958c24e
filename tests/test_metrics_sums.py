"""Metrics of a resample are those of rows in which a unit that was drawn twice stands twice."""

import numpy as np
import pytest

from crossseed import metrics
from crossseed.alignment.maps import haar_orthogonal

LENGTHS = (7, 1, 12, 5, 9, 2, 8)
STARTS = np.r_[0, np.cumsum(LENGTHS)[:-1]]
N, D, K = sum(LENGTHS), 5, 3
DRAWN = np.array([[1, 1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 0, 1], [0, 4, 1, 0, 1, 1, 0]], float)
NAN = float("nan")
# What cannot be said is NaN, without a word of NumPy's.
pytestmark = pytest.mark.filterwarnings("error")


def rows_drawn(weights):
    """Numbers of the rows of a resample."""
    units = np.split(np.arange(N), STARTS[1:])
    return np.concatenate([np.tile(unit, int(w)) for unit, w in zip(units, weights, strict=True)])


def blocks(rows):
    return metrics.unit_blocks(STARTS, N, rows)


@pytest.fixture
def pair():
    """Activations far from the origin, and what stands for them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)) * np.arange(1, D + 1) + 3
    return x, x + 0.4 * rng.standard_normal((N, D)) - 0.3


def error_sums(x, xhat, active=None, rows=15):
    sums = metrics.ErrorSums(len(STARTS), D)
    for units, part, local in blocks(rows):
        of_part = () if active is None else (active[part],)
        sums.add(units, local, x[part], xhat[part], *of_part)
    return sums


@pytest.mark.parametrize("rows", [1, 15, 1000])
def test_explained_variances_of_resamples(pair, rows):
    active = np.random.default_rng(1).integers(0, 9, N)
    sums = error_sums(*pair, active, rows)
    for row, weights in enumerate(DRAWN):
        drawn = rows_drawn(weights)
        x, xhat = (values[drawn] for values in pair)
        error = xhat - x
        ev = 1 - np.square(error).sum() / np.square(x - x.mean(axis=0)).sum()
        expected = {
            "ev": ev,
            "fvu": 1 - ev,
            "ev_published": 1 - np.square(error).mean() / x.var(ddof=1),
            "ev_dictlearn": 1 - error.var(axis=0).sum() / x.var(axis=0).sum(),
            "mse": np.square(error).mean(),
            "l0": active[drawn].mean(),
        }
        for name, value in expected.items():
            assert getattr(sums, name)(DRAWN)[row] == pytest.approx(value, rel=1e-10), name


def test_a_unit_may_come_in_parts_that_add_up(pair):
    x, xhat = pair
    sums = metrics.ErrorSums(1, D)
    for part in (slice(0, 20), slice(20, N)):
        sums.add(
            slice(0, 1), np.array([0]), x[part], xhat[part], np.full(part.stop - part.start, 2)
        )
    assert sums.n.tolist() == [N]
    assert sums.x[0] == pytest.approx(x.sum(axis=0))
    assert sums.e[0] == pytest.approx((xhat - x).sum(axis=0))
    once, whole = np.ones((1, 1)), error_sums(x, xhat)
    for name in ("ev", "ev_published", "ev_dictlearn", "mse"):
        assert getattr(sums, name)(once) == pytest.approx(getattr(whole, name)(DRAWN[:1])), name
    assert sums.l0(once) == 2
    assert whole.l0(DRAWN).tolist() == [0, 0, 0]


def test_where_nothing_varies_nothing_is_explained():
    sums = error_sums(np.full((N, D), 2.0), np.full((N, D), 2.5))
    for name in ("ev", "fvu", "ev_published", "ev_dictlearn"):
        assert np.isnan(getattr(sums, name)(DRAWN)).all(), name
    assert sums.mse(DRAWN) == pytest.approx([0.25] * 3)


def test_units_of_activations_do_not_matter(pair):
    x, xhat = pair
    axes = haar_orthogonal(np.random.default_rng(2), D)[:, :K]
    h, other = np.maximum(x - 3, 0), np.maximum(xhat - 3, 0)
    for size in (1e-5, 1e5):
        for name in ("ev", "ev_published", "ev_dictlearn"):
            found = getattr(error_sums(size * x, size * xhat), name)(DRAWN)
            assert found == pytest.approx(getattr(error_sums(x, xhat), name)(DRAWN)), name
        found = cross_sums(size * x, size * xhat, axes)
        assert found.evx(DRAWN, 2) == pytest.approx(cross_sums(x, xhat, axes).evx(DRAWN, 2))
        assert found.nre(DRAWN) == pytest.approx(cross_sums(x, xhat, axes).nre(DRAWN))
        r = firing_sums(size * h, size * other).correlations(DRAWN, np.arange(D))
        assert r == pytest.approx(firing_sums(h, other).correlations(DRAWN, np.arange(D)))


def cross_sums(a, xhat, axes, rows=15):
    sums = metrics.CrossSums(len(STARTS), axes)
    for units, part, local in blocks(rows):
        sums.add(units, local, a[part], xhat[part])
    return sums


@pytest.mark.parametrize("rows", [1, 15, 1000])
def test_cross_reconstruction_of_resamples(pair, rows):
    axes = haar_orthogonal(np.random.default_rng(2), D)[:, :K]
    sums = cross_sums(*pair, axes, rows)
    assert sums.a.sum(axis=0) == pytest.approx(pair[0].sum(axis=0))
    for row, weights in enumerate(DRAWN):
        a, xhat = (values[rows_drawn(weights)] for values in pair)
        nre = np.linalg.norm(xhat - a) / np.linalg.norm(a)
        assert sums.nre(DRAWN)[row] == pytest.approx(nre, rel=1e-10)
        for k in range(K + 1):
            outside = np.eye(D) - axes[:, :k] @ axes[:, :k].T
            total = np.square((a - a.mean(axis=0)) @ outside).sum()
            evx = 1 - np.square((xhat - a) @ outside).sum() / total
            # The axes are float32.
            assert sums.evx(DRAWN, k)[row] == pytest.approx(evx, abs=1e-5), k


@pytest.mark.parametrize(("left", "said"), [(1.5e-6, True), (0.5e-6, False)])
def test_a_share_of_a_millionth_is_rounding_and_not_explained(left, said):
    """`left` of the sum of squares is what the second direction adds to the first."""
    signs = np.resize([1.0, -1.0], 2 * len(STARTS))
    a = np.zeros((len(signs), 2))
    a[:, 0], a[:, 1] = signs * np.sqrt(1 - left), np.roll(signs, 1) * np.sqrt(left)
    sums = metrics.CrossSums(1, np.eye(2))
    xhat = a.copy()
    xhat[:, 1] *= 0.5
    sums.add(slice(0, 1), np.array([0]), a, xhat)
    once = np.ones((1, 1))
    assert sums.evx(once, 0) == pytest.approx(1 - left / 4)
    found = sums.evx(once, 1)
    assert found == pytest.approx(0.75, abs=1e-6) if said else np.isnan(found)


def firing_sums(a, b, rows=15):
    own = metrics.LatentSums(len(STARTS), a.shape[1])
    sums = metrics.FiringSums(own)
    for units, part, local in blocks(rows):
        own.add(units, local, a[part])
        sums.add(units, local, a[part], b[part])
    return sums


@pytest.mark.parametrize("rows", [1, 15, 1000])
def test_firing_correlations_of_resamples(rows):
    rng = np.random.default_rng(3)
    a = np.maximum(rng.standard_normal((N, 4)) + 1, 0)
    b = np.maximum(a + rng.standard_normal((N, 4)), 0)
    sums = firing_sums(a, b, rows)
    found, chosen = sums.correlations(DRAWN), sums.correlations(DRAWN, np.array([3, 1]))
    assert found.shape == (3, 4)
    for row, weights in enumerate(DRAWN):
        drawn = rows_drawn(weights)
        r = [np.corrcoef(a[drawn, i], b[drawn, i])[0, 1] for i in range(4)]
        assert found[row] == pytest.approx(r, abs=1e-9)
        assert chosen[row] == pytest.approx([r[3], r[1]], abs=1e-9)
    assert sums.over_all(DRAWN, np.arange(4)) == pytest.approx(found.mean(axis=1))


def test_a_latent_that_is_constant_in_the_other_encoding_counts_as_nothing_over_all():
    rng = np.random.default_rng(4)
    a = rng.standard_normal((N, 3))
    b = np.stack([a[:, 0], np.full(N, 0.7), -a[:, 2]], axis=1)
    sums = firing_sums(a, b)
    assert sums.live().tolist() == [True, False, True]
    assert firing_sums(b, a).live().tolist() == [True, False, True]
    every = sums.correlations(DRAWN[:1], np.arange(3))[0]
    assert every == pytest.approx([1, NAN, -1], nan_ok=True)
    assert sums.over_all(DRAWN[:1], np.array([0, 1])) == pytest.approx([0.5])
    assert sums.over_all(DRAWN[:1], np.arange(3)) == pytest.approx([0], abs=1e-12)
    # Whatever the constant: rounding of its sums does not count as varying.
    for constant in (0, *rng.random(30).astype(np.float32)):
        b[:, 1] = constant
        assert np.isnan(firing_sums(a, b).correlations(DRAWN, np.array([1]))).all()
        assert np.isnan(firing_sums(b, a).correlations(DRAWN, np.array([1]))).all()
    # Of one unit no resample says anything.
    one = metrics.LatentSums(1, 3)
    sums = metrics.FiringSums(one)
    one.add(slice(0, 1), np.array([0]), a)
    sums.add(slice(0, 1), np.array([0]), a, b)
    weights = metrics.resample_weights(rng, 1, 2)
    assert sums.over_all(weights, np.arange(2)) == pytest.approx([0.5, NAN, NAN], nan_ok=True)


def test_latents_vary_that_do_not_fire_alike_on_all_tokens():
    h = np.zeros((N, 4), np.float32)
    h[:, 1] = 0.1  # its float32 squares add up to rounding
    h[:, 2] = 1
    h[3, 2] = 1.001
    h[5, 3] = 1e-20
    sums = metrics.LatentSums(len(STARTS), 4)
    for units, part, local in blocks(15):
        sums.add(units, local, h[part].astype(float))
    assert sums.varying().tolist() == [False, False, True, True]
    assert sums.n.tolist() == list(LENGTHS)
    ones = [h[start : start + n, 2].sum() for start, n in zip(STARTS, LENGTHS, strict=True)]
    assert sums.first[:, 2] == pytest.approx(ones)
