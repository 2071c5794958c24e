"""Join the tables of all cells into one table of the run."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import decoder_cosine, transfer
from crossseed.cohorts import base
from crossseed.sae import study
from crossseed.store import read_table, write_table
from crossseed.verbs import options

TABLES = {
    "accuracy": base.ACCURACY_COLUMNS,
    "training": base.CURVE_COLUMNS,
    "dictionaries": study.COLUMNS,
    "transfer": transfer.COLUMNS,
    "decoder_cosine": decoder_cosine.COLUMNS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--cells", type=Path, nargs="+", required=True, help="CSVs to join, in order"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "table")
    columns = TABLES[options.one_of("table", spec["table"], TABLES)]
    rows = [row for path in args.cells for row in read_table(path, columns)]
    write_table(args.out, columns, rows)
