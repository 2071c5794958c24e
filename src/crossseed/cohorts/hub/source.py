"""Where a model of the hub or of a folder lies, and how messages name it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

from crossseed.cohorts.hub.config import MODEL_ID
from crossseed.errors import UserError

_NAMES_SHOWN = 4


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


def offline() -> bool:
    """Whether the hub's client may use its cache alone (HF_HUB_OFFLINE=1)."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def resolve(source: Source) -> tuple[str, str | None]:
    """Path or repository, and revision, as transformers takes them.

    Raises:
        UserError: not a model id; or the folder does not hold the model.
    """
    found = MODEL_ID.fullmatch(source.model_id)
    if found is None:
        raise UserError(
            f"{named(source)}: no model id; expected org/name or org/name@revision, as on the "
            "model's page"
        )
    repository, revision = found[1], found[2]
    if source.folder is not None:
        return str(_subfolder(source, Path(source.folder))), None
    if Path(repository).exists():
        raise UserError(
            f"{named(source)}: {repository!r} also exists in the working directory, and "
            "transformers would read that; move it, or set `folder` to read it on purpose"
        )
    return repository, source.commit or revision


def _subfolder(source: Source, folder: Path) -> Path:
    path = folder / source.model_id
    if (path / "config.json").is_file():
        return path
    if not folder.is_dir():
        raise UserError(f"{named(source)}: folder = {folder} does not exist; correct the path")
    there = sorted(
        file.parent.relative_to(folder).as_posix() for file in folder.glob("*/*/config.json")
    )
    close = difflib.get_close_matches(source.model_id, there, _NAMES_SHOWN, cutoff=0.0)
    raise UserError(
        f"{named(source)}: expected the folder {path} with a config.json; {folder} holds "
        f"{listed(close, len(there)) if there else 'no model'}; correct the model id, or fetch "
        f"the model with `{download_command(source)} --local-dir {path}`"
    )


# --- in words -----------------------------------------------------------------------------


def place_of(source: Source) -> str:
    """Where its files are looked for."""
    if source.folder is not None:
        return resolve(source)[0]
    return "the hub's cache" if offline() else "the hub"


def named(source: Source) -> str:
    """How messages name the model."""
    return f"model {source.model_id!r}"


def download_command(source: Source) -> str:
    """What fetches the model into the hub's cache."""
    repository, _, revision = source.model_id.partition("@")
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")


def fetch_again(source: Source) -> str:
    """The remedy for damaged files."""
    target = f" --local-dir {resolve(source)[0]}" if source.folder is not None else ""
    return f"fetch it again with `{download_command(source)} --force-download{target}`"


def listed(found: list[str], total: int) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(found[:_NAMES_SHOWN])
    more = total - min(len(found), _NAMES_SHOWN)
    return f"{shown} and {more} more" if more else shown
