"""Benchmarks of the constructive spec: the alignment search, and the stream behind the behavioural bar."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

COLUMNS = ("what", "size", "seconds", "against", "ratio", "peak_mb", "repeats", "machine")
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


def alignment(fastest: Callable[..., float], machine: str) -> list[dict[str, Any]]:
    """All starts of a search side by side, against one after another and against the published search with as
    many runs."""
    from crossseed.gauge import search
    from crossseed.published import alignment as published

    ours, theirs = (fresh_weights(seed, False) for seed in (0, 1))
    whole = [fresh_weights(seed, True) for seed in (0, 1)]
    most = search.MOST_SWEEPS
    # Sweeps alone are compared: the best start's further ones are as many as it takes.
    search.MOST_SWEEPS = SWEEPS
    try:
        together = fastest(
            lambda: search.align(np.random.default_rng(0), ours, theirs, STARTS, SWEEPS)
        )
        alone = STARTS * fastest(
            lambda: search.align(np.random.default_rng(0), ours, theirs, 1, SWEEPS)
        )
    finally:
        search.MOST_SWEEPS = most
    as_published = fastest(
        lambda: published.search(whole[0], whole[1], True, STARTS // 2), repeats=1
    )
    size = f"{STARTS} starts, {SWEEPS} sweeps"
    return [
        {
            "what": "alignment of two toy models", "size": size, "seconds": round(together, 2),
            "against": against, "ratio": round(other / together, 2), "peak_mb": "",
            "repeats": repeats, "machine": machine,
        }
        for against, other, repeats in (
            ("a start at a time", alone, 3),
            ("the published search, as many runs", as_published, 1),
        )
    ]  # fmt: skip


def stream(machine: str) -> list[dict[str, Any]]:
    """The behavioural bar, streamed in a process of its own, against the model's forward passes in it."""
    rows = []
    for sequences in STREAMED:
        script = f"import sys; sys.path.insert(0, {str(__file__.rpartition('/')[0])!r}); "
        script += f"import constructive; constructive.streamed({sequences})"
        told = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds, alone, peak = map(float, told[-3:])
        rows.append(
            {
                "what": "behavioural bar, streamed", "size": f"{sequences} sequences",
                "seconds": round(seconds, 2), "against": "the forward passes in it",
                "ratio": round(seconds / alone, 2), "peak_mb": round(peak), "repeats": 1,
                "machine": machine,
            }
        )  # fmt: skip
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
            began = time.perf_counter()
            found = self.model(tokens)
            self.seconds += time.perf_counter() - began
            return found

    torch.set_num_threads(1)
    model = Timed()

    def stream(rows: int) -> float:
        rng = np.random.default_rng(0)
        began = time.perf_counter()
        behaviour.stream({"model": model}, rows, BATCH_ROWS, (2, 48), rng, "cpu")
        return time.perf_counter() - began

    # A few batches before, so that what PyTorch sets up at its first pass is on neither side.
    stream(4 * BATCH_ROWS)
    model.seconds = 0.0
    seconds = stream(sequences)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(seconds, model.seconds, peak)
