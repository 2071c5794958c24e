"""Models resumed in many ways side by side, against a whole pass a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from measured import FLOOR, MOST, PEER, Beside, compared, in_turns

# Each takes a fraction of a second.
TURNS = 9
# Of the largest value: what both ways give may differ by so much.
SAME = 1e-5


def interventions(device: str) -> list[dict[str, Any]]:
    """Changes of a language model tried at the middle of it: resumed there and side by side, against
    one whole forward pass (and backward, for gradients) a change through a plain hook."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from crossseed import ablation, attribution
    from crossseed.cohorts.base import TokenSet
    from crossseed.cohorts.hub.interventions import HubSubject

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=2048, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=128,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval().to(device)
    subject = HubSubject(model, "gpt_neox", "bench", device)
    rng = np.random.default_rng(0)
    found: list[dict[str, Any]] = []

    def put(
        what: str, fast: Callable[[], Any], slow: Callable[[], Any], floor: Callable[[], Any]
    ) -> None:
        gap = float(np.abs(fast() - slow()).max() / np.abs(slow()).max())
        if gap > SAME:
            raise SystemExit(
                f"{what}: differs from a whole pass a change by {gap:.1e} of the largest"
            )
        ours, theirs, least = in_turns((fast, slow, floor), TURNS, device)
        others = [
            Beside("a whole pass a change", PEER, 1.0, theirs),
            Beside("passes above the site alone", FLOOR, MOST, least),
        ]
        found.extend(compared(what, ours, others, device))

    prompts = rng.integers(0, 2048, (20, 14))
    last = np.zeros(prompts.shape, bool)
    last[:, -1] = True
    vectors = torch.from_numpy(rng.standard_normal((128, 128)).astype(np.float32)).to(device)
    block = model.gpt_neox.layers[1]

    def side_by_side() -> np.ndarray:
        start = subject.start(prompts, "blocks.1.hook_resid_post")
        own, parts = start.value_ntd, []
        for part in vectors.split(4096 // prompts.size):
            changed = (own[None] + part[:, None, None]).flatten(0, 1)
            parts.append(start.logits(changed, last)[0].cpu())
        return torch.cat(parts).numpy()

    def one_by_one() -> np.ndarray:
        tokens = torch.from_numpy(prompts).to(device)
        parts = []
        for v in vectors:
            handle = block.register_forward_hook(lambda _, __, out, v=v: out + v)
            with torch.no_grad():
                parts.append(model(input_ids=tokens, use_cache=False).logits[:, -1].cpu())
            handle.remove()
        return torch.stack(parts).numpy()

    def above(hidden: torch.Tensor, first: int) -> torch.Tensor:
        """The layers from `first` and the head, nothing else."""
        places = torch.arange(hidden.shape[1], device=device)[None]
        rotary = model.gpt_neox.rotary_emb(hidden, places)
        for layer in model.gpt_neox.layers[first:]:
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return model.gpt_neox.final_layer_norm(hidden)

    def passes_alone() -> None:
        for part in vectors.split(4096 // prompts.size):
            many = torch.zeros((len(part) * len(prompts), prompts.shape[1], 128), device=device)
            with torch.no_grad():
                model.get_output_embeddings()(above(many, 2)[:, -1])

    put(
        "steering by 128 vectors, 20 prompts of 14 tokens",
        side_by_side,
        one_by_one,
        passes_alone,
    )

    rows = rng.integers(0, 2048, (1, 128))
    tokens = TokenSet(rows, np.ones(rows.shape, bool), {}, np.arange(1))
    batch = ablation.Batch(subject, tokens, np.arange(1))
    mean = torch.zeros(128, device=device)
    t, _ = attribution.nodes(attribution.RIGHT, 32)

    def path_at_once() -> np.ndarray:
        start = subject.start(rows, "blocks.2.hook_mlp_out")
        return ablation.gradients(batch, start, mean, t)[:-1]

    def path_point_by_point() -> np.ndarray:
        ids = torch.from_numpy(rows).to(device)
        mlp = model.gpt_neox.layers[2].mlp
        held: list[torch.Tensor] = []
        handle = mlp.register_forward_hook(lambda _, __, out: held.append(out.detach()))
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
        handle.remove()
        own, values = held[0], []
        for point in t:
            value = (own * point + mean * (1 - point)).float().requires_grad_(True)
            handle = mlp.register_forward_hook(lambda _, __, out, value=value: value)
            logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
            (gradient,) = torch.autograd.grad(loss, value)
            handle.remove()
            values.append(float((gradient * (mean - own)).sum()))
        return np.array(values)

    labels = torch.from_numpy(rows).to(device)[0, 1:].repeat(32)

    def gradients_alone() -> None:
        value = torch.randn((32, 128, 128), device=device, requires_grad=True)
        logits = model.get_output_embeddings()(above(value, 3)[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)
        torch.autograd.grad(loss, value)

    put(
        "integrated gradients of an MLP, 32 points",
        path_at_once,
        path_point_by_point,
        gradients_alone,
    )
    return found
