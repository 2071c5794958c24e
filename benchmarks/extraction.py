"""Activations read and written, against the model's bare forward pass over the same batches, cut at the same site;
by the clock, so that waiting for what is written counts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import FLOOR, MOST, Beside, by_the_clock, compared, in_turns

from crossseed import activations
from crossseed.cohorts.base import Member, TokenSet, batches
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.members import DyckMember
from crossseed.cohorts.dyck.model import DyckTransformer

SEQUENCES = {"fit": 256, "train": 512, "eval": 256}
Bare = Callable[[torch.Tensor], object]


def toy() -> tuple[str, str, Member, dict[str, TokenSet], Bare]:
    model = DyckTransformer(0).eval().requires_grad_(False)
    site = "blocks.1.hook_resid_post"
    rng, sets = np.random.default_rng(0), {}
    for split, n in SEQUENCES.items():
        tokens = task.sample_train(rng, 4 * n, (2, 48))
        tokens = tokens[:, : int((tokens != task.PAD).sum(axis=1).max())]
        labels = task.label(tokens)
        named = {"depth": labels.depth_nt, "valid": labels.valid_nt}
        sets[split] = TokenSet(tokens, tokens != task.PAD, named, np.arange(len(tokens)))
    return "toy", site, DyckMember(model, "bench"), sets, lambda ids: model.residuals(ids, {site})


def language_model() -> tuple[str, str, Member, dict[str, TokenSet], Bare]:
    from transformers import GPTNeoXConfig, GPTNeoXModel

    from crossseed.cohorts.hub.loading import shape_of
    from crossseed.cohorts.hub.members import HubMember

    torch.manual_seed(0)
    layers, layer = 4, 1
    config = GPTNeoXConfig(
        vocab_size=2048, hidden_size=256, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=1024, max_position_embeddings=128,
    )  # fmt: skip
    model = GPTNeoXModel(config).eval().requires_grad_(False)
    # As it is loaded: without the layers above the highest that is read.
    model.layers = model.layers[: layer + 1]
    # Activations are read before it, and the pass ends there.
    model.final_layer_norm = torch.nn.Identity()
    config.num_hidden_layers = layer + 1
    site = f"blocks.{layer}.hook_resid_post"
    rng, sets = np.random.default_rng(0), {}
    for split, n in SEQUENCES.items():
        ids = rng.integers(0, 2048, (n // 4, 128))
        sets[split] = TokenSet(ids, np.ones(ids.shape, bool), {}, np.arange(len(ids)))
    member = HubMember(model, shape_of(config), "bench", "cpu")

    def bare(ids: torch.Tensor) -> object:
        return model(input_ids=ids, use_cache=False)

    return f"GPT-NeoX of {layers} layers, width 256", site, member, sets, bare


def extraction(repeats: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for make in (toy, language_model):
        what, site, member, sets, bare = make()
        _ = member.digest
        parts = [
            torch.from_numpy(tokens[part].astype(np.int64))
            for tokens in (one.tokens_nt for one in sets.values())
            for part in batches(len(tokens), max(1, activations.FORWARD_TOKENS // tokens.shape[1]))
        ]

        @torch.no_grad()
        def alone(parts: list[torch.Tensor] = parts, bare: Bare = bare) -> None:
            for ids in parts:
                bare(ids)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{site}.h5"

            def whole(
                path: Path = path,
                member: Member = member,
                sets: dict[str, TokenSet] = sets,
                site: str = site,
            ) -> None:
                activations.extract(member, sets, "", {site: path}, {site: {}}, "float32")

            ours, bare_pass = in_turns((whole, alone), repeats, now=by_the_clock)
            megabytes = path.stat().st_size / 1e6
        tokens = sum(int(one.keep_nt.sum()) for one in sets.values())
        found += compared(
            f"{what}, {megabytes:.0f} MB written",
            ours,
            [Beside(f"bare forward pass up to {site}", FLOOR, MOST, bare_pass)],
            amount=(tokens, "tokens"),
        )
    return found
