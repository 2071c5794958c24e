"""What a claim's wiring reads: tables, columns, and the words that it looks for; found by reading tables that take notes.

A wiring is a function of a run's tables. Here it gets tables of one row each that note which of their columns are asked for
and what they are compared with. A column that a table does not have is an error, as it would be in a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from crossseed.claims.cells import Cells, Values

# What says of which cell a row is: every wiring asks for some of these.
CELL = ("cohort", "checkpoint", "site", "source_seed", "target_seed", "seed", "scope", "dictionary")


class Read(NamedTuple):
    """What is read of one table.

    Attributes:
        columns: that are asked for, in the table's order. words: what columns are compared with.
    """

    table: str
    columns: tuple[str, ...]
    words: tuple[tuple[str, str], ...]


class Notes:
    """Of one reading: columns by table, and comparisons."""

    def __init__(self, columns: Mapping[str, tuple[str, ...]]) -> None:
        self.known = columns
        self.columns: dict[str, set[str]] = {}
        self.words: dict[str, dict[tuple[str, str], None]] = {}

    def found(self) -> tuple[Read, ...]:
        """What was read of each table that was asked for."""
        return tuple(
            Read(
                name,
                tuple(column for column in self.known[name] if column in asked),
                tuple(self.words[name]),
            )
            for name, asked in self.columns.items()
        )


def reads(
    values: Values, columns: Mapping[str, tuple[str, ...]], dictionary: str
) -> tuple[Read, ...]:
    """What a measure of a claim reads.

    Args:
        columns: of all tables, by name. dictionary: that the claim is about; empty where about none.

    Raises:
        KeyError: a table or a column does not exist.
        AttributeError: so.
    """
    notes = Notes(columns)
    values(Cells(_Tables(notes), "cohort", "final", ["site"], dictionary))
    return notes.found()


class _Tables(Mapping[str, pd.DataFrame]):
    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __getitem__(self, name: str) -> pd.DataFrame:
        return _noting(name, self._notes)

    # A table that does not exist is an error here, where a run goes without it.
    def get(self, name: str, default: Any = None) -> pd.DataFrame:
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._notes.known)

    def __len__(self) -> int:
        return len(self._notes.known)


def _noting(name: str, notes: Notes) -> pd.DataFrame:
    """A table of one row, of the claim's cell, that notes what is asked of it."""
    known = notes.known[name]
    asked = notes.columns.setdefault(name, set())
    words = notes.words.setdefault(name, {})

    class Column(pd.Series):  # type: ignore[misc]
        @property
        def _constructor(self) -> Any:
            return Column

        def __eq__(self, other: Any) -> Any:
            if self.name in known and isinstance(other, str | int | float):
                words.setdefault((str(self.name), str(other)))
            return super().__eq__(other)

    class Table(pd.DataFrame):  # type: ignore[misc]
        @property
        def _constructor(self) -> Any:
            return Table

        @property
        def _constructor_sliced(self) -> Any:
            return Column

        def __getitem__(self, key: Any) -> Any:
            asked.update(n for n in ([key] if isinstance(key, str) else key) if n in known)
            return super().__getitem__(key)

        def __getattr__(self, attribute: str) -> Any:
            if attribute in known:
                asked.add(attribute)
            return super().__getattr__(attribute)

        def set_axis(self, *words: Any, **named: Any) -> Any:
            # From here on columns are the claim's own, whatever they are called.
            return pd.DataFrame(self).set_axis(*words, **named)

    row: dict[str, Any] = dict.fromkeys(known, "")
    numbers = {"source_seed": 0, "target_seed": 1, "seed": 0, "draw": 0, "points": 3, "r2": 0.5}
    row |= {
        "cohort": "cohort",
        "checkpoint": "final",
        "site": "site",
        **{k: v for k, v in numbers.items() if k in known},
    }
    return Table({column: [row[column]] for column in known})
