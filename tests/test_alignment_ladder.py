"""Rungs recover what was planted for them, and nulls are what they leave out."""

import numpy as np
import pytest
from aligned import moments_of, rng

from crossseed.alignment import ladder
from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.alignment.moments import Moments

D = 5
pytestmark = pytest.mark.filterwarnings("error")


def halves_of(a, b):
    return moments_of(a[::2], b[::2]), moments_of(a[1::2], b[1::2])


def centred(rows):
    return rows - rows.mean(axis=0)


def test_arms_have_the_names_of_the_page():
    assert ladder.arms_of([1, 4]) == (
        *("raw", "mean", "permutation", "signed_permutation", "procrustes", "scaled", "ridge"),
        *("top_1", "top_4"),
        *("random", "shuffled", "covariance_random", "covariance_skewness"),
        *("twin_1", "twin_4"),
    )
    found = {arm: ladder.directions_of(arm) for arm in ladder.arms_of([12])}
    assert {arm: k for arm, k in found.items() if k is not None} == {"top_12": 12, "twin_12": 12}
    assert ladder.directions_of("twin_4_more") is None


def test_principal_directions_are_in_order_and_point_where_their_largest_entry_does():
    basis = haar_orthogonal(rng(1), D)
    covariance = (basis * [5, 4, 3, 2, 1]) @ basis.T
    found = ladder.principal_directions(covariance)
    assert np.abs(np.sum(found * basis, axis=0)) == pytest.approx(np.ones(D))
    assert (found[np.abs(found).argmax(axis=0), np.arange(D)] > 0).all()
    assert not np.array_equal(found, np.abs(found))


def test_planted_permutations_are_recovered_with_their_signs():
    r = rng(2)
    planted = np.eye(D)[r.permutation(D)]
    signs = np.array([1, -1, -1, 1, -1])
    noise = 0.1 * r.standard_normal((D, D))
    assert np.array_equal(ladder.permutation(3 * planted + noise, signed=False), planted)
    signed = planted * signs
    assert np.array_equal(ladder.permutation(3 * signed + noise, signed=True), signed)
    # What goes together in the other direction is no partner where signs do not count.
    avoided = ladder.permutation(-3 * planted + noise, signed=False)
    assert not (avoided * planted).any()
    assert np.array_equal(avoided @ avoided.T, np.eye(D))


def test_a_permutation_of_what_never_goes_together_is_one_still():
    cross = np.diag([2.0, -3.0, 0.0])
    assert np.array_equal(ladder.permutation(cross, signed=True), np.diag([1.0, -1.0, 1.0]))
    planted = np.eye(D)[[2, 0, 4, 1, 3]]
    for cross in (planted - 2, 0 * planted):
        found = ladder.permutation(cross, signed=False)
        assert sorted(found.ravel()) == [0] * (D * D - D) + [1] * D
    assert np.array_equal(ladder.permutation(planted - 2, signed=False), planted)


def test_a_planted_scale_is_recovered():
    r = rng(3)
    b, rotation = r.standard_normal((400, D)) * np.arange(1, D + 1) + 7, haar_orthogonal(r, D)
    a = 0.4 * b @ rotation - 2
    assert ladder.scale(rotation, moments_of(a, b)) == pytest.approx(0.4)
    # With noise it is the one that leaves least: a little more or less leaves more.
    a += r.standard_normal(a.shape)
    best = ladder.scale(rotation, moments_of(a, b))
    left = [
        np.square(s * centred(b) @ rotation - centred(a)).sum()
        for s in (best - 0.01, best, best + 0.01)
    ]
    assert min(left) == left[1]
    constant = np.full((9, D), 3.0)
    assert ladder.scale(np.eye(D), moments_of(a[:9], constant)) == 0


def test_ridges_are_those_of_the_normal_equations():
    r = rng(4)
    b = r.standard_normal((300, D)) * [9, 3, 1, 0.3, 0.1]
    a = b @ r.standard_normal((D, 3)) + r.standard_normal((300, 3))
    shares = (0.0, 0.01, 1.0)
    found = ladder.ridges(moments_of(a, b), shares)
    for share, matrix in zip(shares, found, strict=True):
        # As many rows more as there are dimensions, that pull towards zero.
        pull = np.sqrt(share * len(b) * b.var(axis=0).mean()) * np.eye(D)
        rows = np.r_[centred(b), pull], np.r_[centred(a), np.zeros((D, 3))]
        assert matrix == pytest.approx(np.linalg.lstsq(*rows, rcond=None)[0], abs=1e-10)
    (nothing,) = ladder.ridges(moments_of(a[:9], np.full((9, D), 2.0)), [0.1])
    assert np.array_equal(nothing, np.zeros((D, 3)))


def test_rounding_of_a_variance_below_zero_is_no_direction():
    """A covariance whose smallest eigenvalue is −1e-9: with the least penalty that would be a large map."""
    covariance = np.diag([1.0, 1.0, -1e-9])
    moments = Moments.known(10, np.zeros(3), np.zeros(3), np.eye(3), covariance, np.eye(3))
    (found,) = ladder.ridges(moments, [3e-10])
    assert (np.diag(found) > 0).all()


