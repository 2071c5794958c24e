"""One rotation for all sites of a pair, measured on the eval split beside a rotation for each."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from crossseed import pairs
from crossseed.errors import UserError
from crossseed.fits import COLUMNS, shared
from crossseed.store import check_cell, write_table
from crossseed.verbs import options

CELL = ("cohort", "source_seed", "target_seed", "checkpoint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    for name in ("source", "target"):
        parser.add_argument(
            f"--{name}", type=Path, nargs="+", required=True, help=f"activations of the {name}"
        )
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="moments at each site")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "sites", "resamples", *CELL)
    sites: list[tuple[str, dict[str, str]]] = spec["sites"]
    widths = set()
    with ExitStack() as stack:
        found = {}
        for (site, made_from), source, target, maps in zip(
            sites, args.source, args.target, args.maps, strict=True
        ):
            pair = pairs.read(maps)
            check_cell(maps, pair.spec, {"activations": made_from})
            readers = pairs.open_readers("eval", source, target, None, made_from)
            found[site] = (pair, stack.enter_context(readers))
            widths.add(len(pair.rotation))
        if len(widths) > 1:
            raise UserError(
                f"sites of widths {sorted(widths)} cannot share one rotation; study them apart"
            )
        cell = {name: spec[name] for name in CELL}
        rows = shared(found, spec["resamples"], *cell.values())
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])
