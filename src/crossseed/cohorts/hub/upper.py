"""The part of a language model above a site, as a function: what joint SAEs are trained through.

Weights are frozen and dropout is off, so that gradients flow to the activations alone. A language model predicts at
every position; scored are some of each sequence, drawn at random, so that on average over sequences the divergence is
that over all positions, and clean predictions of a large vocabulary can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crossseed.cohorts.base import Scored, TokenSet
from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.check import tokenizer_of
from crossseed.cohorts.hub.interventions import HubSubject
from crossseed.cohorts.hub.members import checked_source
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError
from crossseed.seeding import generator


class Above(NamedTuple):
    """What a language model makes of activations at a site.

    Attributes:
        next_ntd: output of the block after the site, (sequences, positions, width).
        logits_npv: of the wanted predictions, (sequences, predictions, vocabulary).
    """

    next_ntd: Tensor
    logits_npv: Tensor


class Clean(NamedTuple):
    """One undisturbed pass: activations at the site, and `Above`."""

    site_ntd: Tensor
    next_ntd: Tensor
    logits_npv: Tensor


class Upper:
    """A frozen causal language model, cut after a block.

    Args:
        model: a whole model in evaluation mode. family: see `crossseed.cohorts.hub.sites.FAMILIES`.
        site: ``blocks.L.hook_resid_post`` of a block that has one above it.
        model_id: opens the sentence of an error. device: where activations go in and come out.
        tokenizer: digest of what decides the tokens of a text.

    Raises:
        UserError: the model has no such site, no block above it, or predicts hidden tokens.
    """

    def __init__(
        self, model: Any, family: str, site: str, model_id: str, device: str, tokenizer: str = ""
    ) -> None:
        self._subject = HubSubject(model, family, model_id, device)
        self.where, self.site, self.device = f"model {model_id!r}", site, torch.device(device)
        self.model, self.tokenizer = self._subject.model, tokenizer
        if family == "bert":
            raise UserError(
                f"{self.where}: predicts hidden tokens, and no token is hidden here; fine-tune it on sentences (kind: "
                "classifier)"
            )
        layers = len(self._subject.blocks)
        parallel = self._subject.reader.parallel
        said = names.why_not(site, family, layers, parallel) or names.why_not_cut(
            site, family, layers
        )
        if said is not None:
            raise UserError(f"{self.where}: {said}")
        self.layer, _ = names.parse(site)
        self.width: int = model.config.hidden_size
        self.classes: int = model.config.vocab_size
        # Whether blocks give tuples: seen in the first pass.
        self._mixed = False
        self.clean(np.zeros((1, 2), np.int64), np.zeros((1, 1), np.int64))

    @property
    def alike(self) -> dict[str, object]:
        """What models that share an SAE must have in common, by name."""
        return {
            "width": self.width,
            "layers": self.model.config.num_hidden_layers,
            "vocabulary": self.classes,
            "tokenizer": self.tokenizer,
        }

    def __call__(self, site_ntd: Tensor, attend_nt: Tensor, at_np: Tensor | None = None) -> Above:
        """Runs on from activations at the site.

        Args:
            site_ntd: (sequences, positions, width), float32.
            attend_nt: all True: sequences of language models have no padding.
            at_np: positions of the wanted predictions.

        Raises:
            UserError: the width is not the model's, there is padding, or no prediction is wanted.
        """
        if site_ntd.shape[-1] != self.width:
            raise UserError(
                f"{self.where}: activations are {site_ntd.shape[-1]} wide, but it is {self.width} wide; give "
                "those of a model of its width"
            )
        if at_np is None:
            raise UserError(
                f"{self.where}: a language model predicts at positions, and none are given; make the cache again"
            )
        if not bool(attend_nt.all()):
            raise UserError(
                f"{self.where}: sequences hold padding, which language models here do not see; make the token "
                "sets again"
            )
        # Embedded and thrown away: blocks up to the site are skipped.
        tokens = torch.zeros(site_ntd.shape[:2], dtype=torch.long, device=self.device)
        with self._subject.skipping(self.layer + 1, site_ntd, self._mixed):
            return self._passed(tokens, at_np)

    def _passed(self, tokens: Tensor, at_np: Tensor) -> Above:
        found: list[Tensor] = []

        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            self._mixed = isinstance(output, tuple)
            found.append(output[0] if self._mixed else output)

        handle = self._subject.blocks[self.layer + 1].register_forward_hook(keep)
        try:
            hidden = self._subject.base(input_ids=tokens, use_cache=False)[0]
        finally:
            handle.remove()
        wanted = at_np[:, :, None].expand(-1, -1, hidden.shape[2])
        return Above(found[0], self._subject.predict(hidden.gather(1, wanted)).float())

    @torch.no_grad()
    def clean(self, tokens_nt: np.ndarray, at_np: np.ndarray | None = None) -> Clean:
        """An undisturbed pass over token ids, (sequences, positions).

        Raises:
            UserError: see `__call__`, or `crossseed.cohorts.hub.reading.Reader.check_tokens`.
        """
        tokens = torch.from_numpy(tokens_nt.astype(np.int64))
        self._subject.reader.check_tokens(tokens)
        if at_np is None:
            raise UserError(f"{self.where}: no prediction is wanted; give positions")
        found: list[Tensor] = []

        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        handle = self._subject.blocks[self.layer].register_forward_hook(keep)
        try:
            above = self._passed(tokens.to(self.device), torch.from_numpy(at_np).to(self.device))
        finally:
            handle.remove()
        return Clean(found[0], *above)

    def scored(self, found: TokenSet, predictions: int, *name: object) -> Scored:
        """Sequences, and the tokens that follow some positions of each.

        Args:
            found: sequences without padding. predictions: of each sequence, at most.
            name: of the draw; equal names give equal positions, whatever the model.
        """
        tokens = found.tokens_nt
        rng = generator("joint-predictions", *name)
        last = tokens.shape[1] - 1
        order = rng.permuted(np.broadcast_to(np.arange(last), (len(tokens), last)), axis=1)
        at = np.sort(order[:, : min(predictions, last)], axis=1)
        label = np.take_along_axis(tokens, at + 1, axis=1).astype(np.int64)
        mask = np.ones(tokens.shape, bool)
        return Scored(tokens, mask, ~found.keep_nt, label, at, found.document_n)


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> Upper:
    """One member, cut at a site.

    Args:
        spec, paths: see `crossseed.cohorts.hub.members.load`.
        site: see `Upper`. device: ``cpu`` or ``cuda``.
    """
    return load_source(checked_source(spec, paths), site, device)


def load_source(source: Source, site: str, device: str) -> Upper:
    """One language model in float32, cut at a site; see `load`."""
    shape = loading.shape_of(loading.load_config(source))
    model = loading.load_whole(source, "float32", device)
    return Upper(model, shape.family, site, source.model_id, device, tokenizer_of(source).digest)
