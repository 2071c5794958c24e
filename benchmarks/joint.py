"""Benchmark of the joint SAE's training: a step, against what it cannot do without in the same run.

The floor is both models' passes above the site, forward and backward, and an SAE, forward and backward: `dense`, as
linear layers around TopK give it by autograd, and `own`, with this project's sums over kept latents; neither has AuxK. A
step has besides all losses and the optimiser, and AuxK where latents are dead. On a CPU, of one core, seconds are the
process's own, so that what else runs there counts for little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

COLUMNS = (
    *("what", "device", "precision", "d", "latents", "k", "dead", "tokens", "milliseconds"),
    *("lowest", "ratio_to_dense_floor", "ratio_to_own_floor", "repeats", "machine"),
)
EXAMPLES, LENGTH, CLASSES = 16, 32, 3
# Width, heads, and latents as a multiple; the published size is the last.
SIZES = ((256, 4, 8), (768, 12, 8))


def upper(width: int, heads: int, device: str) -> Any:
    """A layer like BERT's, and a head that reads the first token."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        width, heads, 4 * width, activation="gelu", batch_first=True
    )
    head = torch.nn.Linear(width, CLASSES)
    for module in (layer, head):
        module.eval().requires_grad_(False).to(device)

    def passes(h_bld: Any, mask_bl: Any, at_bp: Any = None) -> tuple[Any, Any]:
        states = layer(h_bld, src_key_padding_mask=~mask_bl)
        return states, head(states[:, 0])

    return passes


def cache_of(width: int, uppers: Any, device: str) -> Any:
    """Random activations, of lengths from a quarter of the longest on."""
    import torch

    from crossseed.joint.upper import Cache

    rng = np.random.default_rng(0)
    mask = np.arange(LENGTH) < rng.integers(LENGTH // 4, LENGTH + 1, EXAMPLES)[:, None]
    h = [rng.standard_normal((*mask.shape, width), dtype=np.float32) for _ in range(2)]
    with torch.no_grad():
        on = [torch.from_numpy(x).to(device) for x in (mask, *h)]
        clean = [one(x, on[0]) for one, x in zip(uppers, on[1:], strict=True)]
    states, logits = ([pair[i].cpu().numpy() for pair in clean] for i in (0, 1))
    return Cache(
        h=tuple(h), next=tuple(states), logits=tuple(logits), mask=mask,
        special=np.zeros_like(mask), labels=logits[0].argmax(axis=1),
        tokens=np.zeros(mask.shape, int), document=np.arange(EXAMPLES),
    )  # fmt: skip


def joint(machine: str, device: str = "cpu", repeats: int = 7) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`; ratios are medians of those within a repeat."""
    import torch

    from crossseed.alignment.maps import AffineMap, haar_orthogonal
    from crossseed.joint import training
    from crossseed.joint.config import JointTraining
    from crossseed.joint.model import JointSAE

    torch.set_num_threads(1)
    clock = time.process_time if device == "cpu" else time.perf_counter
    precisions = ("float32",) if device == "cpu" else ("float32", "bf16-mixed")
    rows = []
    for precision in precisions:
        for d, heads, expansion in SIZES:
            config = JointTraining(expansion=expansion, precision=precision)
            uppers = [upper(d, heads, device) for _ in range(2)]
            cache = cache_of(d, uppers, device)
            turn = haar_orthogonal(np.random.default_rng(1), d)
            sae = JointSAE(config, d, AffineMap(turn, np.zeros(d), np.zeros(d)), device=device)
            trainer = training.Trainer(config, sae, uppers, training.plan_of(config, cache))
            batch = cache.batch(np.arange(EXAMPLES), True, device)
            # Seven in ten latents are dead, as published (71 to 88 %).
            dead = round(0.7 * sae.n_latents)

            def step(dead: int, trainer: Any = trainer, batch: Any = batch) -> None:
                trainer.silent[:, :dead] = trainer.dead_after
                trainer.silent[:, dead:] = 0
                trainer.step(batch, 1)

            def passes(
                natives: Any, trainer: Any = trainer, batch: Any = batch, uppers: Any = uppers
            ) -> Any:
                total = torch.zeros((), device=device)
                for m, native in enumerate(natives):
                    states, logits = uppers[m](batch.hijacked(m, native), batch.mask_bl)
                    total = total + states.sum() + logits.sum()
                return total

            def own(
                sae: Any = sae, batch: Any = batch, passes: Any = passes, trainer: Any = trainer
            ) -> None:
                with trainer.mixed():
                    total = passes(sae([batch.coded(0), batch.coded(1)]).native)
                torch.autograd.grad(total, sae.parameters())

            encoder, decoder = (
                torch.nn.Linear(*shape).to(device)
                for shape in ((d, sae.n_latents), (sae.n_latents, d))
            )

            def dense(
                encoder: Any = encoder, decoder: Any = decoder, batch: Any = batch,
                passes: Any = passes, trainer: Any = trainer, k: int = config.k,
            ) -> None:  # fmt: skip
                with trainer.mixed():
                    natives = []
                    for m in (0, 1):
                        pre = encoder(batch.coded(m))
                        kept = pre.topk(k, dim=1, sorted=False)
                        code = torch.zeros_like(pre).scatter(1, kept.indices, kept.values.relu())
                        natives.append(decoder(code))
                    total = passes(natives)
                torch.autograd.grad(total, [*encoder.parameters(), *decoder.parameters()])

            ways: dict[str, Callable[[], None]] = {
                "floor with dense products": dense, "floor with kept latents": own,
                "joint step": lambda step=step: step(0),
                "joint step with AuxK": lambda step=step, dead=dead: step(dead),
            }  # fmt: skip
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for repeat in range(repeats + 1):
                for name, work in ways.items():
                    begun = clock()
                    work()
                    if device == "cuda":
                        torch.cuda.synchronize()
                    # The first is for warming up.
                    if repeat:
                        seconds[name].append(clock() - begun)
            floors = [seconds["floor with dense products"], seconds["floor with kept latents"]]
            for name, found in seconds.items():
                ratios = [
                    round(median(x / y for x, y in zip(found, floor, strict=True)), 2)
                    for floor in floors
                ]
                rows.append(
                    {
                        "what": name, "device": device, "precision": precision, "d": d,
                        "latents": sae.n_latents, "k": config.k,
                        "dead": dead if name.endswith("AuxK") else 0,
                        "tokens": len(batch.coded_n), "milliseconds": round(1e3 * median(found), 1),
                        "lowest": round(1e3 * min(found), 1), "ratio_to_dense_floor": ratios[0],
                        "ratio_to_own_floor": ratios[1], "repeats": repeats, "machine": machine,
                    }
                )  # fmt: skip
                print(rows[-1], flush=True)
    return rows