def held_out_errors(first, second):
    """Of every penalty, on tokens of the half it was not fitted on."""
    found = np.zeros(len(ladder.PENALTIES))
    for (a, b), (other_a, other_b) in ((first, second), (second, first)):
        for number, matrix in enumerate(ladder.ridges(moments_of(a, b), ladder.PENALTIES)):
            found[number] += np.square(centred(other_b) @ matrix - centred(other_a)).mean()
    return found


@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0, 100.0])
def test_the_penalty_is_the_one_that_does_best_on_other_tokens(noise):
    for seed in range(8):
        r = rng(seed)
        b = r.standard_normal((60, 12)) * np.linspace(3, 0.1, 12)
        a = b @ r.standard_normal((12, 12)) * (noise < 100) + noise * r.standard_normal((60, 12))
        found, penalty = ladder.ridge(halves_of(a, b))
        first, second = ((a[i::2], b[i::2]) for i in range(2))
        assert penalty == ladder.PENALTIES[np.argmin(held_out_errors(first, second))]
        # From nothing to pull against, to nothing to fit.
        assert {0.0: penalty == 1e-8, 100.0: penalty >= 10}.get(noise, 1e-8 < penalty < 100)
        # Fitted on all tokens.
        (expected,) = ladder.ridges(moments_of(a, b), [penalty])
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("noisy", [0, 1])
def test_both_halves_have_a_say_in_the_penalty(noisy):
    """One of them is noisy, so that they would choose differently."""
    chosen = []
    for seed in range(12):
        r = rng(seed)
        b = r.standard_normal((60, 12)) * np.linspace(3, 0.1, 12)
        a = b @ r.standard_normal((12, 12))
        a[noisy::2] += 4 * r.standard_normal((30, 12))
        first, second = ((a[i::2], b[i::2]) for i in range(2))
        chosen.append(ladder.ridge(halves_of(a, b))[1])
        assert chosen[-1] == ladder.PENALTIES[np.argmin(held_out_errors(first, second))]
    # Fitted on the half without noise alone, none would be needed.
    assert min(chosen) > 1e-8


def test_penalties_are_powers_of_ten():
    assert pytest.approx([10.0**power for power in range(-8, 3)]) == ladder.PENALTIES


def test_a_restricted_rotation_is_the_planted_one_on_its_directions_and_nothing_else():
    r = rng(6)
    rotation = haar_orthogonal(r, D)
    directions = np.linalg.qr(r.standard_normal((D, 2)))[0]
    b = r.standard_normal((500, D))
    # Outside the directions the source knows nothing of the target.
    kept = directions @ directions.T
    a = b @ kept @ rotation + 0.0 * b
    found = ladder.restricted(moments_of(a, b).cross_covariance, directions)
    assert found == pytest.approx(kept @ rotation, abs=1e-9)


def test_a_restricted_rotation_is_the_best_of_its_span():
    r = rng(7)
    cross = r.standard_normal((D, D))
    directions = np.linalg.qr(r.standard_normal((D, 2)))[0]
    found = ladder.restricted(cross, directions)
    assert directions.T @ found @ found.T @ directions == pytest.approx(np.eye(2), abs=1e-12)
    assert directions @ directions.T @ found == pytest.approx(found, abs=1e-12)
    others = (directions @ haar_orthogonal(r, D)[:2] for _ in range(200))
    assert all(np.sum(other * cross) < np.sum(found * cross) for other in others)


@pytest.mark.parametrize("k", [0, 2, D])
def test_a_twin_is_procrustes_of_targets_shuffled_outside_its_directions(k):
    r = rng(8)
    b = r.standard_normal((400, D)) * np.arange(D, 0, -1)
    a = b @ haar_orthogonal(r, D) + r.standard_normal((400, D))
    directions = haar_orthogonal(r, D)[:, :k]
    shuffled = b[r.permutation(400)]
    mixed = shuffled + (b - shuffled) @ directions @ directions.T
    found = ladder.twin(
        moments_of(a, b).cross_covariance, moments_of(a, shuffled).cross_covariance, directions
    )
    assert found == pytest.approx(procrustes(moments_of(a, mixed).cross_covariance), abs=1e-9)


def test_axes_go_to_axes_by_rank_with_their_signs():
    r = rng(9)
    axes_b, axes_a = haar_orthogonal(r, D), haar_orthogonal(r, D)
    signs = np.array([1.0, -1, 1, 1, -1])
    found = ladder.covariance_only(axes_b, axes_a, signs)
    for i in range(D):
        assert axes_b[:, i] @ found == pytest.approx(signs[i] * axes_a[:, i])


