"""Specs of maps between members, of what they carry, and of the tests of rotations."""

from __future__ import annotations

from crossseed.config.schema import RunConfig
from crossseed.specs.models import Spec, activations, journey_cell, pair_cell, run_whole

# Behind the intervals of a run without `transfer`, which says how many.
RESAMPLES = 1000


def align(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair at a site, and the activations of both; of different members also the target's untrained twin."""
    members = {"source": (source, checkpoint), "target": (target, checkpoint)}
    untrained = run.transfer.untrained if run.transfer else None
    if untrained is not None and source != target:
        members["untrained"] = (target, untrained)
    return {
        **pair_cell(cohort, source, target, checkpoint, site),
        "activations": {
            role: activations(run, cohort, *member, site) for role, member in members.items()
        },
    }


def transfer(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair between which features are carried; ValueError without `transfer`."""
    if run.transfer is None:
        raise ValueError("this run has no transfer study")
    return {
        **align(run, cohort, source, target, checkpoint, site),
        "resamples": resamples(run),
        # For a member with itself nothing is carried.
        "directions": list(run.transfer.directions) if source != target else [],
    }


fits = transfer


def resamples(run: RunConfig) -> int:
    """Behind every interval of a cell; the transfer study's where there is one."""
    return run.transfer.resamples if run.transfer else RESAMPLES


def shared(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair at all of its sites; ValueError without `transfer`."""
    if run.transfer is None:
        raise ValueError("this run has no transfer study")
    return {
        **journey_cell(cohort, source, target, checkpoint),
        "resamples": run.transfer.resamples,
        # In the order of the files: a mapping would be sorted by name.
        "sites": [
            [site, align(run, cohort, source, target, checkpoint, site)["activations"]]
            for site in run.cohorts[cohort].sites
        ],
    }


def splice(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair whose source is run whole.

    Raises:
        ValueError: the run has no `splice`.
    """
    if run.splice is None:
        raise ValueError("this run splices nothing")
    return {
        **transfer(run, cohort, source, target, checkpoint, site),
        "sites": shared(run, cohort, source, target, checkpoint)["sites"],
        "kind": run.cohorts[cohort].kind,
        "member": run_whole(run, cohort, source, checkpoint),
        "sequences": run.splice.sequences,
    }


def null(run: RunConfig, width: str, draws: str) -> Spec:
    """A size, and how many draws, from the wildcards: nothing of a cohort."""
    return {"d": int(width), "draws": int(draws)}


def power(run: RunConfig, width: str, draws: str, power_draws: str) -> Spec:
    """As `null`, with a number of draws of its own; those of the null are read from its file."""
    return {"d": int(width), "draws": int(power_draws)}


def across(run: RunConfig, cohort: str, checkpoint: str, site: str) -> Spec:
    """A cohort, checkpoint and site; all else is in the files of its pairs."""
    return {"cohort": cohort, "checkpoint": checkpoint, "site": site}


def ks(run: RunConfig, cohort: str, checkpoint: str) -> Spec:
    """A cohort and checkpoint; pairs and sites are in the files that are pooled."""
    return {"cohort": cohort, "checkpoint": checkpoint}


def cocycle(run: RunConfig, cohort: str, checkpoint: str, site: str) -> Spec:
    """A site of all members, by sorted seed, and the activations of each."""
    seeds = sorted(run.cohorts[cohort].seeds)
    return {
        **across(run, cohort, checkpoint, site),
        "seeds": seeds,
        "activations": [activations(run, cohort, seed, checkpoint, site) for seed in seeds],
    }


def cosine(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair at a site, by name alone: decoders are compared, not activations; also the spec of `haar`."""
    return pair_cell(cohort, source, target, checkpoint, site)


haar = cosine


def published(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """As `align`, without the untrained twin, which that protocol does not use."""
    cell = align(run, cohort, source, target, checkpoint, site)
    cell["activations"].pop("untrained", None)
    return cell
