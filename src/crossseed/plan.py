"""The cells of a run, as the workflow needs them: members, pairs, sites, dictionaries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from crossseed.config.schema import RunConfig
from crossseed.joint.arms import Arm, groups
from crossseed.joint.conditions import MODELS, OF_INDEPENDENT, Condition
from crossseed.once import once_a_run
from crossseed.stability import RANDOM
from crossseed.stability.sweeps import sweeps


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
    variant: str


@once_a_run
def dictionaries(run: RunConfig) -> list[Trained]:
    """Every variant and expansion of a run that is trained on the members; those of `stability` alone are not."""
    return [
        Trained(f"{name}-x{expansion}", list(variant.inits), variant.members, name)
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
    chosen = run.stability.dictionaries if run.stability else []
    return [
        f"{name}-x{expansion}" for name in chosen for expansion in run.dictionaries[name].expansions
    ]


def trainings(run: RunConfig) -> list[tuple[str, list[str]]]:
    """(dictionary, inits) of every rule that trains some; no inits where each of several seeds is a job."""
    return [(d.name, d.inits) for d in dictionaries(run)] + [(name, []) for name in seeded(run)]


def matched(run: RunConfig, dictionary: str) -> bool:
    """Whether the penalty of a dictionary's seeds is calibrated."""
    study = run.stability
    chosen = study.matched.dictionaries if study and study.matched else []
    return dictionary.rpartition("-x")[0] in chosen


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
    latents = int(dictionary.rpartition("-x")[2]) * (run.cohorts[cohort].width or 0)
    if latents <= MATCHED_ALONE_ABOVE:
        return []
    groups = (sae_seeds(run), shuffled_seeds(run), RANDOM)
    return [pair for names in groups for pair in itertools.combinations(names, 2)]


def bridged(run: RunConfig, dictionary: str) -> bool:
    """Whether the SAEs of a dictionary are matched between members."""
    study = run.stability
    chosen = study.bridge.dictionaries if study and study.bridge else []
    return dictionary.rpartition("-x")[0] in chosen


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
    chosen = run.stability.interpret if run.stability else None
    return [
        cell
        for cell in seeded_cells(run)
        if chosen is not None and cell.dictionary.rpartition("-x")[0] in chosen.dictionaries
    ]


def scores_locally(run: RunConfig) -> bool:
    """Whether explaining latents takes a language model, or sentence embeddings, on this machine."""
    study = run.stability.interpret if run.stability else None
    return study is not None and (study.scorer == "local" or study.embeddings is not None)


def dictionaries_of(run: RunConfig, cohort: str, *seeds: int) -> list[Trained]:
    """Those that are trained on each of some members of a cohort."""
    anchors = {run.cohorts[cohort].anchor}
    return [d for d in dictionaries(run) if d.members == "all" or set(seeds) <= anchors]


def members(run: RunConfig) -> Iterator[Member]:
    """Every seed of a cohort at every checkpoint that is studied."""
    for cohort, config in run.cohorts.items():
        for seed in config.seeds:
            for checkpoint in config.checkpoints:
                yield Member(cohort, seed, checkpoint)


def stored(run: RunConfig) -> list[Member]:
    """Members of which some study reads stored activations."""
    compared = {cell[:3] for cell in seeded_cells(run)}
    return [
        member
        for member in members(run)
        if run.dictionaries
        and (run.transfer or dictionaries_of(run, member.cohort, member.seed) or member in compared)
    ]


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


def drifting(run: RunConfig) -> Iterator[Member]:
    """Every member that the drift study compares."""
    if run.drift is None:
        return
    for cohort, config in run.cohorts.items():
        for seed in config.seeds:
            for checkpoint in run.drift.checkpoints:
                yield Member(cohort, seed, checkpoint)


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


def drift_dictionaries(run: RunConfig, cohort: str, seed: int) -> list[Trained]:
    """Dictionaries of a seed's reference checkpoint that the drift study tries."""
    chosen = run.drift.dictionaries if run.drift else []
    return [d for d in dictionaries_of(run, cohort, seed) if d.variant in chosen]


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


@once_a_run
def joint_pairs(run: RunConfig) -> list[Pair]:
    """Pairs that share an SAE, model A as source."""
    found = []
    for cohort in run.joined:
        config, study = run.cohorts[cohort], run.joint
        assert study is not None
        found += [
            Pair(cohort, a, b, checkpoint, site)
            for a, b in study.pairs_of(config.seeds, config.anchor)
            for checkpoint in config.checkpoints
            for site in config.sites
            if study.sites is None or site in study.sites
        ]
    return found


class Cut(NamedTuple):
    """A member cut at a site."""

    cohort: str
    seed: int
    checkpoint: str
    site: str


def cuts(run: RunConfig) -> list[Cut]:
    """Members of which all that is clean is kept, for joint SAEs."""
    found = [
        Cut(pair.cohort, seed, pair.checkpoint, pair.site)
        for pair in joint_pairs(run)
        for seed in (pair.source, pair.target)
    ]
    return list(dict.fromkeys(found))


def conditions(run: RunConfig) -> dict[str, Condition]:
    """Conditions and baselines of joint SAEs, by name."""
    return {row.name: row for row in run.joint.rows} if run.joint else {}


class Training(NamedTuple):
    """One SAE of a pair: the condition it is of, and the models it is trained on."""

    condition: Condition
    models: tuple[int, ...]


def joint_trainings(run: RunConfig) -> dict[str, Training]:
    """SAEs of a pair, by name."""
    found = {}
    for row in conditions(run).values():
        apart = row.condition in OF_INDEPENDENT
        for number, name in enumerate(row.trainings):
            models = (number,) if apart else tuple(range(len(MODELS)))
            found[name] = Training(row.trained, models)
    return found


