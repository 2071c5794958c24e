"""Which members, pairs and dictionaries each intervention, map of weights, bar, lens and the drift study takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from crossseed.config.schema import RunConfig
from crossseed.once import once_a_run
from crossseed.plan.models import Journey, Member, crossed, members
from crossseed.plan.saes import dictionaries_of


def drifting(run: RunConfig) -> Iterator[Member]:
    """Every member that the drift study compares."""
    if run.drift is None:
        return
    for cohort, config in run.cohorts.items():
        for seed in config.seeds:
            for checkpoint in run.drift.checkpoints:
                yield Member(cohort, seed, checkpoint)


class Port(NamedTuple):
    """A dictionary of a pair's source, written for its target."""

    cohort: str
    source: int
    target: int
    checkpoint: str
    site: str
    dictionary: str
    init: str


def ports(run: RunConfig) -> list[Port]:
    """Every dictionary that is ported."""
    chosen = run.port.dictionaries if run.port else []
    return [
        Port(*pair, found.name, init)
        for pair in (crossed(run) if chosen else [])
        for found in dictionaries_of(run, pair.cohort, pair.source)
        if found.variant in chosen
        for init in found.inits
    ]


def attributed(run: RunConfig) -> list[Member]:
    """Every member whose components are ablated."""
    if run.attribution is None:
        return []
    return [
        Member(cohort, seed, checkpoint)
        for cohort, config in run.cohorts.items()
        for seed in (config.seeds if run.attribution.members == "all" else [config.anchor])
        for checkpoint in config.checkpoints
    ]


@once_a_run
def siblings(run: RunConfig) -> list[Journey]:
    """Every two members whose weights are aligned, the anchor or the earlier seed as source."""
    found = []
    for cohort, config in run.cohorts.items() if run.weights else ():
        seeds = [config.anchor, *(seed for seed in config.seeds if seed != config.anchor)]
        found += [
            Journey(cohort, source, target, checkpoint)
            for source, target in itertools.combinations(seeds, 2)
            for checkpoint in config.checkpoints
            if config.symmetric
        ]
    return found


def opened(run: RunConfig) -> list[Member]:
    """Every member whose components and edges are cut."""
    return [m for m in members(run) if run.bars and run.cohorts[m.cohort].symmetric]


def seen(run: RunConfig) -> list[Member]:
    """Every member whose components are seen through the lenses."""
    return [
        member
        for member in members(run)
        if run.lenses is not None
        and run.cohorts[member.cohort].symmetric
        and (run.lenses.members == "all" or member.seed == run.cohorts[member.cohort].anchor)
    ]


def judged(run: RunConfig) -> list[Journey]:
    """Every two members held against each other by the four bars, and every member with itself."""
    own = [Journey(m.cohort, m.seed, m.seed, m.checkpoint) for m in opened(run)]
    return own + (siblings(run) if run.bars else [])
