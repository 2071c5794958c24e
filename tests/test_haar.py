"""The Haar battery: exact draws, tests of the right size, power where it is claimed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binom, binomtest, ks_2samp

from crossseed.activations import open_split
from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.errors import UserError
from crossseed.haar import battery, cocycle, eigenangles, null, power, statistics, study
from crossseed.haar.sizes import sizes
from crossseed.metrics import holm
from crossseed.published import iid_ks

D = 64


@pytest.fixture(scope="module")
def null64():
    return null.draw(D, 9999)


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


@pytest.mark.slow
def test_every_test_has_its_size_and_power_as_listed(null64):
    """Two thousand Haar draws, and the alternatives of the power table."""
    rows = power.table(null64, 2000, {"haar"}, ())
    size = {row["test"]: row["rejected"] for row in rows}
    # A test that never rejects would have a size of 0, as the published one does.
    assert all(0.03 <= size[name] <= 0.07 for name in set(size) - {power.IID}), size
    assert size[power.IID] == 0
    found = {
        (row["alternative"], row["test"]): row["rejected"]
        for row in power.table(null64, 60, curves=())
    }
    for test in ("largest_entry", "fourth_moment", "assignment"):
        assert found["permutation", test] == 1
        assert found["two_blocks", test] > 0.85
        assert found["partly_identity", test] < 0.2
    assert found["permutation", "spacing_ratio"] > 0.6
    assert found["permutation", "ks"] > 0.25
    assert found["partly_identity", "traces_20"] == found["partly_identity", "ks"] == 1
    # Nothing sees what shares nothing, or shares a part: it is Haar.
    for alternative in ("pure_noise", "partly_shared"):
        for test in (*statistics.SPECTRAL, *statistics.ENTRIES):
            assert found[alternative, test] < 0.25, (alternative, test)
    for alternative in ("permutation", "two_blocks", "pure_noise", "partly_shared"):
        assert found[alternative, power.IID] == 0, alternative
    assert found["near_identity", power.IID] == 1


def test_the_published_test_cannot_fail():
    """Permutations and Procrustes of unrelated noise pass the textbook test."""
    rng = np.random.default_rng(6)
    reference = iid_ks.reference(D)
    permutations = [np.eye(D)[rng.permutation(D)] for _ in range(40)]
    p = [iid_ks.test(iid_ks.angles_of(matrix), reference)[1] for matrix in permutations]
    assert min(p) > 0.05
    a, b = rng.standard_normal((2, 4000, D))
    assert iid_ks.test(iid_ks.angles_of(procrustes(b.T @ a)), reference)[1] > 0.9


def test_the_battery_rejects_a_permutation_and_haar_draws_as_rarely_as_it_says(null64):
    rng = np.random.default_rng(7)
    smallest = []
    for _ in range(60):
        tests, det = battery.battery_of(haar_orthogonal(rng, D), null64)
        assert det in (1, -1)
        smallest.append(min(test.holm for test in tests))
    # Some test rejects in at most 5 of 100 draws: of 60, more than 9 would be one chance in 1,000.
    assert sum(p <= 0.05 for p in smallest) <= binom.ppf(0.999, 60, 0.05)
    assert all(test.null_low <= test.null_median <= test.null_high for test in tests)
    tests, _ = battery.battery_of(np.eye(D)[rng.permutation(D)], null64, (np.eye(D), np.eye(D)))
    rejected = {(test.basis, test.statistic) for test in tests if test.holm <= 0.05}
    assert {("neuron", "largest_entry"), ("principal", "assignment")} <= rejected
    assert len(tests) == len(statistics.SPECTRAL) + 2 * len(statistics.ENTRIES)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (1.01 * np.eye(D), "largest entry of"),
        (np.full((D, D), np.nan), "NaN"),
        (np.ones((D, 3)), "square"),
        (np.eye(32), "draw a null of that size"),
    ],
)
def test_what_is_no_orthogonal_matrix_of_that_size_is_refused(null64, matrix, said):
    with pytest.raises(UserError, match=said):
        battery.battery_of(matrix, null64)


def test_too_few_null_draws_are_refused():
    with pytest.raises(UserError, match="at least 440"):
        battery.battery_of(haar_orthogonal(np.random.default_rng(0), 8), null.draw(8, 100))


@given(some.lists(some.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12))
def test_holm_is_monotone_and_never_below_its_p(p):
    corrected = holm(p)
    assert (corrected >= np.array(p)).all()
    assert (corrected <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert list(holm([0.5, 0.9])) == [1.0, 1.0]


def test_two_sided_counts_both_tails_and_is_never_zero():
    draws = np.arange(99.0)
    assert battery.two_sided(1000.0, draws) == pytest.approx(0.02)
    assert battery.two_sided(-1.0, draws) == pytest.approx(0.02)
    assert battery.two_sided(49.0, draws) == 1


def test_power_rises_with_the_effect(null64):
    curve = "share of directions that do not turn"
    rows = power.table(null64, 160, (), {curve})
    found = {(row["strength"], row["test"]): row["rejected"] for row in rows}
    assert found[1 / 2, "trace_1"] == 1
    assert found[1 / 64, "trace_1"] < found[1 / 16, "trace_1"] <= found[1 / 4, "trace_1"]
    # In a basis drawn at random no entry stands out.
    assert found[1 / 16, "largest_entry"] < 0.3


def test_rotations_that_are_all_the_same_are_seen_across_pairs():
    rng = np.random.default_rng(8)
    independent = [haar_orthogonal(rng, D) for _ in range(5)]
    drawn = battery.across_null(rng, D, 5, 800)
    assert drawn["products_1"].std() == pytest.approx(1, abs=0.12)
    for name, value in battery.across(battery.trace_products(independent)).items():
        assert battery.two_sided(value, drawn[name]) > 0.01
    same = [independent[0]] * 5
    for name, value in battery.across(battery.trace_products(same)).items():
        assert battery.two_sided(value, drawn[name]) < 0.01


def test_tests_across_pairs_have_their_size():
    rng = np.random.default_rng(18)
    drawn = battery.across_null(rng, 16, 4, 2000)
    rejected = dict.fromkeys(drawn, 0)
    for _ in range(600):
        found = battery.trace_products([haar_orthogonal(rng, 16) for _ in range(4)])
        for name, value in battery.across(found).items():
            rejected[name] += battery.two_sided(value, drawn[name]) <= 0.05
    assert all(0.025 <= n / 600 <= 0.08 for n in rejected.values()), rejected
    # A count of determinants is discrete: at most its level.
    counts = rng.binomial(20, 0.5, size=2000)
    assert np.mean([battery.determinants_p(int(k), 20) <= 0.05 for k in counts]) <= 0.06
    for n in (1, 7, 20):
        for k in range(n + 1):
            expected = binomtest(k, n, 0.5).pvalue
            assert battery.determinants_p(k, n) == pytest.approx(expected, rel=1e-12)


def test_entries_between_principal_directions_depend_on_no_sign(null64):
    rng = np.random.default_rng(19)
    matrix = haar_orthogonal(rng, D)
    signs = rng.choice([-1.0, 1.0], (2, D))
    order = rng.permutation(D)
    other = (signs[0][:, None] * matrix * signs[1])[:, order]
    assert [r.statistic for r in battery.entries_of(matrix, null64)] == list(statistics.ENTRIES[:3])
    for one, two in zip(
        battery.entries_of(matrix, null64), battery.entries_of(other, null64), strict=True
    ):
        assert one._replace(value=0) == two._replace(value=0)
        assert one.value == pytest.approx(two.value)


def test_the_law_of_traces_does_not_depend_on_the_size_they_are_drawn_at():
    rng = np.random.default_rng(9)
    small, large = (
        [
            battery.across(battery.trace_products([haar_orthogonal(rng, d) for _ in range(3)]))
            for _ in range(600)
        ]
        for d in (battery.TRACES_SETTLE, 2 * battery.TRACES_SETTLE)
    )
    for name in ("products_1", "products_2"):
        assert ks_2samp([x[name] for x in small], [x[name] for x in large]).pvalue > 1e-3


def test_a_pool_of_haar_draws_is_calibrated(null64):
    rng = np.random.default_rng(10)
    p = []
    for _ in range(120):
        pool = [study.phases(haar_orthogonal(rng, D), True, "s", 0, 1, "m") for _ in range(4)]
        value = np.abs(np.mean([one.law for one in pool], axis=0)).max()
        dets = [one.det for one in pool]
        drawn = np.abs(study.pooled_null(dets, null64, 800, "pool")).max(axis=1)
        p.append(battery.two_sided(value, drawn))
    assert np.mean(np.array(p) <= 0.05) <= 0.12
    assert ks_2samp(p, rng.random(2000)).pvalue > 1e-3


def planted_phases(det_seed, decided=True, sites=("s0", "s1"), seeds=(1, 2)):
    rng = np.random.default_rng(det_seed)
    found = []
    for site in sites:
        for seed in seeds:
            for name in study.MAPS:
                matrix = haar_orthogonal(rng, D)
                found.append(study.phases(matrix, decided, site, 0, seed, name))
    return found


def test_eigenphases_are_pooled_by_site_and_over_all(null64):
    rows = study.ks(planted_phases(12), null64, "cell")
    own = [row for row in rows if row["map"] == "procrustes"]
    assert [(r["site"], r["matrices"]) for r in own if r["target_seed"] != ""] == [
        ("s0", 1), ("s0", 1), ("s1", 1), ("s1", 1)
    ]  # fmt: skip
    assert [(r["site"], r["matrices"]) for r in own if r["target_seed"] == ""] == [
        ("s0", 2), ("s1", 2), (study.ALL_SITES, 4)
    ]  # fmt: skip
    for row in rows:
        assert row["p_published"] > 0.9
        assert row["p"] > 0.001
        assert row["null_low"] < row["ks"] < 1.5 * row["null_high"]
    assert set(rows[0]) | {"cohort", "checkpoint"} == set(study.KS_COLUMNS)


def test_rotations_that_are_not_decided_have_the_published_test_alone(null64):
    for row in study.ks(planted_phases(13, decided=False), null64, "cell"):
        assert row["decided"] == 0
        assert row["p_published"] > 0.9
        assert np.isnan(row["p"])
        assert np.isnan(row["ks"])


def test_one_pair_at_one_site_has_nothing_to_pool(null64):
    rows = study.ks(planted_phases(14, sites=("s0",), seeds=(1,)), null64, "cell")
    assert [row["matrices"] for row in rows] == [1] * len(study.MAPS)


def test_sizes_are_halved_down_to_the_smallest():
    assert sizes(512) == [512, 256, 128, 64, 32, 16, 8]
    assert sizes(100) == [100, 50, 25, 12]


# --- cocycle ------------------------------------------------------------------------------


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
