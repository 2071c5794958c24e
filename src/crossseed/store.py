"""Artefacts on disk: self-describing, checked when read.

Arrays go to HDF5, weights to safetensors, tables to CSV. Each HDF5 and safetensors file
carries its schema, the spec that made it, the digests of its inputs, the tool's version
and a digest of its content. All are written whole or not at all (`crossseed.atomic`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from crossseed import __version__
from crossseed.atomic import writing
from crossseed.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

HASH_BLOCK_BYTES = 1 << 24
METADATA = "crossseed"
REMEDY = "delete it and run again: the workflow makes it anew"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text.

    Raises:
        ValueError: the value holds NaN or infinity.
        TypeError: the value holds anything but plain scalars, lists and dicts.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def file_digest(path: Path) -> str:
    """BLAKE2b of a file's bytes; of nothing if it does not exist."""
    if not path.is_file():
        return ""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of(path: Path) -> str:
    """What an artefact says its digest is, unchecked; of any other file, that of its bytes."""
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return str(file.attrs["digest"])
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                return str(json.loads(file.metadata()[METADATA])["digest"])
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return file_digest(path)


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# --- tables -----------------------------------------------------------------------------


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV with exactly `columns`; floats in shortest form that reads back the same."""
    with writing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row[name]) for name in columns})


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else repr(float(value))
    return value


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Lines of a CSV whose header must be exactly `columns`, one at a time; the last must be whole too.

    Raises:
        UserError: not readable, with another header, or with a line that is cut short or too long.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.reader(handle)
            head = next(reader, None)
            if head != list(columns):
                raise UserError(f"{path}: the header is {head}, expected {list(columns)}; {REMEDY}")
            for row in reader:
                if len(row) != len(columns):
                    raise UserError(
                        f"{path}: line {reader.line_num} is cut short or too long; {REMEDY}"
                    )
                yield row
        with open(path, "rb") as binary:
            binary.seek(-1, os.SEEK_END)
            if binary.read(1) != b"\n":
                raise UserError(f"{path}: its last line is cut short; {REMEDY}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error}); {REMEDY}") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV whose header must be exactly `columns`."""
    return [dict(zip(columns, row, strict=True)) for row in table_rows(path, columns)]


def read_frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV as a data frame, (rows, columns), once all of it is known to be whole.

    Args:
        path: the file.
        columns: the header, which must be exactly these in this order; they are the columns of the frame.

    Returns:
        A row a line; numbers as pandas reads them, NaN where a cell is empty.

    Raises:
        UserError: not readable, with another header, or with a line that is cut short or too long.
    """
    import pandas as pd

    for _ in table_rows(path, columns):
        pass
    return pd.read_csv(path)


# --- HDF5 -------------------------------------------------------------------------------


class Header(NamedTuple):
    """What an artefact says of itself."""

    schema: str
    spec: dict[str, Any]
    inputs: dict[str, str]
    version: str
    digest: str


def _update_with_array(digest: Any, name: str, array: h5py.Dataset | np.ndarray) -> None:
    digest.update(f"{name}:{array.dtype.str}:{tuple(array.shape)};".encode())
    rows = max(1, HASH_BLOCK_BYTES // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    if array.ndim == 0:
        digest.update(np.asarray(array[()]).tobytes())
        return
    for start in range(0, array.shape[0], rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).data)


def arrays_digest(arrays: Mapping[str, h5py.Dataset | np.ndarray]) -> str:
    """BLAKE2b over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        _update_with_array(digest, name, arrays[name])
    return digest.hexdigest()


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    group.visititems(
        lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None
    )
    return found


