"""Benchmarks of stability: exact matching priced in blocks, against SciPy on the whole matrix; and SAEs of several
seeds trained side by side, against one after another."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

MATCHING_COLUMNS = (
    *("latents", "width", "structure", "how", "seconds", "peak_mb", "sum_of_cosines", "gap"),
    *("dense_over_this", "machine"),
)
SEED_COLUMNS = (
    "how",
    "seeds",
    "d",
    "latents",
    "batch",
    "tokens_per_s",
    "ratio",
    "repeats",
    "machine",
)
SEEDS, STEPS, BATCH, BLOCK = 4, 60, 1024, 256
# Latents and width; the whole matrix is solved up to the last size but one.
SIZES = ((2048, 64), (8192, 256), (16384, 512), (32768, 768))
DENSE_UP_TO = 16384
SHARED = 0.35


def directions(n: int, width: int, structure: str) -> tuple[np.ndarray, np.ndarray]:
    """Two dictionaries that share a part of their directions up to noise, or nothing."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, width), dtype=np.float32)
    b = rng.standard_normal((n, width), dtype=np.float32)
    if structure == "shared":
        common = round(SHARED * n)
        chosen = rng.permutation(n)[:common]
        b[:common] = a[chosen] + 0.3 * rng.standard_normal((common, width), dtype=np.float32)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    return unit[0], unit[1]


def one(n: int, width: int, structure: str, how: str) -> dict[str, Any]:
    """Seconds and peak memory of one matching, in this process."""
    from crossseed.matching import assignment

    a, b = directions(n, width, structure)
    begun = time.perf_counter()
    found = assignment.dense(a @ b.T) if how == "dense" else assignment.priced(a, b)
    return {
        "seconds": time.perf_counter() - begun,
        "sum_of_cosines": float(found.cosine.sum()),
        "gap": found.gap,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def matching(machine: str) -> list[dict[str, Any]]:
    """Rows of `MATCHING_COLUMNS`; each in a process of its own, for its memory."""
    rows = []
    for n, width in SIZES:
        for structure in ("shared", "random"):
            dense = float("nan")
            for how in ("dense", "priced") if n <= DENSE_UP_TO else ("priced",):
                command = [sys.executable, __file__, str(n), str(width), structure, how]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found = json.loads(out)
                dense = found["seconds"] if how == "dense" else dense
                rows.append(
                    {
                        "latents": n, "width": width, "structure": structure, "how": how,
                        **found,
                        "seconds": round(found["seconds"], 2),
                        "sum_of_cosines": round(found["sum_of_cosines"], 3),
                        "gap": round(found["gap"], 6),
                        "dense_over_this": "" if np.isnan(dense) else round(dense / found["seconds"], 2),
                        "machine": machine,
                    }
                )  # fmt: skip
    return rows


def seeds(machine: str, repeats: int = 5) -> list[dict[str, Any]]:
    """SAE-tokens a second of several SAEs on one core: each alone, all on each batch in turn, and the floor of
    stacking them: their five products a token in batched form, and nothing else."""
    import torch

    from crossseed.sae.architectures import module_of
    from crossseed.sae.training import Trainer, initial_arrays

    torch.set_num_threads(1)
    rows = []
    for d, n in ((64, 512), (128, 1024)):
        config = module_of("relu_l1").Config.model_validate(
            {
                "architecture": "relu_l1", "expansions": [n // d], "inits": ["shared"], "members": "all",
                "l1": 1e-3, "steps": STEPS, "batch_tokens": BATCH, "lr": 1e-3, "warmup_steps": 0,
                "decay_steps": 0, "grad_clip": None, "tied_init": False, "standardise": False,
            }
        )  # fmt: skip
        x = torch.randn(STEPS, BATCH, d)

        def trainers(config: Any = config, d: int = d, n: int = n) -> list[Any]:
            return [Trainer(config, initial_arrays(d, n, False, k), "cpu") for k in range(SEEDS)]

        def alone(x: Any = x, trainers: Any = trainers) -> None:
            for trainer in trainers():
                for step in range(STEPS):
                    trainer.step(x[step], step)

        def together(x: Any = x, trainers: Any = trainers) -> None:
            several = trainers()
            for step in range(STEPS):
                for trainer in several:
                    trainer.step(x[step], step)

        def stacked(x: Any = x, d: int = d, n: int = n) -> None:
            encoder, decoder = torch.randn(SEEDS, d, n), torch.randn(SEEDS, n, d)
            for step in range(STEPS):
                for rows in x[step].split(BLOCK):
                    several = rows.expand(SEEDS, *rows.shape)
                    h = torch.bmm(several, encoder).relu_()
                    error = torch.baddbmm(several, h, decoder, beta=-1)
                    g = torch.bmm(error, decoder.transpose(1, 2))
                    torch.bmm(h.transpose(1, 2), error)
                    torch.bmm(several.transpose(1, 2), g)

        ways: dict[str, Callable[[], None]] = {
            "one after another": alone,
            "in turn on each batch": together,
        }
        ways["stacked products alone"] = stacked
        seconds: dict[str, list[float]] = {how: [] for how in ways}
        for _ in range(repeats):
            for how, work in ways.items():
                begun = time.perf_counter()
                work()
                seconds[how].append(time.perf_counter() - begun)
        least = {how: min(found) for how, found in seconds.items()}
        rows += [
            {
                "how": how, "seeds": SEEDS, "d": d, "latents": n, "batch": BATCH,
                "tokens_per_s": round(SEEDS * STEPS * BATCH / found),
                "ratio": round(least["one after another"] / found, 2),
                "repeats": repeats, "machine": machine,
            }
            for how, found in least.items()
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    n, width = map(int, sys.argv[1:3])
    print(json.dumps(one(n, width, *sys.argv[3:5])))