def joint_nulls(run: RunConfig) -> dict[str, list[Arm]]:
    """Retrainings of a pair, by the name of their job."""
    study = run.joint.nulls if run.joint else None
    if study is None:
        return {}
    return groups(
        study.random,
        study.mismatched,
        study.shares,
        study.directions,
        list(study.complements),
        study.replicates,
    )


def tested_pairs(run: RunConfig) -> list[Pair]:
    """Pairs whose map is held against others."""
    study = run.joint.nulls if run.joint else None
    if study is None:
        return []
    chosen = study.pairs
    return [
        pair for pair in joint_pairs(run) if chosen is None or [pair.source, pair.target] in chosen
    ]


def tested_saes(run: RunConfig) -> list[str]:
    """Model A's own SAE, on which Haar draws are tried without training; none where none is trained."""
    for row in conditions(run).values():
        if row.condition in OF_INDEPENDENT:
            return row.trainings[:1]
    return []


def edited_pairs(run: RunConfig) -> list[Pair]:
    """Pairs whose latents are tried on edited sentences."""
    study = run.joint.counterfactuals if run.joint else None
    return [pair for pair in joint_pairs(run) if study and pair.cohort in study.files]


def edited_condition(run: RunConfig) -> Condition:
    """The condition whose latents are."""
    assert run.joint is not None
    assert run.joint.counterfactuals is not None
    wanted = run.joint.counterfactuals.condition
    return next(row for row in run.joint.rows if row.condition == wanted)


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


# What claims are measured from.
CLAIMED_TABLES = (
    "fits",
    "transfer",
    "evidence",
    "decoder_cosine",
    "haar",
    "ks",
    "published",
    "steering",
    "attribution",
    "weights",
    "joint",
    "bars",
    "drift",
    "stability",
    "joint_conditions",
    "joint_nulls",
    "joint_tests",
    "joint_sizes",
    "joint_halves",
    "joint_counterfactuals",
    "joint_regression",
)


# What is taken over seeds.
TABLES_OF_PAIRS = ("fits", "transfer", "splice")


def tables(run: RunConfig) -> list[str]:
    """Names of the tables of a run's report."""
    found = ["quality", "training"] if trained(run) else []
    found += ["dictionaries"] if run.dictionaries else []
    if run.transfer:
        found += ["fits", "directions", "transfer", "evidence", "decoder_cosine"]
    found += ["splice"] if run.splice else []
    if run.stability:
        found += ["stability"] + (["calibration"] if run.stability.matched else [])
        found += ["bridge"] if run.stability.bridge else []
        found += ["absorption"] if run.stability.absorption else []
        found += ["interpret", "interpret_steps"] if run.stability.interpret else []
    found += ["over_seeds"] if run.transfer else []
    if run.haar:
        found += ["haar", "ks", "phases", "power"]
        found += ["cocycle"] if triples(run) else []
    found += ["ports"] if run.port else []
    found += ["steering"] if run.steering else []
    found += ["features"] if run.features else []
    found += ["attribution", "attribution_cells"] if run.attribution else []
    found += ["weights", "joint"] if run.weights else []
    found += ["causes", "bars"] if run.bars else []
    found += ["lenses"] if run.lenses else []
    if run.joint:
        found += ["joint_conditions", "joint_latents", "joint_training", "joint_fits"]
        found += ["joint_nulls"] if joint_nulls(run) else []
        found += ["joint_tests"] if run.joint.nulls else []
        found += ["joint_sizes", "joint_halves"] if run.joint.sizes else []
        if run.joint.counterfactuals:
            found += ["joint_counterfactuals", "joint_contexts"]
        found += ["joint_pooled"] + (["joint_regression"] if joint_nulls(run) else [])
    found += ["drift"] if run.drift else []
    found += ["published"] if run.claims and run.transfer else []
    return found + (["claims"] if run.claims else [])


def figures(run: RunConfig) -> list[str]:
    """Names of the figures of a run's report."""
    found = []
    if run.transfer:
        found += [f"{kind}-{d.name}" for d in dictionaries(run) for kind in ("ev", "firing")]
        found += ["published-ev"] if run.claims else []
        found += ["ladder", "twins", "decoder-cosine"]
    if run.haar:
        found += ["published-rotation"] if run.claims else []
        found += ["eigenphases", "power"]
    if run.steering:
        found += ["steering-doses", "steering-regimes"]
    found += ["features"] if run.features else []
    found += ["attribution", "attribution-cost"] if run.attribution else []
    if run.stability:
        recipes = {name: variant.model_dump() for name, variant in run.dictionaries.items()}
        swept = sweeps(recipes, seeded(run))
        found += [
            "stability",
            *(["stability-sweeps"] if swept else []),
            "stability-decay",
            "stability-latents",
        ]
    found += ["bridge"] if run.stability and run.stability.bridge else []
    found += ["interpret"] if interpreted(run) else []
    found += ["weights", "weights-joint"] if run.weights else []
    found += ["bars", "edges"] if run.bars else []
    if run.joint:
        found += ["joint", "joint-geometry"]
        found += ["joint-nulls"] if joint_nulls(run) else []
        found += ["joint-sizes"] if run.joint.sizes else []
        found += ["joint-counterfactuals"] if run.joint.counterfactuals else []
    if run.drift:
        found += ["drift-checkpoint", "drift-seed"]
        found += [
            f"drift-ev-{d.name}" for d in dictionaries(run) if d.variant in run.drift.dictionaries
        ]
    return found + (["training"] if trained(run) else [])