def _seal(schema: str, spec: str, inputs: str, groups: Mapping[str, str]) -> str:
    text = canonical_json([schema, spec, inputs, dict(groups)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def create_h5(
    path: Path, schema: str, spec: Mapping[str, Any], inputs: Mapping[str, str]
) -> Iterator[h5py.File]:
    """A new HDF5 artefact, to be filled in the block and sealed when the block ends.

    Args:
        path: final path; the file appears there only when complete.
        schema: name and number of the layout, e.g. ``activations/1``.
        spec: what made the file.
        inputs: digest of each input artefact by role.
    """
    with writing(path) as temporary, h5py.File(temporary, "w", track_order=False) as file:
        yield file
        groups = {name: arrays_digest(group_arrays(file, name)) for name in sorted(file)}
        for name, digest in groups.items():
            file[name].attrs["digest"] = digest
        attributes = {
            "schema": schema,
            "spec": canonical_json(spec),
            "inputs": canonical_json(dict(inputs)),
            "version": __version__,
        }
        file.attrs.update(attributes)
        file.attrs["digest"] = _seal(schema, attributes["spec"], attributes["inputs"], groups)


def group_arrays(file: h5py.File, name: str) -> dict[str, h5py.Dataset]:
    """The arrays below a top-level name, of which its digest is."""
    item = file[name]
    return _datasets(item) if isinstance(item, h5py.Group) else {name: item}


def add_dataset(group: h5py.Group, name: str, **options: Any) -> h5py.Dataset:
    """A dataset without time stamps, so that equal content gives equal bytes."""
    return group.create_dataset(name, track_times=False, **options)


@contextmanager
def open_h5(path: Path, schema: str, verify: Sequence[str] | None = None) -> Iterator[h5py.File]:
    """An HDF5 artefact for reading, refused unless it is what it says.

    Args:
        path: the file.
        schema: the schema expected.
        verify: top-level names whose content is checked against its digest; None checks all.

    Raises:
        UserError: missing, truncated, foreign, of another schema or edited. Whether values are
            finite is checked by those who read them.
    """
    path = Path(path)
    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError) as error:
        reason = "does not exist" if not path.exists() else "is truncated or not an HDF5 file"
        raise UserError(f"{path}: {reason}; {REMEDY}") from error
    with file:
        if not {"schema", "spec", "inputs", "digest", "version"} <= set(file.attrs):
            raise UserError(
                f"{path}: not written by crossseed (no schema, spec or digest); {REMEDY}"
            )
        if file.attrs["schema"] != schema:
            raise UserError(
                f"{path}: schema is {file.attrs['schema']!r}, expected {schema!r}; {REMEDY}"
            )
        try:
            groups = {name: str(file[name].attrs["digest"]) for name in sorted(file)}
            _check_content(path, file, groups, verify)
        except (OSError, KeyError) as error:
            raise UserError(f"{path}: damaged ({error}); {REMEDY}") from error
        yield file


def _check_content(
    path: Path, file: h5py.File, groups: dict[str, str], verify: Sequence[str] | None
) -> None:
    seal = _seal(file.attrs["schema"], file.attrs["spec"], file.attrs["inputs"], groups)
    if seal != file.attrs["digest"]:
        raise UserError(f"{path}: its header was edited after it was written; {REMEDY}")
    for name in groups if verify is None else verify:
        arrays = group_arrays(file, name)
        if arrays_digest(arrays) != groups[name]:
            raise UserError(f"{path}: the content of {name!r} was edited or damaged; {REMEDY}")


def header(file: h5py.File) -> Header:
    """The header of an open artefact."""
    attributes = file.attrs
    return Header(
        schema=attributes["schema"],
        spec=json.loads(attributes["spec"]),
        inputs=json.loads(attributes["inputs"]),
        version=attributes["version"],
        digest=attributes["digest"],
    )


# --- safetensors ------------------------------------------------------------------------


def write_tensors(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    schema: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Named arrays as safetensors with the same header as an HDF5 artefact."""
    from safetensors.numpy import save_file

    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        check_finite(array, f"{path}: tensor {name!r}")
    header = {
        "schema": schema,
        "spec": canonical_json(spec),
        "inputs": canonical_json(dict(inputs)),
        "version": __version__,
        "content": arrays_digest(arrays),
    }
    header["digest"] = _seal(schema, header["spec"], header["inputs"], _content(header))
    with writing(path) as temporary:
        # One entry only: safetensors keeps several in no particular order.
        save_file(arrays, temporary, metadata={METADATA: canonical_json(header)})


def _content(header: Mapping[str, str]) -> dict[str, str]:
    return {"tensors": header["content"]}


@contextmanager
def open_tensors(path: Path, schema: str) -> Iterator[tuple[Any, Header, str]]:
    """A safetensors artefact for reading, its header checked.

    Yields:
        The open file, the header, and the digest that the tensors must have.

    Raises:
        UserError: missing, truncated, foreign, of another schema, or its header edited.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            header = _header_of_tensors(path, metadata, schema)
            yield file, header, metadata["content"]
    except (OSError, SafetensorError, ValueError) as error:
        reason = "does not exist" if not path.exists() else "is truncated or not safetensors"
        raise UserError(f"{path}: {reason}; {REMEDY}") from error


def _header_of_tensors(path: Path, metadata: Mapping[str, str], schema: str) -> Header:
    if not {"schema", "spec", "inputs", "content", "digest", "version"} <= set(metadata):
        raise UserError(f"{path}: not written by crossseed (no schema, spec or digest); {REMEDY}")
    if metadata["schema"] != schema:
        raise UserError(f"{path}: schema is {metadata['schema']!r}, expected {schema!r}; {REMEDY}")
    seal = _seal(metadata["schema"], metadata["spec"], metadata["inputs"], _content(metadata))
    if seal != metadata["digest"]:
        raise UserError(f"{path}: edited or damaged after it was written; {REMEDY}")
    return Header(
        schema=metadata["schema"],
        spec=json.loads(metadata["spec"]),
        inputs=json.loads(metadata["inputs"]),
        version=metadata["version"],
        digest=metadata["digest"],
    )


def read_tensors(path: Path, schema: str, prefix: str = "") -> tuple[dict[str, np.ndarray], Header]:
    """Arrays of a safetensors artefact and its header.

    Args:
        path: the file.
        schema: the schema expected.
        prefix: keep only names with this prefix, and strip it.

    Raises:
        UserError: missing, truncated, foreign, of another schema, edited or non-finite.
    """
    path = Path(path)
    with open_tensors(path, schema) as (file, header, content):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if arrays_digest(tensors) != content:
        raise UserError(f"{path}: edited or damaged after it was written; {REMEDY}")
    for name, array in tensors.items():
        check_finite(array, f"{path}: tensor {name!r}")
    kept = {name[len(prefix) :]: a for name, a in tensors.items() if name.startswith(prefix)}
    return kept, header


def source_of(origin: str, site: str) -> str:
    """Names what an activation file was made from: the digest of a member's origin, and a site."""
    return f"{origin}:{site}"


def check_cell(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `UserError` unless an artefact was made for the cell that a job is told."""
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UserError(
                f"{path}: made for {key} = {found.get(key)}, but this job needs {value}; "
                "the file is stale or of another cell: run the workflow, or delete it and run again"
            )


def check_finite(array: np.ndarray, what: str) -> None:
    """Raises `UserError` if a float array holds NaN or infinity; `what` opens the sentence."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{what} holds NaN or infinite values; {REMEDY}")
