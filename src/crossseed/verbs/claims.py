"""Put every published figure of the studies beside what this run measured and its control."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from crossseed import claims
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="CSVs of the run")
    parser.add_argument(
        "--published", type=Path, nargs="+", required=True, help="CSVs of published figures"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "cohorts", "dictionary")
    tables = {path.stem: pd.read_csv(path) for path in args.tables}
    rows = []
    for path in args.published:
        for claim in claims.read(path):
            role = spec["cohorts"].get(claim.cohort)
            if role is None:
                rows.append(claims.judge(claim, None, f"a cohort like {claim.cohort}"))
                continue
            sites = claims.chosen(claim.site, role["sites"])
            dictionary = claims.dictionary_of(claim, spec["dictionary"])
            cells = claims.Cells(tables, role["cohort"], role["checkpoint"], sites, dictionary)
            rows.append(claims.judge(claim, cells))
    write_table(args.out, claims.COLUMNS, rows)
