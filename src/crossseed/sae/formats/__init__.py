"""Dictionaries that other tools wrote, as SAELens has them.

Folders of SAELens (`cfg.json`, `sae_weights.safetensors`), sparsify (`cfg.json`, `sae.safetensors`) and
dictionary_learning (`config.json`, `ae.pt`), on disk or in a repository of the hub, are turned into
SAELens's names and shapes with the same latents and the same reconstruction. What cannot be said in
these is refused, not approximated. One module a tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossseed.errors import UserError
from crossseed.sae.dictionary import CFG, WEIGHTS, Dictionary, of_arrays, saelens_cfg
from crossseed.sae.formats import dictionary_learning, saelens, sparsify
from crossseed.sae.formats.foreign import Foreign, checked, read_json
from crossseed.store import canonical_json, write_tensors, write_text

# Of ported folders, which stand in no cell of the workflow.
SCHEMA = "ported-sae/1"
TOOLS = (saelens, sparsify, dictionary_learning)
FILES = tuple(dict.fromkeys(name for tool in TOOLS for name in (tool.CONFIG, tool.WEIGHTS)))


def read(folder: Path) -> Foreign:
    """The dictionary in a folder.

    Raises:
        UserError: no such folder, of no known tool, damaged, or of an unknown architecture.
    """
    folder = Path(folder)
    for tool in TOOLS:
        config, weights = folder / tool.CONFIG, folder / tool.WEIGHTS
        if config.is_file() and weights.is_file():
            return checked(weights, tool.read(config, weights, read_json(config)))
    what = "does not exist" if not folder.is_dir() else "holds no dictionary of a known tool"
    raise UserError(
        f"{folder}: {what}; expected cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors "
        "(sparsify), or config.json with ae.pt (dictionary_learning)"
    )


def canonical(site: str) -> str:
    """One name for one place: what a block gets is what the block before it leaves."""
    found = re.fullmatch(r"blocks\.([1-9]\d*)\.hook_resid_pre", site)
    return f"blocks.{int(found[1]) - 1}.hook_resid_post" if found else site


def fetch(name: str) -> Path:
    """The folder of ``org/repository[@revision][:folder]`` on the hub, downloaded or from its cache;
    only the files that make a dictionary.

    Raises:
        UserError: not of that form, or the hub does not give it.
    """
    part = r"\w[\w.-]*"
    found = re.fullmatch(rf"({part}/{part})(?:@([\w./-]+))?(?::([\w./-]+))?", name)
    if not found:
        raise UserError(
            f"{name!r} is neither a folder nor a name on the hub like org/repository@revision:folder"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, revision, inside = found.groups()
    if any(".." in (part or "").split("/") for part in (revision, inside)):
        raise UserError(f"{name!r} leads out of the repository by '..'; name a folder in it")
    try:
        root = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[f"{inside}/{name}" if inside else name for name in FILES],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: the hub does not give it ({type(error).__name__}: {first}); check the name, your "
            "access and the network, or download the folder and name it"
        ) from error
    return Path(root) / (inside or "")


def commit_of(folder: Path) -> str | None:
    """The commit of a folder that `fetch` gave; None for any other."""
    parts = folder.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def cfg_of(found: Foreign, site: str | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Content of SAELens's cfg.json; `about` goes to the project's own part of its metadata."""
    fields: dict[str, Any] = {
        "architecture": found.architecture,
        "apply_b_dec_to_input": found.apply_b_dec_to_input,
    }
    if found.k is not None:
        fields |= {"k": found.k, "rescale_acts_by_decoder_norm": False}
    module = "relu_l1" if found.architecture == "standard" else found.architecture
    width, latents = found.arrays["W_enc"].shape
    return saelens_cfg(width, latents, fields, site, {"architecture": module, **about})


def dictionary_of(found: Foreign) -> Dictionary:
    """The dictionary, ready to encode and decode."""
    return of_arrays(found.arrays, cfg_of(found, found.site, {}))


def save(
    folder: Path,
    found: Foreign,
    dictionary: Dictionary,
    site: str,
    spec: Mapping[str, Any],
    ported: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """A SAELens folder of a dictionary that was made from `found`, its cfg.json last.

    Args:
        spec: the member that it is of now.
        ported: where it comes from, and what it is worth; both go to the project's part of the
            metadata.
        inputs: digests, or names of what it was made from.
    """
    names = ("W_enc", "W_dec", "b_dec", "b_enc")
    arrays = {name: getattr(dictionary, name) for name in names} | dict(dictionary.more)
    kept = {name: arrays[name] for name in found.arrays}
    cfg = cfg_of(found, site, {"spec": dict(spec), "ported": dict(ported)})
    write_tensors(folder / WEIGHTS, kept, SCHEMA, {"cfg": canonical_json(cfg)}, inputs)
    write_text(folder / CFG, json.dumps(cfg, indent=2, sort_keys=True) + "\n")
