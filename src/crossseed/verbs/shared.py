"""One rotation for all sites of a pair, on the eval split: how well it carries the activations, or,
given dictionaries, what they are worth through it."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from crossseed import carried, fits, pairs, shared_rotation
from crossseed.keys import JOURNEY
from crossseed.sae.dictionary import Dictionary, load
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    for name in ("source", "target"):
        parser.add_argument(
            f"--{name}", type=Path, nargs="+", required=True, help=f"activations of the {name}"
        )
    parser.add_argument(
        "--dictionaries", type=Path, nargs="*", help="the source's SAE folders, to measure transfer"
    )
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="moments at each site")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "sites", "resamples", *JOURNEY)
    sites: list[tuple[str, dict[str, str]]] = spec["sites"]
    dictionaries: dict[str, dict[tuple[str, str], Dictionary]] = {site: {} for site, _ in sites}
    for path in args.dictionaries or ():
        dictionary = load(options.folder_of(path))
        made = options.provenance(dictionary)
        check_cell(path, made, {"activations": dict(sites)[made["site"]]["source"]})
        dictionaries[made["site"]][made["dictionary"], made["init"]] = dictionary
    with ExitStack() as stack:
        found = {}
        for (site, made_from), source, target, maps in zip(
            sites, args.source, args.target, args.maps, strict=True
        ):
            pair = pairs.read(maps)
            check_cell(maps, pair.spec, {"activations": made_from})
            readers = pairs.open_readers("eval", source, target, None, made_from)
            opened = stack.enter_context(readers)
            found[site] = shared_rotation.Site(pair, opened)
        cell = {name: spec[name] for name in JOURNEY}
        how = (spec["resamples"], *cell.values())
        rows = (
            shared_rotation.fits(found, *how)
            if args.dictionaries is None
            else shared_rotation.transfers(found, dictionaries, *how)
        )
    columns = fits.COLUMNS if args.dictionaries is None else carried.COLUMNS
    write_table(args.out, columns, [{**cell, **row} for row in rows])
