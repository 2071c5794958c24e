"""Training of a joint SAE: what lies below the site is read from a cache, what lies above is passed through.

A step normalises, carries, encodes and decodes both models' tokens, puts the native reconstructions in place of the
activations (pads keep theirs), and passes on through both models above the site; gradients flow through these frozen
models into the SAE. Conditions of the study are settings (`crossseed.joint.config.of_condition`) and a map
(`crossseed.joint.maps`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from crossseed.adam import Adam
from crossseed.alignment.maps import AffineMap
from crossseed.cohorts.optimisation import Optimisation, learning_rate
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint import losses
from crossseed.joint.config import JOINT, MUTUAL, UNIVERSAL, JointTraining
from crossseed.joint.model import JointSAE, Passed
from crossseed.joint.upper import Batch, Cache, Upper
from crossseed.progress import Progress
from crossseed.resume import Resume
from crossseed.seeding import generator

CHECK_EVERY_STEPS = 20
# Read once, when cuBLAS starts; without it its sums differ from run to run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Trained(NamedTuple):
    """A finished training.

    Attributes:
        arrays: weights and W, see `JointSAE.arrays`.
        history: a row an epoch: ``epoch``, ``step``, the mean of each term over its steps, ``total`` of these,
            ``held_out`` where there is such a loss, ``dead`` (share of latents).
        steps: that were taken. kept_epoch: whose weights these are, from 1 on.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    steps: int
    kept_epoch: int


class Plan(NamedTuple):
    """How long a training is.

    Attributes: per_epoch: steps. steps: in all. tokens: coded tokens an epoch.
    """

    per_epoch: int
    steps: int
    tokens: int


