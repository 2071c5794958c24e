"""Training of one BERT classifier: masked words first where the run makes the base, then classes.

A seed decides the start of the head, dropout, and the order of the sentences; with `kind_of_seed: pretrain` the
base as well. Of all epochs the weights with the lowest loss on `development` are kept. Saved as ordinary
transformers folders. A killed job resumes bit-exactly.

In the training curve, steps count from the start of fine-tuning, whose checkpoint is `step0`; those of
pre-training are 0 and below, and their losses are of hidden words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from crossseed.atomic import move_into_place
from crossseed.cohorts.base import CURVE_COLUMNS, FINAL, QUALITY_COLUMNS
from crossseed.cohorts.classifier import baseline
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.batches import Examples, order_of
from crossseed.cohorts.classifier.bert import bert_config, from_checkpoint, make_base, with_head
from crossseed.cohorts.classifier.config import START
from crossseed.cohorts.classifier.data import Sentences, sentences
from crossseed.cohorts.classifier.job import FINETUNING, Job
from crossseed.cohorts.classifier.masked_words import pretrain
from crossseed.cohorts.classifier.settings import (
    AnyModel,
    CheckpointModel,
    ClassifierTraining,
    ScratchModel,
)
from crossseed.cohorts.classifier.stepping import Stepper, below, logits_of, rate
from crossseed.cohorts.hub.loading import weights_digest
from crossseed.cohorts.neox import provenance
from crossseed.progress import Progress
from crossseed.resume import Resume
from crossseed.store import file_digest, write_table

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

# Of Wilson's interval.
Z = 1.959963984540054
_MODEL: TypeAdapter[ScratchModel | CheckpointModel] = TypeAdapter(AnyModel)


def finetune(
    job: Job,
    model: BertForSequenceClassification,
    parts: Mapping[str, Examples],
    seed: int,
    device: str,
    saved: Mapping[str, np.ndarray] | None,
    start: Mapping[str, np.ndarray],
) -> Stepper:
    """The classifier with the lowest loss on `development` of all its epochs.

    Args:
        job: its log is written. model: with a new head. parts: encoded sentences.
        seed: of order and dropout. device: ``cpu`` or ``cuda``. saved: state to go on from.
        start: weights before the first step, kept with the state.
    """
    recipe, train, chosen = job.recipe, parts["train"], parts["development"]
    stepper = Stepper(model, recipe, device, "finetuning", seed)
    best: dict[str, np.ndarray] = {}
    if saved is not None:
        stepper.restore(saved)
        best = {k: v.numpy() for k, v in below(saved, "best/").items()}
    else:
        job.log |= {"step": 0, "epochs": []}
    job.log["stage"] = FINETUNING
    stepper.loss_sum = job.log.pop("loss_sum", 0.0)
    per_epoch = math.ceil(len(train.label_n) / recipe.batch_rows)
    steps = recipe.epochs * per_epoch
    losses: list[float] = job.log["epochs"]
    progress = Progress(f"train {job.where}", steps, job.log["step"])
    name = ("classifier-training", seed)
    for rows in order_of(recipe.batch_rows, len(train.label_n), job.log["step"], steps, *name):
        lr = rate(job.log["step"], steps, recipe.warmup_ratio, recipe.peak_lr)
        stepper(job.log["step"], train.batch(rows), lr)
        job.log["step"] += 1
        step = job.log["step"]
        job.note(stepper, step, step, steps, lr)
        progress.update(step, "steps")
        if step % per_epoch == 0:
            found = baseline.scores(logits_of(stepper, chosen), chosen.label_n)
            told = {"loss_nats": found.loss_nats, "accuracy": found.accuracy}
            job.measured(step, "development", len(chosen.label_n), told)
            if not losses or found.loss_nats < min(losses):
                best = stepper.weights()
            losses.append(found.loss_nats)
            if len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience:
                break
        kept = {"best": best, "start": start}
        job.save(stepper, {f"{at}/{k}": v for at, part in kept.items() for k, v in part.items()})
    progress.close()
    stepper.model.load_state_dict({k: torch.from_numpy(v) for k, v in best.items()})
    return stepper


def judge(job: Job, stepper: Stepper, parts: Mapping[str, Examples], found: Sentences) -> None:
    """Writes what the classifier gets right on `eval`, beside the most frequent class and a bag of words."""
    label_n = parts["eval"].label_n
    train, chosen, evaluated = (found.parts[part] for part in ("train", "development", "eval"))
    own = baseline.scores(logits_of(stepper, parts["eval"]), label_n)
    low, high = wilson(own.accuracy, len(label_n))
    values = {"accuracy": own.accuracy, "accuracy_low": low, "accuracy_high": high}
    losses = {"loss_nats": own.loss_nats}
    for name, scores in (
        ("majority", baseline.majority(train, evaluated, len(found.classes))),
        ("bag_of_words", baseline.bag_of_words(train, chosen, evaluated, len(found.classes))),
    ):
        values[f"accuracy_{name}"] = scores.accuracy
        losses[f"{name}_loss_nats"] = scores.loss_nats
    job.measured(job.log["step"], "eval", len(label_n), {**values, **losses})
    per_epoch = math.ceil(len(train.label_n) / job.recipe.batch_rows)
    kept = (1 + int(np.argmin(job.log["epochs"]))) * per_epoch
    job.measured(job.log["step"], "eval", len(label_n), {"kept_step": kept})


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half


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
    data: Sequence[Path] = (),
) -> None:
    """Trains one seed and writes its checkpoints, training curve and held-out measures.

    Args:
        spec: ``cohort``, ``seed``, ``base_seed``, ``data``, ``context``, ``model``, ``training``.
        device: ``cpu`` or ``cuda``.
        code: digest of the code, for resuming.
        anchor: the anchor's files, where this seed starts from its base.
        inputs: files of the cohort's tokenizer.
        out: files of all kept checkpoints, each in the folder named after it.
        curve, quality: CSVs to write.
        data: see `crossseed.cohorts.classifier.data.sentences`.

    Raises:
        TrainingDiverged: the loss became NaN or infinite.
        UserError: the data are refused; or the base is another than the spec says.
    """
    torch.set_flush_denormal(True)
    recipe = ClassifierTraining.model_validate(spec["training"])
    told = _MODEL.validate_python(spec["model"])
    found = sentences(spec["data"], data)
    tokenizer = tk.load(inputs, tk.named(told))
    parts = {
        part: Examples(tk.encode(tokenizer, texts, spec["context"]), label_n)
        for part, (texts, label_n) in found.parts.items()
    }
    more = [*found.parts["train"].texts, *found.unlabelled]
    parts["text"] = Examples(
        tk.encode(tokenizer, more, spec["context"]), np.zeros(len(more), np.int64)
    )
    base_files = [path for path in anchor if path.parent.name == START]
    model: BertForSequenceClassification | None = None
    base = "own"
    if isinstance(told, CheckpointModel):
        model = from_checkpoint(told, spec, found.classes)
        base = weights_digest(model)
    elif base_files:
        base = file_digest(_weights_of(base_files))
    made_from = {"data": found.digest, "base": base}
    identity = {"spec": spec, "code": code, "inputs": made_from, "device": device}
    job = Job(spec, recipe, Resume(curve, identity))
    saved: dict[str, np.ndarray] | None = None
    state = job.resume.load()
    if state is not None:
        saved, job.log = state
    at_classes = job.log["stage"] == FINETUNING
    if isinstance(told, ScratchModel):
        pad, mask = parts["train"].encoded.pad, int(tokenizer.mask_token_id)
        config = bert_config(told, len(tokenizer), spec["context"], pad, found.classes)
        if base_files:
            weights = load_file(_weights_of(base_files))
        else:
            untrained = make_base(spec["base_seed"], config)
            weights = untrained.state_dict()
            if told.pretraining and not at_classes:
                weights = pretrain(
                    job, untrained, told.pretraining, parts, mask, spec["base_seed"], device, saved
                )
                saved = None
        model = with_head(spec["seed"], config, weights)
    assert model is not None
    if saved is None:
        start = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    else:
        start = {name: value.numpy() for name, value in below(saved, "start/").items()}
    stepper = finetune(job, model, parts, spec["seed"], device, saved, start)
    judge(job, stepper, parts, found)
    kept = {START: start, FINAL: stepper.weights()}
    model = torch.nn.Module.to(model, "cpu")
    by_checkpoint: dict[str, list[Path]] = {}
    for path in out:
        by_checkpoint.setdefault(path.parent.name, []).append(path)
    for checkpoint, files in by_checkpoint.items():
        says = {
            "cohort": spec["cohort"],
            "seed": spec["seed"],
            "checkpoint": checkpoint,
            "spec": spec,
            "classes": found.classes,
            **made_from,
        }
        model.load_state_dict({k: torch.from_numpy(v) for k, v in kept[checkpoint].items()})
        with move_into_place(files) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            provenance.seal(folder, says)
    write_table(quality, QUALITY_COLUMNS, job.log["quality"])
    write_table(curve, CURVE_COLUMNS, job.log["curve"])
    job.resume.discard()


def _weights_of(files: Sequence[Path]) -> Path:
    """The weights among the files of the anchor's start."""
    return next(path for path in files if path.name == provenance.WEIGHTS)
