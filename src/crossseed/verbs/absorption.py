"""Look for first letters in SAEs of several seeds, and for latents that take them over."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.absorption import COLUMNS
from crossseed.absorption.study import Limits, Seen, study
from crossseed.activations import open_split
from crossseed.cohorts.base import module_of
from crossseed.errors import UserError
from crossseed.sae.dictionary import Dictionary
from crossseed.stability import CELL, LATENT_COLUMNS
from crossseed.store import REMEDY, check_cell, read_table, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="SAE folders, one a seed"
    )
    parser.add_argument(
        "--latents", type=Path, required=True, help="CSV of their latents, by `crossseed stability`"
    )
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the member and site"
    )
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "seeds", "activations", "kind", "text", *Limits._fields, *CELL)
    cell = {name: spec[name] for name in CELL}
    seeds = options.seeds_of(args.dictionaries, spec["seeds"], spec, CELL)
    with (
        open_split(args.activations, "train", spec["activations"]) as train,
        open_split(args.activations, "eval", spec["activations"]) as held_out,
    ):
        rows = study(
            seeds,
            _seen(args.latents, cell, seeds),
            train,
            held_out,
            _decoder(spec, args.tokenizer),
            Limits(**{name: spec[name] for name in Limits._fields}),
            *cell.values(),
        )
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])


def _decoder(spec: dict[str, Any], files: list[Path]) -> Callable[[int], str]:
    """Text of a token id."""
    words = module_of(spec["kind"], "words").make(spec["text"], files)
    return lambda token: words(np.array([token]))[0]


def _seen(path: Path, cell: dict[str, Any], seeds: dict[str, Dictionary]) -> dict[str, Seen]:
    """Latents of each SAE as the table has them.

    Raises:
        UserError: the table is of another cell, or of other SAEs.
    """
    rows = read_table(path, LATENT_COLUMNS)
    found = {}
    for init, dictionary in seeds.items():
        of = [row for row in rows if row["init"] == init]
        if [int(row["latent"]) for row in of] != list(range(len(dictionary.W_dec))):
            raise UserError(f"{path}: does not list the latents of {init} in order; {REMEDY}")
        check_cell(path, of[0], {name: str(value) for name, value in cell.items()})
        density, reappears = (
            np.array([float(row[name]) for row in of]) for name in ("density", "reappears")
        )
        found[init] = Seen(density, reappears)
    return found
