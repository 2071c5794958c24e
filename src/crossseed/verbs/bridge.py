"""Match the SAEs of two members after each map, beside two SAEs of one member."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from crossseed import pairs
from crossseed.errors import UserError
from crossseed.sae.dictionary import load
from crossseed.stability import BRIDGE_COLUMNS, LATENT_COLUMNS
from crossseed.stability.bridge import bridge
from crossseed.store import check_cell, read_table, write_table
from crossseed.verbs import options

ROLES = ("source", "target")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    for role in ROLES:
        parser.add_argument(
            f"--{role}", type=Path, nargs="+", required=True, help=f"the {role}'s SAEs, one a seed"
        )
        parser.add_argument(
            f"--{role}-latents",
            type=Path,
            required=True,
            help=f"CSV of single latents of the {role}, of `crossseed stability`",
        )
    parser.add_argument("--maps", type=Path, required=True, help="moments of the pair")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "dictionary", "seeds", "threshold", *pairs.CELL)
    cell = {name: spec[name] for name in pairs.CELL}
    pair = pairs.read(args.maps)
    check_cell(args.maps, pair.spec, cell)
    found, live = {}, {}
    for role in ROLES:
        paths, latents = getattr(args, role), getattr(args, f"{role}_latents")
        loaded = options.dictionaries_of(paths, load)
        for path, dictionary in zip(paths, loaded.values(), strict=True):
            wanted = {
                "activations": pair.spec["activations"][role],
                "dictionary": spec["dictionary"],
            }
            check_cell(path, options.provenance(dictionary), wanted)
        by_seed = {init: dictionary for (_, init), dictionary in loaded.items()}
        found[role] = {name: by_seed[name] for name in spec["seeds"] if name in by_seed}
        if len(found[role]) < len(spec["seeds"]):
            raise UserError(
                f"--{role} has SAE seeds {', '.join(by_seed)}, but the spec names {', '.join(spec['seeds'])}; give "
                "the folder of each"
            )
        live[role] = _live(latents, spec["seeds"], spec[f"{role}_seed"])
    rows = bridge(found["source"], found["target"], live, pair, spec["threshold"])
    about = {**cell, "dictionary": spec["dictionary"]}
    write_table(args.out, BRIDGE_COLUMNS, [{**about, **row} for row in rows])


def _live(path: Path, seeds: list[str], member: int) -> dict[str, np.ndarray]:
    """By SAE seed, which latents fire."""
    rows = read_table(path, LATENT_COLUMNS)
    found = {}
    for seed in seeds:
        density = [float(row["density"]) for row in rows if row["init"] == seed]
        if not density or any(row["seed"] != str(member) for row in rows):
            raise UserError(
                f"{path}: does not list SAE {seed} of member {member}; run `stability` again"
            )
        found[seed] = np.array(density) > 0
    return found
