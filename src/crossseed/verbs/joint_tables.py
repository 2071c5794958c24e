"""Pool what is measured of joint SAEs over the pairs of each cohort."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.joint import pooled
from crossseed.joint.tables import (
    CONDITION_COLUMNS,
    NULL_COLUMNS,
    POOLED_COLUMNS,
    REGRESSION_COLUMNS,
)
from crossseed.store import read_frame, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--conditions", type=Path, required=True, help="CSV of the conditions of all pairs"
    )
    parser.add_argument("--nulls", type=Path, nargs="?", help="CSV of the retrainings of all pairs")
    parser.add_argument(
        "--regression", type=Path, required=True, help="CSV of regressions to write"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kinship")
    rows = pooled.over_pairs(read_frame(args.conditions, CONDITION_COLUMNS), spec["kinship"])
    nulls = pooled.regressions(read_frame(args.nulls, NULL_COLUMNS)) if args.nulls else ()
    write_table(args.regression, REGRESSION_COLUMNS, nulls)
    write_table(args.out, POOLED_COLUMNS, rows)
