"""Transfer on planted pairs: a rotated copy transfers exactly, unrelated activations do not."""

import numpy as np
import pytest

from crossseed import decoder_cosine
from crossseed.activations import open_split
from crossseed.alignment import maps as m
from crossseed.errors import UserError
from crossseed.sae import dictionary
from crossseed.sae.architectures import relu_l1, topk
from crossseed.transfer import COLUMNS, fit_maps, read_maps, transfer, write_maps

COMMON = {
    "expansions": [3],
    "inits": ["shared"],
    "members": "all",
    "steps": 1,
    "batch_tokens": 1,
    "lr": 1.0,
    "warmup_steps": 0,
    "decay_steps": 0,
    "tied_init": False,
    "standardise": False,
    "grad_clip": None,
}
RELU = relu_l1.Config.model_validate({**COMMON, "architecture": "relu_l1", "l1": 0.1})
TOPK = topk.Config.model_validate(
    {
        **COMMON,
        "architecture": "topk",
        "k": 6,
        "aux_coefficient": 0,
        "aux_k": 1,
        "dead_after_tokens": 9,
    }
)
D = 16


def planted_dictionary(config, rows, seed=0):
    """A dictionary that reconstructs the larger half of its own activations."""
    rng = np.random.default_rng(seed)
    mean = rows["train"].mean(axis=0)
    # Half of the principal directions, both signs; the rest never fires.
    _, directions = np.linalg.eigh(np.cov(rows["train"].T))
    basis = directions[:, D // 2 :].T
    extra = rng.standard_normal((2 * D, D))
    extra /= np.linalg.norm(extra, axis=1, keepdims=True)
    W_dec = np.concatenate([basis, -basis, extra]).astype(np.float32)
    b_enc = np.r_[np.zeros(D), np.full(2 * D, -1e3)].astype(np.float32)
    return dictionary.Dictionary(
        W_dec.T.copy(), b_enc, W_dec, mean.astype(np.float32), dictionary.cfg_of(config, 3, D, "s")
    )


@pytest.fixture
def cell(tmp_path, write_activations):
    """Writes a pair of files and returns what transfer says of it."""

    def run(source_rows, target_rows, config=RELU, itself=False):
        a = write_activations(tmp_path / "a.h5", source_rows)
        b = write_activations(tmp_path / "b.h5", target_rows)
        fit = None
        if not itself:
            with open_split(a, "fit", "origin:site") as s, open_split(b, "fit", "origin:site") as t:
                moments, fitted = fit_maps(s, t, "cell")
            write_maps(tmp_path / "maps.h5", moments, fitted, {}, {})
            fit = read_maps(tmp_path / "maps.h5")
        found = {("v", "shared"): planted_dictionary(config, source_rows)}
        with open_split(a, "eval", "origin:site") as s, open_split(b, "eval", "origin:site") as t:
            rows = transfer(s, t, found, fit, 100, "cell")
        return {(row["arm"], row["metric"]): row for row in rows}

    return run


def rotated(rows, seed=1, shift=2.0):
    rng = np.random.default_rng(seed)
    rotation, offset = m.haar_orthogonal(rng, D), shift * rng.standard_normal(D)
    return {split: x @ rotation.T + offset for split, x in rows.items()}


@pytest.mark.parametrize("config", [RELU, TOPK])
def test_a_rotated_copy_transfers_exactly(cell, sparse_rows, config):
    rows = sparse_rows()
    own = cell(rows, rows, config, itself=True)
    found = cell(rows, rotated(rows), config)
    own_ev = own["raw", "ev"]["value"]
    assert own_ev > 0.5
    assert found["procrustes", "ev"]["value"] == pytest.approx(own_ev, abs=1e-6)
    assert found["procrustes", "ev_published"]["value"] == pytest.approx(
        own["raw", "ev_published"]["value"], abs=1e-6
    )
    assert found["procrustes", "firing_r"]["value"] == pytest.approx(1, abs=1e-5)
    assert found["procrustes", "alignment_ev"]["value"] == pytest.approx(1, abs=1e-6)
    for arm in ("raw", "mean", "random", "shuffled"):
        assert found[arm, "firing_r"]["value"] < 0.5, arm
        assert found[arm, "alignment_ev"]["value"] < 0.5, arm
    assert found["raw", "ev"]["value"] < own_ev - 0.3


def test_a_member_with_itself_has_the_raw_arm_only(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rows, itself=True)
    assert {arm for arm, _ in found} == {"raw"}
    assert found["raw", "alignment_ev"]["value"] == 1
    assert found["raw", "firing_r"]["value"] == pytest.approx(1)


def test_equal_covariance_without_shared_features_is_not_taken_for_transfer(cell, sparse_rows):
    """The trap of the published evidence: second moments alone give a high explained variance."""
    rows = sparse_rows()
    rng = np.random.default_rng(3)
    unrelated = {
        split: m.gaussian_rows(rng, x.mean(axis=0), np.cov(x.T), len(x))
        for split, x in rows.items()
    }
    found = cell(rows, rotated(unrelated))
    assert found["procrustes", "ev"]["value"] > 0.4
    shared = found["procrustes", "firing_r"]
    assert abs(shared["value"] - found["shuffled", "firing_r"]["value"]) < 0.1
    assert shared["value"] < 0.15


def test_every_arm_has_every_metric_and_the_gaussian_no_pairing(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rotated(rows))
    arms = {arm for arm, _ in found}
    assert arms == {"raw", "mean", "random", "shuffled", "procrustes", "gaussian"}
    of_map = {"rotation_distance", "det", "effective_rank", "numerical_rank", "identified_rank"}
    of_all = {"ev", "ev_published", "l0"} | of_map
    paired = {"alignment_ev", "firing_r", "firing_r_above_0.5", "firing_live", "firing_not_live"}
    for arm in arms:
        metrics = {metric for a, metric in found if a == arm}
        assert metrics == (of_all if arm == "gaussian" else of_all | paired), arm
        assert found[arm, "ev"]["low"] <= found[arm, "ev"]["value"] <= found[arm, "ev"]["high"]
        live = found.get((arm, "firing_live"))
        if live:
            assert live["value"] + found[arm, "firing_not_live"]["value"] == 48
    assert found["raw", "rotation_distance"]["value"] == 0
    assert abs(found["procrustes", "det"]["value"]) == pytest.approx(1)
    assert set(next(iter(found.values()))) < set(COLUMNS)


def test_too_few_tokens_are_refused_with_the_number_needed(cell, sparse_rows):
    rows = {split: x[:20] for split, x in sparse_rows().items()}
    with pytest.raises(UserError, match="at least 32 are needed"):
        cell(rows, rows)


def test_pairs_of_other_tokens_are_refused(tmp_path, write_activations, sparse_rows):
    a = write_activations(tmp_path / "a.h5", sparse_rows(), tokens="one")
    b = write_activations(tmp_path / "b.h5", sparse_rows(), tokens="two")
    with (
        open_split(a, "fit", "origin:site") as s,
        open_split(b, "fit", "origin:site") as t,
        pytest.raises(UserError, match="not paired"),
    ):
        fit_maps(s, t, "cell")


def unit(rng, n=200):
    return decoder_cosine.unit_rows(rng.standard_normal((n, D)))


def test_decoder_cosine_separates_init_basis_and_floor():
    rng = np.random.default_rng(0)
    source, rotation = unit(rng), m.haar_orthogonal(rng, D)
    raw, turned = decoder_cosine.compare(source, source @ rotation.T, rotation)
    assert turned["mean_max_cosine"] == pytest.approx(1)
    assert turned["same_index_share"] == turned["share_above_0.5"] == 1
    assert raw["mean_max_cosine"] == pytest.approx(raw["random_floor"], abs=0.03)
    permuted = source[rng.permutation(200)]
    same, _ = decoder_cosine.compare(source, permuted, np.eye(D))
    assert same["mean_max_cosine"] == pytest.approx(1)
    assert same["same_index_share"] < 0.05


def test_random_dictionaries_score_the_floor():
    scores = [
        decoder_cosine.compare(unit(r), unit(r), np.eye(D))[0]
        for r in (np.random.default_rng(seed) for seed in range(20))
    ]
    mean = np.mean([row["mean_max_cosine"] for row in scores])
    assert mean == pytest.approx(scores[0]["random_floor"], abs=0.01)
    # Simulated for d = 64 and 512 latents: .371.
    assert decoder_cosine.random_floor(512, 512, 64) == pytest.approx(0.371, abs=0.004)
