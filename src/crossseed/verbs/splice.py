"""Run the source with the target's carried activations in place of its own, on the eval split."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import claim_rule, pairs
from crossseed.activations import read_tokens
from crossseed.carried import COLUMNS, with_shared
from crossseed.errors import UserError
from crossseed.sae.dictionary import load
from crossseed.splice import splice
from crossseed.store import check_cell, write_table
from crossseed.verbs import models, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    options.add_device_map(parser)
    options.add_pair(parser)
    parser.add_argument(
        "--model", type=Path, nargs="*", default=[], help="files that the source is loaded from"
    )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--maps", type=Path, nargs="+", required=True, help="moments of the pair at each site"
    )
    parser.add_argument(
        "--dictionaries", type=Path, nargs="*", default=[], help="the source's SAE folders"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--evidence", type=Path, required=True, help="CSV of the claim rule")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args,
        *("activations", "sites", "directions", "kind", "member", "sequences", "resamples"),
        *pairs.CELL,
    )
    made_from = spec["activations"]
    at_sites = dict(zip([site for site, _ in spec["sites"]], args.maps, strict=True))
    made = dict(spec["sites"])
    pair = read_pair(at_sites.pop(spec["site"]), made_from)
    # The others one after another: only what the shared rotation needs of each is kept.
    others = (read_pair(path, made[site]) for site, path in at_sites.items())
    carried = with_shared(pair, others, spec["directions"])
    dictionaries = options.dictionaries_of(args.dictionaries, load)
    for path, dictionary in zip(args.dictionaries, dictionaries.values(), strict=True):
        check_cell(path, options.provenance(dictionary), {"activations": made_from["source"]})
    subject = models.subject_of(args, spec["kind"], spec["member"], args.model)
    sets, digest = read_tokens(args.tokens)
    with pairs.open_readers("eval", *options.pair_files(args), made_from) as readers:
        if readers.source.tokens != digest:
            raise UserError(
                f"{args.tokens} is not the token file that {args.source} was read on; run the "
                "workflow, or delete both and run again"
            )
        found = splice(
            subject, spec["site"], sets["eval"], readers, dictionaries, carried,
            spec["sequences"], spec["resamples"], *pairs.cell_of(spec),
        )  # fmt: skip
    cell = {name: spec[name] for name in pairs.CELL}
    for path, columns, rows in zip(
        (args.out, args.evidence), (COLUMNS, claim_rule.COLUMNS), found, strict=True
    ):
        write_table(path, columns, [{**cell, **row} for row in rows])


def read_pair(path: Path, made_from: dict[str, str]) -> pairs.Pair:
    """Moments, which must be of these activations."""
    pair = pairs.read(path)
    check_cell(path, pair.spec, {"activations": made_from})
    return pair
