"""Pool the eigenphases of a cohort's rotations over pairs and sites, and test each pool."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.haar import null, study
from crossseed.store import check_cell, write_table
from crossseed.verbs import options

CELL = ("cohort", "checkpoint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--maps", type=Path, nargs="+", required=True, help="moments of each pair at each site"
    )
    parser.add_argument("--null", type=Path, required=True, help="draws of the sites' width")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *CELL)
    cell = {name: spec[name] for name in CELL}
    found = []
    for path in args.maps:
        pair = pairs.read(path)
        check_cell(path, pair.spec, cell)
        found += study.phases_of(pair)
    rows = study.ks(found, null.read(args.null), *cell.values())
    write_table(args.out, study.KS_COLUMNS, [{**cell, **row} for row in rows])
