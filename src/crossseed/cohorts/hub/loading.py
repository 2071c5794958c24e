"""Language models from the hub or a folder, in transformers' format.

What is loaded is what the repository holds: no code of a repository is run, no weight is left
at its random start, no tokenizer is made up. Whatever fails becomes one sentence with a
remedy.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from crossseed.cohorts.hub.files import fetch, why_no_weights
from crossseed.cohorts.hub.sentences import sentences
from crossseed.cohorts.hub.sites import FAMILIES
from crossseed.cohorts.hub.source import (
    Source,
    download_command,
    fetch_again,
    listed,
    named,
    offline,
    place_of,
    resolve,
)
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")

# Heads, which act on the last layer alone.
_HEAD = re.compile(r"(?:\w+\.)?(?:lm_head|embed_out|cls|pooler|classifier|score)\.")
# A constant that old checkpoints of GPT-2 store.
_CONSTANT = re.compile(r".*\.attn\.masked_bias")
_LAYER = re.compile(r"(?:\w+\.)?(?:layers|h|encoder\.layer)\.(\d+)\.")
# What a model is loaded to give: activations alone, tokens, or classes of sequences.
BASE, TOKENS, CLASSES = "base", "tokens", "classes"
# Of a classifier, what a model that was trained on text alone may lack.
NEW_HEAD = ("classifier.", "bert.pooler.")


class Shape(NamedTuple):
    """What of a model must be known before its weights are loaded.

    Attributes:
        model_type: transformers' name of the architecture.
        family: see `crossseed.cohorts.hub.sites.FAMILIES`.
        width: size of an activation vector.
        layers: number of blocks.
        parallel: whether attention and MLP both read the input of the block.
        positions: longest sequence the model was made for.
    """

    model_type: str
    family: str
    width: int
    layers: int
    parallel: bool
    positions: int

    @property
    def declared_family(self) -> str:
        """The family as configurations name it, which tells sequential GPT-NeoX apart."""
        return (
            "gpt_neox_sequential"
            if self.family == "gpt_neox" and not self.parallel
            else self.family
        )


def load_config(source: Source) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        UserError: it cannot be read, or its architecture is not supported.
    """
    from transformers import AutoConfig, PretrainedConfig

    where, revision = resolve(source)
    with sentences(source):
        fields, _ = PretrainedConfig.get_config_dict(where, revision=revision)
        if not isinstance(fields, dict):
            raise UserError(
                f"{named(source)}: its config.json holds no mapping of keys to values; {fetch_again(source)}"
            )
        model_type = fields.get("model_type")
        if model_type not in FAMILIES:
            raise UserError(
                f"{named(source)}: its model_type is {model_type!r}, and crossseed reads "
                f"{', '.join(FAMILIES)}; choose a model of one of these"
            )
        return AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)


def shape_of(config: PretrainedConfig) -> Shape:
    """What decides the sites of a model, from its configuration."""
    family = FAMILIES[config.model_type]
    return Shape(
        config.model_type,
        family,
        config.hidden_size,
        config.num_hidden_layers,
        family == "gpt_neox" and config.use_parallel_residual,
        config.max_position_embeddings,
    )


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    where, revision = resolve(source)
    with sentences(source):
        # Without these files, transformers makes a tokenizer that knows no word.
        if not any(fetch(source, file) for file in TOKENIZER_FILES):
            cache = source.folder is None and offline()
            remedy = (
                f"fetch it with `{download_command(source)}`"
                if cache
                else "add one, or choose a model that has one"
            )
            raise UserError(
                f"{named(source)}: {place_of(source)} lacks its tokenizer (one of "
                f"{', '.join(TOKENIZER_FILES)}); {remedy}"
            )
        return AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)


def load_model(
    source: Source,
    dtype: str,
    device: str,
    highest_layer: int | None,
    device_map: str | None = None,
) -> PreTrainedModel:
    """The model without its head and without the layers above the highest wanted one.

    Safetensors are preferred; other weights are read without running code in them.

    Args:
        source: where it lies.
        dtype: one of `DTYPES`.
        device: where it goes, if there is no `device_map`.
        highest_layer: number of the last block to load; None loads all.
        device_map: ``auto`` spreads the model over devices, which needs `accelerate`.

    Returns:
        The base model in eval mode, its parameters without gradient.

    Raises:
        UserError: it cannot be read, is incomplete, or does not fit into memory.
    """
    config = load_config(source)
    of_file = config.num_hidden_layers
    layers = of_file if highest_layer is None else min(of_file, highest_layer + 1)
    if layers < of_file:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    model, report = _load(source, config, dtype, device, device_map, BASE)
    _check_loaded(source, report, range(layers, of_file))
    return model


