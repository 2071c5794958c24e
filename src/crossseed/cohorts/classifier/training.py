"""Training of one BERT classifier: masked words first where the run makes the base, then classes.

A seed decides the start of the head, dropout, and the order of the sentences; with `kind_of_seed: pretrain` the
base as well. Of all epochs the weights with the lowest loss on `development` are kept. Saved as ordinary
transformers folders. A killed job resumes bit-exactly.

In the training curve, steps count from the start of fine-tuning, whose checkpoint is `step0`; those of
pre-training are 0 and below, and their losses are of hidden words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from crossseed.adam import Adam
from crossseed.cohorts.base import CURVE_COLUMNS, FINAL, QUALITY_COLUMNS
from crossseed.cohorts.classifier import baseline
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.config import (
    START,
    AnyModel,
    CheckpointModel,
    ClassifierTraining,
    Pretraining,
    ScratchModel,
)
from crossseed.cohorts.classifier.data import Sentences, sentences
from crossseed.cohorts.hub import check
from crossseed.cohorts.hub.loading import Source, load_classifier, weights_digest
from crossseed.cohorts.neox import provenance
from crossseed.cohorts.optimisation import CURVE_EVERY_STEPS
from crossseed.errors import TrainingDiverged
from crossseed.progress import Progress
from crossseed.resume import Resume
from crossseed.seeding import entropy, generator
from crossseed.store import file_digest, move_into_place, write_table

if TYPE_CHECKING:
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

EVAL_ROWS = 128
# Of the tokens that are predicted (arXiv:1810.04805, section 3.1): hidden; replaced, up to here; the rest stay.
HIDDEN, REPLACED = 0.8, 0.9
IGNORED = -100
# Of Wilson's interval.
Z = 1.959963984540054
PRETRAINING, FINETUNING = "pre-training", "fine-tuning"
ENCODER = "bert."
NOT_OF_BASE = "bert.pooler."
_MODEL: TypeAdapter[ScratchModel | CheckpointModel] = TypeAdapter(AnyModel)


@contextmanager
def drawn(*name: object) -> Iterator[None]:
    """What PyTorch draws in this block follows from a name."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(entropy(*name) % 2**63)
        yield


