"""Training of one small GPT-NeoX model on the cohort's text.

All seeds read the same documents; a seed decides the initial weights and the order. Saved as
ordinary transformers folders. A killed job resumes bit-exactly.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crossseed.adam import Adam
from crossseed.atomic import move_into_place
from crossseed.cohorts.base import CURVE_COLUMNS, FINAL, QUALITY_COLUMNS
from crossseed.cohorts.neox import provenance
from crossseed.cohorts.neox import tokenizer as tk
from crossseed.cohorts.neox.config import NeoxModel, NeoxTraining
from crossseed.cohorts.optimisation import BETAS, CURVE_EVERY_STEPS, learning_rate
from crossseed.cohorts.text import corpus as text
from crossseed.cohorts.text.corpus import part_of
from crossseed.errors import TrainingDiverged, UserError
from crossseed.progress import Progress
from crossseed.resume import Resume, kept_of, kept_to
from crossseed.seeding import entropy, generator
from crossseed.store import arrays_digest, write_table

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

HELD_OUT = "held-out text"
EVAL_BATCH_ROWS = 32
ENCODE_DOCUMENTS = 64
# Discount of the bigram baseline (Ney, Essen and Kneser 1994, absolute discounting).
DISCOUNT = 0.75


def make_model(seed: int, model: NeoxModel, context: int, end_of_text: int) -> GPTNeoXForCausalLM:
    """An untrained model; weights depend on the seed and the shape alone."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=model.vocabulary,
        hidden_size=model.width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_width,
        max_position_embeddings=context,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(entropy("neox-initialisation", seed) % 2**63)
        return GPTNeoXForCausalLM(config)


def encode(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerFast, stop_at: int | None = None
) -> np.ndarray:
    """Documents as one row of token ids, end-of-text after each; cut at `stop_at` tokens."""
    parts: list[np.ndarray] = []
    n = 0
    for start in range(0, len(documents), ENCODE_DOCUMENTS):
        ids = tokenizer(list(documents[start : start + ENCODE_DOCUMENTS]), verbose=False).input_ids
        for document in ids:
            parts.append(np.array([*document, tokenizer.eos_token_id], dtype=np.int32))
            n += len(parts[-1])
        if stop_at is not None and n >= stop_at:
            break
    joined = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return joined[:stop_at]


