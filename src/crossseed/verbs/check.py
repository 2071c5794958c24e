"""Check that all members of a cohort exist and fit together, before any job needs them."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import passes
from crossseed.cohorts.base import module_of
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--members", required=True, help="members as seed1/step0=org/name@step0,…")
    parser.add_argument(
        "--passes", type=Path, help="record of which members are checked together, to be added to"
    )
    parser.add_argument("--number", type=int, help="of this check in the record")
    parser.add_argument("--out", type=Path, required=True, help="CSV of what was found")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kind")
    members = [member for member in args.members.split(",") if member]
    module_of(spec["kind"], "check").check(spec, members, args.out)
    if args.passes:
        passes.record(args.passes, members, args.number)
