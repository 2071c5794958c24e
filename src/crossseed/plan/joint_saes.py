"""Which pairs share an SAE, how it is trained, and what its map is held against."""

from __future__ import annotations

from typing import NamedTuple

from crossseed.config.schema import RunConfig
from crossseed.joint.arms import Arm, groups
from crossseed.joint.conditions import MODELS, OF_INDEPENDENT, Condition
from crossseed.once import once_a_run
from crossseed.plan.models import Pair


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
