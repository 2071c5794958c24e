"""Test the rotations of all pairs of a site together, and pool their eigenphases."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.haar import null, study
from crossseed.keys import PLACE
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="moments of each pair")
    parser.add_argument("--null", type=Path, required=True, help="draws of the site's width")
    parser.add_argument("--out", type=Path, required=True, help="CSV of tests to write")
    parser.add_argument("--phases", type=Path, required=True, help="CSV of pooled laws to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *PLACE)
    cell = {name: spec[name] for name in PLACE}
    found = [pairs.read(path) for path in args.maps]
    for path, pair in zip(args.maps, found, strict=True):
        check_cell(path, pair.spec, cell)
    tables = study.across_pairs(found, null.read(args.null), *cell.values())
    paths, columns = (args.out, args.phases), (study.COLUMNS, study.PHASE_COLUMNS)
    for path, names, rows in zip(paths, columns, tables, strict=True):
        write_table(path, names, [{**cell, **row} for row in rows])
