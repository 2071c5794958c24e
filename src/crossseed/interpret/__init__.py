"""Can one say at what a latent fires, and can one say it as well of latents that other SAEs do not have?

Rows of `COLUMNS` are one latent, scorer and quantity; of `STEP_COLUMNS` one mean, or contrast, over latents. ``null``
is the same scorer where there is nothing to find; ``note`` says why a value is missing.
"""

from __future__ import annotations

from crossseed.stability import CELL

NGRAM = "ngram"
DETECTION, FUZZING = "detection", "fuzzing"
QUANTITIES = (DETECTION, FUZZING)
COLUMNS = (
    *CELL, "init", "latent", "found_in", "density", "scorer", "quantity", "value", "null", "n", "note",
)  # fmt: skip
STEP_COLUMNS = (
    *CELL, "init", "scorer", "quantity", "part", "value", "low", "high", "null", "p", "n", "note",
)  # fmt: skip
