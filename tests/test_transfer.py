"""Transfer on planted pairs: a rotated copy transfers exactly, unrelated activations do not."""

from contextlib import ExitStack

import numpy as np
import pytest

from crossseed import claim_rule, decoder_cosine, fits, pairs, shared_rotation
from crossseed.activations import open_split
from crossseed.alignment import ladder
from crossseed.alignment import maps as m
from crossseed.carried import COLUMNS, of_pair, own_member, rotation_of, with_shared
from crossseed.errors import UserError
from crossseed.metrics import unit_rows
from crossseed.sae import dictionary
from crossseed.sae.architectures import relu_l1, topk
from crossseed.transfer import transfer

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


SPEC = dict(zip(pairs.CELL, ("c", 0, 1, "final", "s"), strict=True))
MADE = {"source": "origin:site", "target": "origin:site", "untrained": "origin:site"}
DIRECTIONS = [1, 4]


class Found:
    """All rows of a pair: by (arm, metric), and of the claim rule by metric."""

    def __init__(self, rows, evidence, of_maps, directions):
        self.rows = {(row["arm"], row["metric"]): row for row in rows}
        self.evidence = {row["metric"]: row for row in evidence}
        self.maps = {(row["arm"], row["metric"]): row for row in of_maps}
        self.directions = directions

    def __getitem__(self, key):
        return (self.rows.get(key) or self.maps[key])["value"]


@pytest.fixture
def cell(tmp_path, write_activations):
    """Writes the files of a pair and returns what is measured on it."""

    def run(source_rows, target_rows, config=RELU, itself=False, untrained=None, dictionary=None):
        names = {"a": source_rows, "b": target_rows} | ({"u": untrained} if untrained else {})
        files = {n: write_activations(tmp_path / f"{n}.h5", rows) for n, rows in names.items()}
        a, b, before = files["a"], files["b"], files.get("u")
        tried = {("v", "shared"): dictionary or planted_dictionary(config, source_rows)}
        of_maps, by_direction = [], []
        if itself:
            with open_split(a, "fit", "origin:site") as split:
                carried = own_member(split)
        else:
            with pairs.open_readers("fit", a, b, before, MADE) as readers:
                pairs.write(tmp_path / "pair.h5", pairs.fit(readers, SPEC, *SPEC.values()), {})
            pair = pairs.read(tmp_path / "pair.h5")
            carried = of_pair(pair, DIRECTIONS)
            with pairs.open_readers("eval", a, b, before, MADE) as readers:
                of_maps, by_direction = fits.fits(readers, pair, carried.maps, 100, "cell")
        with pairs.open_readers("eval", a, b, before, MADE) as readers:
            rows, evidence = transfer(readers, tried, carried, 100, "cell")
        return Found(rows, evidence, of_maps, by_direction)

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
    own_ev = own["raw", "ev"]
    assert own_ev > 0.5
    for arm in ("procrustes", "scaled", "ridge"):
        assert found[arm, "ev"] == pytest.approx(own_ev, abs=1e-5)
        assert found[arm, "evx_0"] == pytest.approx(own_ev, abs=1e-5)
        assert found[arm, "firing_r"] == pytest.approx(1, abs=1e-4)
        assert found[arm, "alignment_ev"] == pytest.approx(1, abs=1e-6)
        assert found[arm, "nre"] < 1e-4
    for arm in ("raw", "mean", "random", "shuffled", "permutation", "covariance_random"):
        assert found[arm, "firing_r"] < 0.7, arm
        assert found[arm, "alignment_ev"] < 0.6, arm
    assert found["raw", "ev"] < own_ev - 0.3
    assert found["procrustes", "ev_published"] == pytest.approx(
        own["raw", "ev_published"], abs=1e-5
    )


# Two models as simulated in the literature on this question: 64 dimensions, of which three dense
# directions hold most of the variance, and sparse features on top.
WIDE, N_FEATURES, SEQUENCES = 64, 256, {"fit": 120, "train": 40, "eval": 120}


def dense_and_sparse(shared, seed=0):
    """Activations of two models: the second is the first's causes, rotated, with noise of its own;
    or, unless `shared`, other sparse features that fire at other times, with equal spectrum."""
    r = np.random.default_rng(seed)
    features = r.standard_normal((N_FEATURES, WIDE))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    others = features @ m.haar_orthogonal(r, WIDE)
    axes = np.linalg.qr(r.standard_normal((WIDE, 3)))[0].T
    dense = axes * np.sqrt([[30.0], [22.0], [15.0]])
    rotation = m.haar_orthogonal(r, WIDE)
    a, b = {}, {}
    for split, n in SEQUENCES.items():
        rows = n * 25

        def firing(rows=rows):
            return (r.random((rows, N_FEATURES)) < 0.05) * r.exponential(size=(rows, N_FEATURES))

        def drawn(directions, rows=rows, firing=firing):
            return r.standard_normal((rows, 3)) @ dense + firing() @ directions

        noise = 0.15 * r.standard_normal((2, rows, WIDE))
        causes = drawn(features)
        a[split] = causes + noise[0]
        b[split] = ((causes if shared else drawn(others)) + noise[1]) @ rotation.T
    mean = features.mean(axis=0) * 0.05 * N_FEATURES
    W_dec = np.concatenate([features, axes, -axes]).astype(np.float32)
    config = TOPK.model_copy(update={"k": 16})
    found = dictionary.Dictionary(
        W_dec.T.copy(),
        np.zeros(len(W_dec), np.float32),
        W_dec,
        mean.astype(np.float32),
        dictionary.cfg_of(config, 3, WIDE, "s"),
    )
    return a, b, found


def test_shared_features_are_called_shared(cell):
    a, b, planted = dense_and_sparse(shared=True)
    evidence = cell(a, b, dictionary=planted).evidence
    for metric in ("evx_3", "firing_r"):
        assert evidence[metric]["shared"] == 1, evidence[metric]
        assert evidence[metric]["low"] > 0.1
    assert set(evidence["ev"]) | {*pairs.CELL, "dictionary", "init"} == set(claim_rule.COLUMNS)


def test_equal_covariance_with_other_features_is_not_called_shared(cell):
    """The published explained variance is high for a map that carries no feature; what is measured
    token by token is not fooled."""
    a, b, planted = dense_and_sparse(shared=False)
    found = cell(a, b, dictionary=planted)
    own = cell(a, a, dictionary=planted, itself=True)
    assert found["procrustes", "ev_published"] > own["raw", "ev_published"] - 0.1
    assert found["covariance_skewness", "ev_published"] > own["raw", "ev_published"] - 0.1
    for metric in ("evx_3", "firing_r"):
        assert found.evidence[metric]["shared"] == 0, found.evidence[metric]
        assert found["procrustes", metric] < 0.15, metric


def test_a_noiseless_copy_needs_no_pairing(cell, sparse_rows):
    """Where the spectrum alone decides the rotation, its signs by skewness, the rule claims nothing."""
    rows = sparse_rows()
    found = cell(rows, rotated(rows))
    assert found["covariance_skewness", "firing_r"] == pytest.approx(1, abs=1e-3)
    assert found.evidence["firing_r"]["best_null"] == "covariance_skewness"
    assert found.evidence["firing_r"]["shared"] == 0


def test_measures_that_no_rotation_changes_are_one_for_a_rotated_copy(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rotated(rows))
    # Rows as near as each other are ordered by rounding, which a rotation changes and machines do differently.
    for metric, near in (("cka", 1e-3), ("svcca", 1e-3), ("mutual_knn", 1e-2)):
        assert found["pair", metric] == pytest.approx(1, abs=near), metric
        assert abs(found["pair_shuffled", metric]) < 0.15, metric
    assert found["pair", "shape_distance_rad"] < 0.01
    assert found["pair_shuffled", "shape_distance_rad"] > 1.3
    assert found["pair", "split_half_distance"] < 1e-3
    assert found["pair", "identified_rank"] == found["pair", "numerical_rank"] == D
    by_arm = {
        arm: [r["ev"] for r in found.directions if r["arm"] == arm] for arm in fits.BY_DIRECTION
    }
    assert min(by_arm["procrustes"]) > 0.999
    assert max(by_arm["shuffled"]) < 0.3
    shares = [r["variance_share"] for r in found.directions if r["arm"] == "ridge"]
    assert sum(shares) == pytest.approx(1)


