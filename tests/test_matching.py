"""Matching of latents: planted partners are found, random ones are the floor, and blocks give the dense optimum."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import optimize, stats

from crossseed.matching import assignment, modes, transport
from crossseed.matching import criteria as m


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(
    rng: np.random.Generator, n: int, width: int, share: float, noise: float = 0.05
) -> tuple[m.Directions, m.Directions, np.ndarray]:
    """Two dictionaries of which a share of latents is the same up to noise, and the true partners of these."""
    decoder, encoder = (unit(rng.standard_normal((n, width))) for _ in range(2))
    order = rng.permutation(n)
    common = round(share * n)

    def other(rows: np.ndarray) -> np.ndarray:
        found = rows[order] + noise * rng.standard_normal((n, width))
        found[common:] = rng.standard_normal((n - common, width))
        return unit(found)

    second = m.Directions(other(decoder), other(encoder))
    partner = np.full(n, -1)
    partner[order[:common]] = np.arange(common)
    return m.Directions(decoder, encoder), second, partner


@pytest.mark.parametrize("structure", ["planted", "random", "clustered"])
def test_blocks_find_the_dense_optimum_and_prove_it(structure, monkeypatch):
    monkeypatch.setattr(assignment, "BLOCK_ROWS", 100)
    rng = np.random.default_rng(0)
    for n, width in ((300, 16), (500, 64)):
        a, b = (unit(rng.standard_normal((n, width))) for _ in range(2))
        if structure == "planted":
            first, second, _ = planted(rng, n, width, 0.35)
            a, b = first.decoder, second.decoder
        if structure == "clustered":
            # Many latents compete for few directions: the hard case of sparse candidates.
            centres = rng.standard_normal((5, width))
            a, b = (
                unit(centres[rng.integers(0, 5, n)] + 0.1 * rng.standard_normal((n, width)))
                for _ in range(2)
            )
        best = assignment.dense(a @ b.T)
        found = assignment.priced(a, b, candidates=4)
        assert sorted(found.partner) == list(range(n))
        assert found.cosine.sum() == pytest.approx(best.cosine.sum(), abs=n * 2e-6)
        assert found.cosine.sum() + found.gap >= best.cosine.sum() - 1e-4
        assert found.rounds >= 1


def test_dead_directions_have_partners_too():
    rng = np.random.default_rng(1)
    a, b = (unit(rng.standard_normal((60, 8))) for _ in range(2))
    a[:7], b[5:20] = 0, 0
    found = assignment.priced(a, b, candidates=3)
    assert found.cosine.sum() == pytest.approx(assignment.dense(a @ b.T).cosine.sum(), abs=1e-4)


def edge(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Directions with ties, in which any number of pairs is as near as the k-th nearest."""
    rng = np.random.default_rng(7)
    n, width = 700, 32
    a, b = (unit(rng.standard_normal((n, width))) for _ in range(2))
    few = unit(rng.standard_normal((10, width)))
    if name == "all dead":
        a, b = 0 * a, 0 * b
    if name == "dead on one side":
        a[rng.random(n) < 0.4] = 0
    if name == "one direction many times":
        a[:200] = a[0]
    if name == "few directions many times":
        a, b = (few[rng.integers(0, 10, n)] for _ in range(2))
    if name == "opposite":
        b = -a
    return a, b


@pytest.mark.parametrize(
    "name",
    [
        *("all dead", "dead on one side", "one direction many times"),
        *("few directions many times", "opposite"),
    ],
)
def test_ties_do_not_keep_pricing_from_its_end(name, monkeypatch):
    # Rows that are alike all want the same columns: without chance, or without more pairs from
    # round to round, there are ten rounds and more.
    monkeypatch.setattr(assignment, "MOST_ROUNDS", 8)
    a, b = edge(name)
    n = len(a)
    best = optimum(a @ b.T)
    found = assignment.priced(a, b, candidates=8)
    assert sorted(found.partner) == list(range(n))
    assert found.cosine.sum() == pytest.approx(best, abs=n * 1e-6)
    assert 0 <= found.gap <= 2 * n * assignment.TOLERANCE


