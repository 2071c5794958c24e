"""Draws of the Haar battery: exact, and of the law of dense matrices."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from crossseed.alignment.maps import haar_orthogonal
from crossseed.haar import eigenangles, null, statistics
from crossseed.published import iid_ks


def dense(d, det, size, seed=0):
    """Angles of Haar draws of one determinant, from whole matrices."""
    rng = np.random.default_rng(seed)
    angles = []
    while len(angles) < size:
        found = statistics.spectrum(haar_orthogonal(rng, d))
        if found.det == det:
            angles.append(found.angles_n)
    return np.array(angles)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_products_of_reflections_have_the_law_of_qr_of_gaussian_matrices(d):
    """Corners, their product, traces and determinants, which a wrong sign or order would move."""
    rng = np.random.default_rng(0)

    def by_qr():
        q, r = np.linalg.qr(rng.standard_normal((d, d)))
        return q * np.sign(np.diag(r))

    def numbers(q):
        corners = [q[i, j] for i in (0, -1) for j in (0, -1)]
        return [*corners, q[0, 0] * q[-1, -1], np.trace(q), np.trace(q @ q), np.linalg.det(q)]

    ours = np.array([numbers(haar_orthogonal(rng, d)) for _ in range(4000)]).T
    theirs = np.array([numbers(by_qr()) for _ in range(4000)]).T
    assert np.abs(ours[-1]) == pytest.approx(1)
    assert np.mean(ours[-1] > 0) == pytest.approx(0.5, abs=0.04)
    for x, y in zip(ours.round(9), theirs.round(9), strict=True):
        assert ks_2samp(x, y).pvalue > 1e-3


@pytest.mark.parametrize("d", [7, 64, 200])
def test_haar_draws_are_the_product_of_reflections_that_they_are_said_to_be(d):
    """The same normals, one reflection after the other; 200 takes LAPACK's way with blocks."""
    found = haar_orthogonal(np.random.default_rng(3), d)
    assert np.array_equal(found, haar_orthogonal(np.random.default_rng(3), d))
    normals = np.random.default_rng(3).standard_normal(d * (d + 1) // 2)
    expected = np.eye(d)
    for k in range(d):
        # As stored: row i of the mask holds column i from its diagonal on.
        vector, normals = normals[: d - k].copy(), normals[d - k :]
        sign = np.sign(vector[0])
        vector[0] += sign * np.linalg.norm(vector)
        vector /= np.linalg.norm(vector)
        reflection = np.eye(d)
        reflection[k:, k:] -= 2 * np.outer(vector, vector)
        # A reflection of x on −sign(x₁)‖x‖ e₁ leaves a diagonal of R with that sign, taken out.
        expected = expected @ reflection
        expected[:, k] *= -sign
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("d", [8, 9, 32])
@pytest.mark.parametrize("det", [1, -1])
def test_tridiagonal_draws_have_the_law_of_dense_ones(d, det):
    rng = np.random.default_rng(1)
    drawn = np.concatenate(list(eigenangles.draws(rng, d, det, 3000)))
    assert drawn.shape == (3000, eigenangles.n_pairs(d, det))
    assert (np.diff(drawn, axis=1) >= 0).all()
    expected = dense(d, det, 1000)
    for name, x, y in zip(
        statistics.SPECTRAL,
        statistics.spectral(drawn, d, det).T,
        statistics.spectral(expected, d, det).T,
        strict=True,
    ):
        assert ks_2samp(x, y).pvalue > 1e-3, name


@pytest.mark.parametrize("d", [8, 9, 64, 65])
@pytest.mark.parametrize("det", [1, -1])
def test_the_mean_law_is_the_mean_of_draws(d, det):
    drawn = np.concatenate(list(eigenangles.draws(np.random.default_rng(2), d, det, 8000)))
    difference = null.empirical_less_mean(drawn, d, det).mean(axis=0)
    assert np.abs(difference).max() < 4 / np.sqrt(8000 * d)
    ends = eigenangles.mean_cdf(np.array([0.0, np.pi]), d, det)
    assert ends == pytest.approx([0, 1])


@pytest.mark.parametrize("d", [6, 7])
@pytest.mark.parametrize("det", [1, -1])
def test_angles_of_a_matrix_are_those_of_its_eigenvalues(d, det):
    rng = np.random.default_rng(3)
    matrix = haar_orthogonal(rng, d)
    if np.linalg.det(matrix) * det < 0:
        matrix[0] *= -1
    found = statistics.spectrum(matrix)
    assert found.det == det
    expected = np.angle(np.linalg.eigvals(matrix))
    inner = np.sort(expected[(expected > 1e-6) & (expected < np.pi - 1e-6)])
    assert found.angles_n == pytest.approx(inner, abs=1e-7)
    assert iid_ks.angles_of(matrix) == pytest.approx(np.sort(np.abs(expected)), abs=1e-6)
    trace = statistics.trace_z(found.angles_n[None], d, det, 3)[0] * np.sqrt(3)
    assert trace == pytest.approx(np.trace(np.linalg.matrix_power(matrix, 3)))
    _, vectors = np.linalg.eig(matrix)
    chosen = np.abs(np.angle(np.linalg.eigvals(matrix)))
    inside = (chosen > 1e-6) & (chosen < np.pi - 1e-6)
    ipr = np.square(np.square(np.abs(vectors[:, inside]))).sum(axis=0).mean()
    assert found.participation == pytest.approx(ipr)


def test_published_reference_figures_of_the_null():
    """Simulated at d = 64 and 512: KS .047 [.036, .065]; .0081 [.0066, .0105]; spacing .600."""
    rng = np.random.default_rng(4)
    for d, low, median, high in ((64, 0.036, 0.047, 0.065), (512, 0.0066, 0.0081, 0.0105)):
        drawn = np.concatenate(list(eigenangles.draws(rng, d, 1, 1500)))
        found = statistics.spectral(drawn, d, 1)
        ks = np.quantile(found[:, 0], (0.025, 0.5, 0.975))
        assert ks == pytest.approx([low, median, high], rel=0.06)
    spacing = np.quantile(found[:, statistics.SPECTRAL.index("spacing_ratio")], (0.025, 0.5, 0.975))
    assert spacing == pytest.approx([0.565, 0.600, 0.635], abs=0.006)


def test_entries_of_haar_draws_at_512():
    rng = np.random.default_rng(5)
    found = np.array([statistics.entries(haar_orthogonal(rng, 512)) for _ in range(6)]).mean(axis=0)
    assert found[0] == pytest.approx(4.65, abs=0.35)
    assert found[1] == pytest.approx(3 * 512 / 514, abs=0.03)
    assert found[2] == pytest.approx(70.87, abs=0.2)
    # Of signed permutations the nearest lies at 29.70, not at √(2d − 2).
    assert np.sqrt(2 * 512 - 2 * found[2]) == pytest.approx(29.70, abs=0.01)


def test_a_null_is_a_function_of_its_size(tmp_path):
    first, again = null.draw(16, 50), null.draw(16, 50)
    null.write(tmp_path / "null.h5", first, {"d": 16, "draws": 50})
    found = null.read(tmp_path / "null.h5")
    assert found.d == 16
    for det in (1, -1):
        assert set(found.statistics[det]) == {*statistics.SPECTRAL, *statistics.ENTRIES}
        for name, values in found.statistics[det].items():
            assert np.array_equal(values, again.statistics[det][name])
        assert np.array_equal(found.law[det], again.law[det])
    with pytest.raises(ValueError, match="at least 8"):
        null.draw(7, 10)
