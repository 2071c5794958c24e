"""Random generators seeded from names, never from global state.

Two jobs that need the same draws use the same name; any other name gives an independent
stream. Names are hashed with SHA-256, so they do not depend on PYTHONHASHSEED.
"""

from __future__ import annotations

import hashlib

import numpy as np


def entropy(*name: object) -> int:
    """A 64-bit integer from the parts of a name."""
    text = "/".join(str(part) for part in name)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(*name: object) -> np.random.Generator:
    """A NumPy generator (PCG64) for a name, e.g. ``generator("tokens", 0)``."""
    return np.random.Generator(np.random.PCG64(entropy(*name)))
