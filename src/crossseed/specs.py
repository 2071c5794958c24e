"""What each verb is told: its spec, and the digest of the code behind it.

A spec holds exactly the config leaves its verb reads, as plain JSON values. Specs are the
only way from the configuration to a job, and, with the code digest, the only reason beside
changed inputs for a job to run again.

Readers of activation files are told in ``activations`` what the file must have been made
from: a digest of all that decides its content. They refuse any other file, so that no result
rests on activations of another model or of other tokens.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from crossseed import plan
from crossseed.closure import code_digest
from crossseed.cohorts import base
from crossseed.config.joint import JointStudy
from crossseed.config.schema import RunConfig
from crossseed.errors import UserError
from crossseed.joint.arms import plain, settings_of
from crossseed.joint.conditions import MATCHED, Condition, of_condition
from crossseed.joint.config import MUTUAL, JointTraining
from crossseed.once import once_a_run
from crossseed.sae import architectures
from crossseed.sae.config import SELECTION
from crossseed.store import canonical_json, source_of

Spec = dict[str, Any]
# The module of a cohort's kind that each verb runs.
PARTS = {
    "tokenizer": "tokenizer",
    "check": "check",
    "tokens": "tokens",
    "train": "training",
    "extract": "members",
    "splice": "interventions",
    "port": "interventions",
    "steer": "interventions",
    "features": "interventions",
    "attribute": "interventions",
    "absorption": "words",
    "drift": "members",
    "interpret": "words",
    "joint_cache": "upper",
    "joint_train": "upper",
    "joint_evaluate": "upper",
    "joint_null": "upper",
    "joint_counterfactuals": "upper",
}
# Verbs that also ask a kind what its models are steered by.
STEERED = ("steer", "features")
# What decides which latents of joint SAEs count, and as universal.
COUNTED = {"active_tokens", "threshold"}
# Behind the intervals of a run without `transfer`, which says how many.
RESAMPLES = 1000
TEMPLATE = Path(__file__).parent / "report" / "index.html.j2"


def verb_code(verb: str, *modules: str) -> str:
    """Digest of a verb's code and of modules it imports by name."""
    return code_digest(f"crossseed.verbs.{verb}", *modules)


def split_dictionary(run: RunConfig, dictionary: str) -> tuple[str, int]:
    """Variant and expansion behind a dictionary's name, e.g. ``relu-x8``."""
    variant, _, expansion = dictionary.rpartition("-x")
    if variant not in run.dictionaries or not expansion.isdigit():
        raise ValueError(f"no dictionary {dictionary!r} in this run")
    return variant, int(expansion)


# --- one function a verb: spec, then code -------------------------------------------------


def tokenizer(run: RunConfig, cohort: str) -> Spec:
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].tokenizer_spec()}


def check(run: RunConfig, cohort: str, number: str) -> Spec:
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].check_spec()}


def tokens(run: RunConfig, cohort: str) -> Spec:
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].tokens_spec()}


def train(run: RunConfig, cohort: str, seed: int) -> Spec:
    config = run.cohorts[cohort]
    return {"kind": config.kind, "cohort": cohort, **config.training_spec(seed)}


