"""Take medians over pairs, with intervals over seeds, of all that is measured on pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import over_seeds
from crossseed.store import read_frame, write_table
from crossseed.tables import COLUMNS
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--tables", type=Path, nargs="+", required=True, help="CSVs of pairs, each a study"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    options.spec_of(args)
    rows = (
        row
        for path in args.tables
        for row in over_seeds.table(path.stem, read_frame(path, COLUMNS[path.stem]))
    )
    write_table(args.out, over_seeds.COLUMNS, rows)
