"""Peak memory of a job that streams, beside how many tokens there are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measured import machine, peak_mb

MEMORY_COLUMNS = (
    "tokens_factor", "tokens", "width", "sites", "peak_mb", "ratio_to_1x",
    "stored_activations_of_both_mb", "machine",
)  # fmt: skip


def streaming_memory(folder: Path) -> list[dict[str, Any]]:
    """Peak memory of the streaming verb as tokens grow, beside what stored activations would take."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from crossseed.activations import write_tokens
    from crossseed.cohorts.base import TokenSet

    width, layers, vocabulary, context = 256, 4, 512, 128
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = GPTNeoXConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=4, intermediate_size=4 * width, max_position_embeddings=context,
        )  # fmt: skip
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"org/seed{seed}")
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    reading = {"folder": str(folder), "precision": "float32", "device_map": None}

    def member(seed: int) -> dict[str, Any]:
        return {"seed": seed, "checkpoint": "final", "model_id": f"org/seed{seed}", **reading}

    spec = {
        "kind": "hub", "cohort": "bench", "sites": sites, "origin": "",
        "members": {"member": member(1), "checkpoint": member(1), "seed": member(0)},
    }  # fmt: skip
    found: list[dict[str, Any]] = []
    for factor in (1, 4, 16):
        rng = np.random.default_rng(0)
        sets = {}
        for split, sequences in (("fit", 256 * factor), ("train", 1), ("eval", 128 * factor)):
            ids = rng.integers(0, vocabulary, (sequences, context))
            sets[split] = TokenSet(ids, np.ones(ids.shape, bool), {}, np.arange(sequences))
        tokens = folder / f"tokens{factor}.h5"
        write_tokens(tokens, {}, sets, {})
        command = [sys.executable, "-m", "crossseed", "drift", "--spec", json.dumps(spec)]
        command += ["--device", "cpu", "--tokens", str(tokens), "--out", str(folder / "drift.csv")]
        peak = 0.0
        with (
            open(folder / "log", "w") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            while process.poll() is None:
                peak = max(peak, peak_mb(str(process.pid)))
                time.sleep(0.01)
        if process.returncode:
            raise SystemExit(f"drift failed:\n{(folder / 'log').read_text()[-3000:]}")
        n_tokens = sum(s.tokens_nt.size for s in sets.values())
        row = {
            "tokens_factor": factor, "tokens": n_tokens, "width": width, "sites": len(sites),
            "peak_mb": round(peak), "ratio_to_1x": round(peak / (found[0]["peak_mb"] if found else peak), 3),
            "stored_activations_of_both_mb": round(2 * n_tokens * width * len(sites) * 4 / 2**20),
            "machine": machine(),
        }  # fmt: skip
        print(row, flush=True)
        found.append(row)
    return found
