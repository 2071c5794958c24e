"""Joint SAEs through the verbs: a planted pair shares its latents by the planted rotation alone, and a killed job ends as
if it had not been killed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from crossseed import cli
from crossseed.activations import write_tokens
from crossseed.alignment.maps import haar_orthogonal
from crossseed.cohorts.base import DEVELOPMENT, TokenSet
from crossseed.cohorts.classifier import upper as uppers
from crossseed.joint import training
from crossseed.joint.arms import Arm, plain
from crossseed.joint.conditions import Condition, of_condition
from crossseed.joint.config import JointEvaluation, TrainingSettings
from crossseed.joint.files import read_map, read_sae
from crossseed.resume import Resume

WIDTH, WORDS, LENGTH = 16, 30, 12
PAD, CLS, SEP = 0, 1, 2
SITE = "blocks.0.hook_normalized_resid_post"
TURN = haar_orthogonal(np.random.default_rng(7), WIDTH)
CELL = {
    "cohort": "planted", "source_seed": 42, "target_seed": 137, "checkpoint": "final", "site": SITE,
}  # fmt: skip
SETTINGS = TrainingSettings(
    expansion=4, k=4, aux_k=16, lr=1e-2, batch=16, epochs=8, early_stopping_patience=3
)
EVALUATION = JointEvaluation(resamples=100, shifts=3)


def model():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LENGTH, pad_token_id=PAD, num_labels=3,
        initializer_range=0.5,
    )  # fmt: skip
    found = BertForSequenceClassification(config)
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, torch.nn.LayerNorm):
                # As it starts, it leaves a direction in which nothing decides a rotation.
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return found


class Turned:
    """A model whose activations at the site are turned, and turned back above: it computes the same function."""

    def __init__(self, upper, turn_dd):
        self.upper, self.turn = upper, torch.from_numpy(turn_dd).float()
        for name in ("where", "width", "alike", "scored"):
            setattr(self, name, getattr(upper, name))

    def __call__(self, h_bld, mask_bl, at_bp=None):
        return self.upper(h_bld @ self.turn, mask_bl)

    def clean(self, tokens_nt, at_np=None):
        found = self.upper.clean(tokens_nt)
        return found._replace(site_ntd=found.site_ntd @ self.turn.T)


@pytest.fixture(scope="module")
def whole():
    return uppers.Upper(model(), SITE, "planted", "cpu", "words", (CLS, SEP))


@pytest.fixture
def pair(whole, monkeypatch):
    """What `load` gives for the two members; a test may put another in."""
    found = {42: whole, 137: Turned(whole, TURN)}
    monkeypatch.setattr(uppers, "load", lambda spec, paths, site, device: found[spec["seed"]])
    return found


def token_set(whole, n, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, LENGTH + 1, n)
    tokens = rng.integers(3, WORDS, (n, LENGTH))
    tokens[:, 0] = CLS
    places = np.arange(LENGTH)
    tokens[places == lengths[:, None] - 1] = SEP
    tokens[places >= lengths[:, None]] = PAD
    label = whole.clean(tokens).logits_nc.argmax(dim=1).numpy()
    labels = {"class": np.broadcast_to(label[:, None], tokens.shape).copy()}
    return TokenSet(tokens, tokens != PAD, labels, np.arange(n))


@pytest.fixture(scope="module")
def tokens(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens.h5"
    sizes = {"fit": 80, "train": 240, "eval": 120, DEVELOPMENT: 40}
    sets = {split: token_set(whole, n, seed) for seed, (split, n) in enumerate(sizes.items())}
    write_tokens(path, {}, sets, {})
    return path


def run(verb, spec, *options):
    code = cli.main([verb, "--spec", json.dumps(spec), *map(str, options)])
    assert code == 0
    return code


def cache_spec(seed, **changes):
    member = {"kind": "classifier", "cohort": "planted", "seed": seed, "checkpoint": "final"}
    return {
        "kind": "classifier", "cohort": "planted", "site": SITE, "member": member, "dtype": "float32",
        "source": f"origin{seed}:{SITE}", "development": None, "predictions": None, **changes,
    }  # fmt: skip


def pair_spec(**more):
    roles = {"source": 42, "target": 137}
    return {
        **CELL,
        "kind": "classifier",
        "caches": {role: f"origin{seed}:{SITE}" for role, seed in roles.items()},
        "members": {role: cache_spec(seed)["member"] for role, seed in roles.items()},
        **more,
    }


@pytest.fixture
def files(pair, tokens, tmp_path):
    """Options that name the caches of the pair."""
    for seed in pair:
        run("joint_cache", cache_spec(seed), "--tokens", tokens, "--out", tmp_path / f"{seed}.h5")
    return ("--source", tmp_path / "42.h5", "--target", tmp_path / "137.h5")


@pytest.fixture
def maps(files, tmp_path):
    spec = pair_spec(center=False, special_tokens=True)
    run("joint_maps", spec, *files, "--out", tmp_path / "maps.h5")
    return tmp_path / "maps.h5"


def training_spec(condition, name=None, models=(0, 1), **changes):
    settings, carried = of_condition(SETTINGS.model_copy(update=changes), condition)
    told = {"settings": settings.model_dump(), "map": carried}
    return pair_spec(training=name or condition, models=list(models), **told)


def trained(spec, files, maps, folder):
    out = folder / f"{spec['training']}.safetensors"
    options = ["--history", folder / f"{spec['training']}.csv", "--out", out]
    run("joint_train", spec, *files, "--maps", maps, *options)
    return out


def evaluated(condition, saes, files, maps, folder, independent=()):
    row = Condition(condition)
    names = [path.name.removesuffix(".safetensors") for path in saes]
    others = [path.name.removesuffix(".safetensors") for path in independent]
    spec = pair_spec(
        condition=row._asdict(), trainings=names, independent=others, lambda_cross=1.0,
        evaluation=EVALUATION.model_dump(), map=row.map,
    )  # fmt: skip
    out = folder / f"{row.name}-table.csv"
    options = ["--saes", *saes, "--independent", *independent, "--maps", maps]
    run("joint_evaluate", spec, *files, *options, "--latents", folder / "latents.csv", "--out", out)
    return rows_of(out)


def rows_of(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def row_of(table, measure, **wanted):
    wanted = {"rows": "tokens", **wanted}
    (row,) = [
        row
        for row in table
        if row["measure"] == measure and all(row[k] in (v, "") for k, v in wanted.items())
    ]
    return row


def value(table, measure, **wanted):
    return float(row_of(table, measure, **wanted)["value"])


def null(table, measure):
    return float(row_of(table, measure)["null"])


def test_a_planted_pair_shares_its_latents_by_the_planted_rotation_alone(
    files, maps, tmp_path, capsys
):
    found = read_map(maps, "true", WIDTH, pair_spec())
    assert np.abs(found.matrix_dd - TURN).max() < 1e-5
    run(
        "joint_fits", pair_spec(special_tokens=True, resamples=100), *files, "--out", tmp_path / "f"
    )
    nre = {(row["map"], row["centered"]): float(row["nre"]) for row in rows_of(tmp_path / "f")}
    assert nre["true", "0"] < 1e-5
    assert nre["true", "1"] < 1e-4
    assert min(nre["identity", "0"], nre["random", "0"], nre["mismatched", "1"]) > 0.3
    measured = {}
    for condition in ("4", "5", "6"):
        sae = trained(training_spec(condition), files, maps, tmp_path)
        measured[condition] = evaluated(condition, [sae], files, maps, tmp_path)
    for condition in ("5", "6"):
        rows = measured[condition]
        assert value(rows, "universal_share") > 0.99
        assert value(rows, "universal_share", rows="texts") > 0.99
        assert value(rows, "active") > 10
        assert value(rows, "fvu") < 0.5
        assert value(rows, "accuracy_clean") == 100
    # At the floor: no more than with one model's tokens shifted.
    assert value(measured["4"], "universal_share") == 0 == null(measured["4"], "universal_share")
    latents = rows_of(tmp_path / "latents.csv")
    assert len(latents) == 4 * WIDTH
    assert {row["latent"] for row in latents if row["universal"] == "1"} == {
        row["latent"] for row in latents if float(row["r"]) >= 0.7 and row["active"] == "1"
    }


def test_independent_saes_share_by_the_map_and_not_by_index(files, maps, tmp_path):
    alone = [
        trained(training_spec("1", f"1-shared-{name}", (number,)), files, maps, tmp_path)
        for number, name in enumerate("ab")
    ]
    shares = {
        condition: evaluated(condition, alone, files, maps, tmp_path, alone)
        for condition in ("1", "2", "3", "3'")
    }
    assert value(shares["3'"], "universal_share") > 0.99
    assert value(shares["1"], "universal_share") < 0.2
    assert {row["matched_on"] for row in shares["2"]} == {"", "fit", "eval"}
    # Matched on the tokens they are scored on they never do worse.
    by_fit, in_sample = (
        value(shares["2"], "mean_r", matched_on=split) for split in ("fit", "eval")
    )
    assert in_sample >= by_fit - 0.02
    assert value(shares["1"], "accuracy_change_from_independent") == 0
    same = {measure: value(shares["1"], measure) for measure in ("l0", "fvu", "accuracy_hijacked")}
    assert same == {measure: value(shares["2"], measure) for measure in same}
    spec = pair_spec(
        trainings=["1-shared-a"], evaluation={"threshold": 0.7, "active_tokens": 10}, post_hoc=99,
        shuffled=99, center=False,
    )  # fmt: skip
    options = ["--maps", maps, "--saes", alone[0], "--out", tmp_path / "tests.csv"]
    run("joint_tests", spec, *files, *options)
    tests = {
        (row["map"], row["against"], row["statistic"]): row
        for row in rows_of(tmp_path / "tests.csv")
    }
    assert {key[0] for key in tests} == {"true", "ridge", "identity", "permutation"}
    for statistic in ("nre", "encoder_r", "encoder_share"):
        for against in ("random", "mismatched"):
            assert float(tests["true", against, statistic]["p"]) == 0.01
        # What knows nothing of the planted rotation is one draw among others.
        assert float(tests["identity", "random", statistic]["p"]) > 0.01
    assert int(tests["true", "random", "encoder_r"]["latents"]) > 0


def test_retrainings_say_which_map_they_had(files, maps, tmp_path):
    settings, _ = of_condition(SETTINGS, "5", {"batches": 30, "early_stopping_patience": None})
    arms = [Arm("identity"), Arm("true"), Arm("mismatched"), Arm("partial", 0, 0.5)]
    arms += [Arm("top", 0, None, WIDTH, "haar"), Arm("true", 1), Arm("random", 3)]
    spec = pair_spec(
        null="fitted", arms=plain(arms), settings=settings.model_dump(), center=False,
        evaluation=EVALUATION.model_dump(),
    )  # fmt: skip
    run("joint_null", spec, *files, "--out", tmp_path / "null.csv")
    rows = rows_of(tmp_path / "null.csv")
    share = {
        row["null"]: float(row["value"]) for row in rows if row["measure"] == "universal_share"
    }
    # Another start ends elsewhere, with the same map.
    starts = [
        [row["value"] for row in rows if (row["null"], row["draw"]) == ("true", draw)]
        for draw in "01"
    ]
    assert starts[0] != starts[1]
    nre = {row["null"]: float(row["nre"]) for row in rows}
    assert share["true"] == share["top"] == 1
    assert max(share["identity"], share["mismatched"], share["random"]) < 0.5
    assert nre["true"] < 1e-5 < nre["partial"] < nre["random"]
    again = {**spec, "arms": spec["arms"][-1:]}
    run("joint_null", again, *files, "--out", tmp_path / "again.csv")
    assert rows_of(tmp_path / "again.csv") == rows[-len(rows_of(tmp_path / "again.csv")) :]
    options = ["--retrained", tmp_path / "null.csv", "--out", tmp_path / "tests.csv"]
    told = pair_spec(trainings=[], evaluation={}, post_hoc=99, shuffled=99, center=False)
    run("joint_tests", told, *files, "--maps", maps, *options)
    of_true = [
        row
        for row in rows_of(tmp_path / "tests.csv")
        if (row["map"], row["statistic"]) == ("true", "universal_share")
    ]
    assert {row["against"] for row in of_true} == {
        "identity", "mismatched", "partial", "top", "random",
    }  # fmt: skip
    assert {float(row["p_least"]) for row in of_true} == {0.5}


class Killed(Exception):
    pass


@pytest.mark.parametrize("verb", ["joint_train", "joint_null"])
def test_a_killed_job_ends_as_if_it_had_not_been(verb, files, maps, tmp_path, monkeypatch):
    """In the middle of an epoch, and of the second of two retrainings."""
    if verb == "joint_train":
        spec, stop = training_spec("6"), 23
    else:
        settings, _ = of_condition(SETTINGS, "5", {"batches": 20, "early_stopping_patience": None})
        spec = pair_spec(
            null="random0", arms=plain([Arm("random", 0), Arm("random", 1)]), center=False,
            settings=settings.model_dump(), evaluation=EVALUATION.model_dump(),
        )  # fmt: skip
        stop = 33

    def job(folder):
        folder.mkdir(exist_ok=True)
        out = folder / "out"
        if verb == "joint_null":
            run(verb, spec, *files, "--out", out)
            return [out.read_bytes()]
        history = folder / "history"
        run(verb, spec, *files, "--maps", maps, "--history", history, "--out", out)
        return [out.read_bytes(), history.read_bytes()]

    wanted = job(tmp_path / "whole")
    step, taken = training.Trainer.step, []
    monkeypatch.setattr(Resume, "due", lambda self: True)

    def counted(self, batch, number):
        if len(taken) == stop:
            raise Killed
        taken.append(number)
        return step(self, batch, number)

    monkeypatch.setattr(training.Trainer, "step", counted)
    with pytest.raises(Killed):
        job(tmp_path / "killed")
    assert list((tmp_path / "killed").glob(".*.resume"))
    assert not (tmp_path / "killed" / "out").exists()
    taken.clear()
    stop = 10**9
    assert job(tmp_path / "killed") == wanted
    assert taken[0] > 0
    assert not list((tmp_path / "killed").glob(".*"))


# Refusals


def refused(verb, spec, *options):
    return cli.main([verb, "--spec", json.dumps(spec), *map(str, options)])


def test_models_that_are_no_pair_are_refused(files, maps, pair, tmp_path, capsys):
    options = [*files, "--maps", maps, "--history", tmp_path / "h", "--out", tmp_path / "o"]
    other = uppers.Upper(model(), SITE, "other", "cpu", "other words", (CLS, SEP))
    pair[137] = other
    assert refused("joint_train", training_spec("6"), *options) == 2
    said = capsys.readouterr().err
    assert "'planted' and model 'other' are no pair: tokenizer is words, there other words" in said
    spec = training_spec("6", k=65)
    pair[137] = Turned(pair[42], TURN)
    assert refused("joint_train", spec, *options) == 2
    assert "k 65 exceeds the 64 latents of the dictionary" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_caches_of_other_models_are_refused(files, maps, tmp_path, capsys):
    options = [*files, "--out", tmp_path / "o"]
    stale = pair_spec(center=False, special_tokens=True)
    stale["caches"] = {**stale["caches"], "target": "another"}
    assert refused("joint_maps", stale, *options) == 2
    assert "the file is stale" in capsys.readouterr().err
    turned = ("--source", files[3], "--target", files[1], "--out", tmp_path / "o")
    assert refused("joint_maps", pair_spec(center=False, special_tokens=True), *turned) == 2
    assert "the file is stale" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "float16", "scale": 1e5}, "not finite in float16"),
        ({"length": LENGTH + 1}, "longer than its 12 positions"),
        ({"label": 3}, "labels from 0 to 3 are not classes 0 to 2"),
        ({"label": -1}, "-1 means an unlabelled split"),
    ],
)
def test_what_cannot_be_cached_or_scored_is_refused(
    change, said, pair, whole, tmp_path, capsys, monkeypatch
):
    sets = {name: token_set(whole, 20, 5) for name in ("fit", "train", "eval", DEVELOPMENT)}
    if "length" in change:
        longer = np.full((20, change["length"]), 5)
        labels = {"class": np.zeros_like(longer)}
        sets["eval"] = TokenSet(longer, longer > 0, labels, np.arange(20))
    if "label" in change:
        labels = sets["fit"].labels["class"].copy()
        labels[:1], labels[1:2] = change["label"], 0
        sets["fit"] = sets["fit"]._replace(labels={"class": labels})
    if "scale" in change:
        pair[42] = pair[137] = Turned(whole, TURN * change["scale"])
    write_tokens(tmp_path / "tokens.h5", {}, sets, {})
    dtype = change.get("dtype", "float32")
    status = 0
    for seed in (42, 137):
        spec = cache_spec(seed, dtype=dtype)
        out = tmp_path / f"{seed}.h5"
        status += refused("joint_cache", spec, "--tokens", tmp_path / "tokens.h5", "--out", out)
    if status == 0:
        spec = pair_spec(center=False, special_tokens=True)
        both = ("--source", tmp_path / "42.h5", "--target", tmp_path / "137.h5")
        assert refused("joint_maps", spec, *both, "--out", tmp_path / "maps.h5") == 2
    told = capsys.readouterr().err
    assert said in told
    if "label" in change:
        assert f"{tmp_path / '137.h5'}: fit: labels" in told


def test_an_sae_of_another_pair_is_refused(files, maps, tmp_path):
    sae = trained(training_spec("4", epochs=1), files, maps, tmp_path)
    assert read_sae(sae, pair_spec(), "4").sae.n_latents == 4 * WIDTH
    from crossseed.errors import UserError

    with pytest.raises(UserError, match="made for training = 4, but this job needs 5"):
        read_sae(sae, pair_spec(), "5")
    with pytest.raises(UserError, match="made for target_seed = 137"):
        read_sae(sae, {**pair_spec(), "target_seed": 7}, "4")