def bert_config(
    model: ScratchModel, vocabulary: int, context: int, pad: int, classes: Sequence[str]
) -> BertConfig:
    """The shape of a model that the run makes."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=model.width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_width,
        max_position_embeddings=context,
        type_vocab_size=2,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout,
        pad_token_id=pad,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )


def make_base(seed: int, config: BertConfig) -> BertForMaskedLM:
    """An untrained base; weights depend on the seed and the shape alone."""
    from transformers import BertForMaskedLM

    with drawn("classifier-base", seed):
        return BertForMaskedLM(config)


def with_head(
    seed: int, config: BertConfig, base: Mapping[str, Tensor]
) -> BertForSequenceClassification:
    """A base's blocks and embeddings under a new pooler and head, which depend on the seed alone."""
    from transformers import BertForSequenceClassification

    with drawn("classifier-head", seed):
        model = BertForSequenceClassification(config)
    taken = {
        name: value
        for name, value in base.items()
        if name.startswith(ENCODER) and not name.startswith(NOT_OF_BASE)
    }
    report = model.load_state_dict(taken, strict=False)
    assert all(name.startswith(("classifier.", NOT_OF_BASE)) for name in report.missing_keys)
    return model


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        tokens_nt: ids, padded. attend_nt: True where there is a token.
        target: of classes (sentences,); of hidden words (sentences, positions), `IGNORED` elsewhere.
    """

    tokens_nt: np.ndarray
    attend_nt: np.ndarray
    target: np.ndarray


class Examples(NamedTuple):
    """Encoded sentences of one part, and the numbers of their classes."""

    encoded: tk.Encoded
    label_n: np.ndarray

    def batch(self, rows: np.ndarray) -> Batch:
        """Some sentences, padded to the longest of them."""
        attend = self.encoded.attend_nt[rows]
        longest = int(attend.sum(axis=1).max())
        return Batch(
            self.encoded.tokens_nt[rows, :longest], attend[:, :longest], self.label_n[rows]
        )


def order_of(rows: int, n: int, start: int, steps: int, *name: object) -> Iterator[np.ndarray]:
    """Numbers of the sentences of the steps from `start` on: each epoch visits all, in an order of its own.

    A pure function of (name, step).
    """
    per_epoch = math.ceil(n / rows)
    step = start
    while step < steps:
        epoch, first = divmod(step, per_epoch)
        order = generator(*name, epoch).permutation(n)
        for number in range(first, min(per_epoch, steps - epoch * per_epoch)):
            yield order[number * rows : (number + 1) * rows]
            step += 1


def hidden(
    batch: Batch, special_nt: np.ndarray, share: float, mask: int, vocabulary: int, *name: object
) -> Batch:
    """A batch some of whose words are hidden, to be predicted; at least one.

    Args:
        batch: what is hidden from. special_nt: where nothing may be.
        share: of the words. mask: id of the mask token. vocabulary: ids that may replace.
        name: of the draws.
    """
    rng = generator(*name)
    drawn_nt = np.where(special_nt, np.inf, rng.random(special_nt.shape))
    chosen = drawn_nt <= max(share, float(drawn_nt.min()))
    how = rng.random(chosen.shape)
    tokens = np.where(chosen & (how < HIDDEN), mask, batch.tokens_nt)
    other = rng.integers(vocabulary, size=chosen.shape)
    tokens = np.where(chosen & (how >= HIDDEN) & (how < REPLACED), other, tokens)
    return Batch(tokens, batch.attend_nt, np.where(chosen, batch.tokens_nt, IGNORED))


def rate(step: int, steps: int, warmup_ratio: float, peak: float) -> float:
    """Linear warm-up to the peak, then cosine to 0 at the last step."""
    warmup = warmup_ratio * steps
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


class Stepper:
    """One optimiser step on one batch, dropout included.

    Args:
        model: with a head that predicts hidden words or classes, on its device.
        training: the recipe.
        device: ``cpu`` or ``cuda``.
        name: names the draws of dropout.
    """

    def __init__(
        self,
        model: BertForMaskedLM | BertForSequenceClassification,
        training: ClassifierTraining,
        device: str,
        *name: object,
    ) -> None:
        self.model: Any = torch.nn.Module.to(model, device).train().requires_grad_(True)
        self.training, self.device, self.name = training, device, name
        self.parameters = list(self.model.parameters())
        self.adam = Adam(self.parameters, weight_decay=training.weight_decay)
        self.loss_sum = 0.0
        self.grad_norm = 0.0

    def logits(self, batch: Batch) -> Tensor:
        """Float32 logits of a batch."""
        precision: AbstractContextManager[Any] = nullcontext()
        if self.training.precision == "bfloat16":
            precision = torch.autocast(self.device, torch.bfloat16)
        with precision:
            found: Tensor = self.model(
                input_ids=torch.from_numpy(batch.tokens_nt).to(self.device, torch.long),
                attention_mask=torch.from_numpy(batch.attend_nt).to(self.device, torch.long),
            ).logits
        return found.float()

    def __call__(self, step: int, batch: Batch, lr: float) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        with drawn("classifier-dropout", *self.name, step):
            logits = self.logits(batch)
        target = torch.from_numpy(batch.target).to(self.device, torch.long)
        loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED)
        loss.backward()
        self.loss_sum += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.grad_clip)
        self.grad_norm = norm.item()
        # Some heads have weights that nothing passes through.
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self.adam.step(grads, lr)

    def weights(self) -> dict[str, np.ndarray]:
        state = self.model.state_dict()
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        return {**{f"model/{k}": v for k, v in self.weights().items()}, **self.adam.tensors()}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict(_below(tensors, "model/"))
        self.adam.restore(tensors)


def _below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


class _Job:
    """The training of one seed: its log, and the state on disk that both stages share."""

    def __init__(self, cell: Mapping[str, Any], recipe: ClassifierTraining, resume: Resume) -> None:
        self.cell, self.recipe, self.resume = cell, recipe, resume
        self.where = f"{cell['cohort']} seed {cell['seed']}"
        self.log: dict[str, Any] = {"step": 0, "stage": "", "curve": [], "quality": []}

    def note(self, stepper: Stepper, step: int, shown: int, steps: int, lr: float) -> None:
        """After a step: a row of the curve where one is due.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        if not math.isfinite(stepper.loss_sum):
            self.resume.discard()
            raise TrainingDiverged(
                f"{self.where}: the loss is not finite at step {shown}; lower the peak learning rate or "
                f"training.grad_clip ({self.recipe.grad_clip})"
            )
        if step % CURVE_EVERY_STEPS and step != steps:
            return
        loss = stepper.loss_sum / (step % CURVE_EVERY_STEPS or CURVE_EVERY_STEPS)
        stepper.loss_sum = 0.0
        row = (self.cell["cohort"], self.cell["seed"], shown, lr, loss, stepper.grad_norm)
        self.log["curve"].append(dict(zip(CURVE_COLUMNS, row, strict=True)))

    def measured(self, step: int, distribution: str, n: int, values: Mapping[str, float]) -> None:
        """Rows of quality; `n` sentences, or hidden words, are behind them."""
        for measure, value in values.items():
            row = (self.cell["cohort"], self.cell["seed"], step, distribution, measure, value, n)
            self.log["quality"].append(dict(zip(QUALITY_COLUMNS, row, strict=True)))

    def save(self, stepper: Stepper, more: Mapping[str, np.ndarray]) -> None:
        if self.resume.due():
            self.resume.save(
                {**stepper.tensors(), **more}, {**self.log, "loss_sum": stepper.loss_sum}
            )


