"""Language models run whole, with activations of another origin in place of their own.

The change is added as a difference where the site is written: at resid_mid of models that
normalise before each sublayer that is the output of attention, so that both the sum and the norm
that follow see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.loading import Source
from crossseed.cohorts.hub.members import checked_source
from crossseed.cohorts.hub.reading import Reader
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HubRunner:
    """See `crossseed.cohorts.base.Runner`; the one head predicts tokens.

    A causal model is scored on the next token. BERT sees the whole sequence and is scored on the
    tokens it was given, unmasked: there, the divergence from the clean run says more than the loss.
    """

    def __init__(
        self, model: PreTrainedModel, family: str, site: str, model_id: str, device: str
    ) -> None:
        self.model, self.family, self.site, self.device = model, family, site, device
        base: PreTrainedModel = model.base_model  # type: ignore[assignment]
        self.reader = Reader(base, family, model_id, device)
        layer, hook = names.parse(site)
        place = self.reader.place(hook)
        if hook == "hook_resid_mid" and family != "bert":
            place = self.reader.place("hook_attn_out")
        self._place = place
        self._module = self.reader.module(layer, place)

    def activations(self, tokens_nt: np.ndarray) -> Tensor:
        return self.reader.activations_on_device(tokens_nt, [self.site])[self.site]

    def log_probabilities(self, tokens_nt: np.ndarray, value_ntd: Tensor | None) -> list[Tensor]:
        tokens = torch.from_numpy(tokens_nt.astype(np.int64)).to(self.device)
        with torch.no_grad():
            if value_ntd is None:
                logits = self.model(input_ids=tokens, use_cache=False).logits
            else:
                change = value_ntd.to(self.device) - self.activations(tokens_nt)
                with self._changed(change):
                    logits = self.model(input_ids=tokens, use_cache=False).logits
            return [logits.float().log_softmax(-1)]

    def targets(self, tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self.family == "bert":
            return [tokens_nt.astype(np.int64)]
        following = np.full(tokens_nt.shape, -1, dtype=np.int64)
        following[:, :-1] = tokens_nt[:, 1:]
        return [following]

    @contextmanager
    def _changed(self, change: Tensor) -> Iterator[None]:
        """Runs of the model in this block have `change` added at the site."""

        def added(value: Tensor) -> Tensor:
            return value + change.to(value.device, value.dtype)

        def to_input(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (added(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": added(kwargs["hidden_states"])}

        def to_output(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, tuple):
                return (added(output[0]), *output[1:])
            return added(output)

        handle = (
            self._module.register_forward_pre_hook(to_input, with_kwargs=True)
            if self._place.input
            else self._module.register_forward_hook(to_output)
        )
        try:
            yield
        finally:
            handle.remove()


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> HubRunner:
    """One member whole, with its head.

    Args:
        spec, paths: see `crossseed.cohorts.hub.members.load`.
        site: where activations are replaced.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: see `crossseed.cohorts.hub.loading.load_whole`; or the model has no such site.
    """
    return load_source(
        checked_source(spec, paths), site, spec["precision"], device, spec.get("device_map")
    )


def load_source(
    source: Source, site: str, dtype: str, device: str, device_map: str | None = None
) -> HubRunner:
    """One language model whole; see `load`."""
    shape = loading.shape_of(loading.load_config(source))
    why_not = names.why_not(site, shape.family, shape.layers, shape.parallel)
    if why_not is not None:
        raise UserError(f"model {source.model_id!r}: site {why_not}")
    model = loading.load_whole(source, dtype, device, device_map)
    return HubRunner(model, shape.family, site, source.model_id, device)
