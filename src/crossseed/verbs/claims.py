"""Put every published figure of the studies beside what this run measured and its control."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.claims import cells, verdicts
from crossseed.store import read_frame, write_table
from crossseed.tables import COLUMNS
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
    tables = {path.stem: read_frame(path, COLUMNS[path.stem]) for path in args.tables}
    rows = []
    for path in args.published:
        for claim in cells.read(path):
            role = spec["cohorts"].get(claim.cohort)
            if role is None:
                rows.append(verdicts.judge(claim, None, f"a cohort like {claim.cohort}"))
                continue
            sites = cells.chosen(claim.site, role["sites"])
            dictionary = cells.dictionary_of(claim, spec["dictionary"])
            measured = cells.Cells(
                tables, role["cohort"], role["checkpoint"], sites, dictionary, role["anchor"]
            )
            rows.append(verdicts.judge(claim, measured))
    write_table(args.out, COLUMNS["claims"], rows)
