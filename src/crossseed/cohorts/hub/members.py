"""Members of cohorts of language models: loading one and reading its activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.check import COLUMNS
from crossseed.cohorts.hub.loading import Shape
from crossseed.cohorts.hub.reading import Reader
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError
from crossseed.store import read_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HubMember:
    """A loaded language model; see `crossseed.cohorts.base.Member`.

    `digest` covers the weights that were loaded, hence depends on the type and on the highest
    layer asked for.
    """

    def __init__(
        self, model: PreTrainedModel, shape: Shape, model_id: str, device: torch.device | str
    ) -> None:
        self.model, self.shape = model, shape
        self._reader = Reader(model, shape.family, model_id, device)

    @cached_property
    def digest(self) -> str:
        return loading.weights_digest(self.model)

    def width(self, site: str) -> int:
        return self.shape.width

    def activations(self, tokens_nt: np.ndarray, sites: list[str]) -> dict[str, np.ndarray]:
        """See `crossseed.cohorts.hub.reading.Reader.activations`."""
        return self._reader.activations(tokens_nt, sites)

    def activations_on_device(
        self, tokens_nt: np.ndarray | torch.Tensor, sites: list[str]
    ) -> dict[str, torch.Tensor]:
        """See `crossseed.cohorts.hub.reading.Reader.activations_on_device`."""
        return self._reader.activations_on_device(tokens_nt, sites)


def load(
    spec: Mapping[str, Any], paths: Sequence[Path], sites: Sequence[str], device: str
) -> HubMember:
    """One member as a job's spec names it.

    Args:
        spec: ``seed``, ``checkpoint``, ``model_id``, ``folder`` and ``precision``; and
            ``device_map``, if the model is to be spread.
        paths: the check's table, which says what commit was checked; none: the newest.
        sites: what will be read.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: see `load_source`.
    """
    source = checked_source(spec, paths)
    return load_source(source, list(sites), spec["precision"], device, spec.get("device_map"))


def checked_source(spec: Mapping[str, Any], paths: Sequence[Path]) -> Source:
    """Where a member lies, at the commit of its check."""
    return Source(spec["model_id"], spec["folder"], _checked_commit(spec, paths))


def _checked_commit(spec: Mapping[str, Any], paths: Sequence[Path]) -> str | None:
    """The commit of a member at its check: branches of the hub may have moved since."""
    if not paths:
        return None
    member = (str(spec["seed"]), spec["checkpoint"], spec["model_id"])
    for row in read_table(paths[0], COLUMNS):
        if (row["seed"], row["checkpoint"], row["model_id"]) == member:
            return row["commit"] or None
    raise UserError(
        f"{paths[0]}: has no row of {spec['model_id']!r} (seed {member[0]}, {member[1]}); delete "
        f"{paths[0].parent} to check all members again"
    )


def load_source(
    source: Source, sites: list[str], dtype: str, device: str, device_map: str | None = None
) -> HubMember:
    """One language model, up to the highest layer that is read.

    Args:
        source: where it lies.
        sites: what will be read; sites of lower layers may be read as well.
        dtype: ``float32``, ``bfloat16`` or ``float16``: type of weights and forward pass.
        device: where the model goes, and tokens and activations with it.
        device_map: ``auto`` spreads the model over devices instead, with `accelerate`.

    Raises:
        UserError: the model has no such site, or see `crossseed.cohorts.hub.loading.load_model`.
    """
    shape = loading.shape_of(loading.load_config(source))
    for site in sites:
        why_not = names.why_not(site, shape.family, shape.layers, shape.parallel)
        if why_not is not None:
            raise UserError(f"model {source.model_id!r}: site {why_not}")
    highest = max(names.parse(site)[0] for site in sites)
    model = loading.load_model(source, dtype, device, highest, device_map)
    return HubMember(model, shape, source.model_id, device)
