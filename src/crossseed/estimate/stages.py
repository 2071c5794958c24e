"""Every kind of job of a run: how many, what they leave on disk, their arithmetic and GPU time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from crossseed import attribution, bars, plan, steering
from crossseed.alignment import ladder
from crossseed.cohorts.base import SPLITS
from crossseed.cohorts.config import CohortConfig
from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import expansion_of, name_of
from crossseed.estimate.rates import (
    BYTES,
    COMPONENTS,
    CPU_RATE,
    CUT,
    DRIFT_ARMS,
    DRIFT_BYTES,
    FEATURE_RUNS,
    FIT_SECONDS,
    FLOAT64,
    FRESH_PER_SECOND,
    GPU_START_SECONDS,
    INDEX_BYTES,
    INTERPRET_BYTES,
    JOINT_STEP_SECONDS,
    LATENT_BYTES,
    MATCHED_BYTES,
    MATRICES_A_PAIR,
    MODEL_RATE,
    MODEL_STEP_SECONDS,
    MODELS_JUDGED,
    MORE_ARMS,
    NAMED_ARMS,
    NULL_BYTES,
    PARTS,
    PORT_ARMS,
    PROMPT_TOKENS,
    SAE_FLOP,
    SAE_RATE,
    SAE_STEP_SECONDS,
    SCORER_FLOP,
    STABILITY_BYTES,
    STEERING_BYTES,
)
from crossseed.features import BY_CONCEPT
from crossseed.haar.sizes import sizes


class Stage(NamedTuple):
    """One kind of job.

    Attributes:
        name: the verb. jobs: how many. disk_bytes: what they leave in `results/`.
        flop: their arithmetic in models and SAEs. gpu_seconds: on one GPU, where they use one.
    """

    name: str
    jobs: int
    disk_bytes: float
    flop: float
    gpu_seconds: float


def _stage(
    name: str,
    jobs: int,
    disk: float,
    flop: float = 0.0,
    rate: float = 0.0,
    least_seconds: float = 0.0,
    more_seconds: float = 0.0,
) -> Stage:
    """A stage whose jobs hold a GPU where `rate` says so, busy or not."""
    held = max(flop / rate, least_seconds) + more_seconds + jobs * GPU_START_SECONDS if rate else 0
    return Stage(name, jobs, disk, flop, held if jobs else 0.0)


def tokens_of(config: CohortConfig, *splits: str) -> int:
    """Tokens of some splits, at most; 0 where none is known before."""
    return sum(config.most_tokens(split) or 0 for split in splits)


def stages(run: RunConfig) -> list[Stage]:
    """Every stage of a run, in order."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        old = found.get(stage.name, Stage(stage.name, 0, 0.0, 0.0, 0.0))
        found[stage.name] = Stage(
            stage.name,
            old.jobs + stage.jobs,
            old.disk_bytes + stage.disk_bytes,
            old.flop + stage.flop,
            old.gpu_seconds + stage.gpu_seconds,
        )

    for cohort, config in run.cohorts.items():
        width, sites = config.width or 0, len(config.sites)
        forward = config.forward_flop_per_token
        if config.trained_files:
            n = len(config.seeds)
            disk = n * config.parameters * BYTES["float32"] * config.kept_checkpoints
            least = n * config.training_steps * MODEL_STEP_SECONDS
            add(_stage("train", n, disk, n * config.training_flop, MODEL_RATE, least))
        members = [m for m in plan.stored(run) if m.cohort == cohort]
        rows = tokens_of(config, *SPLITS)
        a_row = width * BYTES[config.activation_dtype] + INDEX_BYTES
        nulls = sum(m.cohort == cohort for m in plan.untrained(run))
        read = len(members) * rows + nulls * tokens_of(config, "fit", "eval")
        add(
            _stage(
                "extract",
                len(members) + nulls,
                sites * read * a_row,
                read * forward,
                MODEL_RATE,
            )
        )
        for name, variant in run.dictionaries.items():
            for expansion in variant.expansions:
                whole = name_of(name, expansion)
                cells = sites * sum(
                    whole in {d.name for d in plan.dictionaries_of(run, cohort, m.seed)}
                    for m in members
                )
                compared = sum(
                    cell.cohort == cohort and cell.dictionary == whole
                    for cell in plan.seeded_cells(run)
                )
                # A job trains all inits of a cell, or one of its seeds.
                seeds = compared * (len(plan.sae_seeds(run)) + len(plan.shuffled_seeds(run)))
                saes, n = cells * len(variant.inits) + seeds, expansion * width
                work = float(saes * SAE_FLOP * width * n * variant.steps * variant.batch_tokens)
                weights = saes * (2 * width * n + n + width) * BYTES["float32"]
                least = saes * variant.steps * SAE_STEP_SECONDS
                add(_stage("sae", cells + seeds, weights, work, SAE_RATE, least))
                if plan.matched(run, whole) and run.stability and run.stability.matched:
                    runs = compared * run.stability.matched.runs
                    steps = run.stability.matched.steps
                    short = float(runs * SAE_FLOP * width * n * steps * variant.batch_tokens)
                    least = runs * steps * SAE_STEP_SECONDS
                    add(_stage("calibrate", compared, 0.0, short, SAE_RATE, least))
                two = compared * len(plan.matched_pairs(run, cohort, whole))
                add(_stage("match", two, two * n * MATCHED_BYTES))
                add(_stage("stability", compared, compared * n * STABILITY_BYTES))
        bridges = [of for of in plan.bridges(run) if of.cohort == cohort]
        add(_stage("bridge", len(bridges), 0.0))
        lettered = sum(cell.cohort == cohort for cell in plan.absorbing(run))
        add(_stage("absorption", lettered, 0.0))
        scored = sum(cell.cohort == cohort for cell in plan.interpreted(run))
        add(_interpret(run, scored))
        pairs = [p for p in plan.pairs(run) if p.cohort == cohort]
        crossed = sum(p.source != p.target for p in pairs)
        aligned = len({p for p in pairs if p.source != p.target} | {of[:5] for of in bridges})
        add(_stage("align", aligned, aligned * MATRICES_A_PAIR * width**2 * FLOAT64))
        add(_stage("fits", crossed, 0.0))
        add(_stage("shared", sum(j[0] == cohort for j in plan.journeys(run)), 0.0))
        add(_stage("shared_transfer", sum(j[0] == cohort for j in plan.journeys(run)), 0.0))
        add(_stage("transfer", len(pairs), 0.0))
        if run.claims is not None and cohort in run.claims.cohorts.values():
            add(_stage("published", crossed, 0.0))
        if run.splice is not None:
            add(_splice(run, cohort, crossed))
        if run.haar is not None:
            places = [p for p in plan.places(run) if p.cohort == cohort]
            add(_stage("haar", crossed, 0.0))
            add(_stage("across", len(places), 0.0))
            add(_stage("ks", len({place.checkpoint for place in places}), 0.0))
            add(_stage("cocycle", sum(p.cohort == cohort for p in plan.triples(run)), 0.0))
        add(_stage("cosine", crossed, 0.0))
        for stage in _interventions(run, cohort, crossed):
            add(stage)
        for stage in _constructive(run, cohort):
            add(stage)
        for stage in _joint(run, cohort):
            add(stage)
        add(drift_stage(run, cohort))
    if run.haar is not None:
        widths = plan.widths(run)
        drawn = {size for width in widths for size in sizes(width)}
        add(_stage("null", len(drawn), len(drawn) * run.haar.draws * NULL_BYTES))
        add(_stage("power", len(widths), 0.0))
    return [stage for stage in found.values() if stage.jobs]


