"""Language models run with other activations at one place of their forward pass.

A place is a site (`crossseed.cohorts.hub.sites`), or a component: what an attention head reads
(``blocks.0.attn.hook_z.3``), or what a whole block adds to the residual stream
(``blocks.0.hook_contribution``). What comes before the place runs once, whatever is tried there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from crossseed.cohorts.hub import loading
from crossseed.cohorts.hub import sites as names
from crossseed.cohorts.hub.members import checked_source
from crossseed.cohorts.hub.reading import Reader
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTRIBUTION = "hook_contribution"
_COMPONENT = re.compile(rf"blocks\.(\d+)\.(?:attn\.hook_z\.(\d+)|{CONTRIBUTION})")
# The matrix that attention heads write through; its input holds what they read, side by side.
_OUTPUT = {
    "gpt_neox": "attention.dense",
    "gpt2": "attn.c_proj",
    "llama": "self_attn.o_proj",
    "bert": "attention.output.dense",
}
Change = Callable[[Tensor], Tensor]


class _Place(NamedTuple):
    """Where something is changed: a layer, and a hook of `names.HOOKS`, `CONTRIBUTION` or a head."""

    layer: int
    hook: str
    head: int | None


class _Read(Exception):
    """Ends a forward pass: the place was read."""


class HubStart:
    """See `crossseed.cohorts.base.Start`."""

    def __init__(self, subject: HubSubject, tokens_nt: np.ndarray, place: _Place) -> None:
        self.subject, self.place = subject, place
        self.tokens = torch.from_numpy(tokens_nt.astype(np.int64)).to(subject.device)
        # After a block nothing of it is needed again.
        self.skipped = place.layer + (place.hook == subject.after_block)
        self._before: Tensor | None = None
        self._mixed = False
        # What modules of the place's block gave before the place was reached: no change there reaches them.
        self._given: dict[nn.Module, Any] = {}
        found: list[Tensor] = []

        def seen(value: Tensor) -> Tensor:
            found.append(value)
            raise _Read

        with torch.no_grad(), ExitStack() as stack, suppress(_Read):
            blocks = subject.blocks
            stack.callback(blocks[0].register_forward_hook(self._note).remove)
            handle = blocks[place.layer].register_forward_pre_hook(self._keep, with_kwargs=True)
            stack.callback(handle.remove)
            if self.skipped == place.layer:
                for module in blocks[place.layer].modules():
                    # Those without weights, such as dropout, could be called once more after the place.
                    if any(True for _ in module.parameters()):
                        stack.callback(module.register_forward_hook(self._give).remove)
            stack.enter_context(subject.tapped(place, seen))
            subject.base(input_ids=self.tokens, use_cache=False)
        (self.value_ntd,) = found
        inner = {part for module in self._given for part in module.modules() if part is not module}
        self._given = {module: out for module, out in self._given.items() if module not in inner}

    def _note(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        self._mixed = isinstance(output, tuple)

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._before = args[0] if args else kwargs["hidden_states"]

    def _give(self, module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        self._given[module] = output

    def logits(self, value: Tensor, at_nt: np.ndarray | None = None) -> list[Tensor]:
        """See `crossseed.cohorts.base.Start.logits`."""
        subject, place = self.subject, self.place
        value = value.to(self.value_ntd.device, self.value_ntd.dtype)
        changes = len(value) // len(self.tokens)
        with torch.set_grad_enabled(value.requires_grad), ExitStack() as stack:
            if self.skipped > place.layer:
                stack.enter_context(subject.skipping(self.skipped, value, self._mixed))
            else:
                if self.skipped:
                    assert self._before is not None
                    before = self._before.repeat(changes, 1, 1)
                    stack.enter_context(subject.skipping(self.skipped, before, self._mixed))
                given = {module: _repeated(out, changes) for module, out in self._given.items()}
                stack.enter_context(_giving(given))
                stack.enter_context(subject.tapped(place, lambda _: value))
            hidden = subject.base(input_ids=self.tokens.repeat(changes, 1), use_cache=False)[0]
            if at_nt is not None:
                wanted = torch.from_numpy(at_nt).to(hidden.device)
                hidden = hidden.view(changes, *self.tokens.shape, -1)[:, wanted]
            # Of a model spread over devices the head may lie on another one.
            return [subject.predict(hidden).float().to(self.value_ntd.device)]


class HubSubject:
    """See `crossseed.cohorts.base.Subject`; the one head predicts tokens.

    A causal model is scored on the next token. BERT sees the whole sequence and is scored on the
    tokens it was given, unmasked: there, the divergence from the clean run says more than the loss.
    """

    heads: tuple[str, ...] = ("token",)

    def __init__(self, model: PreTrainedModel, family: str, model_id: str, device: str) -> None:
        self.model, self.family, self.device = model.requires_grad_(False), family, device
        self.base = cast("PreTrainedModel", model.base_model)
        self.reader = Reader(self.base, family, model_id, device)
        self.blocks = self.reader.blocks
        self.where = self.reader.where
        layers = range(len(self.blocks))
        self.n_heads: int = model.config.num_attention_heads
        # What a block hands to the next.
        self.after_block = names.NORMALIZED_POST if family == "bert" else "hook_resid_post"
        self.components = {
            "head": [
                f"blocks.{layer}.attn.hook_z.{h}" for layer in layers for h in range(self.n_heads)
            ],
            "mlp": [names.name(layer, "hook_mlp_out") for layer in layers],
            "block": [names.name(layer, CONTRIBUTION) for layer in layers],
            "residual": [names.name(layer, self.after_block) for layer in layers],
        }

    def start(self, tokens_nt: np.ndarray, place: str) -> HubStart:
        self.reader.check_tokens(torch.from_numpy(tokens_nt.astype(np.int64)))
        return HubStart(self, tokens_nt, self._place(place))

    def targets(self, tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self.family == "bert":
            return [tokens_nt.astype(np.int64)]
        following = np.full(tokens_nt.shape, -1, dtype=np.int64)
        following[:, :-1] = tokens_nt[:, 1:]
        return [following]

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits of what the base model gives."""
        if self.family == "bert":
            head = self.model.get_submodule("cls")
        else:
            head = self.model.get_output_embeddings()
        found: Tensor = head(hidden)
        return found

    def _place(self, name: str) -> _Place:
        component = _COMPONENT.fullmatch(name)
        if component is None:
            said = names.why_not(name, self.family, len(self.blocks), self.reader.parallel)
            if said is not None:
                raise UserError(f"{self.where}: site {said}")
            return _Place(*names.parse(name), None)
        layer, head = int(component[1]), component[2]
        if layer >= len(self.blocks) or (head is not None and int(head) >= self.n_heads):
            raise UserError(
                f"{self.where}: component {name!r} does not exist, there are layers 0 to "
                f"{len(self.blocks) - 1} of {self.n_heads} heads; name one of these"
            )
        if head is None:
            return _Place(layer, CONTRIBUTION, None)
        return _Place(layer, "hook_z", int(head))

    @contextmanager
    def skipping(self, n: int, hidden: Tensor, mixed: bool) -> Iterator[None]:
        """Runs in this block go past the first n blocks, and on with `hidden`.

        Args:
            mixed: whether blocks give tuples.
        """

        output = (hidden,) if mixed else hidden
        with _giving(dict.fromkeys(list(self.blocks)[:n], output)):
            yield

    @contextmanager
    def tapped(self, place: _Place, change: Change) -> Iterator[None]:
        """Runs in this block go on with `change` of the activations at a place.

        Before a sublayer that normalises its input the residual stream itself has no module; there
        the output of attention is changed by as much, so that both the sum and the norm see it.
        """
        with ExitStack() as stack:
            block = self.blocks[place.layer]
            inputs: list[Tensor] = []

            def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                inputs[:] = [args[0] if args else kwargs["hidden_states"]]

            def of_stream(value: Tensor) -> Tensor:
                return change(value + inputs[0]) - inputs[0]

            def of_contribution(value: Tensor) -> Tensor:
                return inputs[0] + change(value - inputs[0])

            def of_head(value: Tensor) -> Tensor:
                width = value.shape[-1] // self.n_heads
                assert place.head is not None
                first = place.head * width
                middle = change(value[..., first : first + width])
                return torch.cat([value[..., :first], middle, value[..., first + width :]], dim=-1)

            if place.hook in ("hook_resid_mid", CONTRIBUTION):
                stack.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
            changed: Change
            if place.hook == "hook_z":
                module, changed, at_input = block.get_submodule(_OUTPUT[self.family]), of_head, True
            elif place.hook == CONTRIBUTION:
                module, changed, at_input = block, of_contribution, False
            elif place.hook == "hook_resid_mid" and self.family != "bert":
                read = self.reader.place("hook_attn_out")
                module, changed, at_input = self.reader.module(place.layer, read), of_stream, False
            else:
                read = self.reader.place(place.hook)
                module, changed, at_input = (
                    self.reader.module(place.layer, read),
                    change,
                    read.input,
                )
            stack.callback(_changed(module, changed, at_input).remove)
            yield


