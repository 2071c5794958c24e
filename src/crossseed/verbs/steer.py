"""Steer the target by vectors of its own, carried from the source, and drawn at random."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs, steering, steering_vectors
from crossseed.activations import check_source
from crossseed.cohorts.base import module_of
from crossseed.errors import UserError
from crossseed.seeding import generator
from crossseed.store import check_cell, write_table
from crossseed.verbs import models, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    models.add_shown(parser)
    parser.add_argument(
        "--mismatched", type=Path, nargs="?", help="moments of the source with another target"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *models.SHOWN, "shared", "directions", "sequences", "resamples")
    cell, pair, sets, concepts, source, target = models.shown(args, spec)
    site, pinned = spec["site"], module_of(spec["kind"], "concepts").pinned
    carried = pair.arms([])
    maps = {steering.MAPPED: carried["procrustes"], steering.SHUFFLED: carried["shuffled"]}
    if args.mismatched is not None:
        other = pairs.read(args.mismatched)
        named = {name: spec[name] for name in pairs.CELL if name != "target_seed"}
        check_cell(args.mismatched, other.spec, named)
        check_source(
            args.mismatched,
            {"source": other.spec["activations"]["source"]},
            spec["activations"]["source"],
        )
        if other.spec["target_seed"] == spec["target_seed"]:
            raise UserError(
                f"{args.mismatched} is of seed {spec['target_seed']} too; a mismatched rotation is that of "
                "another target, or none is given"
            )
        maps[steering.MISMATCHED] = other.arms([])["procrustes"]
    rows: list[steering.Row] = []
    for concept in concepts:
        a, b = (steering_vectors.vector(model, site, concept) for model in (source, target))
        rng = generator("steering-directions", *cell, concept.name)
        tried = steering.arms(a, b, maps, pair.moments.covariance_b, spec["directions"], rng)
        rows += steering.study(
            steering.Side(source, a), steering.Side(target, b), site, concept, tried,
            sets["eval"], spec["sequences"], spec["resamples"], *cell,
        )  # fmt: skip
        rows += steering.regime(a, b, maps, pinned(target, spec["shared"], len(b)), concept)
    named = {name: spec[name] for name in pairs.CELL}
    write_table(args.out, steering.COLUMNS, [{**named, **row} for row in rows])