def _interpret(run: RunConfig, cells: int) -> Stage:
    """Windows of all cells; a local language model that is asked for, and with, an explanation and every few windows, twice:
    again with the explanation of another latent. Endpoints compute elsewhere."""
    study = run.stability.interpret if run.stability else None
    if study is None or run.stability is None:
        return _stage("interpret", 0, 0.0)
    latents = study.latents * run.stability.seeds
    disk = cells * (2 * study.tokens * FLOAT64 + latents * INTERPRET_BYTES)
    if study.scorer != "local":
        return _stage("interpret", cells, disk)
    asked = 2 * 2 * 2 * study.test_examples + study.train_examples
    flop = cells * latents * asked * study.context * SCORER_FLOP
    return _stage("interpret", cells, disk, float(flop), MODEL_RATE)


def most_arms(directions: Sequence[int]) -> int:
    """What is tried on a pair, at most: k at or above the identified rank have no arm, and a run
    without untrained members has not that one."""
    return len(ladder.arms_of(directions)) + MORE_ARMS


def _splice(run: RunConfig, cohort: str, crossed: int) -> Stage:
    """Each way of running a model once: clean, twice; the site at zero and at its mean; every arm,
    alone and with every dictionary."""
    config = run.cohorts[cohort]
    assert run.splice is not None
    assert run.transfer is not None
    anchors = plan.dictionaries_of(run, cohort, config.anchor)
    # Beside the ladder one rotation for all sites; through dictionaries the source's own too.
    arms = most_arms(run.transfer.directions) + 1
    ways = 4 + arms + (arms + 1) * sum(len(d.inits) for d in anchors)
    # At most the whole split.
    flop = crossed * ways * tokens_of(config, "eval") * config.forward_flop_per_token
    return _stage("splice", crossed, 0.0, flop, MODEL_RATE)


