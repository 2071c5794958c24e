"""What the page is made of below its headings: studies that say something, and tables that one can sort and filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

NOTHING = "–"
# Letters of a text that wants a wide column.
LONG = 40
_NUMBER = re.compile(r"[+\-−]?[\d.]")


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what it says. more: what stands small below it, such as an interval. href: of a file beside the page.
    """

    text: str
    more: str = ""
    href: str = ""

    @property
    def kind(self) -> str:
        """``number`` is set to the right and kept on one line, ``words`` may wrap."""
        return "number" if self.text == NOTHING or _NUMBER.match(self.text) else "words"

    @property
    def parts(self) -> list[str]:
        """What stands small, in parts between which a line may break where numbers may not."""
        return [part + ";" for part in self.more.split("; ")[:-1]] + self.more.split("; ")[-1:]

    @property
    def longest(self) -> int:
        return max(len(self.text), len(self.more))


class Table(NamedTuple):
    """A table of the page.

    Attributes: name: its anchor, unique on the page. heads: of the columns; the first names the row.
    """

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def kinds(self) -> list[str]:
        """What each column has: ``number`` where all cells are, else ``words``, and ``words long`` if some have many."""
        return [_kind_of([row[n] for row in self.rows]) for n in range(len(self.heads))]


def _kind_of(column: Sequence[Cell]) -> str:
    if all(one.kind == "number" for one in column):
        return "number"
    return "words long" if any(one.longest > LONG for one in column) else "words"


class Study(NamedTuple):
    """What one study says of a cohort.

    Attributes: paragraphs: each with the words that it opens with, maybe none. tables: that it is read from.
    """

    title: str
    paragraphs: Sequence[tuple[str, str]]
    tables: Sequence[Table]


def cell(value: Any, more: str = "", href: str = "") -> Cell:
    """A cell; a dash of nothing."""
    text = "" if value is None else str(value)
    return Cell(text or NOTHING, more, href)


def cells(*values: Any) -> list[Cell]:
    """A row of cells, one for each value; see `cell`."""
    return [cell(value) for value in values]


def noted(told: Iterable[Mapping[str, str]]) -> list[Cell]:
    """Cells of mappings with ``value`` and whatever stands small below it."""
    return [
        cell(one["value"], "; ".join(text for key, text in one.items() if key != "value" and text))
        for one in told
    ]


def anchor(*words: Any) -> str:
    """Words as an anchor of the page."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(str(word) for word in words).lower()).strip("-")


def joined(sentences: Iterable[str]) -> str:
    """Sentences one after another, with a space between."""
    return " ".join(sentences)