def plan_of(config: JointTraining, cache: Cache) -> Plan:
    """How many steps a training takes, an epoch and in all, and how many tokens it sees an epoch."""
    per_epoch = math.ceil(len(cache) / config.batch)
    steps = config.epochs * per_epoch
    if config.batches is not None:
        steps = min(steps, config.batches)
    return Plan(per_epoch, steps, int(cache.coded(config.special_tokens).sum()))


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Where a GPU has several kernels, those that give the same bits each time; on a CPU all do.

    Attention is computed by its definition: the faster kernels add up their gradients in no order. A kernel that has no such
    twin is named in a warning.
    """
    if not device.startswith("cuda"):
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    asked = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = before


class Trainer:
    """A joint SAE in training.

    Args:
        config: settings. sae: what is trained. uppers: of models A and B. plan: of the training.
        names: of the training, for what is drawn in it.
    """

    def __init__(
        self,
        config: JointTraining,
        sae: JointSAE,
        uppers: Sequence[Upper],
        plan: Plan,
        names: tuple[object, ...] = (),
    ) -> None:
        self.config, self.sae, self.names = config, sae, names
        self.uppers = [uppers[model] for model in sae.models]
        self.plan = plan
        self.adam = Adam(sae.parameters(), weight_decay=config.weight_decay)
        self.by = losses.weights(config)
        self.hijacks = config.lambda_kl > 0 or config.lambda_ds > 0
        # Coded tokens since each latent of each coder last fired in any model.
        self.silent = torch.zeros(
            len(sae.coders), sae.n_latents, dtype=torch.int64, device=sae.device
        )
        self.dead_after = round(config.dead_window * plan.tokens)
        schedule: dict[str, Any] = {
            "steps": plan.steps,
            "warmup_steps": math.ceil(config.warmup_ratio * plan.steps),
            "peak_lr": config.lr,
            "final_lr_fraction": 0.0,
        }
        self._schedule = Optimisation.model_construct(**schedule)

    def mixed(self) -> AbstractContextManager[Any]:
        """The context of the SAE's matrix products."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.sae.device, dtype=torch.bfloat16)

    def dead(self) -> list[Tensor | None]:
        """Numbers of each coder's dead latents, (dead,), None where AuxK has nothing to do."""
        if self.config.lambda_aux == 0:
            return [None] * len(self.silent)
        found = [row.nonzero().squeeze(1) for row in self.silent >= self.dead_after]
        return [numbers if len(numbers) else None for numbers in found]

    def terms(
        self, batch: Batch, dead: Sequence[Tensor | None] | None, training: bool, encoder: int = 0
    ) -> tuple[dict[str, Tensor], Passed]:
        """Terms of the objective on a batch, means over models, and what the SAE made of it; `dead` are numbers, (dead,),
        of each coder's dead latents. For the rest see `crossseed.joint.model.JointSAE`."""
        config, sae = self.config, self.sae
        with self.mixed():
            passed = sae([batch.coded(m) for m in sae.models], dead, training, encoder)
        found: dict[str, list[Tensor]] = {"local": [losses.local(e) for e in passed.error]}
        if self.hijacks:
            found |= {"kl": [], "ds": []}
            mask = batch.mask_bl if config.mask_ds else None
            for model, upper, native in zip(sae.models, self.uppers, passed.native, strict=True):
                # In the precision of the clean pass, or rounding would be taken for what the SAE changes.
                states, logits = upper(batch.hijacked(model, native), batch.mask_bl, batch.at_bp)
                found["kl"].append(losses.kl(batch.logits_mbc[model], logits))
                clean = batch.next_mbld[model]
                found["ds"].append(losses.downstream(states, clean, mask, batch.n_real))
        if config.kind == JOINT and config.lambda_cross > 0:
            first, second = passed.codes
            found["cross"] = [losses.cross(first, second, config.cross_reduction)]
        if config.kind == MUTUAL and config.lambda_mutual > 0:
            found["mutual"] = [losses.mutual(*passed.decoders)]
        if passed.aux is not None:
            found["aux"] = [
                losses.aux(r, e, n, config.aux_k)
                for r, e, n in zip(passed.aux, passed.error, passed.dead, strict=True)
            ]
        return {name: torch.stack(values).mean() for name, values in found.items()}, passed

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One AdamW step; returns the terms."""
        encoder = 0
        if self.config.kind == UNIVERSAL:
            draw = generator("joint-encoder", *self.names, step)
            encoder = int(draw.integers(len(self.sae.models)))
        terms, passed = self.terms(batch, self.dead(), True, encoder)
        parameters = self.sae.parameters()
        # What has no part in a step, as the other encoder of a universal SAE, has no gradient.
        gradients = torch.autograd.grad(
            losses.total(terms, self.by), parameters, allow_unused=True, materialize_grads=True
        )
        self._remember(passed)
        lr = learning_rate(step, self._schedule)
        self.adam.step(gradients, lr, self.config.grad_clip)
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _remember(self, passed: Passed) -> None:
        n_tokens = len(passed.error[0])
        for number, codes in passed.codings.items():
            fired = codes.latents_nk[codes.values_nk != 0]
            self.silent[number] += n_tokens
            self.silent[number, fired] = 0

    @torch.no_grad()
    def held_out(self, cache: Cache) -> float:
        """The objective on other examples, AuxK left out, weighed by examples."""
        sums = 0.0
        for first in range(0, len(cache), self.config.batch):
            rows = np.arange(first, min(first + self.config.batch, len(cache)))
            batch = cache.batch(rows, self.config.special_tokens, self.sae.device, self.sae.models)
            terms, _ = self.terms(batch, None, training=False)
            sums += float(losses.total(terms, self.by)) * len(rows)
        return sums / len(cache)

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        return {
            **self.sae.arrays(),
            **self.adam.tensors(),
            "silent": self.silent.cpu().numpy().copy(),
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        self.sae.restore(tensors)
        self.adam.restore(tensors)
        self.silent.copy_(torch.from_numpy(tensors["silent"]))


class _History:
    """Means of the terms over the steps of each epoch; values are fetched from the device now and then."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.sums = [0.0] * len(losses.TERMS)
        self.last = list(self.sums)
        self.n = 0
        self._pending: list[Tensor] = []

    def add(self, terms: Mapping[str, Tensor]) -> None:
        nothing = torch.zeros_like(terms["local"])
        self._pending.append(torch.stack([terms.get(name, nothing) for name in losses.TERMS]))

    def flush(self) -> None:
        """Fetches what was noted, and adds it to the epoch's sums."""
        for values in self._pending:
            self.last = values.tolist()
            self.sums = [a + b for a, b in zip(self.sums, self.last, strict=True)]
            self.n += 1
        self._pending.clear()

    def close(self, by: Mapping[str, float], **more: float) -> None:
        """Ends an epoch."""
        self.flush()
        means = {name: a / self.n for name, a in zip(losses.TERMS, self.sums, strict=True)}
        total = sum(by[name] * mean for name, mean in means.items())
        self.rows.append({**more, **means, "total": total})
        self.sums, self.n = [0.0] * len(losses.TERMS), 0


