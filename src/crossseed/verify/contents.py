"""One file read again from end to end, a piece at a time: is it whole, its own, and finite?

Each function raises `UserError` with one sentence on what is wrong.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from crossseed import passes
from crossseed.cohorts.neox import provenance
from crossseed.errors import UserError
from crossseed.keys import MEMBER
from crossseed.sae.dictionary import WEIGHTS
from crossseed.store import (
    REMEDY,
    Header,
    arrays_digest,
    canonical_json,
    check_finite,
    group_arrays,
    header,
    open_h5,
    open_tensors,
    table_rows,
)
from crossseed.verify.places import SHARED, Place

BLOCK_BYTES = 1 << 24
# Columns of numbers, or of nothing; others hold names, or both.
NUMBERS = frozenset(
    (
        *("value", "low", "high", "null", "null_low", "null_high", "null_median", "median", "n"),
        *("n_tokens", "n_pairs", "n_seeds", "n_cells", "step", "learning_rate", "gradient_norm"),
        *("seed", "source_seed", "target_seed", "other_seed", "draws", "batch", "p", "p_published"),
        *("ev", "variance_share", "direction", "latent", "partner", "density", "reappears", "d"),
        *("holm", "ks", "ks_published", "coverage", "gap", "gap_low", "gap_high", "rigorous"),
        *("margin", "margin_low", "margin_high", "as_published", "procrustes", "shuffled"),
        *("mean_max_cosine", "random_floor", "rotation_distance", "angle_rad", "penalty", "l0"),
        *("delta", "difference", "tolerance", "lambda", "loss", "weight_error", "max_mse"),
    )
)
# Columns of names all the same, in tables that have another: of retrainings `null` is a kind, and of regressions `draws`
# are which ones.
NAMES = {"null": "draw", "draws": "scope"}
PNG = b"\x89PNG\r\n\x1a\n"


class _Pieces:
    """An array on disk whose pieces are looked at as they are read for a digest.

    Args:
        read: pieces by index. dtype, shape: of the whole. what: opens the sentence on values that are
            not finite.
    """

    def __init__(
        self,
        read: Callable[[Any], np.ndarray],
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        what: str,
    ) -> None:
        self._read, self.dtype, self.shape, self.what = read, dtype, tuple(shape), what
        self.ndim = len(self.shape)

    def __getitem__(self, part: Any) -> np.ndarray:
        found = np.asarray(self._read(part))
        check_finite(found, self.what)
        return found


def hdf5(path: Path, schema: str) -> Header:
    """Content against its digests, and finite values.

    Raises:
        UserError: missing, damaged, foreign, edited or not finite.
    """
    with open_h5(path, schema, verify=[]) as file:
        for name in file:
            pieces: dict[str, Any] = {
                key: _Pieces(of.__getitem__, of.dtype, of.shape, f"{path}: {key!r} of {name!r}")
                for key, of in group_arrays(file, name).items()
            }
            try:
                same = arrays_digest(pieces) == file[name].attrs["digest"]
            except (OSError, ValueError, RuntimeError) as error:
                raise UserError(f"{path}: {name!r} cannot be read ({error}); {REMEDY}") from error
            if not same:
                raise UserError(f"{path}: the content of {name!r} was edited or damaged; {REMEDY}")
        return header(file)


# What safetensors calls the types that NumPy has.
_DTYPES = {
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    "BOOL": "|b1",
}


def _tensors(file: Any, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in file.keys():  # noqa: SIM118
        whole = file.get_slice(name)
        shape, kind = tuple(whole.get_shape()), whole.get_dtype()
        if kind not in _DTYPES:
            continue
        read = _rows(whole, shape[0]) if shape else _number(file, name)
        found[name] = _Pieces(read, np.dtype(_DTYPES[kind]), shape, f"{path}: tensor {name!r}")
    return found


def _rows(whole: Any, n: int) -> Callable[[slice], np.ndarray]:
    """Rows of a tensor of `n`; safetensors refuses slices that end beyond the last."""
    return lambda part: whole[part.start : min(part.stop, n)] if n else np.empty(0)


def _number(file: Any, name: str) -> Callable[[Any], np.ndarray]:
    return lambda _: file.get_tensor(name)


def tensors(path: Path, schema: str) -> Header:
    """Content against its digest, and finite values.

    Raises:
        UserError: missing, damaged, foreign, edited or not finite.
    """
    with open_tensors(path, schema) as (file, found, content):
        if arrays_digest(_tensors(file, path)) != content:
            raise UserError(f"{path}: edited or damaged after it was written; {REMEDY}")
        return found


def own_part(cfg: str) -> dict[str, Any]:
    """What this project says of a dictionary, of the cfg.json that its header repeats."""
    found: dict[str, Any] = json.loads(cfg)["metadata"]["crossseed"]
    return found


def belongs(path: Path, schema: str) -> None:
    """A dictionary's cfg.json against what the header of the weights beside it says.

    Raises:
        UserError: they differ.
    """
    weights = path.with_name(WEIGHTS)
    if not weights.exists():
        return
    with open_tensors(weights, schema) as (_, found, _):
        if canonical_json(json.loads(path.read_text(encoding="utf-8"))) != found.spec.get("cfg"):
            raise UserError(f"{path}: does not belong to {WEIGHTS} beside it; {REMEDY}")


def foreign_tensors(path: Path) -> None:
    """Of other tools' layout: readable, and finite.

    Raises:
        UserError: one of these is not so.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays_digest(_tensors(file, path))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: is truncated or not safetensors; {REMEDY}") from error


