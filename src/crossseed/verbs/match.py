"""Match two SAEs of one member and site: the part of `crossseed stability` that takes long for large ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import open_split, shuffling
from crossseed.closure import code_digest
from crossseed.resume import Resume
from crossseed.sae.study import split_of
from crossseed.stability import CELL, RANDOM, matched
from crossseed.stability.covariance import covariance_root
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--dictionaries",
        type=Path,
        nargs="+",
        required=True,
        help="folders of the two SAEs; of any one of the cell where both are of random directions",
    )
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the member and site"
    )
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "first", "second", "activations", *CELL)
    names = spec["first"], spec["second"]
    source = spec["activations"]
    of_random = all(name in RANDOM for name in names)
    wanted = ["seed1"] if of_random else list(names)
    saes = options.seeds_of(args.dictionaries, wanted, spec, CELL)
    with open_split(args.activations, "eval", source) as split:
        own = names[0].startswith("shuffled")
        root = covariance_root(
            split_of(split, shuffling(args.activations, source)) if own else split
        )
    if of_random:
        n, width = saes["seed1"].W_dec.shape
        sides = matched.random(n, width, root)
    else:
        sides = {name: matched.both(of.W_dec, of.W_enc, root) for name, of in saes.items()}
    resume = Resume(args.out, {"spec": spec, "code": code_digest("crossseed.verbs.match")})
    found = matched.arrays(sides[spec["first"]], sides[spec["second"]], resume)
    matched.save(args.out, found, spec)
    resume.discard()