def test_a_member_with_itself_has_the_raw_arm_only(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rows, itself=True)
    assert {arm for arm, _ in found.rows} == {"raw"}
    assert found["raw", "firing_r"] == pytest.approx(1)
    assert found["raw", "evx_0"] == pytest.approx(found["raw", "ev"])
    assert found.evidence == {}


def test_the_untrained_target_is_one_more_null(cell, sparse_rows):
    rows = sparse_rows()
    rng = np.random.default_rng(5)
    before = {split: rng.standard_normal(x.shape) for split, x in rows.items()}
    found = cell(rows, rotated(rows), untrained=before)
    assert found["untrained", "firing_r"] < 0.1
    assert found["untrained", "alignment_ev"] < 0.1
    assert found["procrustes", "firing_r"] > 0.99


def test_residual_shuffle_twins_grow_into_procrustes(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rotated(rows))
    r = [found[arm, "firing_r"] for arm in ("shuffled", "twin_1", "twin_4", "procrustes")]
    assert r[0] < r[2] < r[3]
    assert found["top_4", "alignment_ev"] < found["procrustes", "alignment_ev"]


def test_every_arm_has_every_metric_and_the_gaussian_no_pairing(cell, sparse_rows):
    rows = sparse_rows()
    found = cell(rows, rotated(rows))
    arms = {arm for arm, _ in found.rows}
    assert arms == {*ladder.arms_of(DIRECTIONS), "gaussian", "resampled"}
    of_all = {"ev", "fvu", "ev_published", "ev_dictlearn", "l0"}
    paired = {"evx_0", "evx_3", "firing_r", "firing_r_above_0.5", "firing_live", "firing_not_live"}
    for arm in arms:
        metrics = {metric for a, metric in found.rows if a == arm}
        assert metrics == (of_all if arm == "gaussian" else of_all | paired), arm
        row = found.rows[arm, "ev"]
        assert row["low"] <= row["value"] <= row["high"]
        assert found[arm, "fvu"] == pytest.approx(1 - found[arm, "ev"])
        if arm != "gaussian":
            assert found[arm, "firing_live"] + found[arm, "firing_not_live"] == 48
    assert found["raw", "rotation_distance"] == 0
    assert abs(found["procrustes", "det"]) == pytest.approx(1)
    assert set(next(iter(found.rows.values()))) < set(COLUMNS)


@pytest.fixture
def one_rotation(tmp_path, write_activations, sparse_rows):
    """Rows of one rotation for two sites, whose targets are rotated by the given seeds."""

    def run(*seeds):
        sites, tried = {}, {}
        with ExitStack() as stack:
            for number, seed in enumerate(seeds):
                rows = sparse_rows(seed=number)
                a = write_activations(tmp_path / f"a{number}.h5", rows)
                b = write_activations(tmp_path / f"b{number}.h5", rotated(rows, seed=seed))
                with pairs.open_readers("fit", a, b, None, MADE) as readers:
                    pair = pairs.fit(readers, SPEC, *SPEC.values())
                opened = stack.enter_context(pairs.open_readers("eval", a, b, None, MADE))
                sites[f"s{number}"] = shared_rotation.Site(pair, opened)
                tried[f"s{number}"] = {("v", "shared"): planted_dictionary(RELU, rows)}
            found = (
                shared_rotation.fits(sites, 100, "cell"),
                shared_rotation.transfers(sites, tried, 100, "cell"),
            )
        assert {row["arm"] for rows in found for row in rows} == {"shared"}
        return {(row["site"], row["metric"]): row["value"] for rows in found for row in rows}

    return run


