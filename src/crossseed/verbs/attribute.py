"""Measure what ablating each component of a member does, and how well attributions predict it."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import attribution
from crossseed.activations import read_tokens
from crossseed.keys import MEMBER
from crossseed.store import write_table
from crossseed.verbs import models, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    options.add_device_map(parser)
    parser.add_argument(
        "--model", type=Path, nargs="*", default=[], help="files that the member is loaded from"
    )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--cells", type=Path, required=True, help="CSV of every effect")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args, "kind", "member", "points", "batches", "sequences", "resamples", *MEMBER
    )
    subject = models.subject_of(args, spec["kind"], spec["member"], args.model)
    sets, _ = read_tokens(args.tokens)
    kinds = [kind for group in attribution.GROUPS for kind in group]
    rows = attribution.study(
        subject, sets, kinds, spec["points"], spec["batches"], spec["sequences"]
    )
    member = {name: spec[name] for name in MEMBER}
    judged = attribution.summary(rows, spec["resamples"], *member.values())
    for path, columns, found in (
        (args.cells, attribution.CELL_COLUMNS, rows),
        (args.out, attribution.COLUMNS, judged),
    ):
        write_table(path, columns, [{**member, **row} for row in found])
