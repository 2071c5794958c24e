"""Benchmark of the joint SAE's training: a step, against what it cannot do without in the same run, and its parts.

The floor is both models' passes above the site and the SAE, with AuxK where latents are dead, forward and backward in one
graph. A step has besides all losses, the optimiser, and the count of silent latents. Each part is also run by itself, on what
the others gave; AuxK is what the SAE takes more with dead latents than without. On a CPU, of one core, seconds are the
process's own, so that what else runs there counts for little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

COLUMNS = (
    *("what", "device", "precision", "d", "latents", "k", "dead", "tokens", "milliseconds"),
    *("lowest", "highest", "ratio_to_floor", "ratio_lowest", "ratio_highest", "share_of_step"),
    *("repeats", "machine"),
)
FLOOR, STEP = "floor: passes above the site, SAE with AuxK", "joint step"
ABOVE, SAE, AUXK = "passes above the site", "SAE with AuxK", "of this AuxK"
LOSSES, ADAM, SILENT = "losses", "Adam", "silent latents"
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
        h=(h[0], h[1]), next=tuple(states), logits=tuple(logits), mask=mask,
        special=np.zeros_like(mask), labels=logits[0].argmax(axis=1),
        tokens=np.zeros(mask.shape, int), document=np.arange(EXAMPLES),
    )  # fmt: skip


class Bench:
    """A training at one size.

    Args:
        d, heads: of the models. expansion: latents as a multiple of d.
    """

    def __init__(self, d: int, heads: int, expansion: int, precision: Any, device: str) -> None:
        from crossseed.alignment.maps import AffineMap, haar_orthogonal
        from crossseed.joint import training
        from crossseed.joint.config import JointTraining
        from crossseed.joint.model import JointSAE

        self.config = JointTraining(expansion=expansion, precision=precision)
        self.uppers = [upper(d, heads, device) for _ in range(2)]
        cache = cache_of(d, self.uppers, device)
        turn = haar_orthogonal(np.random.default_rng(1), d)
        carried = AffineMap(turn, np.zeros(d), np.zeros(d))
        self.sae = JointSAE(self.config, d, carried, device=device)
        plan = training.plan_of(self.config, cache)
        self.trainer = training.Trainer(self.config, self.sae, self.uppers, plan)
        self.batch = cache.batch(np.arange(EXAMPLES), True, device)

    def kill(self, dead: int) -> None:
        """So many latents are dead, until a step."""
        self.trainer.silent[:, :dead] = self.trainer.dead_after
        self.trainer.silent[:, dead:] = 0

    def prepare(self, dead: int) -> None:
        """Makes what a part needs of the others."""
        import torch

        self.kill(dead)
        with torch.no_grad():
            self.passed = self._coded()
            self.outputs = self._above(self.passed.native)
        self.gradients = [torch.zeros_like(weight) for weight in self.sae.parameters()]

    def _coded(self) -> Any:
        with self.trainer.mixed():
            return self.sae([self.batch.coded(m) for m in (0, 1)], self.trainer.dead(), True)

    def _above(self, natives: Sequence[Any]) -> list[Any]:
        """Next states and logits of A, then of B."""
        return [
            found
            for m, native in enumerate(natives)
            for found in self.uppers[m](self.batch.hijacked(m, native), self.batch.mask_bl)
        ]

    def step(self) -> None:
        self.trainer.step(self.batch, 1)

    def floor(self) -> None:
        passed = self._coded()
        backward([*self._above(passed.native), *(passed.aux or ())], self.sae.parameters())

    def above(self) -> None:
        natives = leaves(self.passed.native)
        backward(self._above(natives), natives)

    def coded(self) -> None:
        passed = self._coded()
        backward([*passed.native, *(passed.aux or ())], self.sae.parameters())

    def losses(self) -> None:
        import torch

        from crossseed.joint import losses

        config, batch, passed = self.config, self.batch, self.passed
        states = leaves(self.outputs[::2])
        logits, errors = leaves(self.outputs[1::2]), leaves(passed.error)
        values, auxiliary = (
            leaves([one.values_nk for one in passed.codes]),
            leaves(passed.aux or ()),
        )
        codes = [own._replace(values_nk=v) for own, v in zip(passed.codes, values, strict=True)]
        terms = {
            "kl": [losses.kl(batch.logits_mbc[m], logits[m]) for m in (0, 1)],
            "ds": [
                losses.downstream(states[m], batch.next_mbld[m], batch.mask_bl, batch.n_real)
                for m in (0, 1)
            ],
            "local": [losses.local(error) for error in errors],
            "cross": [losses.cross(codes[0], codes[1], config.cross_reduction)],
            "aux": [
                losses.aux(r, error, n, config.aux_k)
                for r, error, n in zip(auxiliary, errors, passed.dead, strict=False)
            ],
        }
        total = losses.total(
            {name: torch.stack(found).mean() for name, found in terms.items() if found},
            self.trainer.by,
        )
        torch.autograd.grad(total, [*states, *logits, *errors, *values, *auxiliary])

    def adam(self) -> None:
        self.trainer.adam.step(self.gradients, self.config.lr, self.config.grad_clip)

    def silent(self) -> None:
        self.trainer._remember(self.passed)


def leaves(tensors: Sequence[Any]) -> list[Any]:
    """What a gradient stops at."""
    return [tensor.detach().requires_grad_() for tensor in tensors]


def backward(outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
    """A backward pass that no loss precedes."""
    import torch

    ones = [torch.ones_like(output) for output in outputs]
    torch.autograd.grad(outputs, inputs, ones, allow_unused=True)


def seconds_of(bench: Bench, dead: int, device: str, repeats: int) -> dict[str, list[float]]:
    """By part, of each repeat."""
    import torch

    clock = time.process_time if device == "cpu" else time.perf_counter
    bench.prepare(dead)
    ways = {
        FLOOR: bench.floor, STEP: bench.step, ABOVE: bench.above, SAE: bench.coded,
        LOSSES: bench.losses, ADAM: bench.adam, SILENT: bench.silent,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    alive: list[float] = []
    for repeat in range(repeats + 1):
        for name, work in (*ways.items(), (AUXK, bench.coded)):
            bench.kill(0 if name == AUXK else dead)
            if device == "cuda":
                torch.cuda.synchronize()
            begun = clock()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            # The first is for warming up.
            if repeat:
                (alive if name == AUXK else seconds[name]).append(clock() - begun)
    if dead:
        seconds[AUXK] = [both - one for both, one in zip(seconds[SAE], alive, strict=True)]
    return seconds


def joint(machine: str, device: str = "cpu", repeats: int = 7) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`; ratios are medians of those within a repeat."""
    import torch

    torch.set_num_threads(1)
    precisions = ("float32",) if device == "cpu" else ("float32", "bf16-mixed")
    rows = []
    for precision in precisions:
        for d, heads, expansion in SIZES:
            bench = Bench(d, heads, expansion, precision, device)
            # Seven in ten latents are dead, as published (71 to 88 %).
            for dead in (0, round(0.7 * bench.sae.n_latents)):
                seconds = seconds_of(bench, dead, device, repeats)
                for name, found in seconds.items():
                    over, share = (
                        [x / y for x, y in zip(found, seconds[of], strict=True)]
                        for of in (FLOOR, STEP)
                    )
                    rows.append(
                        {
                            "what": name, "device": device, "precision": precision, "d": d,
                            "latents": bench.sae.n_latents, "k": bench.config.k, "dead": dead,
                            "tokens": len(bench.batch.coded_n),
                            "milliseconds": round(1e3 * median(found), 1),
                            "lowest": round(1e3 * min(found), 1), "highest": round(1e3 * max(found), 1),
                            "ratio_to_floor": round(median(over), 2), "ratio_lowest": round(min(over), 2),
                            "ratio_highest": round(max(over), 2), "share_of_step": round(median(share), 2), "repeats": repeats, "machine": machine,
                        }
                    )  # fmt: skip
                    print(rows[-1], flush=True)
    return rows
