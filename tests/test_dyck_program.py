"""The hand-compiled algorithm against the labeller."""

from __future__ import annotations

import numpy as np
import pytest

from crossseed.cohorts.dyck import program, task

ROWS = 1000


def rows_of(distribution: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if distribution == "broken late":
        # Valid for long, then one bracket of another kind: what random rows hardly show.
        rows = task.sample_compositional(rng, ROWS)
        at = rng.integers(20, 60, ROWS)
        rows[np.arange(ROWS), at] = rng.integers(3, 9, ROWS)
        return rows
    if distribution == "too deep":
        rows = task.sample_compositional(rng, ROWS)
        rows[:, 10:22] = 3 + 2 * rng.integers(0, 3, (ROWS, 12))
        return rows
    return task.sample(rng, ROWS, distribution, (2, 48))


@pytest.mark.parametrize("distribution", [*task.DISTRIBUTIONS, "broken late", "too deep"])
def test_the_program_solves_the_task(distribution):
    tokens = rows_of(distribution)
    labels = task.label(tokens)
    wanted = {"tok": tokens, "depth": labels.depth_nt, "valid": labels.valid_nt}
    scored = tokens != task.PAD
    found = program.run(tokens)
    for head, label in wanted.items():
        logits = found[head] - found[head].max(axis=-1, keepdims=True)
        loss = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(
            logits, label[..., None].astype(int), axis=-1
        )[..., 0]  # fmt: skip
        assert loss[scored].max() < 1e-6, head
    # Rows that break are among them, or it would say little.
    if distribution != "compositional":
        assert 0.05 < labels.valid_nt[scored].mean() < 0.95
