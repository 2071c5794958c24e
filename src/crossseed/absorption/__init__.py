"""Is a first letter read by one latent, or taken over by latents of single tokens (arXiv 2409.14507)?

A row is one quantity: of a letter and an SAE seed, of a letter where it is about the probe alone, and of all letters where
``letter`` is empty; ``init`` is empty over all seeds, and ``random`` for a random dictionary. ``null`` is the same with
letters permuted over token ids, and for shares of other SAEs that of latents that fire as often. ``n``: the rows, latents or
letters that the value is a mean over.
"""

from __future__ import annotations

from crossseed.stability import CELL

COLUMNS = (*CELL, "init", "letter", "quantity", "value", "low", "high", "null", "n")
# The dictionary of no model, in the place of an SAE seed.
RANDOM = "random"
