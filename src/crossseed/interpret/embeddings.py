"""Sentences as directions, by a model of transformers: the mean of its last layer over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossseed.errors import UserError

SENTENCES = 32
LONGEST = 512


def embed(folder: str, texts: Sequence[str], device: str) -> np.ndarray:
    """Unit rows, (texts, width).

    Args:
        folder: holds model and tokenizer. device: ``cpu`` or ``cuda``.

    Raises:
        UserError: it cannot be read.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"stability.interpret.embeddings: {folder} holds no model of transformers with its tokenizer "
            f"({str(error).splitlines()[0]})"
        ) from error
    model.to(device).eval()
    longest = min(LONGEST, getattr(model.config, "max_position_embeddings", LONGEST))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = []
    for start in range(0, len(texts), SENTENCES):
        read = tokenizer(
            list(texts[start : start + SENTENCES]),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=longest,
        )
        ids, mask = read["input_ids"].to(device), read["attention_mask"].to(device)
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        there = mask[:, :, None].float()
        rows.append(((states * there).sum(1) / there.sum(1).clamp(min=1)).cpu().numpy())
    found = np.concatenate(rows).astype(np.float64)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)
    return unit
