"""What joint SAEs ask of the cohorts they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossseed.cohorts.config import CohortConfig
from crossseed.config.joint import JointStudy

if TYPE_CHECKING:
    from crossseed.config.schema import RunConfig


def joint_fits(run: RunConfig) -> None:
    """`joint` has cohorts, pairs, sites and sequences enough.

    Raises:
        ValueError: it lacks some of these, or names what is not there.
    """
    study = run.joint
    for cohort in run.joined:
        if cohort not in run.cohorts:
            raise ValueError(
                f"joint.cohorts names {cohort!r}, which is no cohort of this run; choose from "
                f"{', '.join(run.cohorts)}"
            )
        assert study is not None
        config = run.cohorts[cohort]
        said = config.why_not_trained_through
        if said:
            raise ValueError(f"joint: cohorts.{cohort} {said}; leave it out of joint.cohorts")
        _check_pairs(study, cohort, config)
        _check_sizes(study, cohort, config)
    for site in study.sites or [] if study else []:
        known = [name for cohort in run.joined for name in run.cohorts[cohort].sites]
        if site not in known:
            raise ValueError(
                f"joint.sites names {site!r}, which no cohort of it has; choose from "
                f"{', '.join(dict.fromkeys(known))}"
            )
    for cohort in study.counterfactuals.files if study and study.counterfactuals else ():
        if cohort not in run.joined or run.cohorts[cohort].predicts_positions:
            raise ValueError(
                f"joint.counterfactuals.files names {cohort!r}, which is no cohort of classifiers of the study; "
                "name one, or leave it out"
            )


def _check_pairs(study: JointStudy, cohort: str, config: CohortConfig) -> None:
    """Raises `ValueError` unless pairs are of members, and members can be cut at the sites."""
    pairs = study.pairs_of(config.seeds, config.anchor)
    if not pairs:
        raise ValueError(
            f"joint pairs members, but cohorts.{cohort}.seeds has one; name another, or leave the cohort out"
        )
    asked = [("joint.pairs", pair) for pair in pairs]
    if study.nulls and study.nulls.pairs:
        asked += [("joint.nulls.pairs", (pair[0], pair[1])) for pair in study.nulls.pairs]
    for key, pair in asked:
        for seed in pair:
            if seed not in config.seeds:
                raise ValueError(
                    f"{key} has {list(pair)}, but {seed} is no member of cohorts.{cohort}; choose of its seeds "
                    f"{config.seeds}"
                )
    if study.nulls and study.nulls.pairs:
        for of in study.nulls.pairs:
            if (of[0], of[1]) not in pairs:
                raise ValueError(
                    f"joint.nulls.pairs has {of}, which is no pair of cohorts.{cohort}; choose of "
                    f"{[list(pair) for pair in pairs]}"
                )
    for site in config.sites if study.sites is None else study.sites:
        said = config.why_not_cut(site) if site in config.sites else None
        if said:
            raise ValueError(f"joint: cohorts.{cohort}: {said}; or name other sites in joint.sites")


def _check_sizes(study: JointStudy, cohort: str, config: CohortConfig) -> None:
    """Raises `ValueError` unless latents, directions and sequences are as many as are asked for."""
    width = config.width
    if width is not None:
        said = study.training.misfit(study.training.expansion * width)
        if said:
            raise ValueError(
                f"joint.training: {said} (x{study.training.expansion} on cohorts.{cohort})"
            )
        for r in study.nulls.directions if study.nulls else ():
            if r > width:
                raise ValueError(
                    f"joint.nulls.directions has {r}, but cohorts.{cohort} is {width} wide; lower it"
                )
    train = config.sequences_of("train")
    if not config.has_development:
        if study.development >= train:
            raise ValueError(
                f"joint.development = {study.development}, but cohorts.{cohort}.tokens.train has {train} sequences; "
                "lower it"
            )
        train -= study.development
    if study.sizes and study.sizes.sequences[-1] > train:
        raise ValueError(
            f"joint.sizes.sequences has {study.sizes.sequences[-1]}, but cohorts.{cohort} trains on {train} sequences; "
            "lower it"
        )