def training_batches(
    seed: int, ids: np.ndarray, training: NeoxTraining, start: int
) -> Iterator[np.ndarray]:
    """The batches of the steps from `start` on, each (rows, context) token ids.

    A pure function of (seed, step). Each epoch cuts the text at an offset of its own and visits
    its sequences once, in an order of its own; what does not fill a last batch is left out.

    Raises:
        UserError: the ids do not fill one batch.
    """
    per_epoch = (len(ids) // training.context - 1) // training.batch_rows
    if per_epoch < 1:
        raise UserError(
            f"{len(ids)} training tokens give no batch of {training.batch_rows} sequences of "
            f"{training.context}; lower training.batch_rows or training.context, or choose a "
            "larger corpus"
        )
    step = start
    while step < training.steps:
        epoch, first = divmod(step, per_epoch)
        rng = generator("neox-training", seed, epoch)
        offset = int(rng.integers(training.context))
        order = rng.permutation((len(ids) - offset) // training.context)
        for number in range(first, min(per_epoch, training.steps - epoch * per_epoch)):
            rows = order[number * training.batch_rows : (number + 1) * training.batch_rows]
            at = offset + rows[:, None] * training.context + np.arange(training.context)
            yield ids[at]
            step += 1


def loss_of(model: GPTNeoXForCausalLM, ids: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of each next token in nats, ids of shape (rows, context)."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction=reduction)


@torch.no_grad()
def held_out_loss(model: GPTNeoXForCausalLM, rows: np.ndarray, device: str) -> float:
    """Mean loss in nats a token over (rows, context) token ids."""
    model.eval()
    total = 0.0
    for start in range(0, len(rows), EVAL_BATCH_ROWS):
        ids = torch.from_numpy(rows[start : start + EVAL_BATCH_ROWS]).to(device, torch.long)
        total += loss_of(model, ids, "sum").item()
    model.train()
    return total / (rows.shape[0] * (rows.shape[1] - 1))


def baselines(ids: np.ndarray, rows: np.ndarray, vocabulary: int) -> dict[str, float]:
    """Losses in nats a token of count models of the training text, on the held-out rows.

    The unigram model adds one to every count. The bigram model interpolates with it by
    absolute discounting: p(w|v) = max(c(v,w) − D, 0)/c(v) + D·n(v)/c(v) · p(w), n(v) the number
    of distinct successors of v.
    """
    counts = np.bincount(ids, minlength=vocabulary) + 1.0
    unigram = counts / counts.sum()
    keys, pairs = np.unique(ids[:-1].astype(np.int64) * vocabulary + ids[1:], return_counts=True)
    before = keys // vocabulary
    total = np.bincount(before, weights=pairs, minlength=vocabulary)
    distinct = np.bincount(before, minlength=vocabulary)
    wanted = rows[:, :-1].astype(np.int64) * vocabulary + rows[:, 1:]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    seen = np.where(keys[at] == wanted, pairs[at], 0)
    following, word = rows[:, :-1], rows[:, 1:]
    known = np.maximum(total[following], 1)
    share = np.where(total[following] > 0, DISCOUNT * distinct[following] / known, 1.0)
    bigram = np.maximum(seen - DISCOUNT, 0) / known + share * unigram[word]
    return {
        "unigram_loss_nats": float(-np.log(unigram[word]).mean()),
        "bigram_loss_nats": float(-np.log(bigram).mean()),
    }


class Stepper:
    """One optimiser step on one batch.

    Args:
        model: the model, on its device.
        training: the recipe.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, model: GPTNeoXForCausalLM, training: NeoxTraining, device: str) -> None:
        self.model, self.training, self.device = model, training, device
        self.parameters = list(model.parameters())
        self.adam = Adam(self.parameters, BETAS, training.weight_decay)
        self.loss_sum = torch.zeros((), device=device)
        self.grad_norm = torch.zeros((), device=device)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.training.precision == "bfloat16":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def __call__(self, batch: np.ndarray, lr: float) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        with self._precision():
            loss = loss_of(self.model, torch.from_numpy(batch).to(self.device, torch.long))
        loss.backward()
        self.loss_sum += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.grad_clip)
        self.grad_norm.copy_(norm.detach())
        self.adam.step([p.grad for p in self.parameters if p.grad is not None], lr)

    def weights(self) -> dict[str, np.ndarray]:
        """Weights by name, each of its parameter's shape, copied to the host."""
        state = self.model.state_dict()
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        return {**{f"model/{k}": v for k, v in self.weights().items()}, **self.adam.tensors()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        self.model.load_state_dict(
            {k[6:]: torch.from_numpy(v) for k, v in tensors.items() if k.startswith("model/")}
        )
        self.adam.restore(tensors)


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
    """Trains one seed and writes its checkpoints, training curve and held-out losses.

    Args:
        spec: ``cohort``, ``seed``, ``corpus``, ``text_seed``, ``corpus_share``, ``model``,
            ``training``.
        device: ``cpu`` or ``cuda``.
        code: digest of the code, for resuming.
        anchor: none is needed.
        inputs: files of the cohort's tokenizer.
        out: files of all kept checkpoints, each in the folder named after it.
        curve, quality: CSVs to write.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        UserError: the text is too little for a batch or for the evaluation.
    """
    torch.set_flush_denormal(True)
    recipe, shape = (
        NeoxTraining.model_validate(spec["training"]),
        NeoxModel.model_validate(spec["model"]),
    )
    cell = f"{spec['cohort']} seed {spec['seed']}"
    tokenizer = tk.load(inputs)
    ids = encode(tk.own_documents(spec), tokenizer)
    rows = _held_out_rows(spec, recipe, tokenizer)
    model = make_model(spec["seed"], shape, recipe.context, tokenizer.eos_token_id)
    torch.nn.Module.to(model, device)
    stepper = Stepper(model, recipe, device)
    by_checkpoint: dict[str, list[Path]] = {}
    for path in out:
        by_checkpoint.setdefault(path.parent.name, []).append(path)

    made_from = {"text": arrays_digest({"ids": ids, "held_out": rows})}
    identity = {"spec": spec, "code": code, "inputs": made_from, "device": device}
    resume = Resume(curve, identity)
    log: dict[str, Any] = {"step": 0, "curve": [], "quality": []}
    kept: dict[str, dict[str, np.ndarray]] = {}
    saved = resume.load()
    if saved is not None:
        tensors, log = saved
        stepper.restore(tensors)
        kept = kept_of(tensors)
    elif 0 in recipe.keep_steps:
        kept["step0"] = stepper.weights()
    stepper.loss_sum.fill_(log.pop("loss_sum", 0.0))

    def evaluated(step: int, more: dict[str, float]) -> list[dict[str, Any]]:
        found = {"loss_nats": held_out_loss(model, rows, device), **more}
        n = int(rows.shape[0] * (rows.shape[1] - 1))
        keys = {"cohort": spec["cohort"], "seed": spec["seed"], "step": step}
        return [
            {**keys, "distribution": HELD_OUT, "measure": k, "value": v, "n_tokens": n}
            for k, v in found.items()
        ]

    progress = Progress(f"train {cell}", recipe.steps, log["step"])
    for batch in training_batches(spec["seed"], ids, recipe, log["step"]):
        lr = learning_rate(log["step"], recipe)
        stepper(batch, lr)
        log["step"] += 1
        step = log["step"]
        if not math.isfinite(stepper.loss_sum.item()):
            resume.discard()
            raise TrainingDiverged(
                f"{cell}: the loss is not finite at step {step}; lower training.peak_lr "
                f"({recipe.peak_lr}) or training.grad_clip"
            )
        if step % CURVE_EVERY_STEPS == 0 or step == recipe.steps:
            loss = stepper.loss_sum.item() / (step % CURVE_EVERY_STEPS or CURVE_EVERY_STEPS)
            stepper.loss_sum.zero_()
            log["curve"].append(
                {
                    "cohort": spec["cohort"],
                    "seed": spec["seed"],
                    "step": step,
                    "learning_rate": lr,
                    "loss_nats": loss,
                    "gradient_norm": stepper.grad_norm.item(),
                }
            )
            progress.update(step, f"loss {loss:.4f}")
        if step in recipe.keep_steps:
            kept[f"step{step}"] = stepper.weights()
        if step % recipe.eval_every_steps == 0 and step < recipe.steps:
            log["quality"] += evaluated(step, {})
        if resume.due():
            state = {**log, "loss_sum": stepper.loss_sum.item()}
            resume.save({**stepper.tensors(), **kept_to(kept)}, state)
    progress.close()
    kept[FINAL] = stepper.weights()
    log["quality"] += evaluated(recipe.steps, baselines(ids, rows, shape.vocabulary))
    for checkpoint, files in by_checkpoint.items():
        told = {
            "cohort": spec["cohort"],
            "seed": spec["seed"],
            "checkpoint": checkpoint,
            "spec": spec,
            **made_from,
        }
        model.load_state_dict({k: torch.from_numpy(v) for k, v in kept[checkpoint].items()})
        _save(files, model, inputs, told)
    write_table(quality, QUALITY_COLUMNS, log["quality"])
    write_table(curve, CURVE_COLUMNS, log["curve"])
    resume.discard()


def _held_out_rows(
    spec: dict[str, Any], recipe: NeoxTraining, tokenizer: PreTrainedTokenizerFast
) -> np.ndarray:
    """Held-out sequences, (rows, context) token ids, of documents no model is trained on.

    The documents come in an order of their own, not in that of their names.
    """
    places = {
        document: part_of(document, spec["text_seed"])
        for document in text.distinct(text.documents(tk.corpus_of(spec)))
    }
    held_out = [document for document, place in places.items() if place >= spec["corpus_share"]]
    documents = sorted(held_out, key=places.__getitem__)
    wanted = recipe.eval_rows * recipe.context
    ids = encode(documents, tokenizer, wanted)
    if len(ids) < wanted:
        raise UserError(
            f"the held-out documents give {len(ids)} tokens, but training.eval_rows = "
            f"{recipe.eval_rows} of {recipe.context} need {wanted}; lower eval_rows or corpus_share"
        )
    return ids.reshape(recipe.eval_rows, recipe.context)


def _save(
    files: Sequence[Path],
    model: GPTNeoXForCausalLM,
    tokenizer: Sequence[Path],
    told: dict[str, Any],
) -> None:
    """A transformers folder of which config.json says what the weights are."""
    with move_into_place(files) as folder:
        model.save_pretrained(folder)
        for path in tokenizer:
            shutil.copyfile(path, folder / path.name)
        provenance.seal(folder, told)
