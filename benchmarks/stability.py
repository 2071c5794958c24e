"""Benchmarks of stability: exact matching priced in blocks, against SciPy on the whole matrix; and SAEs of several
seeds trained side by side, against one after another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import measured
import numpy as np
from measured import FLOOR, MOST, PEER, Beside, compared, in_turns

SEEDS, STEPS, BATCH, BLOCKS = 4, 60, 1024, (128, 256, 512, 1024)
# Latents, width, repeats and structures: the larger take minutes. The whole matrix is solved up to the last size but one.
LIFELIKE = "shared, a common mean and a fifth dead"
SIZES = (
    (8192, 256, 3, ("shared", "random", LIFELIKE)),
    (16384, 512, 1, ("shared", "random")),
    (32768, 768, 1, ("shared", "random")),
)
WHOLE_UP_TO = 16384
PRICED, PRODUCT, SCIPY, LAPX = "priced", "product", "SciPy", "lapx"
# Every cosine is looked at once; then come candidates, their optimum, and its proof.
PRODUCT_TIMES = 3.0
SHARED = 0.35


def directions(n: int, width: int, structure: str) -> tuple[np.ndarray, np.ndarray]:
    """Two dictionaries that share a part of their directions up to noise, or nothing; or as decoders are, which lean one way
    and have latents that are dead."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, width), dtype=np.float32)
    b = rng.standard_normal((n, width), dtype=np.float32)
    if structure != "random":
        common = round(SHARED * n)
        chosen = rng.permutation(n)[:common]
        b[:common] = a[chosen] + 0.3 * rng.standard_normal((common, width), dtype=np.float32)
    if structure == LIFELIKE:
        a, b = (x + 0.5 * rng.standard_normal(width, dtype=np.float32) for x in (a, b))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    if structure == LIFELIKE:
        for x in unit:
            x[rng.random(n) < 0.2] = 0
    return unit[0], unit[1]


def one(n: int, width: int, structure: str, how: str) -> dict[str, float]:
    """Processor seconds and peak memory of one matching, or of the product that it needs, in this process."""
    from scipy.optimize import linear_sum_assignment

    from crossseed.matching import assignment

    a, b = directions(n, width, structure)
    found, gap = np.zeros(0), 0.0
    begun = time.process_time()
    if how == PRODUCT:
        for first in range(0, n, assignment.BLOCK_ROWS):
            a[first : first + assignment.BLOCK_ROWS] @ b.T
    elif how == PRICED:
        matched = assignment.priced(a, b)
        found, gap = matched.cosine, matched.gap
    elif how == SCIPY:
        cosines = a @ b.T
        found = cosines[linear_sum_assignment(cosines, maximize=True)]
    else:
        found = assignment.dense(a @ b.T).cosine
    return {
        "seconds": time.process_time() - begun,
        "sum_of_cosines": float(found.sum(dtype=float)),
        "gap": gap,
        "peak_mb": measured.peak_mb(),
    }


def matching() -> list[dict[str, Any]]:
    """Rows of `COMPARED`; each in a process of its own, for its memory."""
    from crossseed.matching import assignment

    whole = (SCIPY, LAPX) if assignment.accelerator() else (SCIPY,)
    rows = []
    for n, width, repeats, structures in SIZES:
        ways = (PRICED, PRODUCT, *whole) if n <= WHOLE_UP_TO else (PRICED, PRODUCT)
        for structure in structures:
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
    for how in (SCIPY, LAPX):
        if how in taken:
            best = all_of(how, "sum_of_cosines")[0]
            # Sums of float32 products, which the two add up differently.
            if not best - gap - 1e-6 * abs(best) <= ours <= best + 1e-6 * abs(best):
                raise SystemExit(
                    f"{what}: {ours} with a gap of {gap}, where the whole matrix has {best}"
                )
            name = f"{how}, the whole matrix, {max(all_of(how, 'peak_mb')):.0f} MB"
            others.append(Beside(name, PEER, 1.0, all_of(how, "seconds")))
    peak_mb = max(all_of(PRICED, "peak_mb"))
    return compared(what, all_of(PRICED, "seconds"), others, peak_mb=peak_mb)


def seeds(repeats: int = 5) -> list[dict[str, Any]]:
    """SAEs of several seeds on one core: each alone, beside all on each batch in turn, and the floor of
    stacking them: their five products a token in batched form, into buffers that are there, and nothing else."""
    import torch

    from crossseed import products
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

        weights = [torch.randn(SEEDS, d, n), torch.randn(SEEDS, n, d)]
        by_weights = [torch.empty_like(one) for one in weights]

        def stacked(
            block: int,
            by: Callable[[], AbstractContextManager[None]],
            steps: int = STEPS,
            x: Any = x,
            weights: Any = weights,
            by_weights: Any = by_weights,
            d: int = d,
            n: int = n,
        ) -> None:
            (encoder, decoder), (by_encoder, by_decoder) = weights, by_weights
            h, back = torch.empty((2, SEEDS, block, n))
            error = torch.empty((SEEDS, block, d))
            with by():
                for rows in (part for step in range(steps) for part in x[step].split(block)):
                    several = rows.expand(SEEDS, *rows.shape)
                    torch.bmm(several, encoder, out=h)
                    torch.bmm(h, decoder, out=error)
                    torch.bmm(error, decoder.transpose(1, 2), out=back)
                    torch.baddbmm(by_decoder, h.transpose(1, 2), error, out=by_decoder)
                    torch.baddbmm(by_encoder, several.transpose(1, 2), back, out=by_encoder)

        # Of as many rows at a time, and by whichever library, as is fastest.
        ways = [
            partial(stacked, block, by) for block in BLOCKS for by in (nullcontext, products.fast)
        ]
        tried = in_turns([partial(way, 4) for way in ways], 3)
        fastest = ways[int(np.argmin([min(seconds) for seconds in tried]))]

        one, in_turn, bare = in_turns((alone, together, fastest), repeats)
        found += compared(
            f"{SEEDS} SAEs of d {d} and {n} latents, one after another",
            one,
            [
                Beside("stacked products alone", FLOOR, MOST, bare),
                Beside("in turn on each batch", PEER, None, in_turn),
            ],
        )
    return found


if __name__ == "__main__":
    n, width = map(int, sys.argv[1:3])
    print(json.dumps(one(n, width, *sys.argv[3:5])))
