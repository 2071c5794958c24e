"""The part of a classifier above a site, as a function: what joint SAEs are trained through.

Weights are frozen and dropout is off, so that gradients flow to the activations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import Scored, TokenSet
from crossseed.cohorts.classifier.members import attended
from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.check import tokenizer_of
from crossseed.cohorts.hub.reading import Reader
from crossseed.cohorts.hub.source import Source
from crossseed.cohorts.neox.members import checked_source
from crossseed.errors import UserError


class Above(NamedTuple):
    """What a classifier makes of activations at a site.

    Attributes:
        next_ntd: output of the block after the site, (sentences, positions, width); of no use at padding.
        logits_nc: of the classes, (sentences, classes).
    """

    next_ntd: Tensor
    logits_nc: Tensor


class Clean(NamedTuple):
    """One undisturbed pass.

    Attributes:
        site_ntd: activations at the site. next_ntd, logits_nc: see `Above`.
        attend_nt: True where there is a token, False at padding.
    """

    site_ntd: Tensor
    next_ntd: Tensor
    logits_nc: Tensor
    attend_nt: Tensor


class Upper:
    """A frozen classifier, cut after a block.

    Args:
        model: a whole `BertForSequenceClassification`.
        site: ``blocks.L.hook_normalized_resid_post``, the output of a block that has one above it.
        model_id: opens the sentence of an error.
        device: where activations go in and come out.
        tokenizer: digest of what decides the tokens of a text.
        special: ids of [CLS] and [SEP].

    Attributes:
        layer: number of the block whose output is the site's. width: of an activation. classes: their names.
        positions: longest sentence.

    Raises:
        UserError: the model has no such site, or no block above it.
    """

    def __init__(
        self,
        model: Any,
        site: str,
        model_id: str,
        device: str,
        tokenizer: str = "",
        special: Sequence[int] = (),
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        config = self.model.config
        self.where, self.site, self.device = f"model {model_id!r}", site, torch.device(device)
        self.tokenizer, self.special = tokenizer, tuple(special)
        said = names.why_not(site, "bert", config.num_hidden_layers, parallel=False)
        if said is not None:
            raise UserError(f"{self.where}: site {said}")
        said = names.why_not_cut(site, "bert", config.num_hidden_layers)
        if said is not None:
            raise UserError(f"{self.where}: {said}")
        self.layer, _ = names.parse(site)
        self.width: int = config.hidden_size
        self.positions: int = config.max_position_embeddings
        self.classes = [config.id2label[number] for number in range(config.num_labels)]
        self._blocks = self.model.bert.encoder.layer
        self._reader = Reader(self.model.bert, "bert", model_id, device)

    @property
    def alike(self) -> dict[str, object]:
        """What classifiers that share an SAE must have in common, by name."""
        config = self.model.config
        return {
            "width": self.width,
            "layers": config.num_hidden_layers,
            "vocabulary": config.vocab_size,
            "tokenizer": self.tokenizer,
            "padding token": config.pad_token_id,
            "classes": self.classes,
        }

    def __call__(self, site_ntd: Tensor, attend_nt: Tensor, at_np: None = None) -> Above:
        """Runs on from activations at the site.

        Args:
            site_ntd: (sentences, positions, width), float32.
            attend_nt: True where there is a token, False at padding, (sentences, positions).
            at_np: of language models alone (`crossseed.cohorts.hub.upper`).

        Raises:
            UserError: the width or the number of positions is not the model's.
        """
        if site_ntd.shape[-1] != self.width:
            raise UserError(
                f"{self.where}: activations are {site_ntd.shape[-1]} wide, but it is {self.width} wide; give "
                "those of a model of its width"
            )
        if site_ntd.shape[1] > self.positions:
            raise UserError(
                f"{self.where}: sequences of {site_ntd.shape[1]} tokens are longer than its {self.positions} "
                "positions; lower tokens.context"
            )
        lowest = torch.finfo(site_ntd.dtype).min
        mask = torch.zeros(attend_nt.shape, dtype=site_ntd.dtype, device=site_ntd.device)
        mask = mask.masked_fill(~attend_nt.bool().to(site_ntd.device), lowest)[:, None, None, :]
        found = [site_ntd]
        for block in self._blocks[self.layer + 1 :]:
            out = block(found[-1], mask)
            found.append(out[0] if isinstance(out, tuple) else out)
        return Above(found[1], self.model.classifier(self.model.bert.pooler(found[-1])))

    @torch.no_grad()
    def clean(self, tokens_nt: np.ndarray, at_np: None = None) -> Clean:
        """An undisturbed pass over token ids, (sentences, positions), padded.

        Raises:
            UserError: see `crossseed.cohorts.hub.reading.Reader.activations_on_device`.
        """
        attend_nt = attended(tokens_nt, self.model.config)
        found = self._reader.activations_on_device(tokens_nt, [self.site], attend_nt)
        attend = torch.from_numpy(attend_nt).to(self.device)
        above = self(found[self.site], attend)
        return Clean(found[self.site], *above, attend)

    def scored(self, found: TokenSet, predictions: int, *name: object) -> Scored:
        """Sentences with their classes; `predictions` and `name` are of language models alone."""
        tokens = found.tokens_nt
        mask = attended(tokens, self.model.config)
        special = mask & np.isin(tokens, self.special)
        label = found.labels["class"][:, 0].astype(np.int64)
        return Scored(tokens, mask, special, label, None, found.document_n)


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> Upper:
    """One trained member, cut at a site.

    Args:
        spec: ``cohort``, ``seed`` and ``checkpoint``.
        paths: the files of its transformers folder.
        site: see `Upper`.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: the folder is damaged, edited, or of another member; or see `Upper`.
    """
    return load_source(checked_source(spec, paths), site, device)


def load_source(source: Source, site: str, device: str) -> Upper:
    """One classifier that lies anywhere, cut at a site."""
    model = loading.load_classifier(source, device)
    tokenizer = loading.load_tokenizer(source)
    ends = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    digest = tokenizer_of(source).digest
    return Upper(model, site, source.model_id, device, digest, [i for i in ends if i is not None])
