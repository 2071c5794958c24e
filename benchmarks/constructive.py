"""Benchmarks of the constructive spec: the alignment search, and the stream behind the behavioural bar."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
from measured import (
    FLOOR,
    MOST,
    NEAR,
    PEER,
    REPEATS,
    Beside,
    Inside,
    compared,
    in_turns,
    peak_mb,
)

STARTS, SWEEPS = 32, 6
STREAMED = (2048, 20480)
BATCH_ROWS = 256


def fresh_weights(seed: int, whole: bool) -> Any:
    """A toy model as it starts, folded; with the embeddings of all tokens, or of those that occur."""
    from crossseed.cohorts.dyck import weights
    from crossseed.cohorts.dyck.model import DyckTransformer
    from crossseed.gauge.weights import folded

    state = {k: v.numpy() for k, v in DyckTransformer(seed).state_dict().items()}
    used = weights.ALL if whole else weights.USED
    return weights.from_state(folded(state, weights.gains(), "a benchmark"), used)


def alignment() -> list[dict[str, Any]]:
    """All starts of a search side by side, against one after another, the published search with as many runs, and the
    factorisations in it."""
    from crossseed.gauge import search
    from crossseed.published import alignment as published

    ours, theirs = (fresh_weights(seed, False) for seed in (0, 1))
    whole = [fresh_weights(seed, True) for seed in (0, 1)]

    def together() -> None:
        search.align(np.random.default_rng(0), ours, theirs, STARTS, SWEEPS)

    def alone() -> None:
        for start in range(STARTS):
            search.align(np.random.default_rng(start), ours, theirs, 1, SWEEPS)

    def as_published() -> None:
        published.search(whole[0], whole[1], True, STARTS // 2)

    timed = Inside(together)
    most = search.MOST_SWEEPS
    # Sweeps alone are compared: the best start's further ones are as many as it takes.
    search.MOST_SWEEPS = SWEEPS
    try:
        seconds, one_by_one, printed = in_turns((timed, alone, as_published), REPEATS)
    finally:
        search.MOST_SWEEPS = most
    return compared(
        f"alignment of two toy models, {STARTS} starts, {SWEEPS} sweeps",
        seconds,
        [
            Beside("a start at a time", PEER, 1.0, one_by_one),
            Beside("the published search, as many runs", PEER, 1.0, printed),
            timed.beside("factorisations and assignments in it", NEAR),
        ],
    )


def stream() -> list[dict[str, Any]]:
    """The behavioural bar, streamed in a process of its own, against the model's forward passes in it."""
    rows = []
    for sequences in STREAMED:
        script = f"import sys; sys.path.insert(0, {str(__file__.rpartition('/')[0])!r}); "
        script += f"import constructive; constructive.streamed({sequences})"
        told = [
            subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            for _ in range(REPEATS)
        ]
        seconds, alone, peak = zip(
            *(map(float, one.stdout.split()[-3:]) for one in told), strict=True
        )
        what = f"behavioural bar, streamed, {sequences} sequences"
        passes = Beside("the forward passes in it", FLOOR, MOST, alone)
        rows += compared(what, seconds, [passes], peak_mb=max(peak))
    return rows


def streamed(sequences: int) -> None:
    """Prints seconds of the stream, of the forward passes within it, and the peak memory in MB."""
    import torch

    from crossseed.cohorts.dyck import behaviour
    from crossseed.cohorts.dyck.model import DyckTransformer

    class Timed(torch.nn.Module):
        """A model that knows how long its passes took: those of the stream itself, since other sequences are longer or
        shorter."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.seconds = DyckTransformer(0), 0.0

        def forward(self, tokens: torch.Tensor) -> Any:
            began = time.process_time()
            found = self.model(tokens)
            self.seconds += time.process_time() - began
            return found

    torch.set_num_threads(1)
    model = Timed()

    def stream(rows: int) -> float:
        rng = np.random.default_rng(0)
        began = time.process_time()
        behaviour.stream({"model": model}, rows, BATCH_ROWS, (2, 48), rng, "cpu")
        return time.process_time() - began

    # A few batches before, so that what PyTorch sets up at its first pass is on neither side.
    stream(4 * BATCH_ROWS)
    model.seconds = 0.0
    seconds = stream(sequences)
    print(seconds, model.seconds, peak_mb())