def _interventions(run: RunConfig, cohort: str, crossed: int) -> list[Stage]:
    """Ports, steering, features and attribution: forward passes from the middle of a model on."""
    config = run.cohorts[cohort]
    n_eval = max(1, config.sequences_of("eval"))
    length, forward = tokens_of(config, "eval") / n_eval, config.forward_flop_per_token / 2
    found = []
    ports = [port for port in plan.ports(run) if port.cohort == cohort]
    if run.port is not None:
        flop = len(ports) * PORT_ARMS * run.port.sequences * length * forward
        disk = sum(
            2 * (config.width or 0) ** 2 * expansion_of(p.dictionary) * BYTES["float32"]
            for p in ports
        )
        found.append(_stage("port", len(ports), disk, flop, MODEL_RATE))
    if run.steering is not None:
        study = run.steering
        names = study.prompts if config.reads_text else study.concepts
        # Prompts are shorter than sequences of the corpus.
        trial = study.trials * (2 * PROMPT_TOKENS if config.reads_text else length)
        text = (2 * steering.ON_TEXT + NAMED_ARMS) * study.sequences * length
        tokens = len(steering.DOSES) * ((2 * study.directions + NAMED_ARMS) * trial + text)
        flop = crossed * len(names) * tokens * forward
        disk = crossed * len(names) * STEERING_BYTES
        found.append(_stage("steer", crossed, disk, flop, MODEL_RATE))
    if run.features is not None and run.steering is not None:
        names = run.steering.prompts if config.reads_text else run.steering.concepts
        latents = run.features.latents + BY_CONCEPT * len(names)
        flop = crossed * latents * FEATURE_RUNS * run.features.sequences * length * forward
        found.append(_stage("features", crossed, 0.0, flop, MODEL_RATE))
    members = sum(member.cohort == cohort for member in plan.attributed(run))
    if run.attribution is not None:
        of = run.attribution
        _, points = attribution.path({rule: getattr(of, rule) for rule in attribution.RULES})
        tokens = COMPONENTS * of.batches * of.sequences * length
        # A gradient takes three times a forward pass.
        flop = members * tokens * (3 * len(points) + 2) * forward
        found.append(_stage("attribute", members, 0.0, flop, MODEL_RATE))
    return found


def _constructive(run: RunConfig, cohort: str) -> list[Stage]:
    """Weights aligned, edges cut, bars: of members whose symmetries are known."""
    config = run.cohorts[cohort]
    pairs = sum(journey.cohort == cohort for journey in plan.siblings(run))
    found = [_stage("weights", pairs, pairs * config.parameters * FLOAT64)]
    n_seen = sum(member.cohort == cohort for member in plan.seen(run))
    found.append(_stage("lenses", n_seen, 0.0))
    if run.bars is None:
        return found
    study = run.bars
    n_eval = max(1, config.sequences_of("eval"))
    a_row = tokens_of(config, "eval") / n_eval * config.forward_flop_per_token
    opened = sum(member.cohort == cohort for member in plan.opened(run))
    # A graph each, and a gradient, three times as much, at every point.
    cut = CUT * study.batches * study.rows * a_row
    found.append(_stage("causes", opened, 0.0, opened * cut * (1 + 3 * study.points), MODEL_RATE))
    judged = sum(journey.cohort == cohort for journey in plan.judged(run))
    # Rows that go through a model: members with their decoys, one of which is taught (its teacher once, itself forward
    # and backward), and pairs.
    a_member = MODELS_JUDGED * study.sequences + 4 * study.taught_steps * bars.TAUGHT_ROWS
    through = opened * a_member + pairs * 3 * study.sequences_between
    # Every edge and component cut, and components one after another in some orders.
    graphs = CUT + PARTS * (2 + study.orders)
    on_batches = study.batches * study.rows * (opened * (MODELS_JUDGED - 1) + pairs)
    flop = a_row * (through + graphs * on_batches)
    drawn = (opened * study.sequences + pairs * study.sequences_between) / FRESH_PER_SECOND
    return [*found, _stage("bars", judged, 0.0, flop, MODEL_RATE, more_seconds=drawn)]