@pytest.mark.parametrize("dead", [False, True])
def test_the_whole_matrix_is_never_held(dead):
    """Not its pairs either, where zeros are as near as each other."""
    n = 3000
    rng = np.random.default_rng(11)
    a, b = (unit(rng.standard_normal((n, 32))).astype(np.float32) for _ in range(2))
    if dead:
        a, b = 0 * a, 0 * b
    tracemalloc.start()
    assignment.priced(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * n * n


@pytest.mark.parametrize("n", [1, 2, 5, assignment.CANDIDATES, assignment.CANDIDATES + 1, 97])
def test_few_directions_are_priced_too(n):
    rng = np.random.default_rng(n)
    a, b = (unit(rng.standard_normal((n, 6))) for _ in range(2))
    found = assignment.priced(a, b)
    assert sorted(found.partner) == list(range(n))
    assert found.cosine.sum() == pytest.approx(optimum(a @ b.T), abs=n * 1e-6)
    assert found.cosine == pytest.approx((a * b[found.partner]).sum(axis=1), abs=1e-6)


def optimum(cosines: np.ndarray) -> float:
    """The largest sum of a matching, by SciPy and in 64 bits."""
    rows, columns = optimize.linear_sum_assignment(cosines, maximize=True)
    return float(cosines[rows, columns].sum())


@pytest.mark.parametrize("block_rows", [1, 40, 64, 1000])
def test_no_pair_but_candidates_is_above_the_bounds(block_rows, monkeypatch):
    """And every pair is a candidate that is above the k-th nearest of its row or column."""
    monkeypatch.setattr(assignment, "BLOCK_ROWS", block_rows)
    rng = np.random.default_rng(8)
    n, k = 150, 5
    a, b = (unit(rng.standard_normal((n, 8))).astype(np.float32) for _ in range(2))
    (rows, columns, cosines), (s, t) = assignment._nearest(a, b, k)
    c = a @ b.T
    assert cosines == pytest.approx(c[rows, columns], abs=1e-6)
    assert (np.diff(rows * n + columns) > 0).all()
    near = np.zeros((n, n), dtype=bool)
    near[rows, columns] = True
    assert near.diagonal().all()
    assert (c <= s[:, None] + t + 1e-6)[~near].all()
    ranked = (np.sort(c, axis=1)[:, [-k]], np.sort(c, axis=0)[-k])
    assert near[(c > ranked[0] + 1e-6) | (c > ranked[1] + 1e-6)].all()
    assert near.sum() < 4 * k * n


@pytest.mark.parametrize(("dead", "share", "rounds"), [(0.0, 0.05, 2), (0.3, 0.6, 4)])
def test_few_rows_and_columns_are_multiplied_a_second_time(dead, share, rounds, monkeypatch):
    rng = np.random.default_rng(0)
    a = unit(rng.standard_normal((1500, 64)))
    b = unit(a[rng.permutation(1500)] + 0.6 * rng.standard_normal((1500, 64)))
    for rows in (a, b):
        rows[rng.random(1500) < dead] = 0
    priced = []
    in_doubt = assignment._in_doubt

    def counted(*over):
        found = in_doubt(*over)
        priced.append(sum(map(len, found)) / 1500)
        return found

    monkeypatch.setattr(assignment, "_in_doubt", counted)
    assert assignment.priced(a, b).rounds == len(priced) <= rounds
    assert max(priced) < share


def test_rows_and_columns_that_are_not_priced_are_not_in_doubt():
    rng = np.random.default_rng(9)
    over_u, over_v = rng.normal(-1, 1, 200), rng.normal(-1, 1, 200)
    rows, columns = assignment._in_doubt(over_u, over_v)
    left = np.delete(over_u, rows)[:, None] + np.delete(over_v, columns)
    assert left.size
    assert left.max() <= -assignment.TOLERANCE
    # Fewer than by the rule of one side.
    assert len(rows) + len(columns) < (over_u + over_v.max() > 0).sum()
    none = assignment._in_doubt(over_u - 9, over_v)
    assert [len(found) for found in none] == [0, 0]


def test_broken_pairs_are_found_in_rows_and_in_columns():
    rng = np.random.default_rng(10)
    n = 60
    a, b = (unit(rng.standard_normal((n, 8))).astype(np.float32) for _ in range(2))
    c = a @ b.T
    # Duals that are feasible but for one row, or one column.
    for row in (True, False):
        u, v = np.full(n, 0.5), np.full(n, 0.5)
        (u if row else v)[7] = -0.3
        expected = {
            (7, j) if row else (j, 7) for j in np.flatnonzero((c[7] if row else c[:, 7]) > 0.2)
        }
        bounds = np.full(n, 0.45), np.full(n, 0.45)
        pairs, _ = assignment._broken(a, b, u, v, bounds, n)
        wanted = set(zip(*pairs[:2], strict=True))
        assert expected <= wanted
        assert pairs[2] == pytest.approx(c[pairs[0], pairs[1]], abs=1e-6)
        few, _ = assignment._broken(a, b, u, v, bounds, 2)
        assert len(set(zip(*few[:2], strict=True))) <= 4


def test_dictionaries_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="have no matching"):
        assignment.match(np.zeros((3, 4)), np.zeros((5, 4)))


def test_a_permuted_copy_is_shared_by_every_criterion():
    rng = np.random.default_rng(2)
    first, second, partner = planted(rng, 200, 32, 1.0, noise=0.0)
    found = m.compare(first, second)
    for quantity, value in m.summary(found).items():
        assert value == pytest.approx(1.0), quantity
    assert np.array_equal(found.decoder.partner, partner)
    assert np.array_equal(found.pairs(m.STRICT)[:, 1], partner)