def member(path: Path, cell: Mapping[str, str]) -> None:
    """The config.json of a trained model: what it says of itself and of the weights beside it."""
    if not path.with_name(provenance.WEIGHTS).exists():
        return
    wanted = {key: int(cell[key]) if key == "seed" else cell[key] for key in MEMBER}
    provenance.check(path.parent, wanted)


def table(path: Path, columns: tuple[str, ...], named: Mapping[str, str]) -> None:
    """Header, lines of equal length, numbers where numbers belong, rows of the cell alone.

    Args:
        named: the cell by the names of columns.

    Raises:
        UserError: one of these is not so.
    """
    own = [(columns.index(name), name, named[name]) for name in columns if name in named]
    names = {name for name, beside in NAMES.items() if beside in columns}
    numbers = [(at, name) for at, name in enumerate(columns) if name in NUMBERS - names]
    for number, row in enumerate(table_rows(path, columns), start=2):
        where = f"{path}: line {number}"
        for at, name in numbers:
            if row[at] and not _finite(row[at]):
                raise UserError(f"{where}: {name} is {row[at]!r}, no number; {REMEDY}")
        for at, name, value in own:
            if row[at] != value:
                raise UserError(
                    f"{where} is of {name} {row[at]}, but the file lies where {name} {value} "
                    f"belongs; {REMEDY}"
                )


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def document(path: Path) -> None:
    """A JSON document.

    Raises:
        UserError: it is not readable as one.
    """
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({error}); {REMEDY}") from error


def lines(path: Path) -> None:
    """A JSON document a line.

    Raises:
        UserError: a line is none.
    """
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: line {number} is not JSON ({error}); {REMEDY}") from error


def figure(path: Path) -> None:
    """A picture: whole, by its own check sums where it has some.

    Raises:
        UserError: it is cut short, damaged or not readable.
    """
    if path.suffix == ".svg":
        parser = expat.ParserCreate()
        try:
            with open(path, "rb") as handle:
                parser.ParseFile(handle)
        # An encoding of no known name is a LookupError.
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise UserError(f"{path}: not a readable SVG ({error}); {REMEDY}") from error
        return
    data = path.read_bytes()
    at, ended = len(PNG), False
    while data.startswith(PNG) and not ended and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            break
        ended = data[at + 4 : at + 8] == b"IEND"
        at = end + 4
    if not ended:
        raise UserError(f"{path}: not a whole PNG; {REMEDY}")


def page(path: Path) -> None:
    """A page that was written to its end.

    Raises:
        UserError: it was not, or is not readable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable page ({error}); {REMEDY}") from error
    if not text.rstrip().endswith("</html>"):
        raise UserError(f"{path}: is cut short; {REMEDY}")


def check(path: Path, place: Place) -> Header | None:
    """Reads a file as what its place says it is.

    Returns:
        Of artefacts with a header, that.

    Raises:
        UserError: what is wrong with it.
    """
    try:
        return _read(path, place)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {REMEDY}") from error


def _read(path: Path, place: Place) -> Header | None:
    kind, cell = place.kind, place.cell
    match kind.form:
        case "hdf5":
            return hdf5(path, kind.schema)
        case "tensors":
            return tensors(path, kind.schema)
        case "foreign tensors":
            foreign_tensors(path)
        case "model":
            member(path, cell)
        case "table":
            assert kind.columns is not None
            table(path, kind.columns, place.named)
        case "json":
            document(path)
            if kind.template in SHARED:
                passes.recorded(path)
            if kind.schema:
                belongs(path, kind.schema)
        case "lines":
            lines(path)
        case "figure":
            figure(path)
        case "page":
            page(path)
    return None
