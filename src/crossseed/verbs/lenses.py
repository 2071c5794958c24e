"""Look at the components of a member through five lenses."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import read_tokens
from crossseed.cohorts.dyck import members
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.keys import MEMBER
from crossseed.lenses import COLUMNS
from crossseed.lenses.study import study
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--model", type=Path, required=True, help="checkpoints of the member")
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "components", "transcoder", "thresholds", "rows", *MEMBER)
    model = members.load(spec, [args.model], [], "cpu").model
    sets, _ = read_tokens(args.tokens)
    folded = dyck.from_state(dyck.load(spec, args.model))
    member = {name: spec[name] for name in MEMBER}
    rows = study(DyckSubject(model), folded, sets, spec, *member.values())
    write_table(args.out, COLUMNS, [{**member, **row} for row in rows])
