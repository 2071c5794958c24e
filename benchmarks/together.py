"""Cells trained together, as jobs side by side are: each a process with one thread, on one machine's cores or one GPU's slots.

What the device can do at most is what as many processes of the five dense products do, at the best number of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sae import CEILING, HELD_OUT, OURS, Size, Worker, job_of, save_start, sparse_rows

COLUMNS = (
    "device", "d", "n_latents", "architecture", "k", "batch", "steps", "cells", "tokens_per_s",
    "lowest", "highest", "ratio_to_one_cell", "ceiling_tokens_per_s", "share_of_matmul_ceiling", "repeats",
    "machine",
)  # fmt: skip
SIZES = (
    Size(64, 512, 16, 4096, 200, 3),
    Size(64, 4096, 16, 4096, 24, 3),
    Size(512, 4096, 32, 4096, 6, 3),
)
# `slots_per_gpu` that are tried.
SLOTS = (1, 2, 4, 8)


def numbers(device: str) -> tuple[int, ...]:
    """How many cells at once are tried."""
    return SLOTS if device == "cuda" else tuple(sorted({1, os.cpu_count() or 1}))


def rate(workers: list[Worker], job: dict[str, Any], tokens: int) -> float:
    """Tokens a second of all of them together, by the clock; all begin their second step at once."""
    with tempfile.TemporaryDirectory() as gate:
        for number, worker in enumerate(workers):
            own = {"seed": number, "out": f"{job['out']}-{number}.npz"}
            worker.send({**job, **own, "together": [gate, len(workers)]})
        return sum(tokens / worker.answer()["seconds"] for worker in workers)


def together(folder: Path, device: str, most: int, machine: str) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`.

    Args:
        most: repeats, at most.
    """
    racers = {
        name: [
            Worker(sys.executable, OURS[name], folder / f"{name} {number}.log")
            for number in range(max(numbers(device)))
        ]
        for name in ("crossseed", CEILING)
    }
    found = []
    for size in SIZES:
        np.save(folder / "rows.npy", sparse_rows(size.d, 24_000 + HELD_OUT)[HELD_OUT:])
        for architecture in ("relu", "topk"):
            job = job_of(size, architecture, folder, device, 1, 2e-3)
            save_start(size, job, 0)
            found += _of_size(size, job, racers, min(most, size.repeats), machine)
    for workers in racers.values():
        for worker in workers:
            worker.end()
    return found


def _of_size(
    size: Size,
    job: dict[str, Any],
    racers: dict[str, list[Worker]],
    repeats: int,
    machine: str,
) -> list[dict[str, Any]]:
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for cells in numbers(job["device"]):
            for name, workers in racers.items():
                took = rate(workers[:cells], job, size.steps * size.batch)
                rates.setdefault((name, cells), []).append(took)
    typical = {key: median(values) for key, values in rates.items()}
    ceiling = max(value for (name, _), value in typical.items() if name == CEILING)
    rows = []
    for cells in numbers(job["device"]):
        ours, key = typical["crossseed", cells], ("crossseed", cells)
        row = {
            "device": job["device"], "d": size.d, "n_latents": size.n_latents, "architecture": job["architecture"],
            "k": size.k if job["architecture"] == "topk" else None, "batch": size.batch, "steps": size.steps,
            "cells": cells, "tokens_per_s": round(ours), "lowest": round(min(rates[key])),
            "highest": round(max(rates[key])), "ratio_to_one_cell": round(ours / typical["crossseed", 1], 2),
            "ceiling_tokens_per_s": round(ceiling), "share_of_matmul_ceiling": round(ours / ceiling, 2),
            "repeats": repeats, "machine": machine,
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows
