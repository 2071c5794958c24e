"""Pre-training: masked words predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crossseed.cohorts.classifier.batches import IGNORED, Batch, Examples, hidden, order_of
from crossseed.cohorts.classifier.job import PRETRAINING, Job
from crossseed.cohorts.classifier.settings import Pretraining
from crossseed.cohorts.classifier.stepping import EVAL_ROWS, Stepper, rate
from crossseed.progress import Progress

if TYPE_CHECKING:
    from transformers import BertForMaskedLM


def pretrain(
    job: Job,
    model: BertForMaskedLM,
    told: Pretraining,
    parts: Mapping[str, Examples],
    mask: int,
    base_seed: int,
    device: str,
    saved: Mapping[str, np.ndarray] | None,
) -> dict[str, Tensor]:
    """The base after masked-language modelling of the sentences of ``text``.

    Args:
        job: its log is written. model: untrained. told: the recipe.
        parts: encoded sentences. mask: id of the mask token. base_seed: of order, masks and dropout.
        device: ``cpu`` or ``cuda``. saved: state to go on from.
    """
    stepper = Stepper(model, job.recipe, device, "pretraining", base_seed)
    if saved is not None:
        stepper.restore(saved)
    stepper.loss_sum = job.log.pop("loss_sum", 0.0)
    job.log["stage"] = PRETRAINING
    train, vocabulary = parts["text"], model.config.vocab_size
    start = job.log["step"]
    name = ("classifier-pretraining", base_seed)
    progress = Progress(f"pre-train {job.where}", told.steps, start)
    orders = order_of(told.batch_rows, len(train.label_n), start, told.steps, *name)
    for rows in orders:
        step = job.log["step"]
        lr = rate(step, told.steps, job.recipe.warmup_ratio, told.peak_lr)
        batch = _hidden_of(train, rows, told.masked, mask, vocabulary, *name, "masks", step)
        stepper(step, batch, lr)
        step += 1
        job.log["step"] = step
        job.note(stepper, step, step - told.steps, told.steps, lr)
        progress.update(step, "steps")
        job.save(stepper, {})
    progress.close()
    # How well words are predicted, beside counting them.
    stepper.model.eval()
    found, held = 0.0, parts["development"]
    counts = np.bincount(train.encoded.tokens_nt[~train.encoded.special_nt], minlength=vocabulary)
    log_p = np.log((counts + 1) / (counts + 1).sum())
    by_count, n = 0.0, 0
    for start in range(0, len(held.label_n), EVAL_ROWS):
        rows = np.arange(start, min(start + EVAL_ROWS, len(held.label_n)))
        batch = _hidden_of(held, rows, told.masked, mask, vocabulary, "classifier-held-out", start)
        with torch.no_grad():
            logits = stepper.logits(batch).flatten(0, -2)
        target = torch.from_numpy(batch.target).to(device, torch.long).flatten()
        found += F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum").item()
        wanted = batch.target[batch.target != IGNORED]
        by_count -= float(log_p[wanted].sum())
        n += len(wanted)
    job.measured(
        0,
        "hidden words, development",
        n,
        {"masked_loss_nats": found / n, "unigram_masked_loss_nats": by_count / n},
    )
    return {name: value.detach().cpu() for name, value in stepper.model.state_dict().items()}


def _hidden_of(
    part: Examples, rows: np.ndarray, share: float, mask: int, vocabulary: int, *name: object
) -> Batch:
    batch = part.batch(rows)
    special = part.encoded.special_nt[rows, : batch.tokens_nt.shape[1]]
    return hidden(batch, special, share, mask, vocabulary, *name)
