"""Training of one Dyck-3 transformer (recipe: arXiv 2605.24577, appendix on training).

Batches are bucketed by length and trimmed to their longest row. On a GPU each distinct
length has one captured CUDA graph of the whole step, since the model is so small that
launches would bound it. A killed job resumes bit-exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crossseed.adam import Adam
from crossseed.cohorts.base import CURVE_COLUMNS, QUALITY_COLUMNS
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.config import CHECKPOINTS_SCHEMA, Training
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.optimisation import BETAS, CURVE_EVERY_STEPS, learning_rate
from crossseed.errors import TrainingDiverged, UserError
from crossseed.progress import Progress
from crossseed.resume import Resume, kept_of, kept_to
from crossseed.seeding import entropy, generator
from crossseed.store import read_tensors, write_table, write_tensors

EVAL_BATCH_ROWS = 256
IGNORED = -100
GRAPH_WARMUP_STEPS = 3


class Trained(NamedTuple):
    """Attributes:
    checkpoints: state dicts by checkpoint name, `final` among them.
    curve: rows of the training curve.
    quality: rows of the quality table.
    """

    checkpoints: dict[str, dict[str, np.ndarray]]
    curve: list[dict[str, Any]]
    quality: list[dict[str, Any]]


def longest_content(step: int, training: Training) -> int:
    """Largest content length trained on in a pool whose last step is `step`."""
    low, high = training.lengths
    if step >= training.short_first_steps:
        return high
    return low + int((high - low) * step / training.short_first_steps)


class Batch(NamedTuple):
    """One step's sequences, trimmed to the longest.

    Attributes:
        tokens, depth, valid: inputs and targets, each of shape (rows, longest row).
        weight: tokens in the batch over the mean of its pool. Batches of short rows count for
            less, so that every token counts the same, as in batches of mixed length.
    """

    tokens: np.ndarray
    depth: np.ndarray
    valid: np.ndarray
    weight: np.float32


def training_batches(seed: int, training: Training, start: int) -> Iterator[Batch]:
    """The batches of the steps from `start` on.

    A pure function of (seed, step): pool p is drawn from a generator of its own.
    """
    per_pool = training.pool_rows // training.batch_rows
    for pool in range(start // per_pool, -(-training.steps // per_pool)):
        rng = generator("dyck-training", seed, pool)
        lengths = (training.lengths[0], longest_content((pool + 1) * per_pool, training))
        tokens = task.sample_train(rng, per_pool * training.batch_rows, lengths)
        row_lengths = (tokens != task.PAD).sum(axis=1)
        labels = task.label(tokens[:, : row_lengths.max()])
        order = np.argsort(row_lengths, kind="stable").reshape(per_pool, training.batch_rows)
        rng.shuffle(order)
        first = start - pool * per_pool if pool == start // per_pool else 0
        for rows in order[first : training.steps - pool * per_pool]:
            longest = int(row_lengths[rows].max())
            yield Batch(
                tokens[rows, :longest],
                labels.depth_nt[rows, :longest],
                labels.valid_nt[rows, :longest],
                np.float32(row_lengths[rows].mean() / row_lengths.mean()),
            )


def loss_of(model: DyckTransformer, tokens: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Sum over the three heads of the mean cross-entropy over unmasked positions."""
    padding = tokens == task.PAD
    losses = [
        F.cross_entropy(
            logits.flatten(0, 1).float(),
            target.masked_fill(padding, IGNORED).flatten(),
            ignore_index=IGNORED,
        )
        for logits, target in zip(model(tokens), (tokens, depth, valid), strict=True)
    ]
    return torch.stack(losses).sum()


