"""Main memory of jobs, as rules ask for it."""

from __future__ import annotations

from crossseed.cohorts.base import FORWARD_TOKENS
from crossseed.cohorts.config import CohortConfig
from crossseed.config.schema import RunConfig
from crossseed.estimate.rates import (
    ACTIVE,
    BASE_MB,
    BLOCK_TOKENS,
    BYTES,
    COPIES_TRAINED,
    DRIFT_MATRICES,
    ENCODING_BYTES,
    FLOAT64,
    LETTERS,
    MATRICES_HELD,
    SCORER_MB,
    SMALL_MB,
)
from crossseed.estimate.stages import drift_stage, most_arms, padded, tokens_of
from crossseed.metrics import MAX_UNITS
from crossseed.pairs import BLOCK_ROWS
from crossseed.stability.firing import ALL_PAIRS_UP_TO


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
    pairs = 2 * config.sequences_of("fit") * padded(config) * width * BYTES["float32"]
    blocks = 6 * BLOCK_ROWS * n * BYTES["float32"]
    held = models * 2 * config.loaded_bytes + saes + correlations + pairs + blocks
    return BASE_MB + round(held / 1e6) + round(predictions_mb(config))


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
    rows = 8 * tokens_of(config, "eval") * width * FLOAT64
    return SMALL_MB + round((rows + 6 * BLOCK_ROWS * widest * FLOAT64) / 1e6)


def matrices_mb(config: CohortConfig) -> int:
    """Main memory of a pair's moments at a site, every map fitted from them, and as many sums over
    groups of held-out tokens."""
    return round(2 * MATRICES_HELD * (config.width or 0) ** 2 * FLOAT64 / 1e6)


def report_mb(run: RunConfig) -> int:
    """Main memory of the report, which reads the joined tables whole."""
    drift = sum(drift_stage(run, cohort).disk_bytes for cohort in run.cohorts)
    return 1000 + round(3 * drift / 1e6)
