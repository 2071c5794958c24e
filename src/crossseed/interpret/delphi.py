"""Latents and their windows as delphi (EleutherAI, eai-delphi 0.1) keeps them, so that its explainers and scorers run on them.

    latents/{site}/{first}_{last}.safetensors   locations (n, 3): window, position, latent less the first of the file;
                                                activations (n,); tokens (windows, tokens)
    latents/{site}/config.json                  what they were read from
    explanations/{site}_latent{number}.txt      an explanation, as a JSON string

From these delphi draws the windows that a latent fires in, strongest or by quantile, and random ones where it does not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.atomic import writing_folder
from crossseed.interpret.contexts import Firings

# Activations that delphi counts as firing.
LEAST = 1e-5
# What delphi's cache keeps of its data set; the names are its own.
COLUMN = "text"


def write(
    folder: Path,
    site: str,
    latents: Sequence[int],
    n_latents: int,
    splits: Sequence[tuple[np.ndarray, Firings]],
    explanations: Mapping[int, str],
    about: Mapping[str, str],
) -> None:
    """Writes the folder, whole or not at all.

    Args:
        latents: numbers of those that `splits` are of. n_latents: of the whole SAE.
        splits: token ids, (windows, tokens), and firings; one after another.
        explanations: by latent.
        about: ``model_name``, ``dataset_repo`` and ``dataset_split`` of the config.
    """
    from safetensors.numpy import save_file

    tokens = np.concatenate([of for of, _ in splits])
    starts = np.cumsum([0, *(len(of) for of, _ in splits)])
    window = np.concatenate([f.window_n + s for (_, f), s in zip(splits, starts, strict=False)])
    position = np.concatenate([f.position_n for _, f in splits])
    latent = np.asarray(latents)[np.concatenate([f.latent_n for _, f in splits])]
    value = np.concatenate([f.value_n for _, f in splits])
    order = np.lexsort((latent, position, window))
    order = order[np.abs(value[order]) > LEAST]
    locations = np.stack([window, position, latent], axis=1)[order]
    small = locations.max(initial=0) < 2**16
    values = value[order]
    # As delphi does; values beyond half precision stay as they are.
    if np.abs(values).max(initial=0) < np.finfo(np.float16).max:
        values = values.astype(np.float16)
    arrays = {
        "locations": locations.astype(np.uint16 if small else np.uint32),
        "activations": values,
        "tokens": tokens.astype(np.int64),
    }
    config: dict[str, Any] = {
        "dataset_repo": about["dataset_repo"],
        "dataset_split": about["dataset_split"],
        "dataset_name": "",
        "dataset_column": COLUMN,
        "batch_size": len(tokens),
        "cache_ctx_len": tokens.shape[1],
        "n_tokens": tokens.size,
        "n_splits": 1,
        "model_name": about["model_name"],
    }
    with writing_folder(folder) as made:
        cache, texts = made / "out/latents" / site, made / "out/explanations"
        cache.mkdir(parents=True)
        texts.mkdir()
        save_file(arrays, cache / f"0_{n_latents - 1}.safetensors")
        (cache / "config.json").write_text(json.dumps(config, indent=4, sort_keys=True) + "\n")
        for number, text in sorted(explanations.items()):
            path = texts / f"{site}_latent{number}.txt"
            path.write_text(json.dumps(text), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made / "out", folder)
