"""Read the activations of one member at all sites, in one forward pass over the token sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import passes
from crossseed.activations import extract, read_tokens
from crossseed.cohorts.base import module_of
from crossseed.devices import usable
from crossseed.store import source_of
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    options.add_device_map(parser)
    parser.add_argument(
        "--model", type=Path, nargs="*", default=[], help="files that the member is loaded from"
    )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--passes", type=Path, help="record of which sites are read in one pass, to be added to"
    )
    parser.add_argument(
        "--out", type=Path, nargs="+", required=True, help="HDF5 files, each named after its site"
    )


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args, "kind", "cohort", "seed", "checkpoint", "dtype", "origin", "splits"
    )
    device = usable(args.device, options.spread(args))
    out = {options.site_of(path): path for path in args.out}
    told = {**spec, **options.device_map_of(args)}
    member = module_of(spec["kind"], "members").load(told, args.model, list(out), device)
    sets, digest = read_tokens(args.tokens)
    specs = {
        site: {**spec, "site": site, "source": source_of(spec["origin"], site)} for site in out
    }
    sets = {split: sets[split] for split in spec["splits"]}
    extract(member, sets, digest, out, specs, spec["dtype"])
    if args.passes:
        passes.record(args.passes, list(out))