def test_a_planted_overlap_is_recovered():
    rng = np.random.default_rng(3)
    first, second, partner = planted(rng, 400, 64, 0.35)
    found = m.compare(first, second)
    for criterion in m.AT_A_THRESHOLD:
        assert found.shared(criterion).mean() == pytest.approx(0.35, abs=0.01), criterion
    pairs = found.pairs(m.STRICT)
    assert np.array_equal(partner[pairs[:, 0]], pairs[:, 1])
    # What is not shared is at the floor of random directions.
    floor = m.compare(*(m.random_directions(rng, 260, 64) for _ in range(2)))
    unshared = partner < 0
    gap = found.decoder.cosine[unshared].mean() - floor.decoder.cosine.mean()
    assert abs(gap) < 0.02


def test_criteria_tell_definitions_apart():
    """A latent whose decoder and encoder point at two different partners is dual, and not strict."""
    axes = np.eye(4)
    first = m.Directions(axes, axes)
    second = m.Directions(axes, axes[[1, 0, 2, 3]])
    found = m.compare(first, second)
    assert found.agree().tolist() == [False, False, True, True]
    assert found.shared(m.DUAL).all()
    assert found.shared(m.STRICT).tolist() == [False, False, True, True]
    # The inequality is strict, as published.
    turned = m.Directions(np.array([[0.7, np.sqrt(0.51)], [-np.sqrt(0.51), 0.7]]), np.eye(2))
    assert not m.compare(m.Directions(np.eye(2), np.eye(2)), turned).shared(m.DEC, 0.7).any()


def test_random_dictionaries_share_nothing_at_the_threshold():
    rng = np.random.default_rng(4)
    found = m.compare(*(m.random_directions(rng, 300, 64) for _ in range(2)))
    means = m.summary(found)
    assert means["strict"] == means["dual"] == means["dec"] == 0
    assert means["agree"] < 0.02
    assert 0.2 < means["pw_mcc"] < means["mmcs"] < 0.45


def test_soft_matching_goes_to_the_assignment():
    rng = np.random.default_rng(5)
    first, second, _ = planted(rng, 80, 16, 0.5)
    cosines = first.decoder @ second.decoder.T
    exact = assignment.dense(cosines).cosine.mean()
    soft = [transport.cosine(cosines, epsilon) for epsilon in (0.1, 0.03, 0.01)]
    assert soft == sorted(soft)
    assert soft[-1] == pytest.approx(exact, abs=0.02)
    with pytest.raises(ValueError, match="overflow"):
        transport.plan(cosines, 1e-3)
    plan, converged = transport.plan(cosines[:, :50], 0.05)
    assert converged
    assert np.allclose(plan.sum(axis=0), 1 / 50, atol=1e-6)
    assert np.allclose(plan.sum(axis=1), 1 / 80, atol=1e-5)


def test_two_groups_of_cosines_are_told_from_one():
    rng = np.random.default_rng(6)
    two = modes.of(np.r_[rng.normal(0.3, 0.05, 600), rng.normal(0.9, 0.03, 400)])
    one = modes.of(rng.normal(0.5, 0.1, 1000))
    assert two.coefficient > 5 / 9 > one.coefficient
    drawn = np.random.default_rng(1).gamma(2, size=57)
    assert modes._shape(drawn) == pytest.approx(
        (stats.skew(drawn, bias=False), stats.kurtosis(drawn, bias=False))
    )
    assert modes.two(two)
    assert not modes.two(one)
    # Skew alone has no valley, though the coefficient takes it for two modes.
    for b in (5, 8):
        skewed = modes.of(rng.beta(b, 1, 2000))
        assert skewed.coefficient > 5 / 9
        assert not modes.two(skewed)
    assert (two.low, two.high) == pytest.approx((0.3, 0.9), abs=0.02)
    assert two.share_high == pytest.approx(0.4, abs=0.02)
    assert np.isnan(modes.of(np.ones(50)).coefficient)


@pytest.mark.parametrize("installed", [True, False])
def test_the_accelerator_finds_the_same_optimum(monkeypatch, installed):
    rng = np.random.default_rng(21)
    similarity = rng.standard_normal((60, 60)).astype(np.float32)
    similarity[3] = np.nan
    expected = assignment.dense(similarity)
    if installed:
        assert assignment.accelerator() is not None, "pip install -e '.[dev]'"
    else:
        monkeypatch.setattr(assignment, "accelerator", lambda: None)
    found = assignment.dense(similarity)
    assert found.partner.tolist() == expected.partner.tolist()
    assert found.cosine.sum() == pytest.approx(expected.cosine.sum())
