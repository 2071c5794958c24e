"""Compare SAEs of one member and site that were trained from different seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import open_split
from crossseed.errors import UserError
from crossseed.sae.dictionary import load
from crossseed.stability import CELL, COLUMNS, LATENT_COLUMNS
from crossseed.stability.study import study
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="SAE folders, one a seed"
    )
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the member and site"
    )
    parser.add_argument(
        "--latents", type=Path, required=True, help="CSV of single latents to write"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "seeds", "threshold", "activations", *CELL)
    found = {
        init: dictionary
        for (_, init), dictionary in options.dictionaries_of(args.dictionaries, load).items()
    }
    missing = [name for name in spec["seeds"] if name not in found]
    if missing:
        raise UserError(
            f"--dictionaries has SAE seeds {', '.join(found)}, but the spec names {', '.join(missing)} too; "
            "give the folder of each"
        )
    cell = {name: spec[name] for name in CELL}
    for path, dictionary in zip(args.dictionaries, found.values(), strict=True):
        wanted = {**cell, "activations": spec["activations"]}
        check_cell(path, options.provenance(dictionary), wanted)
    seeds = {name: found[name] for name in spec["seeds"]}
    with open_split(args.activations, "eval", spec["activations"]) as split:
        rows, latents = study(seeds, split, spec["threshold"], *cell.values())
    write_table(args.latents, LATENT_COLUMNS, [{**cell, **row} for row in latents])
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])
