"""Specs of interventions: dictionaries ported, models steered, features clamped, components ablated."""

from __future__ import annotations

from crossseed.config.schema import RunConfig
from crossseed.specs.maps import align, resamples
from crossseed.specs.models import Spec, run_exactly, run_whole


def port(
    run: RunConfig,
    cohort: str,
    source: int,
    target: int,
    checkpoint: str,
    site: str,
    dictionary: str,
    init: str,
) -> Spec:
    """A pair, the dictionary that is carried and the target that is run; ValueError without `port`."""
    if run.port is None:
        raise ValueError("this run ports nothing")
    return {
        **align(run, cohort, source, target, checkpoint, site),
        "dictionary": f"{dictionary}-{init}",
        "map": run.port.map,
        "resamples": resamples(run),
        "kind": run.cohorts[cohort].kind,
        "member": run_whole(run, cohort, target, checkpoint),
        "sequences": run.port.sequences,
    }


def _steered(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """Both members of a pair run whole, and what they are steered by."""
    config = run.cohorts[cohort]
    if run.steering is None:
        raise ValueError("this run steers nothing")
    return {
        **align(run, cohort, source, target, checkpoint, site),
        "resamples": resamples(run),
        "kind": config.kind,
        "members": {
            role: run_exactly(run, cohort, seed, checkpoint)
            for role, seed in (("source", source), ("target", target))
        },
        "text": config.text_spec(),
        "concepts": list(run.steering.prompts if config.reads_text else run.steering.concepts),
        "trials": run.steering.trials,
    }


def steer(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A steered pair, the tensors that all members share, and how many directions and sequences."""
    found = _steered(run, cohort, source, target, checkpoint, site)
    assert run.steering is not None
    return {
        **found,
        "shared": run.cohorts[cohort].shared_tensors,
        "directions": run.steering.directions,
        "sequences": run.steering.sequences,
    }


def features(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair whose single features are studied; ValueError without `features`."""
    if run.features is None:
        raise ValueError("this run studies no single features")
    return {
        **_steered(run, cohort, source, target, checkpoint, site),
        "latents": run.features.latents,
        "sequences": run.features.sequences,
    }


def attribute(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member whose components are attributed; ValueError without `attribution`."""
    if run.attribution is None:
        raise ValueError("this run attributes nothing")
    study = run.attribution
    return {
        "cohort": cohort,
        "seed": seed,
        "checkpoint": checkpoint,
        "kind": run.cohorts[cohort].kind,
        "member": run_exactly(run, cohort, seed, checkpoint),
        "points": {rule: list(getattr(study, rule)) for rule in ("right", "midpoint", "gauss")},
        "batches": study.batches,
        "sequences": study.sequences,
        "resamples": resamples(run),
    }
