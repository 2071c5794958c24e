"""Toy models run with other activations at one place of their forward pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crossseed.cohorts.dyck import members, sites
from crossseed.cohorts.dyck.model import N_HEADS, DyckTransformer
from crossseed.errors import UserError

_COMPONENT = re.compile(r"blocks\.([01])\.(?:attn\.hook_z\.([0-3])|hook_mlp_out)")
# The last sublayer in which positions see each other.
LAST_ATTENTION = 2 * (sites.N_LAYERS - 1)


class DyckStart:
    """See `crossseed.cohorts.base.Start`."""

    def __init__(self, model: DyckTransformer, tokens_nt: Tensor, place: str) -> None:
        self.model = model
        self.head: int | None = None
        component = _COMPONENT.fullmatch(place)
        # The sublayer that is run first, from the residual stream before it.
        if component is None:
            if place not in sites.SITES:
                raise UserError(
                    f"the toy has no place {place!r}; expected one of {', '.join(sites.SITES)}, or a component "
                    "such as blocks.0.attn.hook_z.3 or blocks.1.hook_mlp_out"
                )
            self.first = sites.SITES.index(place)
        else:
            self.first = 2 * int(component[1]) + (component[2] is None)
            self.head = None if component[2] is None else int(component[2])
        self.is_site = component is None
        with torch.no_grad():
            before = sites.SITES[self.first]
            self.before = self.model.residuals(tokens_nt, {before})[before]
            self.value_ntd = self.before if self.is_site else self.reading(self.before)

    def reading(self, x: Tensor) -> Tensor:
        """What the component gives when it reads the residual stream x, (k · sequences, positions, width)."""
        block = self.model.block(self.first // 2)
        if self.head is not None:
            return block.attn.head(block.ln1(x), self.head)
        return block.mlp(block.ln2(x))

    def written(self, value: Tensor) -> Tensor:
        """What the component adds to the residual stream with this value."""
        if self.head is None:
            return value
        return F.linear(value, self.model.block(self.first // 2).attn.W_O[self.head])

    def logits(self, value: Tensor, at_nt: np.ndarray | None = None) -> list[Tensor]:
        """See `crossseed.cohorts.base.Start.logits`."""
        value = value.to(self.before)
        n, length, _ = self.before.shape
        changes = len(value) // n
        wanted = None if at_nt is None else torch.from_numpy(at_nt).to(value.device)
        number = self.first
        with torch.set_grad_enabled(value.requires_grad):
            if self.is_site:
                x = value
            else:
                x = self.model.sublayer(
                    number, self.before.repeat(changes, 1, 1), partial(self._changed, value)
                )
                number += 1
            attended = max(number, LAST_ATTENTION + 1)
            for sublayer in range(number, attended):
                x = self.model.sublayer(sublayer, x)
            if wanted is not None:
                x = x.view(changes, n, length, -1)[:, wanted]
            for sublayer in range(attended, 2 * sites.N_LAYERS):
                x = self.model.sublayer(sublayer, x)
            return list(self.model.predict(x))

    def _changed(self, value: Tensor, own: Tensor) -> Tensor:
        if self.head is None:
            return value
        return torch.cat(
            [own[..., : self.head, :], value[..., None, :], own[..., self.head + 1 :, :]], dim=-2
        )


class DyckSubject:
    """See `crossseed.cohorts.base.Subject`; heads are tok, depth and valid."""

    heads: tuple[str, ...] = ("tok", "depth", "valid")

    def __init__(self, model: DyckTransformer) -> None:
        self.model = model.requires_grad_(False)
        layers = range(sites.N_LAYERS)
        self.components = {
            "head": [f"blocks.{layer}.attn.hook_z.{h}" for layer in layers for h in range(N_HEADS)],
            "mlp": [f"blocks.{layer}.hook_mlp_out" for layer in layers],
        }

    def start(self, tokens_nt: np.ndarray, place: str) -> DyckStart:
        tokens = torch.from_numpy(tokens_nt).to(self.model.W_E.device, torch.long)
        return DyckStart(self.model, tokens, place)

    def targets(self, tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [tokens_nt, labels["depth"], labels["valid"]]


def load(spec: Mapping[str, Any], paths: Sequence[Path], device: str) -> DyckSubject:
    """One checkpoint of a trained member; see `crossseed.cohorts.dyck.members.load`."""
    return DyckSubject(members.load(spec, paths, [], device).model)