def _joint(run: RunConfig, cohort: str) -> list[Stage]:
    """Joint SAEs: a pass over each member; trainings, each through two SAE passes and what lies above the site."""
    study, config = run.joint, run.cohorts[cohort]
    pairs = [pair for pair in plan.joint_pairs(run) if pair.cohort == cohort]
    if study is None or not pairs:
        return []
    cuts = sum(cut.cohort == cohort for cut in plan.cuts(run))
    width, settings = config.width or 0, study.training
    n = settings.expansion * width
    tokens = {split: config.sequences_of(split) * padded(config) for split in SPLITS}
    examples = config.sequences_of("train")
    # Both states of each token, and predictions.
    predicted = study.predictions if config.predicts_positions else 1
    sequences = sum(config.sequences_of(split) for split in SPLITS)
    disk = 2 * sum(tokens.values()) * width * BYTES[config.activation_dtype]
    disk += sequences * predicted * config.classes * BYTES["float32"]
    passed = sum(tokens.values()) * config.forward_flop_per_token
    found = [
        _stage("joint_cache", cuts, cuts * disk, cuts * passed, MODEL_RATE),
        _stage("joint_maps", len(pairs), len(pairs) * 2 * width**2 * FLOAT64),
        _stage("joint_fits", len(pairs), 0.0),
        _stage("joint_size", len(pairs) if study.sizes else 0, 0.0),
    ]
    # Both models, forward and backward, above the site: at most half of it; and an SAE of both.
    a_token = 2 * (3 * config.forward_flop_per_token / 2 + SAE_FLOP * width * n)
    epoch = math.ceil(examples / settings.batch)
    steps = settings.epochs * epoch
    steps = min(steps, settings.batches) if settings.batches else steps
    a_step = a_token * settings.batch * tokens["train"] / examples
    trainings = len(pairs) * len(plan.joint_trainings(run))
    weights = trainings * (2 * width * n + n + width) * BYTES["float32"]
    work, least = trainings * steps * a_step, trainings * steps * JOINT_STEP_SECONDS
    found.append(_stage("joint_train", trainings, weights, work, MODEL_RATE, least))
    measured = len(pairs) * len(plan.conditions(run))
    # With the SAEs of the condition, and with those of each model alone; in A and B.
    evaluated = measured * 2 * tokens["eval"] * a_token
    latents = measured * n * LATENT_BYTES
    found.append(_stage("joint_evaluate", measured, latents, evaluated, MODEL_RATE))
    tested = sum(pair.cohort == cohort for pair in plan.tested_pairs(run))
    nulls = plan.joint_nulls(run)
    retrained = tested * sum(map(len, nulls.values()))
    short = study.nulls.batches if study.nulls and study.nulls.batches else steps
    work = retrained * (short * a_step + tokens["eval"] * a_token)
    least = retrained * short * JOINT_STEP_SECONDS
    found.append(_stage("joint_null", tested * len(nulls), 0.0, work, MODEL_RATE, least))
    found.append(_stage("joint_tests", tested, 0.0))
    edited = sum(pair.cohort == cohort for pair in plan.edited_pairs(run))
    work = edited * 2 * (tokens["fit"] + tokens["eval"]) * a_token
    found.append(_stage("joint_counterfactuals", edited, 0.0, work, MODEL_RATE))
    return found


def padded(config: CohortConfig) -> int:
    """Positions of a sequence as it is stored: at most the context."""
    most = config.most_tokens("train") or 0
    return round(most / max(1, config.sequences_of("train")))


def drift_stage(run: RunConfig, cohort: str) -> Stage:
    """The drift study of one cohort: models read, maps fitted, dictionaries tried."""
    config, drift = run.cohorts[cohort], run.drift
    width, sites = config.width or 0, len(config.sites)
    drifting = [m for m in plan.drifting(run) if m.cohort == cohort]
    if drift is None or not drifting:
        return _stage("drift", 0, 0.0)
    models = comparisons = 0
    tried = 0.0
    for _, seed, checkpoint in drifting:
        compared = {(seed, drift.reference), (config.anchor, checkpoint)} - {(seed, checkpoint)}
        models += 1 + len(compared)
        comparisons += (checkpoint != drift.reference) + (seed != config.anchor)
        if checkpoint != drift.reference:
            for found in plan.drift_dictionaries(run, cohort, seed):
                latents = expansion_of(found.name) * width
                tried += len(found.inits) * 4 * width * latents
    flop = models * tokens_of(config, "fit", "eval") * config.forward_flop_per_token
    fits = comparisons * sites * FIT_SECONDS * (width / 1024) ** 3
    carried = DRIFT_ARMS * tried * sites * tokens_of(config, "eval") / CPU_RATE
    disk = comparisons * sites * DRIFT_BYTES
    return _stage("drift", len(drifting), disk, flop, MODEL_RATE, more_seconds=fits + carried)
