"""What the folder of a trained model says of itself, and whether it is still true."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossseed import __version__
from crossseed.errors import UserError
from crossseed.keys import MEMBER
from crossseed.store import canonical_json, file_digest, write_text

# The key in config.json under which training says what the weights are.
KEY = "crossseed"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def seal(folder: Path, told: Mapping[str, Any]) -> None:
    """Adds `told`, the version of this tool, and digests of the weights and of the rest of
    config.json, to config.json."""
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    digests = {"weights": file_digest(folder / WEIGHTS), "config": _rest(config)}
    config[KEY] = {**told, **digests, "version": __version__}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def check(folder: Path, member: Mapping[str, Any]) -> None:
    """Compares a folder with what it says of itself and with the member it should hold.

    Raises:
        UserError: the folder is damaged, edited, or of another member.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not readable ({error}); delete the folder and run again"
        ) from error
    told = config.get(KEY) if isinstance(config, dict) else None
    if not isinstance(told, dict):
        raise UserError(f"{path}: not written by this workflow; delete the folder and run again")
    for key in MEMBER:
        if told.get(key) != member[key]:
            raise UserError(
                f"{folder}: weights of {key} {told.get(key)}, expected {member[key]}; give the "
                "member's own folder"
            )
    digests = {
        WEIGHTS: ("weights", file_digest(folder / WEIGHTS)),
        CONFIG: ("config", _rest(config)),
    }
    for file, (key, found) in digests.items():
        if found != told.get(key):
            raise UserError(
                f"{folder / file}: edited or damaged after it was written; delete it and run again"
            )


def _rest(config: Mapping[str, Any]) -> str:
    """Digest of config.json without what training says in it."""
    rest = {key: value for key, value in config.items() if key != KEY}
    return hashlib.blake2b(canonical_json(rest).encode(), digest_size=16).hexdigest()
