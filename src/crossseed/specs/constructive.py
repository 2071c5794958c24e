"""Specs of the maps of weights, the four bars and the lenses."""

from __future__ import annotations

from crossseed.config.schema import RunConfig
from crossseed.specs.maps import resamples
from crossseed.specs.models import Spec, journey_cell, member_cell


def weights(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair whose weights are aligned; ValueError without `weights`."""
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
    """A member whose components are ablated; ValueError without `bars`."""
    if run.bars is None:
        raise ValueError("this run has no bars")
    return member_cell(cohort, seed, checkpoint) | run.bars.model_dump(
        include={"batches", "rows", "points"}
    )


def bars(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair of which one member is held against the other by four bars; ValueError without `bars` or `weights`."""
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
    """A member whose components are looked at; ValueError without `lenses`."""
    if run.lenses is None:
        raise ValueError("this run has no lenses")
    return member_cell(cohort, seed, checkpoint) | run.lenses.model_dump(exclude={"members"})
