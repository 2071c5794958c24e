"""Drift: planted rotations and nulls, second moments against tokens, models that run once."""

import numpy as np
import pytest
import torch

from crossseed import drift
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.alignment.streaming import DeviceMoments
from crossseed.cohorts.base import TokenSet
from crossseed.errors import UserError
from crossseed.sae.dictionary import Dictionary

D, POSITIONS = 16, 12
SITE = "blocks.0.hook_resid_post"


class Planted:
    """A model whose activation is a fixed vector of the token, carried by a matrix."""

    digest = "planted"

    def __init__(self, matrix=None, shift=0.0, features=0):
        rng = np.random.default_rng(features)
        self.table = rng.standard_normal((5000, D)) @ np.diag(np.linspace(2, 0.3, D))
        self.matrix = np.eye(D) if matrix is None else matrix
        self.shift = shift
        self.runs = 0

    def width(self, site):
        return D

    def activations_on_device(self, tokens_nt, sites):
        self.runs += 1
        rows = self.table[tokens_nt] @ self.matrix + self.shift
        return {site: torch.from_numpy(rows.astype(np.float32)) for site in sites}


def token_sets(n=200):
    rng = np.random.default_rng(5)
    keep = np.ones((n, POSITIONS), bool)
    keep[:, 0] = False
    return {
        split: TokenSet(rng.integers(0, 5000, (n, POSITIONS)), keep, {}, np.arange(n))
        for split in ("fit", "train", "eval")
    }


def table(member, reference, anchor, dictionaries=None):
    rows = drift.measure(
        {"member": member, "checkpoint": reference, "seed": anchor},
        token_sets(),
        [SITE],
        dictionaries or {},
        "cell",
    )
    return {
        (r["comparison"], r["arm"], r["metric"], r["dictionary"]): r["value"] for r in rows
    }, rows


def test_a_planted_rotation_is_found_and_a_model_equals_itself():
    rotation = m.haar_orthogonal(np.random.default_rng(1), D)
    member = Planted(rotation, shift=0.5)
    found, rows = table(member, Planted(), Planted(rotation, shift=0.5))
    assert found["checkpoint", "procrustes", "alignment_ev", ""] > 1 - 1e-6
    assert found["checkpoint", "raw", "alignment_ev", ""] < 0
    assert found["checkpoint", "procrustes", "identified_rank", ""] == D
    distance = float(np.linalg.norm(rotation.T - np.eye(D)))
    for metric in ("rotation_distance", "rotation_distance_identified"):
        assert found["checkpoint", "procrustes", metric, ""] == pytest.approx(distance, abs=1e-4)
    # Beside its equal: nothing to turn.
    assert found["seed", "raw", "alignment_ev", ""] == pytest.approx(1, abs=1e-6)
    assert found["seed", "procrustes", "rotation_distance", ""] == pytest.approx(0, abs=1e-4)
    assert {r["n_tokens"] for r in rows} == {200 * (POSITIONS - 1)}


def test_unrelated_models_align_no_better_than_shuffled_tokens():
    found, _ = table(Planted(), Planted(features=7), Planted(features=8))
    for comparison in drift.COMPARISONS:
        paired = found[comparison, "procrustes", "alignment_ev", ""]
        shuffled = found[comparison, "shuffled", "alignment_ev", ""]

        assert abs(paired - shuffled) < 0.1
        assert paired < 0
        assert found[comparison, "procrustes", "rotation_distance", ""] == pytest.approx(
            found[comparison, "haar", "rotation_distance", ""], rel=0.35
        )


def test_second_moments_give_the_fit_that_the_tokens_give():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((400, D)), rng.standard_normal((400, D)) + 1
    moments = Moments(D, D)
    moments.add(a, b)
    affine = m.AffineMap(m.haar_orthogonal(rng, D), rng.standard_normal(D), rng.standard_normal(D))
    error = np.square(affine(b) - a).sum()
    total = np.square(a - a.mean(axis=0)).sum()
    assert drift.alignment_ev(affine, moments) == pytest.approx(1 - error / total, abs=1e-10)


def test_device_moments_equal_those_in_numpy():
    rng = np.random.default_rng(3)
    a = (rng.standard_normal((300, 5)) + 40).astype(np.float32)
    b = rng.standard_normal((300, 7)).astype(np.float32)
    plain, device = Moments(5, 7), DeviceMoments(5, 7, torch.device("cpu"))
    for part in (slice(0, 90), slice(90, 300)):
        plain.add(a[part], b[part])
        device.add(torch.from_numpy(a[part]), torch.from_numpy(b[part]))
    for name in ("mean_a", "mean_b", "covariance_a", "covariance_b", "cross_covariance"):
        np.testing.assert_allclose(getattr(device.moments(), name), getattr(plain, name), atol=1e-5)


@pytest.mark.parametrize("k", [None, 8])
def test_the_haar_reference_is_that_of_haar_draws(k):
    rng = np.random.default_rng(4)
    d = 32
    width = d if k is None else k
    draws = [m.rotation_distance(m.haar_orthogonal(rng, d)[:width, :width]) for _ in range(600)]
    expected = drift.haar_distance(d, k)
    assert np.sqrt(np.mean(np.square(draws))) == pytest.approx(expected.value, rel=0.01)
    inside = np.mean([expected.low <= x <= expected.high for x in draws])
    assert 0.9 < inside < 0.99


def test_a_dictionary_of_the_reference_is_tried_on_every_arm():
    rng = np.random.default_rng(6)
    W_dec = rng.standard_normal((40, D)).astype(np.float32)
    W_dec /= np.linalg.norm(W_dec, axis=1, keepdims=True)
    cfg = {"metadata": {"crossseed": {"architecture": "relu_l1"}}}
    dictionary = Dictionary(W_dec.T.copy(), np.zeros(40, "f4"), W_dec, np.zeros(D, "f4"), cfg=cfg)
    rotation = m.haar_orthogonal(rng, D)
    found, rows = table(
        Planted(rotation), Planted(), Planted(rotation), {(SITE, "v-x2", "shared"): dictionary}
    )
    own = found["checkpoint", "self", "ev", "v-x2"]
    assert found["checkpoint", "procrustes", "ev", "v-x2"] == pytest.approx(own, abs=1e-4)
    assert found["checkpoint", "procrustes", "firing_r", "v-x2"] > 0.999
    assert found["checkpoint", "raw", "firing_r", "v-x2"] < 0.7
    assert all(r["comparison"] == "checkpoint" for r in rows if r["dictionary"])


def test_a_model_that_plays_two_roles_runs_once():
    member, other = Planted(), Planted()
    table(member, other, other)
    assert member.runs == other.runs > 0


def test_a_member_is_not_compared_with_itself():
    member = Planted()
    found, _ = table(member, member, Planted())
    assert {comparison for comparison, *_ in found} == {"seed"}
    assert table(member, member, member)[1] == []


def test_too_few_tokens_and_unequal_widths_are_refused():
    class Wide(Planted):
        def width(self, site):
            return D + 1

    with pytest.raises(UserError, match="equal widths"):
        table(Planted(), Wide(), Planted())
    sets = {
        split: found._replace(keep_nt=np.zeros_like(found.keep_nt))
        for split, found in token_sets().items()
    }
    members = {"member": Planted(), "checkpoint": Planted(), "seed": Planted()}
    with pytest.raises(UserError, match="cannot decide a rotation"):
        drift.measure(members, sets, [SITE], {}, "cell")
