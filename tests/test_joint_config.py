"""Bad configurations of joint SAEs are refused by name and value, before anything is planned."""

from __future__ import annotations

from pathlib import Path

import changes
import pytest

from crossseed import plan, specs
from crossseed.config.load import load_run
from crossseed.errors import UserError
from crossseed.joint.config import JointTraining
from crossseed.store import canonical_json

ROOT = Path(__file__).parent.parent
SMOKE = changes.read(ROOT / "tests/smoke_classifier.yaml")
BERT = ("cohorts", "smoke-bert")
SITE = "blocks.0.hook_normalized_resid_post"


def changed(path, value):
    keys = path if isinstance(path, tuple) else ("joint", *path.split("."))
    return changes.replaced(SMOKE, keys, value)


CASES = [
    *(
        (f"training.lambda_{name}", -0.5, f"joint.training.lambda_{name} = -0.5")
        for name in ("kl", "ds", "local", "cross", "aux")
    ),
    ("lambda_mutual", 0.0, "joint.lambda_mutual = 0.0"),
    ("nulls.lambda_cross", -1.0, "joint.nulls.lambda_cross = -1.0"),
    ("training.k", 33, "k 33 exceeds the 32 latents of the dictionary"),
    ("training.sparsity", 1, "joint.training.sparsity = 1: unknown key"),
    ("cohorts", ["other"], "joint.cohorts names 'other', which is no cohort of this run"),
    ("pairs", [[42, 7]], "joint.pairs has [42, 7], but 7 is no member of cohorts.smoke-bert"),
    ("pairs", [[42, 42]], "pairs has [42, 42], which is no pair"),
    ("pairs", [[42, 137], [137, 42]], "pairs lists the pair [42, 137] twice"),
    ("nulls.pairs", [[137, 42]], "nulls.pairs has [137, 42], which pairs does not"),
    ("sites", ["blocks.0.hook_mlp_out"], "joint.sites names 'blocks.0.hook_mlp_out'"),
    (
        (*BERT, "sites"),
        [SITE, "blocks.1.hook_normalized_resid_post"],
        None,
    ),
    (
        "conditions",
        ["2", "4", "5", "6"],
        "conditions has '2', which measures the SAEs of condition 1",
    ),
    ("conditions", ["4", "5", "6"], "accuracy_references has 'independent', which is condition 1"),
    ("conditions", ["1"], "lambda_cross_grid is of condition 6"),
    ("lambda_cross_grid", [1.0], "lambda_cross_grid repeats training.lambda_cross = 1"),
    ("evaluation.match_splits", [], "joint.evaluation.match_splits = []"),
    ("nulls.directions", [17], "joint.nulls.directions has 17, but cohorts.smoke-bert is 16 wide"),
    ("nulls.shares", [1.5], "joint.nulls.shares[0] = 1.5"),
    ("sizes.sequences", [20, 10], "sizes.sequences [20, 10] does not ascend"),
    ("sizes.sequences", [10, 61], "joint.sizes.sequences has 61"),
    ("counterfactuals.condition", "universal", None),
    ("counterfactuals.files", {"other": "sentiment"}, "files names 'other'"),
]


@pytest.mark.parametrize(("path", "value", "said"), CASES)
def test_bad_values_are_refused_by_name_and_value(path, value, said):
    if said is None:
        load_run(changed(path, value))
        return
    with pytest.raises(UserError) as found:
        load_run(changed(path, value))
    assert said in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_sites_that_cannot_be_cut_are_refused():
    config = changed((*BERT, "sites"), [SITE, "blocks.1.hook_normalized_resid_post"])
    config["joint"]["sites"] = None
    with pytest.raises(UserError, match=r"cohorts\.smoke-bert: 'blocks\.1.*last block, so that"):
        load_run(config)
    config["cohorts"]["smoke-bert"]["sites"] = ["blocks.0.hook_mlp_out"]
    with pytest.raises(UserError, match=r"'blocks\.0\.hook_mlp_out' is within a block"):
        load_run(config)


def test_a_crosscoder_needs_its_relu():
    config = changed("baselines", ["crosscoder"])
    config["joint"]["training"]["relu_after_topk"] = False
    with pytest.raises(UserError, match="relu_after_topk = false does not go with the baseline"):
        load_run(config)


def test_one_member_is_no_pair():
    config = changed((*BERT, "seeds"), [42])
    config["joint"]["pairs"] = "anchor"
    config["transfer"] = None
    with pytest.raises(
        UserError, match=r"joint pairs members, but cohorts\.smoke-bert\.seeds has one"
    ):
        load_run(config)


def test_toys_have_nothing_to_train_through():
    smoke = changes.read(ROOT / "config/smoke.yaml")
    smoke["joint"] = {**SMOKE["joint"], "cohorts": None, "pairs": "anchor", "sites": None}
    with pytest.raises(UserError, match=r"joint: cohorts\.smoke-shared is of kind dyck"):
        load_run(smoke)


def test_language_models_are_cut_too_and_set_sequences_aside():
    found = changes.read(ROOT / "tests/smoke_lm.yaml")
    run = load_run(found)
    assert [tuple(pair[:3]) for pair in plan.joint_pairs(run)] == [("smoke-neox", 0, 1)]
    spec = specs.joint_cache(run, "smoke-neox", 0, "final", "blocks.0.hook_resid_post")
    assert (spec["development"], spec["predictions"]) == (4, 3)
    found["joint"]["development"] = 32
    with pytest.raises(
        UserError, match=r"joint\.development = 32, but cohorts\.smoke-neox\.tokens\.train has 32"
    ):
        load_run(found)


def test_every_spec_is_plain_and_says_which_model_and_map():
    run = load_run(SMOKE)
    (pair,) = plan.joint_pairs(run)
    told = pair._asdict()
    by_name = {
        name: specs.joint_train(run, training=name, **told) for name in plan.joint_trainings(run)
    }
    for spec in by_name.values():
        canonical_json(spec)
        JointTraining.model_validate(spec["settings"])
    assert {name: spec["map"] for name, spec in by_name.items()} == {
        "1-shared-a": "identity", "1-shared-b": "identity", "4": "identity", "5": "true",
        "6": "true", "6-lambda0.5": "true", "mutual-shared": "true", "universal-shared": "identity",
        "ridge": "ridge",
    }  # fmt: skip
    assert by_name["1-shared-b"]["models"] == [1]
    assert by_name["6-lambda0.5"]["settings"]["lambda_cross"] == 0.5
    assert by_name["mutual-shared"]["settings"]["lambda_mutual"] == 0.3
    evaluated = {
        name: specs.joint_evaluate(run, condition=name, **told) for name in plan.conditions(run)
    }
    assert evaluated["3prime-shared"]["trainings"] == ["1-shared-a", "1-shared-b"]
    assert [name for name, spec in evaluated.items() if "match_splits" in spec["evaluation"]] == [
        "2-shared", "3-shared", "mutual-shared",
    ]  # fmt: skip
    nulls = specs.joint_null(run, null="fitted", **told)
    assert nulls["settings"]["early_stopping_patience"] is None
    assert [arm["null"] for arm in nulls["arms"]] == ["identity", "true"]
