"""Do SAEs trained on the same data, from different seeds, learn the same latents (arXiv 2501.16615)?

A row is one quantity; ``first`` and ``second`` are SAE seeds where it is about two of them, the first alone where it
is seen from one, and neither where it is over all. ``null`` is what random dictionaries of the same size have,
``shuffled`` what two SAEs trained on shuffled features have (`crossseed.activations.Shuffling`).
"""

from __future__ import annotations

from crossseed.keys import SEEDED

CELL = SEEDED

COLUMNS = (
    *CELL,
    "first",
    "second",
    "quantity",
    "part",
    "value",
    "low",
    "high",
    "null",
    "shuffled",
    "n",
)
# ``partner``: that by decoders in the first of the other SAEs, and whether the two are ``shared``, strictly and on data.
LATENT_COLUMNS = (
    *CELL, "init", "latent", "density", "reappears", "decoder_cosine", "partner", "shared",
)  # fmt: skip
# Dictionaries of random directions, matched beside those of SAE seeds.
RANDOM = ("random1", "random2", "random3")
# Arms of two members matched (`crossseed.stability.bridge`): two SAEs of one member, maps, and those that match no token.
ITSELF = "itself"
RUNGS = ("raw", "permutation", "signed_permutation", "procrustes", "ridge")
NULLS = ("random", "shuffled", "covariance_random", "covariance_skewness")
BRIDGE_COLUMNS = (
    *("cohort", "source_seed", "target_seed", "checkpoint", "site", "dictionary", "arm"),
    *("quantity", "value", "low", "high", "null", "n"),
)
