"""Draws and moments that tests of alignment begin with."""

import numpy as np

from crossseed.alignment.moments import Moments


def rng(seed=0):
    return np.random.default_rng(seed)


def moments_of(a, b, blocks=1):
    """Moments of paired rows, added in so many blocks."""
    found = Moments(a.shape[1], b.shape[1])
    for part in np.array_split(np.arange(len(a)), blocks):
        found.add(a[part], b[part])
    return found
