"""What the hub's client and transformers raise, turned into one sentence with a remedy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from crossseed.cohorts.hub.source import (
    Source,
    download_command,
    fetch_again,
    named,
    offline,
)
from crossseed.errors import UserError


class HubUnreachable(UserError):
    """The hub does not answer, or answers nobody; which says nothing of the model."""


@contextmanager
def sentences(source: Source) -> Iterator[None]:
    """Turns what the hub's client and transformers raise in the block into one sentence."""
    try:
        yield
    except UserError:
        raise
    # Whatever these and the libraries below them raise is about the model or the network.
    except Exception as error:
        kind, sentence = _sentence(source, error)
        raise kind(f"{named(source)}: {sentence}") from error


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
            f"`{download_command(source)}`"
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
        return UserError, f"its weights are damaged ({said}); {fetch_again(source)}"
    if caused_by(json.JSONDecodeError, UnicodeDecodeError) or "not a valid JSON" in first:
        return UserError, f"a file of it is no valid JSON ({said}); {fetch_again(source)}"
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
