"""Cut every component and every edge of a member, and predict what that does."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import bars
from crossseed.activations import read_tokens
from crossseed.bars.effects import cause_rows
from crossseed.bars.probe import Probe
from crossseed.cohorts.dyck import members
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.devices import usable
from crossseed.keys import MEMBER
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument("--model", type=Path, required=True, help="checkpoints of the member")
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "batches", "rows", "points", *MEMBER)
    model = members.load(spec, [args.model], [], usable(args.device)).model
    sets, _ = read_tokens(args.tokens)
    probe = Probe(DyckSubject(model), sets, spec["batches"], spec["rows"])
    member = {name: spec[name] for name in MEMBER}
    rows = cause_rows(probe.causes(spec["points"]))
    write_table(args.out, bars.CAUSE_COLUMNS, [{**member, **row} for row in rows])
