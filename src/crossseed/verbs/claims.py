"""Put every published figure of the studies beside what this run measured and its control.

Without ``--spec`` it lists the figures instead: what measures each, or what that needs.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from crossseed.claims import cells, verdicts
from crossseed.errors import UserError
from crossseed.store import read_frame, write_table
from crossseed.tables import COLUMNS
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--coverage",
        nargs="?",
        metavar="WORD",
        help="list published figures, or those whose name has a word: table, columns, rule and config of each, or what it needs",
    )
    parser.add_argument("--spec", help="settings of the job as JSON; the others with it")
    parser.add_argument("--tables", type=Path, nargs="+", help="CSVs of the run")
    parser.add_argument("--published", type=Path, nargs="+", help="CSVs of published figures")
    parser.add_argument("--out", type=Path, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    if args.spec is None:
        # By name: what lists figures is no code that a job's result depends on.
        importlib.import_module("crossseed.claims.coverage").tell(args.coverage)
        return
    if not (args.tables and args.published and args.out):
        raise UserError(
            "--spec takes --tables, --published and --out with it; copy them from a job's log"
        )
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
