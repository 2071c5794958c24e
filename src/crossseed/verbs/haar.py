"""Test whether the rotation of a pair is a Haar draw, whole and in its identified subspace."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.haar import null, study
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--maps", type=Path, required=True, help="moments of the pair")
    parser.add_argument("--nulls", type=Path, nargs="+", required=True, help="draws, one a size")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *pairs.CELL)
    cell = {name: spec[name] for name in pairs.CELL}
    pair = pairs.read(args.maps)
    check_cell(args.maps, pair.spec, cell)
    nulls = {found.d: found for found in map(null.read, args.nulls)}
    rows = [{**cell, **row} for row in study.of_pair(pair, nulls)]
    write_table(args.out, study.COLUMNS, rows)
