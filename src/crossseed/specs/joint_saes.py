"""Specs of SAEs that two models share."""

from __future__ import annotations

from typing import Any

from crossseed import plan
from crossseed.config.joint import JointStudy
from crossseed.config.schema import RunConfig
from crossseed.joint.arms import plain, settings_of
from crossseed.joint.conditions import MATCHED, Condition, of_condition
from crossseed.joint.config import MUTUAL, JointTraining
from crossseed.specs.models import Spec, member_cell, origin_of, pair_cell, run_exactly
from crossseed.store import source_of

# What decides which latents of joint SAEs count, and as universal.
COUNTED = {"active_tokens", "threshold"}


def _joint(run: RunConfig) -> JointStudy:
    if run.joint is None:
        raise ValueError("this run trains no joint SAEs")
    return run.joint


def joint_cache(run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str) -> Spec:
    """A member at a site, run exactly, what else decides its cache, and the source that readers of it expect."""
    study, config = _joint(run), run.cohorts[cohort]
    reading = {
        "member": run_exactly(run, cohort, seed, checkpoint),
        "dtype": config.activation_dtype,
        "development": None if config.has_development else study.development,
        "predictions": study.predictions if config.predicts_positions else None,
    }
    return {
        **reading,
        "kind": config.kind,
        **member_cell(cohort, seed, checkpoint),
        "site": site,
        "source": source_of(origin_of(run, cohort, seed, "joint_cache", reading), site),
    }


def _joint_pair(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    seeds = {"source": source, "target": target}
    return {
        **pair_cell(cohort, source, target, checkpoint, site),
        "caches": {
            role: joint_cache(run, cohort, seed, checkpoint, site)["source"]
            for role, seed in seeds.items()
        },
    }


def _joint_models(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair, with both members run above the site."""
    seeds = {"source": source, "target": target}
    members = {role: run_exactly(run, cohort, seed, checkpoint) for role, seed in seeds.items()}
    pair = _joint_pair(run, cohort, source, target, checkpoint, site)
    return {**pair, "kind": run.cohorts[cohort].kind, "members": members}


def joint_maps(run: RunConfig, *pair: Any, **named: Any) -> Spec:
    """A pair's caches, how activations are centred, and whether special tokens count."""
    study = _joint(run)
    return {
        **_joint_pair(run, *pair, **named),
        "center": study.center,
        "special_tokens": study.training.special_tokens,
    }


def joint_fits(run: RunConfig, **pair: Any) -> Spec:
    """A pair's caches, whether special tokens count, and resamples; maps are fitted with centring and without."""
    study = _joint(run)
    return {
        **_joint_pair(run, **pair),
        "special_tokens": study.training.special_tokens,
        "resamples": study.evaluation.resamples,
    }


def joint_size(run: RunConfig, **pair: Any) -> Spec:
    """A pair whose maps are fitted on fewer sequences; ValueError without `joint.sizes`."""
    study = _joint(run)
    if study.sizes is None:
        raise ValueError("this run measures no sample sizes")
    return {**joint_maps(run, **pair), **study.sizes.model_dump()}


def _settings(settings: JointTraining) -> Spec:
    """What decides a training; how a term is reduced that has no weight does not."""
    left_out = {"cross_reduction"} if settings.lambda_cross == 0 else set()
    return settings.model_dump(exclude=left_out)


def _of_row(run: RunConfig, row: Condition) -> tuple[JointTraining, str]:
    """Settings of a condition that has SAEs of its own, and the map they take."""
    study = _joint(run)
    more: Spec = {"init": row.init} if row.init else {}
    if row.condition == MUTUAL:
        more["lambda_mutual"] = study.lambda_mutual
    if row.lambda_cross is not None:
        more["lambda_cross"] = row.lambda_cross
    return of_condition(study.training, row.condition, more)


def joint_train(run: RunConfig, training: str, **pair: Any) -> Spec:
    """A pair run above the site, one training by name, the map it takes, and all its settings."""
    found = plan.joint_trainings(run)[training]
    settings, name = _of_row(run, found.condition)
    return {
        **_joint_models(run, **pair),
        "training": training,
        "models": list(found.models),
        "map": name,
        "settings": _settings(settings),
    }


def joint_evaluate(run: RunConfig, condition: str, **pair: Any) -> Spec:
    """A pair run above the site, one condition, the SAEs it is held against, and the evaluation; splits of matching only where latents are matched."""
    study, row = _joint(run), plan.conditions(run)[condition]
    left_out = set() if row.condition in MATCHED else {"match_splits"}
    return {
        **_joint_models(run, **pair),
        **_row(run, row),
        "independent": study.reference.trainings if study.reference else [],
        "evaluation": study.evaluation.model_dump(exclude=left_out),
        "map": row.map,
    }


def _row(run: RunConfig, row: Condition) -> Spec:
    """A condition, the SAEs it is measured on, and the weight of its cross loss."""
    settings, _ = _of_row(run, row.trained)
    return {
        "condition": row._asdict(),
        "trainings": row.trainings,
        "lambda_cross": settings.lambda_cross,
    }


def joint_null(run: RunConfig, null: str, **pair: Any) -> Spec:
    """A pair and the retrainings of one null; ValueError without `joint.nulls`."""
    study = _joint(run)
    if study.nulls is None:
        raise ValueError("this run has no nulls of joint SAEs")
    settings = settings_of(study.training, study.nulls.batches, study.nulls.lambda_cross)
    return {
        **_joint_models(run, **pair),
        "null": null,
        "arms": plain(plan.joint_nulls(run)[null]),
        "settings": _settings(settings),
        # Of retrainings neither intervals nor shifts are told.
        "evaluation": study.evaluation.model_dump(include={*COUNTED, "tops"}),
        "center": study.center,
    }


def joint_tests(run: RunConfig, **pair: Any) -> Spec:
    """A pair and the trainings that are tested; ValueError without `joint.nulls`."""
    study = _joint(run)
    if study.nulls is None:
        raise ValueError("this run has no nulls of joint SAEs")
    return {
        **_joint_pair(run, **pair),
        "trainings": plan.tested_saes(run),
        "evaluation": study.evaluation.model_dump(include=COUNTED),
        "center": study.center,
        "post_hoc": study.nulls.post_hoc,
        "shuffled": study.nulls.shuffled,
    }


def joint_counterfactuals(run: RunConfig, **pair: Any) -> Spec:
    """A pair and the SAE whose latents are edited; ValueError without `joint.counterfactuals`."""
    study = _joint(run)
    if study.counterfactuals is None:
        raise ValueError("this run edits no sentences")
    return {
        **_joint_models(run, **pair),
        **_row(run, plan.edited_condition(run)),
        "evaluation": study.evaluation.model_dump(include=COUNTED),
        **run.cohorts[pair["cohort"]].sentences_spec(),
        **study.counterfactuals.model_dump(include={"latents", "contexts"}),
    }


def joint_tables(run: RunConfig) -> Spec:
    """The kinship of each cohort's members; all else is in the tables that are pooled."""
    return {"kinship": {cohort: run.cohorts[cohort].kinship for cohort in run.joined}}
