"""Token sets and activations on disk, and the batches that SAEs are trained on.

Disk layout of an activation file (schema ``activations/1``), one per (seed, checkpoint,
site); each split is a group of equal-length arrays, one row a token, in sequence order:

    {split}/activations   (tokens, width)  float32 or float16
    {split}/sequence      (tokens,)        number of the sequence within the split
    {split}/position      (tokens,)        position within the sequence
    {split}/document      (tokens,)        number of the document in which the sequence starts
    {split}/token         (tokens,)        token id
    {split}/label_{name}  (tokens,)        labels of the task, where it has any
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from crossseed.cohorts.base import DEVELOPMENT, SPLITS, Member, TokenSet, batches
from crossseed.errors import UserError
from crossseed.progress import Progress
from crossseed.seeding import generator
from crossseed.store import add_dataset, canonical_json, check_finite, create_h5, header, open_h5

TOKENS_SCHEMA = "tokens/1"
ACTIVATIONS_SCHEMA = "activations/1"
CHUNK_ROWS = 4096
FORWARD_TOKENS = 8192
SHUFFLE_BUFFER_BYTES = 256 << 20


def write_tokens(
    path: Path, spec: dict[str, Any], sets: dict[str, TokenSet], used: dict[str, Any]
) -> None:
    """Token sets of a cohort as one HDF5 file, a group a split.

    Args:
        path: the file to write.
        spec: what made them.
        sets: token sets by split.
        used: what they were made from (digest and counts of a corpus), kept in the header.
    """
    inputs = {"corpus": canonical_json(used)} if used else {}
    with create_h5(path, TOKENS_SCHEMA, spec, inputs) as file:
        for split, found in sets.items():
            group = file.create_group(split)
            add_dataset(group, "tokens", data=found.tokens_nt)
            add_dataset(group, "keep", data=found.keep_nt)
            add_dataset(group, "document", data=found.document_n)
            for name, values in found.labels.items():
                add_dataset(group, f"label_{name}", data=values)


def read_tokens(path: Path) -> tuple[dict[str, TokenSet], str]:
    """Token sets by split, `DEVELOPMENT` too where the file has it, and the file's digest."""
    with open_h5(path, TOKENS_SCHEMA) as file:
        sets = {
            split: TokenSet(
                file[split]["tokens"][:],
                file[split]["keep"][:],
                {
                    name.removeprefix("label_"): values[:]
                    for name, values in file[split].items()
                    if name.startswith("label_")
                },
                file[split]["document"][:],
            )
            for split in (*SPLITS, DEVELOPMENT)
            if split in SPLITS or split in file
        }
        return sets, header(file).digest


