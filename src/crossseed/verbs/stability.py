"""Compare SAEs of one member and site that were trained from different seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import open_split, shuffling
from crossseed.sae.study import split_of
from crossseed.stability import CELL, COLUMNS, LATENT_COLUMNS
from crossseed.stability.matched import load
from crossseed.stability.study import study
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="SAE folders, one a seed"
    )
    parser.add_argument(
        "--shuffled",
        type=Path,
        nargs="*",
        default=[],
        help="SAE folders of the starts that were trained on shuffled features",
    )
    parser.add_argument(
        "--matched",
        type=Path,
        nargs="*",
        default=[],
        help="files of `crossseed match`, of every two SAEs; those that are not given are matched here",
    )
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the member and site"
    )
    parser.add_argument(
        "--latents", type=Path, required=True, help="CSV of single latents to write"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "seeds", "shuffled", "threshold", "activations", *CELL)
    cell = {name: spec[name] for name in CELL}
    seeds = options.seeds_of(args.dictionaries, spec["seeds"], spec, CELL)
    shuffled = options.seeds_of(args.shuffled, spec["shuffled"], spec, CELL)
    source = spec["activations"]
    with open_split(args.activations, "eval", source) as split:
        other = split_of(split, shuffling(args.activations, source)) if shuffled else None
        rows, latents = study(
            seeds,
            split,
            spec["threshold"],
            *cell.values(),
            shuffled=shuffled,
            shuffled_split=other,
            matched=dict(load(path, {**cell, "activations": source}) for path in args.matched),
        )
    write_table(args.latents, LATENT_COLUMNS, [{**cell, **row} for row in latents])
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])
