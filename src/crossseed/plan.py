"""The cells of a run, as the workflow needs them: members, pairs, sites, dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crossseed.config.schema import RunConfig


class Member(NamedTuple):
    """One model of a cohort."""

    cohort: str
    seed: int
    checkpoint: str


class Pair(NamedTuple):
    """A source, whose dictionaries are tried, and a target, whose activations are carried."""

    cohort: str
    source: int
    target: int
    checkpoint: str
    site: str


def sites(run: RunConfig, cohort: str) -> list[str]:
    return list(run.cohorts[cohort].sites)


class Trained(NamedTuple):
    """SAEs of one variant and expansion."""

    name: str
    inits: list[str]
    members: str


def dictionaries(run: RunConfig) -> list[Trained]:
    """Every variant and expansion of a run."""
    return [
        Trained(f"{name}-x{expansion}", list(variant.inits), variant.members)
        for name, variant in run.dictionaries.items()
        for expansion in variant.expansions
    ]


def dictionaries_of(run: RunConfig, cohort: str, *seeds: int) -> list[Trained]:
    """Those that are trained on each of some members of a cohort."""
    anchors = {run.cohorts[cohort].anchor}
    return [d for d in dictionaries(run) if d.members == "all" or set(seeds) <= anchors]


def members(run: RunConfig) -> Iterator[Member]:
    """Every member of every cohort."""
    for cohort, config in run.cohorts.items():
        for seed in config.seeds:
            for checkpoint in config.checkpoints:
                yield Member(cohort, seed, checkpoint)


def pairs(run: RunConfig) -> Iterator[Pair]:
    """Every ordered pair measured, members with themselves included."""
    for cohort, config in run.cohorts.items():
        sources = config.seeds if run.transfer.pairs == "all" else [config.anchor]
        for source in sources:
            for target in config.seeds:
                for checkpoint in config.checkpoints:
                    for site in config.sites:
                        yield Pair(cohort, source, target, checkpoint, site)


def figures(run: RunConfig) -> list[str]:
    """Names of the figures of a run's report."""
    per_dictionary = [
        f"{kind}-{name}" for name, _, _ in dictionaries(run) for kind in ("ev", "firing")
    ]
    return [*per_dictionary, "decoder-cosine", "training"]
