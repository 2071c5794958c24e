"""Patch single latents in source and target, compare what they do, and put them in each other's place."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import features, pairs
from crossseed.sae.dictionary import load
from crossseed.store import check_cell, write_table
from crossseed.verbs import models, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    models.add_shown(parser)
    parser.add_argument(
        "--dictionary", type=Path, required=True, help="folder of the source's dictionary"
    )
    parser.add_argument(
        "--own", type=Path, nargs="?", help="folder of the target's dictionary of the same recipe"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *models.SHOWN, "latents", "sequences", "resamples")
    dictionary = load(options.folder_of(args.dictionary))
    made = options.provenance(dictionary)
    check_cell(args.dictionary, made, {"activations": spec["activations"]["source"]})
    cell, pair, sets, concepts, source, target = models.shown(args, spec)
    arms = pair.arms([])
    maps = {features.PORTED: arms["procrustes"]}
    maps |= {name: arms[name] for name in (features.SHUFFLED, features.RANDOM)}
    both = features.Models(source, target, spec["site"])
    chosen = features.choose(
        source, spec["site"], dictionary, sets["fit"], concepts, spec["latents"]
    )
    carried = features.ported(dictionary, maps)
    how = (spec["sequences"], spec["resamples"], *cell)
    rows = features.patching(both, dictionary, carried, chosen, sets["eval"], *how)
    if args.own is not None:
        own = load(options.folder_of(args.own))
        check_cell(
            args.own, options.provenance(own), {"activations": spec["activations"]["target"]}
        )
        rows += features.substitution(both, dictionary, carried, own, sets, *how)
    named = {name: spec[name] for name in pairs.CELL}
    named |= {"dictionary": made["dictionary"], "init": made["init"]}
    write_table(args.out, features.COLUMNS, [{**named, **row} for row in rows])