class _Run:
    """A training between kills: trainer, history, and the weights of the lowest held-out loss."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.step = 0
        self.history = _History()
        self.best: dict[str, np.ndarray] = {}
        self.best_loss = math.inf
        self.best_epoch = 0

    def load(self, resume: Resume) -> None:
        saved = resume.load()
        if saved is None:
            return
        tensors, state = saved
        self.trainer.restore(tensors)
        self.best = {
            name.removeprefix("best/"): array
            for name, array in tensors.items()
            if name.startswith("best/")
        }
        self.step, self.best_epoch = state["step"], state["best_epoch"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        for name in ("rows", "sums", "last", "n"):
            setattr(self.history, name, state[name])

    def save(self, resume: Resume) -> None:
        self.history.flush()
        kept = {f"best/{name}": array for name, array in self.best.items()}
        state = {name: getattr(self.history, name) for name in ("rows", "sums", "last", "n")}
        state |= {"step": self.step, "best_epoch": self.best_epoch}
        # JSON has no infinity.
        state["best_loss"] = self.best_loss if math.isfinite(self.best_loss) else None
        resume.save({**self.trainer.tensors(), **kept}, state)

    def close_epoch(self, held_out: Cache | None) -> None:
        """Ends an epoch: notes its losses, and keeps the weights if the held-out loss is the lowest yet."""
        trainer = self.trainer
        epoch = math.ceil(self.step / trainer.plan.per_epoch)
        more = {"epoch": float(epoch), "step": float(self.step)}
        if held_out is not None:
            more["held_out"] = trainer.held_out(held_out)
            if more["held_out"] < self.best_loss:
                self.best, self.best_loss = trainer.sae.arrays(), more["held_out"]
                self.best_epoch = epoch
        more["dead"] = float((trainer.silent >= trainer.dead_after).double().mean())
        self.history.close(trainer.by, **more)

    def ended(self) -> bool:
        """Whether there is nothing left to do: no step, or no patience."""
        plan, patience = self.trainer.plan, self.trainer.config.early_stopping_patience
        if self.step >= plan.steps:
            return True
        waited = self.step // plan.per_epoch - self.best_epoch
        return patience is not None and waited >= patience


def order_of(cache: Cache, epoch: int, *names: object) -> np.ndarray:
    """Numbers of the examples in the order of one epoch, (examples,)."""
    return generator("joint-order", *names, epoch).permutation(len(cache))


def train(
    config: JointTraining,
    carried: AffineMap,
    uppers: Sequence[Upper],
    cache: Cache,
    held_out: Cache | None,
    device: str,
    resume: Resume,
    cell: str,
    models: tuple[int, ...] = (0, 1),
    names: tuple[object, ...] = (),
    after_step: Callable[[int], None] = lambda step: None,
) -> Trained:
    """Trains one joint SAE.

    Args:
        config: settings.
        carried: W, model B to the frame of A, frozen; the identity for none.
        uppers: models A and B above the site.
        cache: examples of the split `train`.
        held_out: others, for early stopping, and not those of `eval`; None where the patience is null.
        device: ``cpu`` or ``cuda``.
        resume: where the state is kept between kills.
        cell: the cell's name, for messages.
        models: (0, 1), or of `independent` the one.
        names: of the order of examples and of what is drawn on the way. Initial weights are those of the config's
            seed, the same in every training of one size.
        after_step: called with the number of steps done, for tests.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        UserError: a patience without held-out examples, or these without it, or what `JointSAE` refuses.
    """
    torch.set_flush_denormal(True)
    patience = config.early_stopping_patience
    if (patience is None) != (held_out is None):
        raise UserError(
            f"{cell}: early_stopping_patience {patience} {'uses no' if patience is None else 'needs'} held-out "
            f"examples; {'leave them out' if patience is None else 'give some'}, or set it to "
            f"{'a number' if patience is None else 'null'}"
        )
    plan = plan_of(config, cache)
    sae = JointSAE(config, cache.width, carried, models, device=device)
    run = _Run(Trainer(config, sae, uppers, plan, names))
    run.load(resume)
    progress = Progress(f"train {cell}", plan.steps, run.step)
    order_epoch, order = -1, np.empty(0, dtype=np.int64)
    with reproducible(device):
        while not run.ended():
            epoch, within = divmod(run.step, plan.per_epoch)
            if epoch != order_epoch:
                order_epoch, order = epoch, order_of(cache, epoch, *names)
            rows = order[within * config.batch : (within + 1) * config.batch]
            batch = cache.batch(rows, config.special_tokens, device, models)
            run.history.add(run.trainer.step(batch, run.step))
            run.step += 1
            last = within + 1 == plan.per_epoch or run.step == plan.steps
            if last or run.step % CHECK_EVERY_STEPS == 0:
                run.history.flush()
                loss = _loss(run)
                if not math.isfinite(loss):
                    resume.discard()
                    raise TrainingDiverged(
                        f"{cell}: the loss is not finite at step {run.step}; lower lr ({config.lr}), or set grad_clip"
                    )
                progress.update(run.step, f"loss {loss:.5g}")
            if last:
                run.close_epoch(held_out)
            if resume.due():
                run.save(resume)
            after_step(run.step)
    progress.close()
    kept = run.best_epoch or len(run.history.rows)
    return Trained(run.best or sae.arrays(), run.history.rows, run.step, kept)


def _loss(run: _Run) -> float:
    by = run.trainer.by
    return sum(by[n] * value for n, value in zip(losses.TERMS, run.history.last, strict=True))
