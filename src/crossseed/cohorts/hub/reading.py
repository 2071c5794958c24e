"""Activations of language models, read by hooks on the blocks.

Not by `output_hidden_states`, whose last entry is taken after the final norm in all
families but BERT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from crossseed.cohorts.hub import sites as names
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Place(NamedTuple):
    """A module within a block, and which end of it is read."""

    module: str
    input: bool = False


_BLOCK_INPUT, _BLOCK_OUTPUT = Place("", input=True), Place("")

# Dropout modules follow some of these; they do nothing in eval mode.
_PLACES = {
    "gpt_neox": {
        "hook_resid_pre": _BLOCK_INPUT,
        "hook_attn_out": Place("attention"),
        "hook_resid_mid": Place("post_attention_layernorm", input=True),
        "hook_mlp_out": Place("mlp"),
        "hook_resid_post": _BLOCK_OUTPUT,
    },
    "gpt2": {
        "hook_resid_pre": _BLOCK_INPUT,
        "hook_attn_out": Place("attn"),
        "hook_resid_mid": Place("ln_2", input=True),
        "hook_mlp_out": Place("mlp"),
        "hook_resid_post": _BLOCK_OUTPUT,
    },
    "llama": {
        "hook_resid_pre": _BLOCK_INPUT,
        "hook_attn_out": Place("self_attn"),
        "hook_resid_mid": Place("post_attention_layernorm", input=True),
        "hook_mlp_out": Place("mlp"),
        "hook_resid_post": _BLOCK_OUTPUT,
    },
    "bert": {
        "hook_resid_pre": _BLOCK_INPUT,
        "hook_attn_out": Place("attention.output.dense"),
        "hook_resid_mid": Place("attention.output.LayerNorm", input=True),
        "hook_mlp_out": Place("output.dense"),
        "hook_resid_post": Place("output.LayerNorm", input=True),
        names.NORMALIZED_POST: _BLOCK_OUTPUT,
    },
}
_BLOCKS = {"gpt_neox": "layers", "gpt2": "h", "llama": "layers", "bert": "encoder.layer"}
# Families whose positions are learned have no more than these.
_LEARNED_POSITIONS = ("gpt2", "bert")


class _Read(Exception):
    """Ends a forward pass: all that is wanted was read."""


class Reader:
    """Reads activations of one model.

    Args:
        model: a base model in eval mode, without a head; upper layers may be missing.
        family: a value of `crossseed.cohorts.hub.sites.FAMILIES`.
        model_id: opens the sentence of an error.
        device: where tokens go in and activations come out.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: str,
        model_id: str = "",
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.family = model, family
        self.where = f"model {model_id!r}"
        self.device = torch.device(device)
        self.parallel = family == "gpt_neox" and model.config.use_parallel_residual
        blocks = model.get_submodule(_BLOCKS[family])
        assert isinstance(blocks, nn.ModuleList)
        self.blocks = blocks

    def place(self, hook: str) -> Place:
        """Where in a block a hook is read."""
        return _PLACES[self.family][hook]

    def module(self, layer: int, place: Place) -> nn.Module:
        """The module of a block at which a place lies."""
        return self.blocks[layer].get_submodule(place.module)

    def activations(
        self, tokens_nt: np.ndarray, sites: list[str], attend_nt: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Float32 activations by site, each of shape (sequences, positions, width).

        Args:
            tokens_nt: token ids, shape (sequences, positions).
            sites: what to read.
            attend_nt: True where there is a token, False at padding; None: there is no padding.

        Raises:
            UserError: see `activations_on_device`.
        """
        found = self.activations_on_device(tokens_nt, sites, attend_nt)
        return {site: value.float().cpu().numpy() for site, value in found.items()}

    def activations_on_device(
        self,
        tokens_nt: np.ndarray | torch.Tensor,
        sites: list[str],
        attend_nt: np.ndarray | None = None,
    ) -> dict[str, torch.Tensor]:
        """`activations` as tensors on the device, in the type of the forward pass.

        Raises:
            UserError: the loaded part of the model has no such site, a token or a position is
                unknown to it, or an activation is not finite.
        """
        for site in sites:
            why_not = names.why_not(site, self.family, len(self.blocks), self.parallel)
            if why_not is not None:
                raise UserError(f"{self.where}: site {why_not}")
        if isinstance(tokens_nt, np.ndarray):
            tokens_nt = torch.from_numpy(tokens_nt.astype(np.int64))
        tokens = tokens_nt.long()
        self.check_tokens(tokens)
        padding: dict[str, torch.Tensor] = {}
        if attend_nt is not None:
            padding["attention_mask"] = torch.from_numpy(attend_nt).to(self.device, torch.long)
        # Not inference_mode: SAEs are trained on these tensors without a copy.
        with torch.no_grad(), self._hooks(sites) as found, suppress(_Read):
            self.model(input_ids=tokens.to(self.device), use_cache=False, **padding)
        for site in sorted(sites, key=names.depth):
            self._check_finite(site, found[site])
        return {site: found[site].to(self.device) for site in sites}

    @contextmanager
    def _hooks(self, sites: list[str]) -> Iterator[dict[str, torch.Tensor]]:
        """Tensors read by site, filled by the forward pass in the block."""
        found: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            for site in sites:
                layer, hook = names.parse(site)
                place = self.place(hook)
                stack.callback(_hook(self.module(layer, place), place, site, found).remove)
            above = 1 + max((names.parse(site)[0] for site in sites), default=-1)
            if above < len(self.blocks):
                stack.callback(self.blocks[above].register_forward_pre_hook(_stop).remove)
            yield found

    def check_tokens(self, tokens: torch.Tensor) -> None:
        """Raises UserError where ids have no embeddings, or sequences, (rows, positions), more positions than the model."""
        # On a GPU, both would end the process without a word about their cause.
        config = self.model.config
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < config.vocab_size:
            raise UserError(
                f"{self.where}: token ids {int(tokens.min())} to {int(tokens.max())} do not fit "
                f"its {config.vocab_size} embeddings; make the tokens with its own tokenizer"
            )
        if self.family in _LEARNED_POSITIONS and tokens.shape[1] > config.max_position_embeddings:
            raise UserError(
                f"{self.where}: sequences of {tokens.shape[1]} tokens are longer than its "
                f"{config.max_position_embeddings} positions; lower tokens.context"
            )

    def _check_finite(self, site: str, value: torch.Tensor) -> None:
        if torch.isfinite(value).all():
            return
        dtype = str(value.dtype).removeprefix("torch.")
        reason = (
            "they overflow its largest value, 65504; set precision: bfloat16 or float32"
            if value.dtype == torch.float16
            else "check the model's weights"
        )
        raise UserError(
            f"{self.where}: {site}: activations of layer {names.parse(site)[0]} are not finite "
            f"in {dtype}; {reason}"
        )


def _stop(*_: Any) -> None:
    raise _Read


def _hook(
    module: nn.Module, place: Place, site: str, found: dict[str, torch.Tensor]
) -> torch.utils.hooks.RemovableHandle:
    def keep(value: torch.Tensor) -> None:
        # A module called on parts of a sequence would leave the last part alone.
        assert site not in found, f"{site}: its module runs twice in one forward pass"
        found[site] = value

    def keep_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    def keep_output(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        keep(output[0] if isinstance(output, tuple) else output)

    if place.input:
        return module.register_forward_pre_hook(keep_input, with_kwargs=True)
    return module.register_forward_hook(keep_output)
