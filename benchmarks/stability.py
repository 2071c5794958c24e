"""Benchmarks of stability: exact matching priced in blocks, against SciPy on the whole matrix; and SAEs of several
seeds trained side by side, against one after another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import measured
import numpy as np
from measured import FLOOR, MOST, PEER, Beside, compared, in_turns

SEEDS, STEPS, BATCH, BLOCK = 4, 60, 1024, 256
# Latents, width, and repeats: the larger take minutes. The whole matrix is solved up to the last size but one.
SIZES = ((2048, 64, 5), (8192, 256, 3), (16384, 512, 2), (32768, 768, 1))
DENSE_UP_TO = 16384
DENSE, PRICED, PRODUCT = "dense", "priced", "product"
# Every cosine is looked at once; then come candidates, their optimum, and its proof.
PRODUCT_TIMES = 3.0
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


def one(n: int, width: int, structure: str, how: str) -> dict[str, float]:
    """Processor seconds and peak memory of one matching, or of the product that it needs, in this process."""
    from crossseed.matching import assignment

    a, b = directions(n, width, structure)
    found = None
    begun = time.process_time()
    if how == PRODUCT:
        for first in range(0, n, assignment.BLOCK_ROWS):
            a[first : first + assignment.BLOCK_ROWS] @ b.T
    else:
        found = assignment.dense(a @ b.T) if how == DENSE else assignment.priced(a, b)
    return {
        "seconds": time.process_time() - begun,
        "sum_of_cosines": float(found.cosine.sum()) if found else 0.0,
        "gap": found.gap if found else 0.0,
        "peak_mb": measured.peak_mb(),
    }


def matching() -> list[dict[str, Any]]:
    """Rows of `COMPARED`; each in a process of its own, for its memory."""
    rows = []
    for n, width, repeats in SIZES:
        ways = (PRICED, PRODUCT, DENSE) if n <= DENSE_UP_TO else (PRICED, PRODUCT)
        for structure in ("shared", "random"):
            taken: dict[str, list[dict[str, float]]] = {how: [] for how in ways}
            for _ in range(repeats):
                for how in ways:
                    command = [sys.executable, __file__, str(n), str(width), structure, how]
                    out = subprocess.run(command, capture_output=True, text=True, check=True)
                    taken[how].append(json.loads(out.stdout))
            rows += _of_size(f"matching of {n} latents of d {width}, {structure}", taken)
    return rows


def _of_size(what: str, taken: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    def all_of(how: str, key: str) -> list[float]:
        return [one[key] for one in taken[how]]

    others = [
        Beside("the product of all cosines", FLOOR, PRODUCT_TIMES, all_of(PRODUCT, "seconds"))
    ]
    ours, gap = all_of(PRICED, "sum_of_cosines")[0], all_of(PRICED, "gap")[0]
    if DENSE in taken:
        best = all_of(DENSE, "sum_of_cosines")[0]
        # Sums of float32 products, which the two add up differently.
        if not best - gap - 1e-6 * abs(best) <= ours <= best + 1e-6 * abs(best):
            raise SystemExit(
                f"{what}: {ours} with a gap of {gap}, where the whole matrix has {best}"
            )
        peak = max(all_of(DENSE, "peak_mb"))
        name = f"SciPy on the whole matrix, {peak:.0f} MB"
        others.append(Beside(name, PEER, 1.0, all_of(DENSE, "seconds")))
    peak_mb = max(all_of(PRICED, "peak_mb"))
    return compared(what, all_of(PRICED, "seconds"), others, peak_mb=peak_mb)


def seeds(repeats: int = 5) -> list[dict[str, Any]]:
    """SAEs of several seeds on one core: each alone, beside all on each batch in turn, and the floor of
    stacking them: their five products a token in batched form, and nothing else."""
    import torch

    from crossseed.sae.architectures import module_of
    from crossseed.sae.training import Trainer, initial_arrays

    torch.set_num_threads(1)
    found = []
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

        one, in_turn, products = in_turns((alone, together, stacked), repeats)
        found += compared(
            f"{SEEDS} SAEs of d {d} and {n} latents, one after another",
            one,
            [
                Beside("stacked products alone", FLOOR, MOST, products),
                Beside("in turn on each batch", PEER, None, in_turn),
            ],
        )
    return found


if __name__ == "__main__":
    n, width = map(int, sys.argv[1:3])
    print(json.dumps(one(n, width, *sys.argv[3:5])))
