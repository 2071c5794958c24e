"""Shared helpers: one thread, and small activation files with a planted truth."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import pytest

from crossseed.activations import ACTIVATIONS_SCHEMA
from crossseed.store import add_dataset, create_h5

SPLIT_SEQUENCES = {"fit": 120, "train": 200, "eval": 120}
TOKENS_A_SEQUENCE = 10


@pytest.fixture
def write_activations():
    """Writes an activation file from one array a split."""

    def write(path, arrays, source="origin:site", tokens="t0", dtype="float32"):
        with create_h5(
            path, ACTIVATIONS_SCHEMA, {"source": source}, {"tokens": tokens, "model": "m"}
        ) as file:
            for split, rows in arrays.items():
                group = file.create_group(split)
                n = len(rows)
                add_dataset(group, "activations", data=rows.astype(dtype))
                sequence, position = np.divmod(np.arange(n, dtype=np.int32), TOKENS_A_SEQUENCE)
                for name, values in (
                    ("sequence", sequence),
                    ("position", position),
                    ("document", sequence),
                ):
                    add_dataset(group, name, data=values)
                add_dataset(group, "token", data=np.zeros(n, np.uint8))
        return path

    return write


@pytest.fixture
def sparse_rows():
    """Activations made of sparse features, by split: sums of few non-negative directions."""

    def make(seed=0, d=16, n_features=40, shift=1.0):
        rng = np.random.default_rng(seed)
        directions = rng.standard_normal((n_features, d))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        offset = shift * rng.standard_normal(d)
        found = {}
        for split, n in SPLIT_SEQUENCES.items():
            rows = n * TOKENS_A_SEQUENCE
            active = rng.random((rows, n_features)) < 0.08
            found[split] = (active * rng.exponential(size=active.shape)) @ directions + offset
        return found

    return make
