"""Specs of the maps of weights, the four bars and the lenses."""

from __future__ import annotations

from crossseed.config.schema import RunConfig
from crossseed.specs.maps import resamples
from crossseed.specs.models import Spec, journey_cell, member_cell


def weights(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair whose members are read whole, all sites, and the whole study of weights."""
    if run.weights is None:
        raise ValueError("this run aligns no weights")
    return {
        **_journey(run, cohort, source, target, checkpoint),
        "sites": list(run.cohorts[cohort].sites),
        **run.weights.model_dump(),
    }


def _journey(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """Two members that are read whole."""
    return {
        **journey_cell(cohort, source, target, checkpoint),
        "members": {
            role: member_cell(cohort, seed, checkpoint)
            for role, seed in (("source", source), ("target", target))
        },
    }


def causes(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """One member, and of the bars what is cut: batches, rows and points."""
    if run.bars is None:
        raise ValueError("this run has no bars")
    return member_cell(cohort, seed, checkpoint) | run.bars.model_dump(
        include={"batches", "rows", "points"}
    )


def bars(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair read whole, how fresh sequences are drawn, and the bars; a member with itself has decoys, others the untrained twin."""
    if run.bars is None or run.weights is None:
        raise ValueError("this run has no bars")
    return {
        **_journey(run, cohort, source, target, checkpoint),
        **run.cohorts[cohort].fresh_spec(),
        **run.bars.model_dump(include={"batch_rows", "batches", "rows", "orders"}),
        **(
            run.bars.model_dump(include={"sequences", "taught_steps"})
            if source == target
            else {
                "sequences_between": run.bars.sequences_between,
                "untrained": run.weights.untrained,
            }
        ),
        "resamples": resamples(run),
    }


def lenses(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """One member, and the study of lenses but for which members it looks at."""
    if run.lenses is None:
        raise ValueError("this run has no lenses")
    return member_cell(cohort, seed, checkpoint) | run.lenses.model_dump(exclude={"members"})