class Stepper:
    """One optimiser step on one batch; on CUDA replayed from a graph per batch shape.

    Args:
        model: the model, on its device.
        training: the recipe.
    """

    def __init__(self, model: DyckTransformer, training: Training) -> None:
        self.model, self.training = model, training
        self.device = model.W_E.device
        self.cuda = self.device.type == "cuda"
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.lr: Tensor | float = torch.zeros((), device=self.device) if self.cuda else 0.0
        self.adam = Adam(self.parameters, BETAS, training.weight_decay)
        self.loss_sum = torch.zeros((), device=self.device)
        self.grad_norm = torch.zeros((), device=self.device)
        self._pool: Any = None  # one memory pool for the graphs of all lengths
        self._graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}

    def _precision(self) -> AbstractContextManager[Any]:
        if self.training.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _gradients(self, batch: tuple[Tensor, ...]) -> Tensor:
        for parameter in self.parameters:
            if self.cuda and parameter.grad is not None:
                parameter.grad.zero_()  # a captured graph needs its buffers in place
            else:
                parameter.grad = None
        with self._precision():
            loss = loss_of(self.model, *batch[:3]) * batch[3]
        loss.backward()
        return loss.detach()

    def _step(self, batch: tuple[Tensor, ...]) -> None:
        self.loss_sum += self._gradients(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.grad_clip)
        self.grad_norm.copy_(norm.detach())
        self.adam.step([p.grad for p in self.parameters if p.grad is not None], self.lr)

    def _capture(self, batch: tuple[Tensor, ...]) -> None:
        """Captures the step for this batch's shape without changing any weight."""
        static = tuple(tensor.clone() for tensor in batch)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(GRAPH_WARMUP_STEPS):
                self._gradients(static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            self._step(static)
        self._graphs[tuple(batch[0].shape)] = (graph, static)

    def __call__(self, batch: Batch, lr: float) -> None:
        inputs = tuple(torch.from_numpy(a).to(self.device, torch.long) for a in batch[:3])
        tensors = (*inputs, torch.tensor(batch.weight, device=self.device))
        if not self.cuda:
            self.lr = lr
            self._step(tensors)
            return
        assert isinstance(self.lr, Tensor)
        self.lr.fill_(lr)
        shape = tuple(tensors[0].shape)
        if shape not in self._graphs:
            self._capture(tensors)
        graph, static = self._graphs[shape]
        for slot, tensor in zip(static, tensors, strict=True):
            slot.copy_(tensor)
        graph.replay()

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        found = {f"model/{k}": _numpy(v) for k, v in self.model.state_dict().items()}
        return {**found, **self.adam.tensors()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        self.model.load_state_dict(
            {k[6:]: torch.from_numpy(v) for k, v in tensors.items() if k.startswith("model/")}
        )
        self.adam.restore(tensors)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def evaluate(
    model: DyckTransformer, rows: int, lengths: tuple[int, int], seed: int
) -> list[dict[str, Any]]:
    """Accuracy of each head on held-out sequences of each distribution.

    The sequences depend on `rows` and `lengths` alone, so every seed sees the same ones.

    Returns:
        Rows with keys seed, distribution, measure, value, n_tokens.
    """
    device = model.W_E.device
    found = []
    for distribution in task.DISTRIBUTIONS:
        rng = generator("dyck-evaluation", distribution)
        tokens = task.sample(rng, rows, distribution, lengths)
        labels = task.label(tokens)
        targets = {"tok": tokens, "depth": labels.depth_nt, "valid": labels.valid_nt}
        correct = dict.fromkeys(task.HEADS, 0)
        n_tokens = 0
        for start in range(0, rows, EVAL_BATCH_ROWS):
            part = slice(start, start + EVAL_BATCH_ROWS)
            kept = tokens[part] != task.PAD
            n_tokens += int(kept.sum())
            with torch.no_grad():
                logits = model(torch.from_numpy(tokens[part]).to(device, torch.long))
            for head in task.HEADS:
                guess = getattr(logits, head).argmax(dim=-1).cpu().numpy()
                correct[head] += int((guess == targets[head][part])[kept].sum())
        for head in task.HEADS:
            found.append(
                {
                    "seed": seed,
                    "distribution": distribution,
                    "measure": f"accuracy_{head}",
                    "value": correct[head] / n_tokens,
                    "n_tokens": n_tokens,
                }
            )
    return found


def train_model(
    seed: int,
    training: Training,
    frozen: dict[str, np.ndarray],
    device: str,
    resume: Resume,
    after_step: Callable[[int], None] = lambda step: None,
    cell: str = "dyck",
) -> Trained:
    """Trains one model.

    Args:
        seed: seeds initialisation and data.
        training: the recipe.
        frozen: tensors copied in after initialisation and kept as they are.
        device: ``cpu`` or ``cuda``.
        resume: where the state is kept between kills.
        after_step: called with the number of steps done, for tests.
        cell: the cell's name, for messages.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        UserError: a frozen tensor does not fit the model.
    """
    torch.set_flush_denormal(True)
    model = DyckTransformer(entropy("dyck-initialisation", seed) % 2**63)
    state = dict(model.named_parameters())
    for name, value in frozen.items():
        if name not in state or tuple(state[name].shape) != value.shape:
            raise UserError(
                f"shared tensor {name!r} of shape {value.shape} does not fit the model's "
                f"{tuple(state[name].shape) if name in state else 'tensors'}"
            )
        with torch.no_grad():
            state[name].copy_(torch.from_numpy(value))
        state[name].requires_grad_(False)
    stepper = Stepper(model.to(device), training)
    log: dict[str, Any] = {"step": 0, "curve": [], "quality": [], "reached": None}
    kept: dict[str, dict[str, np.ndarray]] = {}
    saved = resume.load()
    if saved is not None:
        tensors, log = saved
        stepper.restore(tensors)
        kept = kept_of(tensors)
    stepper.loss_sum.fill_(log.pop("loss_sum", 0.0))
    if 0 in training.keep_steps and log["step"] == 0:
        kept["step0"] = {k: _numpy(v) for k, v in model.state_dict().items()}
    lengths = (training.lengths[0], training.lengths[1])
    progress = Progress(f"train {cell}", training.steps, log["step"])
    check_every = CURVE_EVERY_STEPS if stepper.cuda else 1
    for batch in training_batches(seed, training, log["step"]):
        lr = learning_rate(log["step"], training)
        stepper(batch, lr)
        log["step"] += 1
        step = log["step"]
        ended = step == training.steps
        checked = step % check_every == 0 or ended or step in training.keep_steps
        if checked and not math.isfinite(stepper.loss_sum.item()):
            resume.discard()
            raise TrainingDiverged(
                f"{cell}: the loss is not finite at step {step}; lower "
                f"training.peak_lr ({training.peak_lr}) or training.grad_clip"
            )
        if step in training.keep_steps:
            kept[f"step{step}"] = {k: _numpy(v) for k, v in model.state_dict().items()}
        if step % training.eval_every_steps == 0 and step < training.steps:
            rows = evaluate(model, training.eval_rows, lengths, seed)
            log["quality"] += [{"step": step, **row} for row in rows]
            stop = training.stop
            if stop is not None:
                if log["reached"] is None and min(r["value"] for r in rows) >= stop.accuracy:
                    log["reached"] = step
                patient = stop.patience_steps + (log["reached"] or 0)
                kept_all = step >= max(training.keep_steps, default=0)
                ended = log["reached"] is not None and step >= patient and kept_all
        if step % CURVE_EVERY_STEPS == 0 or ended:
            loss = stepper.loss_sum.item() / (step % CURVE_EVERY_STEPS or CURVE_EVERY_STEPS)
            stepper.loss_sum.zero_()
            log["curve"].append(
                {
                    "seed": seed,
                    "step": step,
                    "learning_rate": lr,
                    "loss_nats": loss,
                    "gradient_norm": stepper.grad_norm.item(),
                }
            )
            progress.update(step, f"loss {loss:.4f}")
        if ended:
            break
        if resume.due():
            resume.save(
                {**stepper.tensors(), **kept_to(kept)}, {**log, "loss_sum": stepper.loss_sum.item()}
            )
        after_step(step)
    progress.close()
    rows = evaluate(model, training.eval_rows, lengths, seed)
    log["quality"] = [row for row in log["quality"] if row["step"] != log["step"]]
    log["quality"] += [{"step": log["step"], **row} for row in rows]
    kept["final"] = {k: _numpy(v) for k, v in model.state_dict().items()}
    return Trained(kept, log["curve"], log["quality"])


def train(
    spec: dict[str, Any],
    *,
    device: str,
    code: str,
    anchor: Sequence[Path],
    inputs: Sequence[Path],
    out: Sequence[Path],
    curve: Path,
    quality: Path,
) -> None:
    """Trains one seed and writes its checkpoints, training curve and held-out accuracies.

    Args:
        spec: ``cohort``, ``seed``, ``share`` and ``training``.
        device: ``cpu`` or ``cuda``.
        code: digest of the code, for resuming.
        anchor: the anchor's checkpoints, where tensors are shared.
        inputs: none are needed.
        out: the safetensors file of all checkpoints.
        curve, quality: CSVs to write.

    Raises:
        UserError: the seed shares tensors with the anchor, whose checkpoints are not given.
    """
    (checkpoints,) = out
    recipe = Training.model_validate(spec["training"])
    frozen: dict[str, np.ndarray] = {}
    made_from: dict[str, str] = {}
    if spec["share"]:
        if not anchor:
            raise UserError("this seed shares tensors with the anchor; give --anchor")
        tensors, found = read_tensors(anchor[0], CHECKPOINTS_SCHEMA, prefix="final/")
        frozen = {name: tensors[name] for name in spec["share"]}
        made_from = {"anchor": found.digest}
    identity = {"spec": spec, "code": code, "inputs": made_from, "device": device}
    resume = Resume(checkpoints, identity)
    cell = f"{spec['cohort']} seed {spec['seed']}"
    trained = train_model(spec["seed"], recipe, frozen, device, resume, cell=cell)
    cohort = {"cohort": spec["cohort"]}
    write_table(quality, QUALITY_COLUMNS, [{**cohort, **row} for row in trained.quality])
    write_table(curve, CURVE_COLUMNS, [{**cohort, **row} for row in trained.curve])
    tensors = {
        f"{checkpoint}/{name}": value
        for checkpoint, state in trained.checkpoints.items()
        for name, value in state.items()
    }
    write_tensors(checkpoints, tensors, CHECKPOINTS_SCHEMA, spec, made_from)
    resume.discard()
