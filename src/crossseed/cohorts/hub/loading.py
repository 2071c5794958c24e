"""Language models from the hub or a folder, in transformers' format.

What is loaded is what the repository holds: no code of a repository is run, no weight is left
at its random start, no tokenizer is made up. Whatever fails becomes one sentence with a
remedy.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossseed.cohorts.hub.config import MODEL_ID
from crossseed.cohorts.hub.sites import FAMILIES
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")

# Heads, which act on the last layer alone.
_HEAD = re.compile(r"(?:\w+\.)?(?:lm_head|embed_out|cls|pooler|classifier|score)\.")
# A constant that old checkpoints of GPT-2 store.
_CONSTANT = re.compile(r".*\.attn\.masked_bias")
_LAYER = re.compile(r"(?:\w+\.)?(?:layers|h|encoder\.layer)\.(\d+)\.")
_NAMES_SHOWN = 4
# What a model is loaded to give: activations alone, tokens, or classes of sequences.
BASE, TOKENS, CLASSES = "base", "tokens", "classes"
# Of a classifier, what a model that was trained on text alone may lack.
NEW_HEAD = ("classifier.", "bert.pooler.")


class Source(NamedTuple):
    """Where a model lies.

    Attributes:
        model_id: ``org/name`` or ``org/name@revision``.
        folder: holds the model in ``{folder}/{model_id}``; None means the hub.
        commit: what the revision stood for when the members were checked; None: not known.
    """

    model_id: str
    folder: str | None = None
    commit: str | None = None


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


class HubUnreachable(UserError):
    """The hub does not answer, or answers nobody; which says nothing of the model."""


def resolve(source: Source) -> tuple[str, str | None]:
    """Path or repository, and revision, as transformers takes them.

    Raises:
        UserError: not a model id; or the folder does not hold the model.
    """
    found = MODEL_ID.fullmatch(source.model_id)
    if found is None:
        raise UserError(
            f"{_where(source)}: no model id; expected org/name or org/name@revision, as on the "
            "model's page"
        )
    repository, revision = found[1], found[2]
    if source.folder is not None:
        return str(_subfolder(source, Path(source.folder))), None
    if Path(repository).exists():
        raise UserError(
            f"{_where(source)}: {repository!r} also exists in the working directory, and "
            "transformers would read that; move it, or set `folder` to read it on purpose"
        )
    return repository, source.commit or revision


def _subfolder(source: Source, folder: Path) -> Path:
    path = folder / source.model_id
    if (path / "config.json").is_file():
        return path
    if not folder.is_dir():
        raise UserError(f"{_where(source)}: folder = {folder} does not exist; correct the path")
    there = sorted(
        file.parent.relative_to(folder).as_posix() for file in folder.glob("*/*/config.json")
    )
    close = difflib.get_close_matches(source.model_id, there, _NAMES_SHOWN, cutoff=0.0)
    raise UserError(
        f"{_where(source)}: expected the folder {path} with a config.json; {folder} holds "
        f"{_listed(close, len(there)) if there else 'no model'}; correct the model id, or fetch "
        f"the model with `{_download(source)} --local-dir {path}`"
    )


def load_config(source: Source) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        UserError: it cannot be read, or its architecture is not supported.
    """
    from transformers import AutoConfig, PretrainedConfig

    where, revision = resolve(source)
    with _sentences(source):
        fields, _ = PretrainedConfig.get_config_dict(where, revision=revision)
        if not isinstance(fields, dict):
            raise UserError(
                f"{_where(source)}: its config.json holds no mapping of keys to values; {_fetch_again(source)}"
            )
        model_type = fields.get("model_type")
        if model_type not in FAMILIES:
            raise UserError(
                f"{_where(source)}: its model_type is {model_type!r}, and crossseed reads "
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
    with _sentences(source):
        # Without these files, transformers makes a tokenizer that knows no word.
        if not any(_fetch(source, file) for file in TOKENIZER_FILES):
            cache = source.folder is None and offline()
            remedy = (
                f"fetch it with `{_download(source)}`"
                if cache
                else "add one, or choose a model that has one"
            )
            raise UserError(
                f"{_where(source)}: {_place(source)} lacks its tokenizer (one of "
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
            f"{_where(source)}: its model_type is {config.model_type!r}, and classifiers are made of BERT models; "
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
            raise UserError(f"{_where(source)}: {lacking}")
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
    with _sentences(source), _quietly():
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
        f"{what} {_listed(found, len(found))}"
        for what, found in (
            ("lack", missing),
            ("have the wrong shape:", mismatched),
            ("hold unknown", unknown),
        )
        if found
    ]
    if said:
        raise UserError(
            f"{_where(source)}: its weights {'; they '.join(said)}; fetch it again, or choose a "
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


# --- files ------------------------------------------------------------------------------


def offline() -> bool:
    """Whether the hub's client may use its cache alone (HF_HUB_OFFLINE=1)."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def local_file(source: Source, name: str) -> Path | None:
    """A file of the model in its folder or in the hub's cache, where it is there."""
    from huggingface_hub import try_to_load_from_cache

    where, revision = resolve(source)
    if source.folder is not None:
        path = Path(where, name)
        return path if path.is_file() else None
    found = try_to_load_from_cache(where, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_commit(source: Source) -> str | None:
    """The commit that the hub's cache holds of a model, where it holds one."""
    path = local_file(source, "config.json")
    return None if path is None else path.parent.name  # snapshots/{commit}/config.json


def why_no_weights(source: Source) -> str | None:
    """What the folder, or the hub's cache, lacks to load the weights; None if nothing."""
    remedy = f"fetch it with `{_download(source)}`"
    place = _place(source)
    for name in WEIGHT_FILES:
        path = local_file(source, name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return None
        try:
            parts = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{path} is damaged ({type(error).__name__}: {error}); {remedy}"
        outside = sorted(part for part in parts if Path(str(part)).name != part)
        if outside:
            return f"{path} names {_listed(outside, len(outside))}, outside its folder; {remedy}"
        lacking = sorted(part for part in parts if local_file(source, part) is None)
        if lacking:
            return f"{place} lacks {_listed(lacking, len(lacking))} of its weights; {remedy}"
        return None
    return f"{place} lacks its weights (one of {', '.join(WEIGHT_FILES)}); {remedy}"


def hub_files(source: Source) -> tuple[str, set[str]]:
    """Commit of a model on the hub, and the files there.

    Raises:
        UserError: there is no such model or revision, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    repository, revision = resolve(source)
    with _sentences(source):
        info = HfApi().model_info(repository, revision=revision)
        return str(info.sha), {file.rfilename for file in info.siblings or []}


def _fetch(source: Source, name: str) -> Path | None:
    """A file of the model, downloaded where needed; None if there is none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if source.folder is not None or offline():
        return local_file(source, name)
    repository, revision = resolve(source)
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except LocalEntryNotFoundError:  # A kind of the next, but it means: no answer.
        raise
    except EntryNotFoundError:
        return None


# --- sentences --------------------------------------------------------------------------


@contextmanager
def _sentences(source: Source) -> Iterator[None]:
    """Turns what the hub's client and transformers raise in the block into one sentence."""
    try:
        yield
    except UserError:
        raise
    # Whatever these and the libraries below them raise is about the model or the network.
    except Exception as error:
        kind, sentence = _sentence(source, error)
        raise kind(f"{_where(source)}: {sentence}") from error


def _sentence(source: Source, error: Exception) -> tuple[type[UserError], str]:
    """What went wrong, and what to do."""
    import torch
    from huggingface_hub import errors
    from safetensors import SafetensorError

    chain = list(_chain(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    first = str(error).strip().split("\n")[0]
    said = f"{type(error).__name__}: {first}"
    repository, _, revision = source.model_id.partition("@")
    if caused_by(errors.GatedRepoError):
        return UserError, (
            f"is gated; accept its terms on the model's page, {repository}, and log in with "
            "`hf auth login`"
        )
    if caused_by(errors.RepositoryNotFoundError):
        return UserError, (
            f"the hub has no model {repository!r}, or it is private; correct the name, or log in "
            "with `hf auth login`"
        )
    if caused_by(errors.RevisionNotFoundError):
        return UserError, (
            f"has no revision {revision or 'main'!r}; choose one of the branches or tags on the "
            "model's page"
        )
    if offline() and caused_by(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        return UserError, (
            "HF_HUB_OFFLINE is set and the hub's cache does not hold it; download it first with "
            f"`{_download(source)}`"
        )
    status = _status(chain)
    if status is not None:
        busy = status == 429 or status >= 500
        return HubUnreachable if busy else UserError, (
            f"the hub answers with HTTP status {status}; "
            + ("try again later" if busy else "check the model's page, and your access to it")
        )
    if caused_by(errors.LocalEntryNotFoundError, ConnectionError) or _not_connected(chain):
        return HubUnreachable, (
            f"the hub cannot be reached ({said}); connect to the network, set HF_HUB_OFFLINE=1 to "
            "use only the hub's cache, or set `folder` to a folder that holds the models"
        )
    if caused_by(SafetensorError, pickle.UnpicklingError, EOFError) or "PytorchStream" in first:
        return UserError, f"its weights are damaged ({said}); {_fetch_again(source)}"
    if caused_by(json.JSONDecodeError, UnicodeDecodeError) or "not a valid JSON" in first:
        return UserError, f"a file of it is no valid JSON ({said}); {_fetch_again(source)}"
    if caused_by(torch.OutOfMemoryError, MemoryError):
        return UserError, (
            "does not fit into memory; set a dtype of 16 bits, device: cpu, or device_map: auto"
        )
    if isinstance(error, OSError) and "does not appear to have" in first:
        # transformers says the same where access to the weights alone was refused.
        return UserError, (
            f"no weights were found ({said}); check the revision, and that you may read the files"
        )
    return UserError, f"cannot be read ({said}); mend that, or choose another model"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(chain: list[BaseException]) -> int | None:
    """HTTP status of the hub's refusal, where it refused more than a single file."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    for cause in chain:
        if isinstance(cause, HfHubHTTPError) and not isinstance(cause, EntryNotFoundError):
            return cause.response.status_code
    return None


def _not_connected(chain: list[BaseException]) -> bool:
    """Whether a connection failed; by name, since the hub's client has changed HTTP libraries."""
    return any(kind.__name__ == "TransportError" for cause in chain for kind in type(cause).__mro__)


def _place(source: Source) -> str:
    """Where its files are looked for."""
    if source.folder is not None:
        return resolve(source)[0]
    return "the hub's cache" if offline() else "the hub"


def _where(source: Source) -> str:
    return f"model {source.model_id!r}"


def _download(source: Source) -> str:
    repository, _, revision = source.model_id.partition("@")
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")


def _fetch_again(source: Source) -> str:
    target = f" --local-dir {resolve(source)[0]}" if source.folder is not None else ""
    return f"fetch it again with `{_download(source)} --force-download{target}`"


def _listed(found: list[str], total: int) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(found[:_NAMES_SHOWN])
    more = total - min(len(found), _NAMES_SHOWN)
    return f"{shown} and {more} more" if more else shown


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
