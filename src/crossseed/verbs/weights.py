"""Align the weights of two members by the symmetries of the model, and weigh them against activations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossseed import gauge
from crossseed.activations import read_tokens
from crossseed.alignment.moments import Moments
from crossseed.cohorts.base import FORWARD_TOKENS, TokenSet, batches
from crossseed.cohorts.dyck import members
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.sites import post
from crossseed.gauge import study
from crossseed.keys import JOURNEY
from crossseed.store import write_table, write_tensors
from crossseed.verbs import options

# The study has the last of these twice, under two names.
PUBLISHED_SITES = (post(0), post(1), post(1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--source", type=Path, required=True, help="checkpoints of the reference")
    parser.add_argument("--target", type=Path, required=True, help="checkpoints of the model moved")
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="CSV of errors to write")
    parser.add_argument("--joint", type=Path, required=True, help="CSV of the joint objective")
    parser.add_argument(
        "--elements", type=Path, required=True, help="safetensors of what moves the target"
    )


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args,
        *("members", "sites", "untrained", "starts", "sweeps", "published_starts", "draws"),
        *("lambdas", *JOURNEY),
    )
    files = {"source": args.source, "target": args.target}
    source, target = (_model(spec["members"][role], path) for role, path in files.items())
    untrained = None
    if spec["untrained"] is not None:
        before = {**spec["members"]["target"], "checkpoint": spec["untrained"]}
        untrained = _model(before, args.target).weights
    cell = tuple(spec[name] for name in JOURNEY)
    rows, elements = study.alignment(
        target,
        source,
        untrained,
        *(spec[name] for name in ("starts", "sweeps", "published_starts", "draws")),
        *cell,
    )
    sets, tokens_digest = read_tokens(args.tokens)
    moments = {split: _moments(spec, files, sets[split]) for split in ("fit", "eval")}
    traded = study.pareto(
        target.whole, source.whole, elements, moments, PUBLISHED_SITES, spec["lambdas"]
    )
    named = {name: spec[name] for name in JOURNEY}
    write_table(args.joint, gauge.JOINT_COLUMNS, [{**named, **row} for row in traded])
    arrays = {
        f"{arm}/{name}": value
        for arm, found in elements.items()
        for name, value in found._asdict().items()
    }
    write_tensors(args.elements, arrays, gauge.SCHEMA, spec, {"tokens": tokens_digest})
    write_table(args.out, gauge.COLUMNS, [{**named, **row} for row in rows])


def _model(member: dict[str, Any], path: Path) -> study.Model:
    state = dyck.load(member, path)

    return study.Model(dyck.from_state(state), dyck.from_state(state, dyck.ALL))


def _moments(spec: dict[str, Any], files: dict[str, Path], part_of: TokenSet) -> dict[str, Moments]:
    """Of activations of both models on a split, at the cohort's sites and those of the study."""
    wanted = list(dict.fromkeys([*spec["sites"], *PUBLISHED_SITES]))
    loaded = [
        members.load(spec["members"][role], [path], wanted, "cpu") for role, path in files.items()
    ]
    found = {site: Moments(loaded[0].width(site), loaded[1].width(site)) for site in wanted}
    size = max(1, FORWARD_TOKENS // part_of.tokens_nt.shape[1])
    for part in batches(len(part_of.tokens_nt), size):
        keep = part_of.keep_nt[part]
        a, b = (member.activations(part_of.tokens_nt[part], wanted) for member in loaded)
        for site in wanted:
            found[site].add(a[site][keep], b[site][keep])
    return found