def test_one_rotation_serves_all_sites_where_they_turn_alike(one_rotation):
    alike = one_rotation(1, 1)
    for site in ("s0", "s1"):
        assert alike[site, "alignment_ev"] == pytest.approx(1, abs=1e-6)
        assert alike[site, "distance_to_own_rotation"] == pytest.approx(0, abs=1e-4)
        assert alike[site, "firing_r"] > 0.999
    apart = one_rotation(1, 2)
    for site in ("s0", "s1"):
        assert apart[site, "alignment_ev"] < 0.7
        assert apart[site, "distance_to_own_rotation"] > 0.3


def test_the_arm_of_all_sites_has_their_rotation_and_the_means_of_its_own(
    tmp_path, write_activations, sparse_rows
):
    found = []
    for seed in (1, 2):
        rows = sparse_rows(seed=seed)
        a = write_activations(tmp_path / f"a{seed}.h5", rows)
        b = write_activations(tmp_path / f"b{seed}.h5", rotated(rows, seed=seed, shift=1.0))
        with pairs.open_readers("fit", a, b, None, MADE) as readers:
            found.append(pairs.fit(readers, SPEC, *SPEC.values()))
    tried = with_shared(found[0], iter(found[1:]), [])
    shared = tried.maps["shared"]
    assert np.array_equal(shared.matrix_dd, rotation_of(found))
    assert np.abs(shared.matrix_dd - found[0].rotation).max() > 0.1
    assert np.array_equal(shared.shift_in_d, found[0].moments.mean_b)
    assert np.array_equal(shared.shift_out_d, found[0].moments.mean_a)
    assert set(tried.arms) == {*of_pair(found[0], []).arms, "shared"}


def test_a_constant_target_is_measured_without_a_claim(cell, sparse_rows):
    rows = sparse_rows()
    constant = {split: np.ones_like(x) for split, x in rows.items()}
    found = cell(rows, constant)
    assert found["pair", "numerical_rank"] == found["pair", "identified_rank"] == 0
    assert found["procrustes", "alignment_ev"] <= 0.01
    assert np.isnan(found["pair", "svcca"])
    assert all(row["shared"] == 0 for row in found.evidence.values())


def test_the_ceiling_is_what_the_tokens_of_the_fit_allow(cell, sparse_rows):
    """A rotation there and back loses what the fit's tokens leave undecided, and nothing else."""
    rows = sparse_rows()
    rng = np.random.default_rng(5)
    exact = cell(rows, rotated(rows))
    assert exact["resampled", "alignment_ev"] == pytest.approx(1, abs=1e-6)
    assert exact["resampled", "firing_r"] == pytest.approx(1, abs=1e-4)
    noisy = {split: x + rng.standard_normal(x.shape) for split, x in rotated(rows).items()}
    found = cell(rows, noisy)
    assert found["procrustes", "alignment_ev"] < found["resampled", "alignment_ev"] < 1
    unrelated = {split: rng.standard_normal(x.shape) for split, x in rows.items()}
    assert cell(rows, unrelated)["resampled", "alignment_ev"] < 0.5


def test_too_few_tokens_are_refused_with_the_number_needed(cell, sparse_rows):
    rows = {split: x[:20] for split, x in sparse_rows().items()}
    with pytest.raises(UserError, match="at least 32 are needed"):
        cell(rows, rows)


def test_pairs_of_other_tokens_are_refused(tmp_path, write_activations, sparse_rows):
    a = write_activations(tmp_path / "a.h5", sparse_rows(), tokens="one")
    b = write_activations(tmp_path / "b.h5", sparse_rows(), tokens="two")
    with (
        pairs.open_readers("fit", a, b, None, MADE) as readers,
        pytest.raises(UserError, match="not paired"),
    ):
        pairs.fit(readers, SPEC)


def unit(rng, n=200):
    return unit_rows(rng.standard_normal((n, D)))


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
