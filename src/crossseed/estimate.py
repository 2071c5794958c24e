"""What a run will take, from its configuration alone: disk, arithmetic and GPU-hours.

Rough by design: a factor of two either way is usual. Arithmetic is counted, the rates below are
assumed, and every job that loads a model pays a start. Time to download is not counted, nor text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from crossseed import attribution, bars, plan, steering
from crossseed.alignment import ladder
from crossseed.cohorts.base import FORWARD_TOKENS, SPLITS
from crossseed.cohorts.config import CohortConfig
from crossseed.config.schema import RunConfig
from crossseed.features import BY_CONCEPT
from crossseed.haar.sizes import sizes
from crossseed.metrics import MAX_UNITS
from crossseed.pairs import BLOCK_ROWS
from crossseed.stability.firing import ALL_PAIRS_UP_TO

# Sustained rates of one data-centre GPU, in FLOP/s; small matrices reach far less than its peak.
MODEL_RATE = 40e12
SAE_RATE = 10e12
# Seconds a step takes however small its matrices are.
MODEL_STEP_SECONDS = 3e-3
SAE_STEP_SECONDS = 3e-4
# Seconds until a job that uses a GPU computes: process, imports, loading a model.
GPU_START_SECONDS = 15
# Seconds to factorise a 1024 × 1024 cross-covariance as often as a cell of the drift study does,
# on one slow core (measured at 512: 1.4 s); grows with the third power of the width.
FIT_SECONDS = 11.0
# FLOP/s of one core: dictionaries of the drift study are tried there. Arms and the model's own.
CPU_RATE = 20e9
DRIFT_ARMS = 5
# d × d matrices in float64 that drift keeps a site and comparison.
DRIFT_MATRICES = 7
# What is in memory of a job without PyTorch, and arms beside those of the ladder: ceiling, untrained
# target, noise.
SMALL_MB = 700
MORE_ARMS = 3
# What is in memory however small the model: Python, PyTorch, transformers, one block of tokens.
BASE_MB = 1500
# How often the weights of a model are in memory while it is trained.
COPIES_TRAINED = 8
# Tokens of a forward pass, at most.
BLOCK_TOKENS = 8192
# Rows of a drift table that a site and comparison has, their bytes, and how often each is written:
# by the member, the seed and the run.
DRIFT_BYTES = 130 * 12 * 3
BYTES = {"float16": 2, "float32": 4, "bfloat16": 2}
FLOAT64 = 8
# Of interventions: arms of a card; of steering, arms beside the random ones, tokens of a prompt; runs a
# latent; components of a model; bytes of a table.
PORT_ARMS = 10
NAMED_ARMS, PROMPT_TOKENS = 7, 16
FEATURE_RUNS = 20
COMPONENTS = 60
# A toy's components, what can be cut of it (them, and edges), and models run side by side on fresh sequences: one, and
# its decoys.
PARTS, CUT, MODELS_JUDGED = 10, 53, 6
# Sequences drawn and labelled a second, on one core.
FRESH_PER_SECOND = 30e3
STEERING_BYTES = 600 * 120 * 2
# A step of a joint SAE, however small; a latent of a condition in its table.
JOINT_STEP_SECONDS = 1e-2
LATENT_BYTES = 220
# Letters whose rows are held, active latents of a row at most, and what one block of rows takes while it is encoded.
LETTERS, ACTIVE, ENCODING_BYTES = 26, 512, 5 * (4 << 24)
# A latent in the tables of SAE seeds.
STABILITY_BYTES = 400
# A latent in a file of two SAEs matched: of three matchings partner, cosine and the highest cosine.
MATCHED_BYTES = 3 * (4 + 4 + 4)
# A latent in the tables and files of explanations; of a local scorer, arithmetic a token and main memory: a model of some
# ten billion parameters.
INTERPRET_BYTES = 20_000
SCORER_FLOP, SCORER_MB = 2e10, 24_000
# Sequence, document, position and token id of each stored row.
INDEX_BYTES = 14
# Second moments of a pair, width × width in float64: of two halves, shuffled, and untrained.
MATRICES_A_PAIR = 12
# The like in memory: moments once more where halves are merged, some twenty maps; or sums over groups
# of held-out tokens, six matrices each.
MATRICES_HELD = 60
# Bytes of a null draw: the law of the angles in float16 and the statistics, both determinants.
NULL_BYTES = 1180
# An SAE step: two products forward, three backward, 2 FLOP each.
SAE_FLOP = 10


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


def _tokens(config: CohortConfig, *splits: str) -> int:
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
        rows = _tokens(config, *SPLITS)
        a_row = width * BYTES[config.activation_dtype] + INDEX_BYTES
        nulls = sum(m.cohort == cohort for m in plan.untrained(run))
        read = len(members) * rows + nulls * _tokens(config, "fit", "eval")
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
                whole = f"{name}-x{expansion}"
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
        add(_drift(run, cohort))
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


def interpret_mb(run: RunConfig, width: int | None, expansion: int) -> int:
    """Main memory of a job that explains latents: two SAEs, a block of tokens with all latents, n-grams of the tokens that
    are read, and some windows with one latent's firings."""
    study = run.stability.interpret if run.stability else None
    assert study is not None
    n = expansion * (width or 0)
    weights = 2 * 2 * n * (width or 0) * BYTES["float32"]
    block = 4 * BLOCK_ROWS * n * BYTES["float32"]
    tokens = 2 * study.tokens * (2 * study.order + 8) * FLOAT64
    model = SCORER_MB if study.scorer == "local" or study.embeddings else 0
    return SMALL_MB + model + round((weights + block + tokens) / 1e6)


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
    flop = crossed * ways * _tokens(config, "eval") * config.forward_flop_per_token
    return _stage("splice", crossed, 0.0, flop, MODEL_RATE)


