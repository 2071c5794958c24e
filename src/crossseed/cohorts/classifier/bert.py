"""BERT as the run makes it, or finds it: its shape, its base, and a new head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crossseed.cohorts.classifier.config import START
from crossseed.cohorts.classifier.settings import CheckpointModel, ScratchModel
from crossseed.cohorts.hub import check
from crossseed.cohorts.hub.loading import load_classifier
from crossseed.cohorts.hub.source import Source
from crossseed.seeding import entropy

if TYPE_CHECKING:
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

ENCODER = "bert."
NOT_OF_BASE = "bert.pooler."


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


def from_checkpoint(
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
