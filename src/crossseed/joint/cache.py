"""All that is clean of one member at one site, on disk, so that no training passes through the model's lower part.

Disk layout (schema ``joint-cache/1``), one file per (seed, checkpoint, site); each split is a group:

    {split}/h         (examples, tokens, width)   activations at the site, float32 or float16, pads included
    {split}/next      (examples, tokens, width)   the next layer's states
    {split}/logits    (examples, classes) or (examples, predictions, classes), float32
    {split}/mask      (examples, tokens)          true where a token is no padding
    {split}/special   (examples, tokens)          true at tokens that count only if they are asked for
    {split}/labels    (examples,) or (examples, predictions)
    {split}/at        (examples, predictions)     positions of the predictions; not of classifiers
    {split}/tokens    (examples, tokens)          ids
    {split}/document  (examples,)                 what each example is of

Splits are those of the token sets, and ``development``, on which early stopping decides: sentences that a cohort has for
it, or else the last of `train`, in whole documents. Arrays are contiguous and read through memory maps: jobs that train on
one file share its pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from crossseed.activations import check_source
from crossseed.cohorts.base import DEVELOPMENT, FORWARD_TOKENS, Scored, TokenSet, batches
from crossseed.errors import UserError
from crossseed.joint.upper import MODELS, Cache, CutModel
from crossseed.progress import Progress
from crossseed.store import add_dataset, create_h5, header, open_h5

SCHEMA = "joint-cache/1"
# What two members that share a cache's tokens have in common.
ALIKE = ("mask", "special", "labels", "at", "tokens", "document")


def with_development(sets: Mapping[str, TokenSet], n: int) -> dict[str, TokenSet]:
    """Token sets with one for early stopping: the cohort's own, or else taken off the end of `train`.

    Args:
        sets: by split. n: sequences to take; documents stay whole, so that a few more may go.

    Raises:
        UserError: nothing would be left to train on.
    """
    found = dict(sets)
    if DEVELOPMENT in found:
        return found
    train = found["train"]
    wanted = len(train.tokens_nt) - n
    begins = np.flatnonzero(np.r_[True, np.diff(train.document_n) != 0])
    first = int(begins[begins <= wanted].max(initial=0)) if wanted > 0 else 0
    if first == 0:
        raise UserError(
            f"joint.development = {n} takes all {len(train.tokens_nt)} sequences of `train` (whole documents); lower it, "
            "or raise tokens.train"
        )
    for split, part in (("train", slice(first)), (DEVELOPMENT, slice(first, None))):
        labels = {name: values[part] for name, values in train.labels.items()}
        found[split] = TokenSet(
            train.tokens_nt[part], train.keep_nt[part], labels, train.document_n[part]
        )
    return found


def write(
    path: Path,
    upper: CutModel,
    sets: Mapping[str, TokenSet],
    predictions: int,
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
    dtype: str,
    *name: object,
) -> None:
    """Passes over all sets once, and writes what is clean of them.

    Args:
        path: the file to write.
        upper: the member, cut at the site.
        sets: by split, `DEVELOPMENT` among them.
        predictions: of each sequence, where a model predicts at every position.
        spec, inputs: of the header.
        dtype: of activations and states.
        name: of the positions that are drawn; the same for all members of a cohort.

    Raises:
        UserError: activations are not finite in that type, or sequences are longer than the model's positions.
    """
    scored = {
        split: _trimmed(upper.scored(found, predictions, *name, split), f"{path}: {split}")
        for split, found in sets.items()
    }
    progress = Progress("cache", sum(len(one.tokens_nt) for one in scored.values()))
    done = 0
    with create_h5(path, SCHEMA, spec, inputs) as file:
        for split, found in scored.items():
            group = file.create_group(split)
            n, length = found.tokens_nt.shape
            for key in ("h", "next"):
                add_dataset(group, key, shape=(n, length, upper.width), dtype=dtype)
            for part in batches(n, max(1, FORWARD_TOKENS // length)):
                at = None if found.at_np is None else found.at_np[part]
                arrays = [
                    x.float().cpu().numpy() for x in upper.clean(found.tokens_nt[part], at)[:3]
                ]
                if "logits" not in group:
                    add_dataset(group, "logits", shape=(n, *arrays[2].shape[1:]), dtype="float32")
                for key, array in zip(("h", "next", "logits"), arrays, strict=True):
                    with np.errstate(over="ignore"):
                        rows = array.astype(group[key].dtype)
                    if not np.isfinite(rows).all():
                        raise UserError(
                            f"{upper.where}: what is cached of it is not finite in {rows.dtype} (largest finite value "
                            f"{np.nanmax(np.abs(array)):.3g}); store float32 (activation_dtype) or check the model"
                        )
                    group[key][part] = rows
                done += part.stop - part.start
                progress.update(done, "examples")
            for key, array in _alike(found).items():
                add_dataset(group, key, data=array)
    progress.close()


def _trimmed(found: Scored, where: str) -> Scored:
    """Without the positions at which every sequence is padded."""
    if not found.mask_nt.any():
        raise UserError(f"{where} has no tokens; make the token sets again")
    longest = int(np.flatnonzero(found.mask_nt.any(axis=0))[-1]) + 1
    return found._replace(
        tokens_nt=found.tokens_nt[:, :longest],
        mask_nt=found.mask_nt[:, :longest],
        special_nt=found.special_nt[:, :longest],
    )


def _alike(found: Scored) -> dict[str, np.ndarray]:
    arrays = {
        "mask": found.mask_nt,
        "special": found.special_nt,
        "labels": found.label,
        "tokens": found.tokens_nt.astype(np.int32),
        "document": found.document_n,
    }
    return arrays if found.at_np is None else {**arrays, "at": found.at_np}


class Source(NamedTuple):
    """A file of one member, and what it must have been made from (a spec's ``caches`` entry)."""

    path: Path
    source: str


@contextmanager
def _opened(one: Source, split: str) -> Iterator[h5py.Group]:
    with open_h5(one.path, SCHEMA, verify=[split]) as file:
        check_source(one.path, header(file).spec, one.source)
        yield file[split]


def digest(one: Source) -> str:
    """Digest of a file's content."""
    with open_h5(one.path, SCHEMA, verify=[]) as file:
        return header(file).digest


def read(files: Sequence[Source], split: str) -> Cache:
    """A split of models A and B.

    Args:
        files: of A and of B. split: one of the file's.

    Raises:
        UserError: damaged, foreign or stale, of other tokens or another width; labels that are no classes.
    """
    own: list[dict[str, np.ndarray]] = []
    for one in files:
        with _opened(one, split) as group:
            alike = {key: group[key][:] for key in ALIKE if key in group}
            mapped = {key: _mapped(one.path, group[key]) for key in ("h", "next")}
            arrays = {**alike, **mapped, "logits": group["logits"][:]}
        # Finite when it was written, and the digest says that it is what was written.
        own.append(arrays)
    a, b = own
    (name_a, name_b), (path_a, path_b) = MODELS, (one.path for one in files)
    widths = [x["h"].shape[-1] for x in own]
    if widths[0] != widths[1]:
        raise UserError(
            f"{path_a} has activations {widths[0]} wide and {path_b} {widths[1]}: models {name_a} and {name_b} are no "
            "pair; choose models of one width"
        )
    for key in ALIKE:
        if not np.array_equal(a.get(key, 0), b.get(key, 0)):
            raise UserError(
                f"{path_a} and {path_b} differ in {split}/{key}, so their rows are not paired; choose models of one "
                "tokenizer, and make both files again on the same tokens"
            )
    return Cache(
        h=(a["h"], b["h"]),
        next=(a["next"], b["next"]),
        logits=(a["logits"], b["logits"]),
        mask=a["mask"],
        special=a["special"],
        labels=a["labels"],
        tokens=a["tokens"],
        document=a["document"],
        at=a.get("at"),
        where=f"{path_a}, {path_b}: {split}",
    )


def _mapped(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """A dataset through a memory map; it lies in one piece."""
    return np.memmap(
        path, dataset.dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape
    )