def _interventions(run: RunConfig, cohort: str, crossed: int) -> list[Stage]:
    """Ports, steering, features and attribution: forward passes from the middle of a model on."""
    config = run.cohorts[cohort]
    n_eval = max(1, config.sequences_of("eval"))
    length, forward = _tokens(config, "eval") / n_eval, config.forward_flop_per_token / 2
    found = []
    ports = [port for port in plan.ports(run) if port.cohort == cohort]
    if run.port is not None:
        flop = len(ports) * PORT_ARMS * run.port.sequences * length * forward
        disk = sum(
            2 * (config.width or 0) ** 2 * int(p.dictionary.rpartition("-x")[2]) * BYTES["float32"]
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
    a_row = _tokens(config, "eval") / n_eval * config.forward_flop_per_token
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
    tokens = {split: config.sequences_of(split) * _padded(config) for split in SPLITS}
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


def _padded(config: CohortConfig) -> int:
    """Positions of a sequence as it is stored: at most the context."""
    most = config.most_tokens("train") or 0
    return round(most / max(1, config.sequences_of("train")))


def joint_mb(run: RunConfig, cohort: str, models: int) -> int:
    """Main memory of a job that runs models above a site, with an SAE of both in training, and all correlations of its
    latents; activations are read through memory maps, but for those of `fit`, which are shuffled."""
    assert run.joint is not None
    config = run.cohorts[cohort]
    width = config.width or 0
    n = run.joint.training.expansion * width
    # Weights, gradients, both moments, the best, and as they are saved; of two SAEs.
    saes = 2 * 7 * 2 * n * width * BYTES["float32"]
    correlations = 3 * n**2 * FLOAT64
    pairs = 2 * config.sequences_of("fit") * _padded(config) * width * BYTES["float32"]
    blocks = 6 * BLOCK_ROWS * n * BYTES["float32"]
    held = models * 2 * config.loaded_bytes + saes + correlations + pairs + blocks
    return BASE_MB + round(held / 1e6) + round(predictions_mb(config))


def _drift(run: RunConfig, cohort: str) -> Stage:
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
                latents = int(found.name.rpartition("-x")[2]) * width
                tried += len(found.inits) * 4 * width * latents
    flop = models * _tokens(config, "fit", "eval") * config.forward_flop_per_token
    fits = comparisons * sites * FIT_SECONDS * (width / 1024) ** 3
    carried = DRIFT_ARMS * tried * sites * _tokens(config, "eval") / CPU_RATE
    disk = comparisons * sites * DRIFT_BYTES
    return _stage("drift", len(drifting), disk, flop, MODEL_RATE, more_seconds=fits + carried)


def downloads(run: RunConfig) -> float:
    """Bytes of models that come from the hub, each member once."""
    return float(
        sum(
            config.loaded_bytes * len(plan.loaded(run, cohort))
            for cohort, config in run.cohorts.items()
            if config.downloaded
        )
    )


def memory_mb(config: CohortConfig, models: int, comparisons: int = 0) -> int:
    """Main memory of a job that holds models of a cohort, and the sums of their comparisons.

    On a GPU most of it lies there instead; a job then asks for more than it needs.
    """
    width = config.width or 0
    # Activations of one block at all sites, once as they come and once as they are kept.
    block = models * 2 * BLOCK_TOKENS * len(config.sites) * width * BYTES["float32"]
    weights = models * config.loaded_bytes + block
    sums = comparisons * len(config.sites) * DRIFT_MATRICES * width**2 * FLOAT64
    # While one cell is fitted, three times its matrices.
    fit = 3 * DRIFT_MATRICES * width**2 * FLOAT64 if comparisons else 0
    return BASE_MB + round((weights + sums + fit) / 1e6)


def training_mb(config: CohortConfig) -> int:
    """Main memory of a job that trains one member: weights, gradients, two moments, the weights at the start, the best so
    far, and both once more while a state is saved."""
    return 2000 + round(COPIES_TRAINED * config.loaded_bytes / 1e6)


def matching_mb(n_seeds: int, width: int | None, expansion: int) -> int:
    """Main memory of a job that matches SAEs of several seeds."""
    n = expansion * (width or 0)
    weights = n_seeds * 4 * n * (width or 0) * BYTES["float32"]
    # For small dictionaries all pairs of latents of every two SAEs, and one such matrix at work.
    pairs = n_seeds * (n_seeds - 1) // 2 + 6 if n <= ALL_PAIRS_UP_TO else 0
    blocks = 4 * BLOCK_ROWS * n * BYTES["float32"] + n * 64 * FLOAT64
    return SMALL_MB + round((weights + pairs * n**2 * FLOAT64 + blocks) / 1e6)


def absorption_mb(run: RunConfig, width: int | None, expansion: int) -> int:
    """Main memory of a job that looks for first letters: rows to fit on and to try, their latents, and one block of latents as
    they are encoded."""
    assert run.stability is not None
    assert run.stability.absorption is not None
    d = width or 0
    rows = 2 * LETTERS * run.stability.absorption.rows
    # Activations and what probes make of them; a number and its place for each latent that fires.
    held = rows * (4 * d * BYTES["float32"] + ACTIVE * 3 * BYTES["float32"])
    weights = run.stability.seeds * 3 * expansion * d**2 * BYTES["float32"]
    return BASE_MB + round((held + weights + ENCODING_BYTES) / 1e6)


def predictions_mb(config: CohortConfig) -> int:
    """Main memory of what a model predicts at every position of a block: clean, changed, and while they
    are compared."""
    return round(5 * FORWARD_TOKENS * config.classes * BYTES["float32"] / 1e6)


def short(run: RunConfig) -> str:
    """Disk and GPU-hours in one line, as the shipped configs state them."""
    every = stages(run)
    seconds = sum(stage.gpu_seconds for stage in every)
    passing = sum(s.disk_bytes for s in every if s.name == "extract" and not run.keep_activations)
    disk = size(sum(stage.disk_bytes for stage in every) - passing)
    more = f" ({size(passing)} more while it runs)" if passing else ""
    fetched = downloads(run)
    models = f", {size(fetched)} of models downloaded" if fetched else ""
    return f"Estimate: {disk} of results{more}{models}, {_hours(seconds)} with one data-centre GPU."


def transfer_mb(run: RunConfig, cohort: str) -> int:
    """Main memory of a job that tries dictionaries on a pair: the sums of all arms of the largest,
    by bootstrap unit."""
    assert run.transfer is not None
    arms = most_arms(run.transfer.directions)
    width = run.cohorts[cohort].width or 0
    widest = max((e for v in run.dictionaries.values() for e in v.expansions), default=1) * width
    # Three sums an arm, and two of the source's own.
    sums = (3 * arms + 2) * MAX_UNITS * widest * FLOAT64
    # Latents of a block: own, carried, their product, and their squares.
    block = 5 * BLOCK_ROWS * widest * BYTES["float32"]
    return SMALL_MB + round((sums + block) / 1e6)


def published_mb(run: RunConfig, cohort: str) -> int:
    """Main memory of a job by the published protocol: all rows of both members in double precision,
    and the latents of a block."""
    config = run.cohorts[cohort]
    width = config.width or 0
    widest = max((e for v in run.dictionaries.values() for e in v.expansions), default=1) * width
    rows = 8 * _tokens(config, "eval") * width * FLOAT64
    return SMALL_MB + round((rows + 6 * BLOCK_ROWS * widest * FLOAT64) / 1e6)


def matrices_mb(config: CohortConfig) -> int:
    """Main memory of a pair's moments at a site, every map fitted from them, and as many sums over
    groups of held-out tokens."""
    return round(2 * MATRICES_HELD * (config.width or 0) ** 2 * FLOAT64 / 1e6)


def report_mb(run: RunConfig) -> int:
    """Main memory of the report, which reads the joined tables whole."""
    drift = sum(_drift(run, cohort).disk_bytes for cohort in run.cohorts)
    return 1000 + round(3 * drift / 1e6)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f} GPU-hours" if hours >= 10 else f"{hours:.1f} GPU-hours"


def size(n: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e6:.1f} MB"


def text(run: RunConfig, estimate: bool) -> str:
    """A table of the stages of a run, with what they take if `estimate`."""
    lines = [f"{'stage':<22}{'jobs':>8}"]
    if estimate:
        lines[0] += f"{'disk':>12}{'FLOP':>12}{'GPU-hours':>12}"
    for stage in stages(run):
        line = f"{stage.name:<22}{stage.jobs:>8,}"
        if estimate:
            hours = f"{stage.gpu_seconds / 3600:.2f}" if stage.gpu_seconds else "–"
            line += f"{size(stage.disk_bytes):>12}{stage.flop:>12.2g}{hours:>12}"
        lines.append(line)
    if estimate:
        lines += [
            "",
            short(run),
            f"Assumed: {MODEL_RATE / 1e12:.0f} TFLOP/s in models, {SAE_RATE / 1e12:.0f} in SAEs, "
            f"{GPU_START_SECONDS} s a job until it computes. Time to download is not counted, nor text.",
        ]
    return "\n".join(lines) + "\n"
