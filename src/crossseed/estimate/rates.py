"""What estimates assume: rates, starts, and bytes."""

from __future__ import annotations

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