def load_whole(
    source: Source, dtype: str, device: str, device_map: str | None = None
) -> PreTrainedModel:
    """The whole model with the head that predicts tokens; arguments as of `load_model`.

    Raises:
        UserError: see `load_model`; or the weights lack that head.
    """
    model, report = _load(source, load_config(source), dtype, device, device_map, TOKENS)
    _check_loaded(source, report, range(0))
    return model


def load_classifier(source: Source, device: str, new: Sequence[str] = ()) -> PreTrainedModel:
    """A BERT classifier of sequences in float32, whole.

    Args:
        source: where it lies.
        device: where it goes.
        new: names of the classes of a head that the weights lack, drawn from PyTorch's global state; none:
            the head is that of the weights.

    Raises:
        UserError: see `load_model`; or it is no BERT model, or lacks a head.
    """
    config = load_config(source)
    if config.model_type != "bert":
        raise UserError(
            f"{named(source)}: its model_type is {config.model_type!r}, and classifiers are made of BERT models; "
            "choose one"
        )
    if new:
        config.id2label = dict(enumerate(new))
        config.label2id = {name: number for number, name in enumerate(new)}
    model, report = _load(source, config, "float32", device, None, CLASSES)
    _check_loaded(source, report, range(0), NEW_HEAD if new else ())
    return model


def _load(
    source: Source,
    config: PretrainedConfig,
    dtype: str,
    device: str,
    device_map: str | None,
    what: str,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model in eval mode, and transformers' report of the weights that did not fit."""
    import torch
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
    )

    if dtype not in DTYPES:
        raise UserError(f"dtype = {dtype!r}: unknown; choose one of {', '.join(DTYPES)}")
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise UserError(
            f"device_map = {device_map}: needs the package accelerate; pip install accelerate, or "
            "leave device_map out"
        )
    if source.folder is not None or offline():
        lacking = why_no_weights(source)
        if lacking is not None:
            raise UserError(f"{named(source)}: {lacking}")
    bert = config.model_type == "bert"
    if bert:
        # Saves memory by calling modules on parts of a sequence; hooks would see parts.
        config.chunk_size_feed_forward = 0
    kind: Any = AutoModel
    if what == TOKENS:
        kind = AutoModelForMaskedLM if bert else AutoModelForCausalLM
    elif what == CLASSES:
        kind = AutoModelForSequenceClassification
    where, revision = resolve(source)
    options = {"add_pooling_layer": False} if bert and what == BASE else {}
    with sentences(source), _quietly():
        model, report = kind.from_pretrained(
            where,
            revision=revision,
            config=config,
            dtype=getattr(torch, dtype),
            device_map=device_map,
            trust_remote_code=False,
            weights_only=True,
            # Else wrong shapes are named in a log alone.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        model = model if device_map is not None else model.to(device)
        return model.requires_grad_(False), report


def _check_loaded(
    source: Source, report: dict[str, Any], not_loaded: range, new: tuple[str, ...] = ()
) -> None:
    """Raises `UserError` unless every weight came from the file, but for those whose names start with one of
    `new`, and all of the file is known."""
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(new or "\0"))
    mismatched = sorted(
        f"{name} {tuple(stored)} instead of {tuple(expected)}"
        for name, stored, expected in report["mismatched_keys"]
    )
    unknown = sorted(name for name in report["unexpected_keys"] if not _left_out(name, not_loaded))
    said = [
        f"{what} {listed(found, len(found))}"
        for what, found in (
            ("lack", missing),
            ("have the wrong shape:", mismatched),
            ("hold unknown", unknown),
        )
        if found
    ]
    if said:
        raise UserError(
            f"{named(source)}: its weights {'; they '.join(said)}; fetch it again, or choose a "
            "model whose config.json and weights belong together"
        )


def _left_out(name: str, not_loaded: range) -> bool:
    """Whether a stored weight belongs to a head, to a layer that is not loaded, or is none."""
    layer = _LAYER.match(name)
    if layer is not None and int(layer[1]) in not_loaded:
        return True
    return bool(_HEAD.match(name) or _CONSTANT.fullmatch(name))


def weights_digest(model: PreTrainedModel) -> str:
    """BLAKE2b over names, types, shapes and bytes of the loaded weights, in order of the names.

    It depends on what was loaded: on the highest layer and on the type.
    """
    import torch

    state = model.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        # Weights that do not fit on the devices are kept aside by accelerate.
        accelerate = importlib.import_module("accelerate.utils.modeling")
        state = accelerate.get_state_dict_offloaded_model(model)
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences transformers' report of the weights left out, and its helper on the hub.

    Where a repository has no safetensors, transformers would ask a service on the hub to
    open a pull request there.
    """
    from transformers.utils import logging as log

    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before, verbosity = os.environ.get(variable), log.get_verbosity()
    os.environ[variable] = "1"
    log.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
