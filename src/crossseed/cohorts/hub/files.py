"""The files of a model: which there are, in its folder, in the hub's cache or on the hub."""

from __future__ import annotations

import json
from pathlib import Path

from crossseed.cohorts.hub.sentences import sentences
from crossseed.cohorts.hub.source import (
    Source,
    download_command,
    listed,
    offline,
    place_of,
    resolve,
)

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


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
    remedy = f"fetch it with `{download_command(source)}`"
    place = place_of(source)
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
            return f"{path} names {listed(outside, len(outside))}, outside its folder; {remedy}"
        lacking = sorted(part for part in parts if local_file(source, part) is None)
        if lacking:
            return f"{place} lacks {listed(lacking, len(lacking))} of its weights; {remedy}"
        return None
    return f"{place} lacks its weights (one of {', '.join(WEIGHT_FILES)}); {remedy}"


def hub_files(source: Source) -> tuple[str, set[str]]:
    """Commit of a model on the hub, and the files there.

    Raises:
        UserError: there is no such model or revision, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    repository, revision = resolve(source)
    with sentences(source):
        info = HfApi().model_info(repository, revision=revision)
        return str(info.sha), {file.rfilename for file in info.siblings or []}


def fetch(source: Source, name: str) -> Path | None:
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
