"""Which SAEs a run trains, from which seeds, and where these are compared."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import NamedTuple, Protocol

from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import expansion_of, name_of, variant_of
from crossseed.once import once_a_run
from crossseed.plan.models import Member, members, sites
from crossseed.stability import RANDOM


class Trained(NamedTuple):
    """SAEs of one variant and expansion."""

    name: str
    inits: list[str]
    members: str
    variant: str


@once_a_run
def dictionaries(run: RunConfig) -> list[Trained]:
    """Every variant and expansion of a run that is trained on the members; those of `stability` alone are not."""
    return [
        Trained(name_of(name, expansion), list(variant.inits), variant.members, name)
        for name, variant in run.on_members.items()
        for expansion in variant.expansions
    ]


def sae_seeds(run: RunConfig) -> list[str]:
    """Names of the starts that the stability study compares."""
    return [f"seed{k + 1}" for k in range(run.stability.seeds)] if run.stability else []


def shuffled_seeds(run: RunConfig) -> list[str]:
    """Names of the starts that are trained on shuffled features."""
    return ["shuffled1", "shuffled2"] if run.stability and run.stability.shuffled else []


def seeded(run: RunConfig) -> list[str]:
    """Dictionaries that are trained from several seeds."""
    return run.seeded_names()


def trainings(run: RunConfig) -> list[tuple[str, list[str]]]:
    """(dictionary, inits) of every rule that trains some; no inits where each of several seeds is a job."""
    return [(d.name, d.inits) for d in dictionaries(run)] + [(name, []) for name in seeded(run)]


class _OfSome(Protocol):
    """A part of a study that is done on some variants."""

    @property
    def dictionaries(self) -> Collection[str]: ...


def _chosen(part: _OfSome | None, dictionary: str) -> bool:
    return part is not None and variant_of(dictionary) in part.dictionaries


def matched(run: RunConfig, dictionary: str) -> bool:
    """Whether the penalty of a dictionary's seeds is calibrated."""
    return _chosen(run.stability and run.stability.matched, dictionary)


class Cell(NamedTuple):
    """SAEs of one member and site that differ in their seed."""

    cohort: str
    seed: int
    checkpoint: str
    site: str
    dictionary: str


@once_a_run
def seeded_cells(run: RunConfig) -> list[Cell]:
    """Where SAE seeds are compared."""
    study = run.stability
    return [
        Cell(*member, site, dictionary)
        for member in (members(run) if study else ())
        if study is not None
        for site in sites(run, member.cohort)
        if study.sites is None or site in study.sites
        for dictionary in seeded(run)
        if study.members == "all"
        or member.seed == run.cohorts[member.cohort].anchor
        or bridged(run, dictionary)
    ]


# Latents above which each two SAEs of a cell are matched by a job of their own.
MATCHED_ALONE_ABOVE = 8192


def matched_pairs(run: RunConfig, cohort: str, dictionary: str) -> list[tuple[str, str]]:
    """SAEs of a cell, two by two, that are matched one job a pair; none of small dictionaries."""
    latents = expansion_of(dictionary) * (run.cohorts[cohort].width or 0)
    if latents <= MATCHED_ALONE_ABOVE:
        return []
    groups = (sae_seeds(run), shuffled_seeds(run), RANDOM)
    return [pair for names in groups for pair in itertools.combinations(names, 2)]


def bridged(run: RunConfig, dictionary: str) -> bool:
    """Whether the SAEs of a dictionary are matched between members."""
    return _chosen(run.stability and run.stability.bridge, dictionary)


class Bridge(NamedTuple):
    """SAEs of several seeds of the anchor and of another member."""

    cohort: str
    source: int
    target: int
    checkpoint: str
    site: str
    dictionary: str


def bridges(run: RunConfig) -> list[Bridge]:
    """Where SAE seeds of two members are compared."""
    return [
        Bridge(cell.cohort, anchor, cell.seed, *cell[2:])
        for cell in seeded_cells(run)
        for anchor in [run.cohorts[cell.cohort].anchor]
        if bridged(run, cell.dictionary) and cell.seed != anchor
    ]


def absorbing(run: RunConfig) -> list[Cell]:
    """Cells of SAE seeds in which first letters are looked for."""
    wanted = run.stability is not None and run.stability.absorption is not None
    return [cell for cell in seeded_cells(run) if wanted and run.cohorts[cell.cohort].reads_text]


def interpreted(run: RunConfig) -> list[Cell]:
    """Where latents of the first SAE seed are explained and scored."""
    chosen = run.stability and run.stability.interpret
    return [cell for cell in seeded_cells(run) if _chosen(chosen, cell.dictionary)]


def scores_locally(run: RunConfig) -> bool:
    """Whether explaining latents takes a language model, or sentence embeddings, on this machine."""
    study = run.stability.interpret if run.stability else None
    return study is not None and (study.scorer == "local" or study.embeddings is not None)


def dictionaries_of(run: RunConfig, cohort: str, *seeds: int) -> list[Trained]:
    """Those that are trained on each of some members of a cohort."""
    anchors = {run.cohorts[cohort].anchor}
    return [d for d in dictionaries(run) if d.members == "all" or set(seeds) <= anchors]


def stored(run: RunConfig) -> list[Member]:
    """Members of which some study reads stored activations."""
    compared = {cell[:3] for cell in seeded_cells(run)}
    return [
        member
        for member in members(run)
        if run.dictionaries
        and (run.transfer or dictionaries_of(run, member.cohort, member.seed) or member in compared)
    ]


def drift_dictionaries(run: RunConfig, cohort: str, seed: int) -> list[Trained]:
    """Dictionaries of a seed's reference checkpoint that the drift study tries."""
    return [d for d in dictionaries_of(run, cohort, seed) if _chosen(run.drift, d.name)]