def extract(
    member: Member,
    sets: dict[str, TokenSet],
    tokens_digest: str,
    out: dict[str, Path],
    specs: dict[str, dict[str, Any]],
    dtype: str,
) -> None:
    """One forward pass over all token sets; one file per site.

    Args:
        member: the loaded model.
        sets: token sets by split.
        tokens_digest: digest of the token file.
        out: output path by site.
        specs: header spec by site.
        dtype: ``float32`` or ``float16``.

    Raises:
        UserError: an activation is not finite, or overflows float16.
    """
    inputs = {"model": member.digest, "tokens": tokens_digest}
    total = sum(len(found.tokens_nt) for found in sets.values())
    progress = Progress("extract", total)
    done = 0
    with ExitStack() as stack:
        files = {
            site: stack.enter_context(create_h5(path, ACTIVATIONS_SCHEMA, specs[site], inputs))
            for site, path in out.items()
        }
        for split, found in sets.items():
            index = _token_index(found)
            for site, file in files.items():
                _start_split(file, split, index, member.width(site), dtype)
            filled = 0
            for part in batches(
                len(found.tokens_nt), max(1, FORWARD_TOKENS // found.tokens_nt.shape[1])
            ):
                keep = found.keep_nt[part]
                by_site = member.activations(found.tokens_nt[part], list(out))
                end = filled + int(keep.sum())
                for site, file in files.items():
                    rows = by_site[site][keep].astype(dtype, copy=False)
                    if not np.isfinite(rows).all():
                        raise UserError(
                            f"{site}: activations are not finite in {dtype} (largest finite "
                            f"value {np.nanmax(np.abs(by_site[site])):.3g}); store float32 "
                            "(activation_dtype) or check the model"
                        )
                    file[split]["activations"][filled:end] = rows
                filled = end
                done += part.stop - part.start
                progress.update(done, "sequences")
    progress.close()


def _token_index(found: TokenSet) -> dict[str, np.ndarray]:
    sequence, position = np.nonzero(found.keep_nt)
    arrays = {
        "sequence": sequence.astype(np.int32),
        "position": position.astype(np.int32),
        "document": found.document_n[sequence].astype(np.int32),
        "token": found.tokens_nt[found.keep_nt],
    }
    for name, values in found.labels.items():
        arrays[f"label_{name}"] = values[found.keep_nt]
    return arrays


def _start_split(
    file: h5py.File, split: str, index: dict[str, np.ndarray], width: int, dtype: str
) -> None:
    group = file.create_group(split)
    n = len(index["token"])
    add_dataset(
        group, "activations", shape=(n, width), dtype=dtype, chunks=(min(n, CHUNK_ROWS), width)
    )
    for name, values in index.items():
        add_dataset(group, name, data=values)


class SplitReader:
    """One split of an open activation file.

    Attributes:
        path: the file.
        n_tokens, width: size of the split.
        sequence_n: number of the sequence each token belongs to, non-decreasing.
        position_n: position of each token.
        document_n: number of the document in which its sequence starts, non-decreasing.
        token_n: token id of each token.
        digest: digest of the file.
        tokens: digest of the token file behind it; pairs need the same one.
    """

    def __init__(self, path: Path, group: h5py.Group, digest: str, tokens: str) -> None:
        self.path, self.digest, self.tokens = path, digest, tokens
        self._group = group
        self.n_tokens, self.width = group["activations"].shape
        self.sequence_n: np.ndarray = group["sequence"][:]
        self.position_n: np.ndarray = group["position"][:]
        self.document_n: np.ndarray = group["document"][:]

    @property
    def token_n(self) -> np.ndarray:
        """Token id of each row, (tokens,)."""
        found: np.ndarray = self._group["token"][:]
        return found

    def rows(self, part: slice) -> np.ndarray:
        """Activations of some rows as float32, (tokens, width); refused if not finite."""
        acts = self._group["activations"][part].astype(np.float32, copy=False)
        check_finite(acts, f"{self.path}: {self._group.name}/activations")
        return acts


@contextmanager
def open_split(path: Path, split: str, source: str) -> Iterator[SplitReader]:
    """One split of an activation file, checked and read piece by piece.

    Args:
        path: the file.
        split: one of `SPLITS`.
        source: what the file must have been made from (the spec's ``activations`` entry).

    Raises:
        UserError: damaged, foreign, or made from something else.
    """
    with open_h5(path, ACTIVATIONS_SCHEMA, verify=[split]) as file:
        found = header(file)
        check_source(path, found.spec, source)
        yield SplitReader(Path(path), file[split], found.digest, found.inputs["tokens"])


class Shuffling(NamedTuple):
    """Activations whose principal components are each dealt out to other tokens: mean, covariance and how each
    component is distributed stay, what goes together does not. The null of what an SAE finds beyond these.

    Attributes:
        mean_d: (width,). axes_dd: principal axes as columns.
    """

    mean_d: np.ndarray
    axes_dd: np.ndarray

    def __call__(self, rows_nd: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows (tokens, width) whose components are permuted over the tokens, each component by itself."""
        components = rng.permuted((rows_nd - self.mean_d) @ self.axes_dd, axis=0)
        found: np.ndarray = components @ self.axes_dd.T + self.mean_d
        return found


def shuffling(path: Path, source: str) -> Shuffling:
    """Along the principal axes of the training tokens of an activation file."""
    with open_split(path, "train", source) as split:
        total, squares = np.zeros(split.width), np.zeros((split.width, split.width))
        for part in batches(split.n_tokens, CHUNK_ROWS):
            rows = split.rows(part)
            total += rows.sum(axis=0, dtype=np.float64)
            squares += rows.astype(np.float64).T @ rows
        mean = total / split.n_tokens
    axes = np.linalg.eigh(squares / split.n_tokens - np.outer(mean, mean))[1]
    return Shuffling(mean.astype(np.float32), axes.astype(np.float32))


class ShuffledSplit(SplitReader):
    """A split whose features are shuffled, a part at a time: the same part reads the same twice.

    Args:
        split: the open split. by: how. name: names the draws.
    """

    def __init__(self, split: SplitReader, by: Shuffling, *name: object) -> None:
        self.__dict__.update(split.__dict__)
        self._by, self._name = by, name

    def rows(self, part: slice) -> np.ndarray:
        """Shuffled activations of some rows, (tokens, width)."""
        rng = generator("shuffled-features", *self._name, part.start, part.stop)
        return self._by(super().rows(part), rng)


def check_paired(a: SplitReader, b: SplitReader) -> None:
    """Raises `UserError` unless both splits hold the same tokens, row by row."""
    if a.tokens != b.tokens or a.n_tokens != b.n_tokens:
        raise UserError(
            f"{a.path} and {b.path} were read on different tokens, so their rows are not "
            "paired; run the workflow, or delete both and run again"
        )


def check_source(path: Path, spec: dict[str, Any], source: str) -> None:
    """Raises UserError where the spec of a file names another source than its job's does: the file is stale."""
    if spec.get("source") != source:
        raise UserError(
            f"{path}: made from {spec.get('source')}, but this job's spec names {source}; "
            "the file is stale: run the workflow, or delete the file and run again"
        )


class BatchStream:
    """Training batches from the `train` split of an activation file, in bounded memory.

    Each epoch visits every token once. Chunks of consecutive rows are read in a random
    order into a buffer, and the buffer is shuffled: where the split fits into the buffer
    this is a full permutation, and the split is read once. Batch `i` is a function of
    (name, i) alone, so a resumed job continues with the batch it would have seen.

    Args:
        path: the activation file.
        source: what it must have been made from.
        batch_tokens: tokens a batch.
        name: names the order; equal names give equal batches.
        shuffling: of features; None leaves activations as they are. Dealt out anew for each buffer, that is
            over the whole split where it fits.

    Raises:
        UserError: damaged file, or fewer tokens than one batch.
    """

    def __init__(
        self,
        path: Path,
        source: str,
        batch_tokens: int,
        *name: object,
        shuffling: Shuffling | None = None,
    ) -> None:
        self.path, self.batch_tokens, self.name = path, batch_tokens, name
        self._shuffling = shuffling
        with open_h5(path, ACTIVATIONS_SCHEMA, verify=["train"]) as file:
            found = header(file)
            check_source(path, found.spec, source)
            self.digest = found.digest
            stored = file["train"]["activations"]
            self.n_tokens, self.width = stored.shape
            buffer_rows = SHUFFLE_BUFFER_BYTES // (4 * self.width)
            self._resident: np.ndarray | None = None
            if self.n_tokens <= buffer_rows:
                self._resident = stored[:].astype(np.float32, copy=False)
                check_finite(self._resident, f"{path}: train/activations")
                self._resident = self._shuffled(self._resident, 0)
        if self.n_tokens < batch_tokens:
            raise UserError(
                f"{path}: {self.n_tokens} training tokens, fewer than one batch of "
                f"{batch_tokens}; lower batch_tokens or draw more sequences"
            )
        self._chunks_per_buffer = max(1, buffer_rows // CHUNK_ROWS)

    @property
    def mean_and_scale(self) -> tuple[np.ndarray, float]:
        """Mean per dimension, (width,), and root mean square distance to it per dimension.

        Estimated on the first buffer of tokens at most, sums in float64.
        """
        rows = (
            self._resident
            if self._resident is not None
            else self._read(range(self._chunks_per_buffer))
        )
        mean = rows.mean(axis=0, dtype=np.float64)
        spread = np.square(rows - mean.astype(np.float32)).mean(dtype=np.float64)
        return mean, float(np.sqrt(spread))

    def _shuffled(self, rows: np.ndarray, *buffer: object) -> np.ndarray:
        if self._shuffling is None:
            return rows
        return self._shuffling(rows, generator("shuffled-features", *self.name, "train", *buffer))

    def _read(self, chunks: Iterator[int] | range) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            stored = file["train"]["activations"]
            parts = [stored[i * CHUNK_ROWS : (i + 1) * CHUNK_ROWS] for i in chunks]
        rows = np.concatenate(parts).astype(np.float32, copy=False)
        check_finite(rows, f"{self.path}: train/activations")
        return rows

    def _buffers(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, order of rows) of each buffer of an epoch."""
        rng = generator("batches", *self.name, epoch)
        if self._resident is not None:
            yield self._resident, rng.permutation(self.n_tokens)
            return
        chunks = rng.permutation(-(-self.n_tokens // CHUNK_ROWS))
        for part in batches(len(chunks), self._chunks_per_buffer):
            rows = self._shuffled(self._read(iter(chunks[part])), epoch, part.start)
            yield rows, rng.permutation(len(rows))

    def __call__(self, start: int) -> Iterator[np.ndarray]:
        """Batches from number `start` on, without end; each (batch_tokens, width) float32."""
        per_epoch = self.n_tokens // self.batch_tokens
        epoch, skip = divmod(start, per_epoch)
        while True:
            left = per_epoch
            rest = np.empty((0, self.width), dtype=np.float32)
            for rows, order in self._buffers(epoch):
                at = 0
                while left and len(order) - at + len(rest) >= self.batch_tokens:
                    take = self.batch_tokens - len(rest)
                    left -= 1
                    if skip:
                        skip -= 1
                    else:
                        batch = rows[order[at : at + take]]
                        yield np.concatenate([rest, batch]) if len(rest) else batch
                    rest = rest[:0]
                    at += take
                rest = np.concatenate([rest, rows[order[at:]]]) if left else rest
            epoch += 1