@pytest.fixture(scope="module")
def climbed():
    """Skewed sources of distinct variances, seen through two bases, and shuffled ones; and the arms between them."""
    r = rng(10)
    sources = (r.exponential(size=(4000, D)) - 1) * [4, 3, 2, 1.5, 1] * [1, -1, 1, 1, -1]
    rotation = haar_orthogonal(r, D)
    a = sources @ haar_orthogonal(r, D) + 6
    b = 2 * centred(a) @ rotation.T - 5
    shuffled = moments_of(a, b[r.permutation(len(b))])
    axes = [ladder.principal_directions(np.cov(rows.T)) for rows in (b, a)]
    skewness = [
        (np.power(centred(rows) @ of, 3)).mean(axis=0)
        for rows, of in zip((b, a), axes, strict=True)
    ]
    random = haar_orthogonal(r, D)
    arms, penalty = ladder.ladder(halves_of(a, b), shuffled, skewness, [1, 3], rng(11), random)
    return arms, penalty, a, b, rotation, random, shuffled, axes, skewness


def test_the_ladder_recovers_what_each_rung_can(climbed):
    arms, penalty, a, b, rotation, random, shuffled, axes, _ = climbed
    assert tuple(arms) == ladder.arms_of([1, 3])
    assert penalty == 1e-8
    matrices = {name: affine.matrix_dd for name, affine in arms.items()}
    assert np.array_equal(matrices["raw"], np.eye(D))
    assert np.array_equal(matrices["mean"], np.eye(D))
    assert np.array_equal(matrices["random"], random)
    assert matrices["procrustes"] == pytest.approx(rotation, abs=1e-9)
    assert matrices["scaled"] == pytest.approx(rotation / 2, abs=1e-9)
    assert matrices["ridge"] == pytest.approx(rotation / 2, abs=1e-5)
    # Skewed axes know their sign: no token is paired, and yet the rotation is found.
    assert matrices["covariance_skewness"] == pytest.approx(rotation, abs=1e-6)
    assert matrices["shuffled"] == pytest.approx(procrustes(shuffled.cross_covariance))
    for k in (1, 3):
        kept = axes[0][:, :k] @ axes[0][:, :k].T
        assert matrices[f"top_{k}"] == pytest.approx(kept @ rotation, abs=1e-6)
        twin = ladder.twin(
            moments_of(a, b).cross_covariance, shuffled.cross_covariance, axes[0][:, :k]
        )
        assert matrices[f"twin_{k}"] == pytest.approx(twin, abs=1e-6)
        assert axes[0][:, :k].T @ matrices[f"twin_{k}"] == pytest.approx(
            axes[0][:, :k].T @ rotation, abs=0.1
        )


def test_every_arm_but_raw_carries_mean_to_mean(climbed):
    arms, _, a, b, *_ = climbed
    for name, affine in arms.items():
        expected = b if name == "raw" else a
        assert affine(b).mean(axis=0) == pytest.approx(expected.mean(axis=0)), name


def test_permutations_of_the_ladder_are_those_of_the_pairs(climbed):
    arms, _, a, b, *_ = climbed
    cross = centred(b).T @ centred(a)
    for name, signed in (("permutation", False), ("signed_permutation", True)):
        assert np.array_equal(arms[name].matrix_dd, ladder.permutation(cross, signed)), name
    assert (arms["signed_permutation"].matrix_dd < 0).any()


def test_random_signs_of_the_axes_are_drawn(climbed):
    _, _, a, b, _, random, shuffled, axes, skewness = climbed
    seen = set()
    for seed in range(60):
        drawn, _ = ladder.ladder(halves_of(a, b), shuffled, skewness, [], rng(seed), random)
        signs = np.diag(axes[0].T @ drawn["covariance_random"].matrix_dd @ axes[1])
        assert np.abs(signs) == pytest.approx(np.ones(D), abs=1e-9)
        seen.add(tuple(signs > 0))
    # Of 32 patterns; 60 draws see 27 of them on average.
    assert len(seen) > 18
    assert np.mean([list(signs) for signs in seen]) == pytest.approx(0.5, abs=0.12)


def test_an_axis_without_skewness_keeps_its_sign(climbed):
    _, _, a, b, _, random, shuffled, axes, skewness = climbed
    lacking = [np.r_[0.0, values[1:]] for values in skewness]
    for known in (lacking, (lacking[0], skewness[1]), (skewness[0], lacking[1])):
        found, _ = ladder.ladder(halves_of(a, b), shuffled, known, [], rng(0), random)
        carried = axes[0][:, 0] @ found["covariance_skewness"].matrix_dd
        assert carried == pytest.approx(axes[1][:, 0], abs=1e-9)


def test_one_rotation_of_all_sites_weighs_them_equally():
    r = rng(12)
    rotation, other = haar_orthogonal(r, D), haar_orthogonal(r, D)
    sites = [rotation * 1.0, rotation * 3.0, other * 1e4]
    # A site of large activations has no more to say than its share.
    found = ladder.shared_rotation(sites, [1.0, 3.0, 1e4])
    assert found == pytest.approx(procrustes(2 * rotation + other))
    # One whose activations are constant has nothing to say.
    found = ladder.shared_rotation([*sites[:2], other * np.nan], [1.0, 3.0, 0.0])
    assert found == pytest.approx(rotation)
    with pytest.raises(ValueError, match="zip"):
        ladder.shared_rotation(sites, [1.0, 3.0])