@contextmanager
def _giving(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Modules give these outputs, whatever they are given."""
    # An instance's own `forward` goes before its class's; accelerate sets one too.
    before = {module: module.__dict__.get("forward") for module in outputs}
    try:
        for module, output in outputs.items():
            module.forward = partial(_given, output)
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del module.forward
            else:
                module.forward = own


def _given(output: Any, *_: Any, **__: Any) -> Any:
    return output


def _repeated(output: Any, changes: int) -> Any:
    """A module's output for its sequences, as many times as there are changes; a copy, since modules may write on it."""
    if isinstance(output, tuple):
        return tuple(_repeated(part, changes) for part in output)
    if isinstance(output, Tensor):
        return output.repeat(changes, *[1] * (output.ndim - 1))
    return output


def _changed(
    module: nn.Module, change: Change, at_input: bool
) -> torch.utils.hooks.RemovableHandle:
    """A hook that changes the input or the output of a module."""

    def of_input(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def of_output(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    if at_input:
        return module.register_forward_pre_hook(of_input, with_kwargs=True)
    return module.register_forward_hook(of_output)


def load(spec: Mapping[str, Any], paths: Sequence[Path], device: str) -> HubSubject:
    """One member whole, with its head.

    Args:
        spec, paths: see `crossseed.cohorts.hub.members.load`.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: see `crossseed.cohorts.hub.loading.load_whole`.
    """
    source = checked_source(spec, paths)
    return load_source(source, spec["precision"], device, spec.get("device_map"))


def load_source(
    source: Source, dtype: str, device: str, device_map: str | None = None
) -> HubSubject:
    """One language model whole; see `load`."""
    shape = loading.shape_of(loading.load_config(source))
    model = loading.load_whole(source, dtype, device, device_map)
    return HubSubject(model, shape.family, source.model_id, device)
