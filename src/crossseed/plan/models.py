"""Which models a run has, and which of them are compared: members, pairs and the places where pairs lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crossseed.config.schema import RunConfig
from crossseed.once import once_a_run


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
    """Sites of a cohort, in the order in which it names them."""
    return list(run.cohorts[cohort].sites)


def members(run: RunConfig) -> Iterator[Member]:
    """Every seed of a cohort at every checkpoint that is studied."""
    for cohort, config in run.cohorts.items():
        for seed in config.seeds:
            for checkpoint in config.checkpoints:
                yield Member(cohort, seed, checkpoint)


def last_checkpoint(run: RunConfig, cohort: str) -> str:
    """The checkpoint that a study of final models means."""
    found = run.cohorts[cohort].checkpoints
    return "final" if "final" in found else found[-1]


def untrained(run: RunConfig) -> list[Member]:
    """Targets before training whose activations are stored as a null, beside the `members`."""
    if run.transfer is None or run.transfer.untrained is None:
        return []
    name = run.transfer.untrained
    known = set(members(run))
    found = [Member(pair.cohort, pair.target, name) for pair in crossed(run)]
    return [member for member in dict.fromkeys(found) if member not in known]


def checkpoints(run: RunConfig, cohort: str) -> list[str]:
    """Every checkpoint of a cohort that some study loads."""
    studied = run.dictionaries or run.attribution or run.weights or run.lenses or run.joint
    found = list(run.cohorts[cohort].checkpoints) if studied else []
    if run.weights is not None and run.weights.untrained is not None:
        found.append(run.weights.untrained)
    if run.transfer is not None and run.transfer.untrained is not None:
        found.append(run.transfer.untrained)
    if run.drift is not None:
        found += [*run.drift.checkpoints, run.drift.reference]
    return list(dict.fromkeys(found))


def loaded(run: RunConfig, cohort: str) -> list[Member]:
    """Every member of a cohort that some study loads."""
    config = run.cohorts[cohort]
    return [
        Member(cohort, seed, checkpoint)
        for seed in config.seeds
        for checkpoint in checkpoints(run, cohort)
    ]


def pairs(run: RunConfig) -> Iterator[Pair]:
    """Every ordered pair measured, members with themselves included."""
    if run.transfer is None:
        return
    for cohort, config in run.cohorts.items():
        sources = config.seeds if run.transfer.pairs == "all" else [config.anchor]
        for source in sources:
            for target in config.seeds:
                for checkpoint in config.checkpoints:
                    for site in config.sites:
                        yield Pair(cohort, source, target, checkpoint, site)


@once_a_run
def crossed(run: RunConfig) -> list[Pair]:
    """The pairs of different members."""
    return [pair for pair in pairs(run) if pair.source != pair.target]


class Journey(NamedTuple):
    """A pair of members, whatever the site."""

    cohort: str
    source: int
    target: int
    checkpoint: str


@once_a_run
def journeys(run: RunConfig) -> list[Journey]:
    """The pairs of different members."""
    return list(dict.fromkeys(Journey(*pair[:4]) for pair in crossed(run)))


class Place(NamedTuple):
    """A site of a cohort's members at one checkpoint."""

    cohort: str
    checkpoint: str
    site: str


@once_a_run
def places(run: RunConfig) -> list[Place]:
    """Where the pairs of a run lie."""
    return list(dict.fromkeys(Place(p.cohort, p.checkpoint, p.site) for p in crossed(run)))


@once_a_run
def _by_source(run: RunConfig) -> dict[tuple[Place, int], list[Pair]]:
    """The pairs of different members by place and source."""
    found: dict[tuple[Place, int], list[Pair]] = {}
    for pair in crossed(run):
        place = Place(pair.cohort, pair.checkpoint, pair.site)
        found.setdefault((place, pair.source), []).append(pair)
    return found


def from_source(run: RunConfig, place: Place, source: int) -> list[Pair]:
    """The pairs of a source with each other seed at a place."""
    return list(_by_source(run).get((place, source), []))


def anchored(run: RunConfig, place: Place) -> list[Pair]:
    """The pairs of the anchor with each other seed: independent of each other under the null."""
    return from_source(run, place, run.cohorts[place.cohort].anchor)


def triples(run: RunConfig) -> list[Place]:
    """Where three seeds or more can be compared."""
    if run.haar is None:
        return []
    return [place for place in places(run) if len(run.cohorts[place.cohort].seeds) > 2]


def widths(run: RunConfig, cohort: str | None = None) -> list[int]:
    """Widths of the cohorts whose rotations are tested, or of one."""
    chosen = [cohort] if cohort is not None else list(run.cohorts)
    return sorted({run.cohorts[name].width or 0 for name in chosen} - {0})


def trained(run: RunConfig) -> list[str]:
    """Cohorts whose models the run trains."""
    return [name for name, config in run.cohorts.items() if config.trained_files]