def pretrain(
    job: _Job,
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


@torch.no_grad()
def logits_of(stepper: Stepper, part: Examples) -> np.ndarray:
    """Logits of a part without dropout, (sentences, classes)."""
    stepper.model.eval()
    found = [
        stepper.logits(
            part.batch(np.arange(start, min(start + EVAL_ROWS, len(part.label_n))))
        ).cpu()
        for start in range(0, len(part.label_n), EVAL_ROWS)
    ]
    stepper.model.train()
    return torch.cat(found).numpy()


def finetune(
    job: _Job,
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
        best = {k: v.numpy() for k, v in _below(saved, "best/").items()}
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


def judge(job: _Job, stepper: Stepper, parts: Mapping[str, Examples], found: Sentences) -> None:
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
        model = _from_checkpoint(told, spec, found.classes)
        base = weights_digest(model)
    elif base_files:
        base = file_digest(_weights_of(base_files))
    made_from = {"data": found.digest, "base": base}
    identity = {"spec": spec, "code": code, "inputs": made_from, "device": device}
    job = _Job(spec, recipe, Resume(curve, identity))
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
        start = {name: value.numpy() for name, value in _below(saved, "start/").items()}
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


def _from_checkpoint(
    told: CheckpointModel, spec: Mapping[str, Any], classes: Sequence[str]
) -> BertForSequenceClassification:
    """A base made elsewhere under a new head, once it was found to be what the spec says.

    Raises:
        UserError: another width, depth, tokenizer or architecture, fewer positions than the context; or see
            `crossseed.cohorts.hub.loading.load_classifier`.
    """
    source = Source(told.id.format(seed=spec["seed"]), told.folder)
    declared = check.Declared("bert", told.width, told.layers, spec["context"])
    check.compare([(spec["seed"], START, source)], declared, Source(told.tokenizer, told.folder))
    with drawn("classifier-head", spec["seed"]):
        model: Any = load_classifier(source, "cpu", classes)
    # Where it lay is no part of what it is.
    model.config.name_or_path = ""
    found: BertForSequenceClassification = model
    return found
