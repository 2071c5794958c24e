"""The run's tables inside its page, packed, so that thousands of rows weigh little until one opens them."""

from __future__ import annotations

import base64
import csv
import json
import re
import zlib
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from crossseed.store import file_digest

# Of one table; the rest is in its file alone.
MOST_ROWS = 5000
# Of these a page without JavaScript shows so many.
FIRST_ROWS = 5
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(e[+-]?\d+)?|-?\d(\.\d+)?e[+-]?\d+")


class Embedded(NamedTuple):
    """A table of the run as the page holds it.

    Attributes:
        file: its name in ``tables/``. n_rows: in the file. kept: of these, in the page. first: rows for a page without
        JavaScript. packed: ``{"heads": […], "rows": [[…], …]}`` as JSON, zlib and base64. digest: of the file.
    """

    file: str
    n_rows: int
    kept: int
    heads: list[str]
    first: list[list[str]]
    packed: str
    digest: str


def read(path: Path) -> Embedded:
    """A table, its numbers rounded to five significant digits."""
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle)
        heads = next(reader, [])
        rows = [[rounded(text) for text in row] for row in islice(reader, MOST_ROWS)]
        n_rows = len(rows) + sum(1 for _ in reader)
    return Embedded(
        path.name, n_rows, len(rows), heads, rows[:FIRST_ROWS], packed(heads, rows), file_digest(path)
    )  # fmt: skip


def rounded(text: str) -> str:
    """A number with many digits to five significant ones; any other text as it is."""
    return f"{float(text):.5g}" if _LONG_NUMBER.fullmatch(text) else text


def packed(heads: list[str], rows: list[list[str]]) -> str:
    """A table as text for a page: JSON, compressed, in base64."""
    text = json.dumps({"heads": heads, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
