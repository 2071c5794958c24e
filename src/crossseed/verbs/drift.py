"""Compare one member with its reference checkpoint and with the anchor, without storing activations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossseed import drift
from crossseed.activations import read_tokens
from crossseed.cohorts.base import Member, module_of
from crossseed.devices import usable
from crossseed.keys import MEMBER
from crossseed.sae.dictionary import load
from crossseed.store import check_cell, source_of, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    options.add_device_map(parser)
    for role in ("member", "reference", "anchor"):
        parser.add_argument(
            f"--{role}",
            type=Path,
            nargs="*",
            default=[],
            help=f"files that the {role} is loaded from",
        )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--dictionaries", type=Path, nargs="*", default=[], help="SAE folders of the reference"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kind", "cohort", "sites", "members", "origin")
    told: dict[str, dict[str, Any]] = spec["members"]
    paths = {"member": args.member, "checkpoint": args.reference, "seed": args.anchor}
    device = usable(args.device, options.spread(args))
    loaded: dict[tuple[int, str], Member] = {}
    for role, member in told.items():
        key = (member["seed"], member["checkpoint"])
        if key not in loaded:
            load_member = module_of(spec["kind"], "members").load
            settings = {**member, **options.device_map_of(args)}
            loaded[key] = load_member(settings, paths[role], spec["sites"], device)
    members = {role: loaded[m["seed"], m["checkpoint"]] for role, m in told.items()}
    dictionaries = {}
    for path in args.dictionaries:
        dictionary = load(options.folder_of(path))
        made = options.provenance(dictionary)
        check_cell(path, made, {"activations": source_of(spec["origin"], made["site"])})
        dictionaries[made["site"], made["dictionary"], made["init"]] = dictionary
    sets, _ = read_tokens(args.tokens)
    me = told["member"]
    cell = (spec["cohort"], me["seed"], me["checkpoint"])
    rows = drift.measure(members, sets, spec["sites"], dictionaries, *cell)
    keys = dict(zip(MEMBER, cell, strict=True))
    table = [
        {
            **keys,
            "other_seed": told[row["comparison"]]["seed"],
            "other_checkpoint": told[row["comparison"]]["checkpoint"],
            **row,
        }
        for row in rows
    ]
    write_table(args.out, drift.COLUMNS, table)
