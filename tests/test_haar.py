"""The Haar battery: tests of the right size, power where it is claimed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binom, binomtest, ks_2samp

from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.errors import UserError
from crossseed.haar import battery, null, power, statistics, study
from crossseed.haar.sizes import sizes
from crossseed.metrics import holm
from crossseed.published import iid_ks

D = 64


@pytest.fixture(scope="module")
def null64():
    return null.draw(D, 9999)


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