def _reading(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """How activations are read from a member."""
    config = run.cohorts[cohort]
    return {
        "kind": config.kind,
        "cohort": cohort,
        "seed": seed,
        "checkpoint": checkpoint,
        **config.reading_spec(seed, checkpoint),
    }


@once_a_run
def origin(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> str:
    """Digest of all that decides the activations of a member, at whatever site."""
    return _origin(run, cohort, seed, "extract", _reading(run, cohort, seed, checkpoint))


def _origin(run: RunConfig, cohort: str, seed: int, verb: str, reading: Spec) -> str:
    """Digest of all that decides what a verb reads from a member."""
    config = run.cohorts[cohort]
    parts: list[Any] = [
        [tokens(run, cohort), code(run, "tokens", cohort=cohort)],
        [reading, code(run, verb, cohort=cohort)],
    ]
    if config.tokenizer_files:
        parts.append([tokenizer(run, cohort), code(run, "tokenizer", cohort=cohort)])
    if config.trained_files:
        parts.append([train(run, cohort, seed), code(run, "train", cohort=cohort)])
    if config.needs_anchor(seed):
        parts.append(train(run, cohort, config.anchor))
    return hashlib.blake2b(canonical_json(parts).encode(), digest_size=16).hexdigest()


def extract(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    # A checkpoint that is only a null has no dictionaries.
    studied = checkpoint in run.cohorts[cohort].checkpoints
    return {
        **_reading(run, cohort, seed, checkpoint),
        "splits": list(base.SPLITS) if studied else [s for s in base.SPLITS if s != "train"],
        "origin": origin(run, cohort, seed, checkpoint),
    }


def activations(run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str) -> str:
    """What the readers of an activation file expect it to be made from."""
    return source_of(origin(run, cohort, seed, checkpoint), site)


def sae(
    run: RunConfig,
    cohort: str,
    seed: int,
    checkpoint: str,
    site: str,
    dictionary: str,
    init: str | None = None,
) -> Spec:
    """Of all inits of a variant, or of one SAE seed."""
    variant, expansion = split_dictionary(run, dictionary)
    of = run.dictionaries[variant]
    config = of.model_dump(exclude={*SELECTION, "lr_latents"})
    if of.lr_latents is not None:
        width = run.cohorts[cohort].width
        if width is None:
            raise UserError(
                f"dictionaries.{variant}.lr_latents: the width of cohort {cohort} is not known before its models are; say it "
                "in the cohort's model.width, or set lr_latents to null"
            )
        config["lr"] = of.lr * math.sqrt(of.lr_latents / (expansion * width))
    return {
        "inits": list(run.dictionaries[variant].inits) if init is None else [init],
        "cohort": cohort,
        "seed": seed,
        "checkpoint": checkpoint,
        "site": site,
        "dictionary": dictionary,
        "expansion": expansion,
        "variant": config,
        "activations": activations(run, cohort, seed, checkpoint, site),
    }


def align(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    members = {"source": (source, checkpoint), "target": (target, checkpoint)}
    untrained = run.transfer.untrained if run.transfer else None
    if untrained is not None and source != target:
        members["untrained"] = (target, untrained)
    return {
        "cohort": cohort,
        "source_seed": source,
        "target_seed": target,
        "checkpoint": checkpoint,
        "site": site,
        "activations": {
            role: activations(run, cohort, *member, site) for role, member in members.items()
        },
    }


def transfer(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    if run.transfer is None:
        raise ValueError("this run has no transfer study")
    return {
        **align(run, cohort, source, target, checkpoint, site),
        "resamples": _resamples(run),
        # For a member with itself nothing is carried.
        "directions": list(run.transfer.directions) if source != target else [],
    }


fits = transfer


def _resamples(run: RunConfig) -> int:
    """Behind every interval of a cell; the transfer study's where there is one."""
    return run.transfer.resamples if run.transfer else RESAMPLES


def shared(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    cells = {
        site: transfer(run, cohort, source, target, checkpoint, site)
        for site in run.cohorts[cohort].sites
    }
    first = next(iter(cells.values()))
    return {
        **{name: first[name] for name in ("cohort", "source_seed", "target_seed", "checkpoint")},
        "resamples": _resamples(run),
        # In the order of the files: a mapping would be sorted by name.
        "sites": [[site, cell["activations"]] for site, cell in cells.items()],
    }


def splice(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair whose source is run whole."""
    if run.splice is None:
        raise ValueError("this run splices nothing")
    return {
        **transfer(run, cohort, source, target, checkpoint, site),
        "sites": shared(run, cohort, source, target, checkpoint)["sites"],
        "kind": run.cohorts[cohort].kind,
        "member": _member(run, cohort, source, checkpoint),
        "sequences": run.splice.sequences,
    }


def _member(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member that is run whole; its activations are not stored."""
    return {k: v for k, v in _reading(run, cohort, seed, checkpoint).items() if k != "dtype"}


def _exact(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member that is run whole in float32, whatever its activations are read in: effects of single
    latents and gradients drown in the rounding of half precision."""
    found = _member(run, cohort, seed, checkpoint)
    return {**found, **({"precision": "float32"} if "precision" in found else {})}


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
    if run.port is None:
        raise ValueError("this run ports nothing")
    return {
        **align(run, cohort, source, target, checkpoint, site),
        "dictionary": f"{dictionary}-{init}",
        "map": run.port.map,
        "resamples": _resamples(run),
        "kind": run.cohorts[cohort].kind,
        "member": _member(run, cohort, target, checkpoint),
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
        "resamples": _resamples(run),
        "kind": config.kind,
        "members": {
            role: _exact(run, cohort, seed, checkpoint)
            for role, seed in (("source", source), ("target", target))
        },
        "text": config.text_spec(),
        "concepts": list(run.steering.prompts if config.reads_text else run.steering.concepts),
        "trials": run.steering.trials,
    }


def steer(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
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
    if run.features is None:
        raise ValueError("this run studies no single features")
    return {
        **_steered(run, cohort, source, target, checkpoint, site),
        "latents": run.features.latents,
        "sequences": run.features.sequences,
    }


def attribute(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    if run.attribution is None:
        raise ValueError("this run attributes nothing")
    study = run.attribution
    return {
        "cohort": cohort,
        "seed": seed,
        "checkpoint": checkpoint,
        "kind": run.cohorts[cohort].kind,
        "member": _exact(run, cohort, seed, checkpoint),
        "points": {rule: list(getattr(study, rule)) for rule in ("right", "midpoint", "gauss")},
        "batches": study.batches,
        "sequences": study.sequences,
        "resamples": _resamples(run),
    }


def weights(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
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
        "cohort": cohort,
        "source_seed": source,
        "target_seed": target,
        "checkpoint": checkpoint,
        "members": {
            role: _cell(cohort, seed, checkpoint)
            for role, seed in (("source", source), ("target", target))
        },
    }


def _cell(cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member by name."""
    return {"cohort": cohort, "seed": seed, "checkpoint": checkpoint}


def causes(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    if run.bars is None:
        raise ValueError("this run has no bars")
    return _cell(cohort, seed, checkpoint) | run.bars.model_dump(
        include={"batches", "rows", "points"}
    )


def bars(run: RunConfig, cohort: str, source: int, target: int, checkpoint: str) -> Spec:
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
        "resamples": _resamples(run),
    }


def lenses(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    if run.lenses is None:
        raise ValueError("this run has no lenses")
    return _cell(cohort, seed, checkpoint) | run.lenses.model_dump(exclude={"members"})


def calibrate(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    if run.stability is None or run.stability.matched is None:
        raise ValueError("this run calibrates nothing")
    matched = run.stability.matched
    cell = sae(run, cohort, seed, checkpoint, site, dictionary)
    del cell["inits"]
    return {**cell, "wanted_l0": matched.l0, "steps": matched.steps, "runs": matched.runs}


def stability(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    if run.stability is None:
        raise ValueError("this run compares no SAE seeds")
    return {
        **_cell(cohort, seed, checkpoint),
        "site": site,
        "dictionary": dictionary,
        "seeds": plan.sae_seeds(run),
        "shuffled": plan.shuffled_seeds(run),
        "threshold": run.stability.threshold,
        "activations": activations(run, cohort, seed, checkpoint, site),
    }


def match(
    run: RunConfig,
    cohort: str,
    seed: int,
    checkpoint: str,
    site: str,
    dictionary: str,
    first: str,
    second: str,
) -> Spec:
    cell = stability(run, cohort, seed, checkpoint, site, dictionary)
    for name in ("seeds", "shuffled", "threshold"):
        del cell[name]
    return {**cell, "first": first, "second": second}


def bridge(
    run: RunConfig,
    cohort: str,
    source: int,
    target: int,
    checkpoint: str,
    site: str,
    dictionary: str,
) -> Spec:
    if run.stability is None or run.stability.bridge is None:
        raise ValueError("this run compares no SAE seeds of different members")
    return {
        **cosine(run, cohort, source, target, checkpoint, site),
        "dictionary": dictionary,
        "seeds": plan.sae_seeds(run)[: run.stability.bridge.seeds],
        "threshold": run.stability.threshold,
    }


def absorption(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    if run.stability is None or run.stability.absorption is None:
        raise ValueError("this run looks for no first letters")
    cell = stability(run, cohort, seed, checkpoint, site, dictionary)
    # What latents share, and nulls of that, decide the table that is read.
    for name in ("threshold", "shuffled"):
        del cell[name]
    config = run.cohorts[cohort]
    asked = run.stability.absorption.model_dump()
    return {**cell, "kind": config.kind, "text": config.text_spec(), **asked}


def interpret(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    if run.stability is None or run.stability.interpret is None:
        raise ValueError("this run explains no latents")
    config = run.cohorts[cohort]
    return {
        **_cell(cohort, seed, checkpoint),
        "site": site,
        "dictionary": dictionary,
        "seeds": plan.sae_seeds(run),
        "activations": activations(run, cohort, seed, checkpoint, site),
        "kind": config.kind,
        "text": config.text_spec(),
        **run.stability.interpret.model_dump(exclude={"dictionaries"}),
    }


def null(run: RunConfig, width: str, draws: str) -> Spec:
    return {"d": int(width), "draws": int(draws)}


def power(run: RunConfig, width: str, draws: str, power_draws: str) -> Spec:
    return {"d": int(width), "draws": int(power_draws)}


def across(run: RunConfig, cohort: str, checkpoint: str, site: str) -> Spec:
    return {"cohort": cohort, "checkpoint": checkpoint, "site": site}


def ks(run: RunConfig, cohort: str, checkpoint: str) -> Spec:
    return {"cohort": cohort, "checkpoint": checkpoint}


def cocycle(run: RunConfig, cohort: str, checkpoint: str, site: str) -> Spec:
    seeds = sorted(run.cohorts[cohort].seeds)
    return {
        **across(run, cohort, checkpoint, site),
        "seeds": seeds,
        "activations": [activations(run, cohort, seed, checkpoint, site) for seed in seeds],
    }


def drift(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """The member, and those it is compared with: its own reference and the anchor's twin."""
    if run.drift is None:
        raise ValueError("this run has no drift study")
    config = run.cohorts[cohort]
    # Activations are neither stored nor, without dictionaries, compared with stored ones.
    tried = plan.drift_dictionaries(run, cohort, seed)
    roles = {
        "member": (seed, checkpoint),
        "checkpoint": (seed, run.drift.reference),
        "seed": (config.anchor, checkpoint),
    }
    return {
        "cohort": cohort,
        "kind": config.kind,
        "sites": list(config.sites),
        "dictionaries": [d.name for d in tried],
        "members": {role: _member(run, cohort, *member) for role, member in roles.items()},
        "origin": origin(run, cohort, seed, run.drift.reference) if tried else "",
    }


# --- joint SAEs ---------------------------------------------------------------------------


def _joint(run: RunConfig) -> JointStudy:
    if run.joint is None:
        raise ValueError("this run trains no joint SAEs")
    return run.joint


def joint_cache(run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str) -> Spec:
    study, config = _joint(run), run.cohorts[cohort]
    reading = {
        "member": _exact(run, cohort, seed, checkpoint),
        "dtype": config.activation_dtype,
        "development": None if config.has_development else study.development,
        "predictions": study.predictions if config.predicts_positions else None,
    }
    return {
        **reading,
        "kind": config.kind,
        "cohort": cohort,
        "seed": seed,
        "checkpoint": checkpoint,
        "site": site,
        "source": source_of(_origin(run, cohort, seed, "joint_cache", reading), site),
    }


def _joint_pair(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    seeds = {"source": source, "target": target}
    return {
        "cohort": cohort,
        "source_seed": source,
        "target_seed": target,
        "checkpoint": checkpoint,
        "site": site,
        "caches": {
            role: joint_cache(run, cohort, seed, checkpoint, site)["source"]
            for role, seed in seeds.items()
        },
    }


def _joint_models(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    """A pair, with both members run above the site."""
    seeds = {"source": source, "target": target}
    members = {role: _exact(run, cohort, seed, checkpoint) for role, seed in seeds.items()}
    pair = _joint_pair(run, cohort, source, target, checkpoint, site)
    return {**pair, "kind": run.cohorts[cohort].kind, "members": members}


def joint_maps(run: RunConfig, *pair: Any, **named: Any) -> Spec:
    study = _joint(run)
    return {
        **_joint_pair(run, *pair, **named),
        "center": study.center,
        "special_tokens": study.training.special_tokens,
    }


def joint_fits(run: RunConfig, **pair: Any) -> Spec:
    study = _joint(run)
    return {
        **_joint_pair(run, **pair),
        "special_tokens": study.training.special_tokens,
        "resamples": study.evaluation.resamples,
    }


def joint_size(run: RunConfig, **pair: Any) -> Spec:
    study = _joint(run)
    if study.sizes is None:
        raise ValueError("this run measures no sample sizes")
    return {**joint_maps(run, **pair), **study.sizes.model_dump()}


def _settings(settings: JointTraining) -> Spec:
    """What decides a training; how a term is reduced that has no weight does not."""
    left_out = {"cross_reduction"} if settings.lambda_cross == 0 else set()
    return settings.model_dump(exclude=left_out)


def _of_row(run: RunConfig, row: Condition) -> tuple[JointTraining, str]:
    """Settings of a condition that has SAEs of its own, and the map they take."""
    study = _joint(run)
    more: Spec = {"init": row.init} if row.init else {}
    if row.condition == MUTUAL:
        more["lambda_mutual"] = study.lambda_mutual
    if row.lambda_cross is not None:
        more["lambda_cross"] = row.lambda_cross
    return of_condition(study.training, row.condition, more)


def joint_train(run: RunConfig, training: str, **pair: Any) -> Spec:
    found = plan.joint_trainings(run)[training]
    settings, name = _of_row(run, found.condition)
    return {
        **_joint_models(run, **pair),
        "training": training,
        "models": list(found.models),
        "map": name,
        "settings": _settings(settings),
    }


def joint_evaluate(run: RunConfig, condition: str, **pair: Any) -> Spec:
    study, row = _joint(run), plan.conditions(run)[condition]
    left_out = set() if row.condition in MATCHED else {"match_splits"}
    return {
        **_joint_models(run, **pair),
        **_row(run, row),
        "independent": study.reference.trainings if study.reference else [],
        "evaluation": study.evaluation.model_dump(exclude=left_out),
        "map": row.map,
    }


def _row(run: RunConfig, row: Condition) -> Spec:
    """A condition, the SAEs it is measured on, and the weight of its cross loss."""
    settings, _ = _of_row(run, row.trained)
    return {
        "condition": row._asdict(),
        "trainings": row.trainings,
        "lambda_cross": settings.lambda_cross,
    }


def joint_null(run: RunConfig, null: str, **pair: Any) -> Spec:
    study = _joint(run)
    if study.nulls is None:
        raise ValueError("this run has no nulls of joint SAEs")
    settings = settings_of(study.training, study.nulls.batches, study.nulls.lambda_cross)
    return {
        **_joint_models(run, **pair),
        "null": null,
        "arms": plain(plan.joint_nulls(run)[null]),
        "settings": _settings(settings),
        # Of retrainings neither intervals nor shifts are told.
        "evaluation": study.evaluation.model_dump(include={*COUNTED, "tops"}),
        "center": study.center,
    }


def joint_tests(run: RunConfig, **pair: Any) -> Spec:
    study = _joint(run)
    if study.nulls is None:
        raise ValueError("this run has no nulls of joint SAEs")
    return {
        **_joint_pair(run, **pair),
        "trainings": plan.tested_saes(run),
        "evaluation": study.evaluation.model_dump(include=COUNTED),
        "center": study.center,
        "post_hoc": study.nulls.post_hoc,
        "shuffled": study.nulls.shuffled,
    }


def joint_counterfactuals(run: RunConfig, **pair: Any) -> Spec:
    study = _joint(run)
    if study.counterfactuals is None:
        raise ValueError("this run edits no sentences")
    return {
        **_joint_models(run, **pair),
        **_row(run, plan.edited_condition(run)),
        "evaluation": study.evaluation.model_dump(include=COUNTED),
        **run.cohorts[pair["cohort"]].sentences_spec(),
        **study.counterfactuals.model_dump(include={"latents", "contexts"}),
    }


def joint_tables(run: RunConfig) -> Spec:
    return {"kinship": {cohort: run.cohorts[cohort].kinship for cohort in run.joined}}


# --- over pairs, and of the run -----------------------------------------------------------


def cosine(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    cell = align(run, cohort, source, target, checkpoint, site)
    del cell["activations"]
    return cell


haar = cosine


def published(
    run: RunConfig, cohort: str, source: int, target: int, checkpoint: str, site: str
) -> Spec:
    cell = align(run, cohort, source, target, checkpoint, site)
    cell["activations"].pop("untrained", None)
    return cell


def claims(run: RunConfig) -> Spec:
    """Which cohort stands for which, its sites in the order of the forward pass."""
    if run.claims is None:
        raise ValueError("this run judges no claim")
    return {
        "cohorts": {
            role: {
                "cohort": cohort,
                "sites": list(run.cohorts[cohort].sites),
                "checkpoint": plan.last_checkpoint(run, cohort),
                "anchor": run.cohorts[cohort].anchor,
            }
            for role, cohort in run.claims.cohorts.items()
        },
        "dictionary": run.claims.dictionary,
    }


def over_seeds(run: RunConfig) -> Spec:
    return {}


def collect(run: RunConfig, table: str) -> Spec:
    return {"table": table}


def report(run: RunConfig) -> Spec:
    """What the page says of the run beyond its tables."""
    cohorts = {
        name: {
            "kind": config.kind,
            "anchor": config.anchor,
            "seeds": list(config.seeds),
            "sites": list(config.sites),
            "width": config.width,
            **config.report_spec(),
        }
        for name, config in run.cohorts.items()
    }
    variants = {
        name: {"recipe": variant.model_dump()} for name, variant in run.dictionaries.items()
    }
    drift = run.drift.model_dump() if run.drift else None
    tables = plan.tables(run)
    return {
        "run": run.run,
        "cohorts": cohorts,
        "edited": sorted({pair.cohort for pair in plan.edited_pairs(run)}),
        "dictionaries": variants,
        "drift": drift,
        "tables": tables,
    }


def code(
    run: RunConfig, verb: str, cohort: str | None = None, dictionary: str | None = None
) -> str:
    """Digest of the code that a verb runs for a cohort's kind or a dictionary's architecture."""
    modules = []
    if cohort is not None and verb in PARTS:
        modules.append(base.module_name(run.cohorts[cohort].kind, PARTS[verb]))
    if cohort is not None and verb in STEERED:
        modules.append(base.module_name(run.cohorts[cohort].kind, "concepts"))
    if dictionary is not None:
        variant, _ = split_dictionary(run, dictionary)
        modules.append(architectures.module_name(run.dictionaries[variant].architecture))
    if verb == "report":
        return verb_code(verb) + hashlib.blake2b(TEMPLATE.read_bytes(), digest_size=8).hexdigest()
    if verb in {"transfer", "shared", "splice", "published", "drift", "port", "features"}:
        used = {variant.architecture for variant in run.dictionaries.values()}
        modules += [architectures.module_name(name) for name in sorted(used)]
    return verb_code(verb, *modules)
