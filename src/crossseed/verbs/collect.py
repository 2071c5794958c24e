"""Join the tables of all cells into one table of the run."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.store import read_table, write_table
from crossseed.tables import COLUMNS
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--cells", type=Path, nargs="+", required=True, help="CSVs to join, in order"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "table")
    columns = COLUMNS[options.one_of("table", spec["table"], COLUMNS)]
    # One cell at a time: the tables of a sweep are larger than a job's memory.
    rows = (row for path in args.cells for row in read_table(path, columns))
    write_table(args.out, columns, rows)
