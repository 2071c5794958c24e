"""Hold a member, and decoys made from it, or another member, against a primary one by four bars."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from crossseed import bars
from crossseed.activations import read_tokens
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import behaviour, decoys, members
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import N_HEADS, DyckTransformer
from crossseed.cohorts.dyck.sites import N_LAYERS
from crossseed.devices import usable
from crossseed.gauge import element, search, study
from crossseed.gauge.weights import Weights, folded
from crossseed.published import alignment as published
from crossseed.seeding import generator
from crossseed.store import check_cell, read_table, read_tensors, write_table
from crossseed.verbs import options
from crossseed.verbs.weights import SCHEMA

# The program is run on fewer sequences: its stream is long where it is wide.
PROGRAM_SEQUENCES = 2000
# Decoys are near the model they are made from.
DECOY_STARTS, DECOY_SWEEPS = 4, 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument("--source", type=Path, required=True, help="checkpoints of the primary")
    parser.add_argument("--target", type=Path, required=True, help="checkpoints of the candidate")
    for role in ("source", "target"):
        parser.add_argument(
            f"--{role}-causes", type=Path, required=True, help=f"effects of cuts in the {role}"
        )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--weights", type=Path, nargs="?", help="errors of the pair's weights; for another member"
    )
    parser.add_argument(
        "--elements", type=Path, nargs="?", help="what aligns the pair; for another member"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args,
        *("members", "untrained", "lengths", "sequences", "batch_rows", "batches", "rows"),
        *("orders", "resamples", *study.PAIR),
    )
    device = usable(args.device)
    source = members.load(spec["members"]["source"], [args.source], [], device).model
    sets, _ = read_tokens(args.tokens)
    cell = tuple(spec[name] for name in study.PAIR)
    primary = _causes(args.source_causes)
    if spec["source_seed"] == spec["target_seed"]:
        rows = _within(args, spec, source, primary, sets, device, cell)
    else:
        rows = _across(args, spec, source, primary, sets, device, cell)
    named = {name: spec[name] for name in study.PAIR}
    write_table(args.out, bars.COLUMNS, [{**named, **row} for row in rows])


def _causes(path: Path) -> bars.Causes:
    return bars.causes_of(read_table(path, bars.CAUSE_COLUMNS))


def _probe(model: DyckTransformer, sets: dict[str, TokenSet], spec: dict[str, Any]) -> bars.Probe:
    return bars.Probe(DyckSubject(model), sets, spec["batches"], spec["rows"])


def _same_heads() -> np.ndarray:
    return np.tile(np.arange(N_HEADS), (N_LAYERS, 1))


def _stream(
    spec: dict[str, Any],
    models: dict[str, Any],
    sequences: int,
    device: str,
    *cell: object,
) -> behaviour.Stream:
    low, high = spec["lengths"]
    return behaviour.stream(
        models, sequences, spec["batch_rows"], (low, high), generator("bars-stream", *cell), device
    )


def _within(
    args: argparse.Namespace,
    spec: dict[str, Any],
    source: DyckTransformer,
    primary: bars.Causes,
    sets: dict[str, TokenSet],
    device: str,
    cell: tuple[object, ...],
) -> list[bars.Row]:
    """The primary itself, and decoys made from it."""
    state, _ = members.read(spec["members"]["source"], args.source)
    effects = dict(
        zip(primary.components.names, primary.components.measured.mean(axis=1), strict=True)
    )
    by_head = np.array(
        [
            [effects[f"blocks.{layer}.attn.hook_z.{h}",] for h in range(N_HEADS)]
            for layer in range(N_LAYERS)
        ]
    )
    made = decoys.all_of(state, by_head)
    models = {bars.ITSELF: source} | {
        name: _model(changed, device) for name, changed in made.items()
    }
    drawn = _stream(spec, models, spec["sequences"], device, *cell)
    fewer = min(spec["sequences"], PROGRAM_SEQUENCES)
    program = {bars.ITSELF: source, decoys.PROGRAM: behaviour.Program()}
    streams = dict.fromkeys(models, drawn) | {
        decoys.PROGRAM: _stream(spec, program, fewer, device, *cell, decoys.PROGRAM)
    }
    heads = _same_heads()
    rows = []
    for name, stream in streams.items():
        found = bars.behaviour_rows(stream, name, "labels", spec["resamples"], *cell)
        if name != bars.ITSELF:
            found += bars.behaviour_rows(stream, name, "primary", spec["resamples"], *cell)
        if name == bars.ITSELF:
            found += _parameters(state, _copy(state, *cell), name, *cell)
        if name in made:
            found += _parameters(state, made[name], name, *cell)
        if name in models:
            probe = _probe(models[name], sets, spec)
            # Of a decoy nothing is predicted, so that nothing is integrated.
            own = primary if name == bars.ITSELF else probe.causes(0)
            rest = (spec["resamples"], *cell, name)
            found += bars.causal_rows(primary, own, heads, heads, *rest)
            found.append(
                bars.cumulative_row(primary, probe, own, heads, spec["orders"], *cell, name)
            )
        rows += [{"candidate": name, **row} for row in found]
    return rows


def _model(state: dict[str, np.ndarray], device: str) -> DyckTransformer:
    # Imported here: what else is read here does without.
    import torch

    model = DyckTransformer(0)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.to(device).eval()


def _copy(state: dict[str, np.ndarray], *cell: object) -> dict[str, np.ndarray]:
    """The model moved by a random element: what bar P has to see through."""
    weights = dyck.from_state(folded(state, dyck.gains(), "the model"), dyck.ALL)
    g = element.random(generator("bars-copy", *cell), weights)
    return dyck.to_state(element.apply(g, weights))


def _parameters(
    state: dict[str, np.ndarray], changed: dict[str, np.ndarray], name: str, *cell: object
) -> list[bars.Row]:
    """Bar P of a decoy against the model it is made from."""

    def weights(of: dict[str, np.ndarray], used: slice = dyck.USED) -> Weights:
        return dyck.from_state(folded(of, dyck.gains(), name), used)

    moved = search.align(
        generator("alignment-decoy", *cell, name),
        *(weights(changed), weights(state), DECOY_STARTS, DECOY_SWEEPS),
    ).moved
    error = float(search.balanced_errors(moved, weights(state))["all"])
    whole = (weights(changed, dyck.ALL), weights(state, dyck.ALL))
    reached = published.search(*whole, True, n_starts=1)
    return bars.parameter_rows(reached.max_mse, error, float("nan"), len(moved.tensors()))


def _across(
    args: argparse.Namespace,
    spec: dict[str, Any],
    source: DyckTransformer,
    primary: bars.Causes,
    sets: dict[str, TokenSet],
    device: str,
    cell: tuple[object, ...],
) -> list[bars.Row]:
    """Another member."""
    target = members.load(spec["members"]["target"], [args.target], [], device).model
    models = {"primary": source, bars.SIBLING: target}
    if spec["untrained"] is not None:
        before = {**spec["members"]["target"], "checkpoint": spec["untrained"]}
        models["untrained"] = members.load(before, [args.target], [], device).model
    stream = _stream(spec, models, spec["sequences"], device, *cell)
    rows = bars.behaviour_rows(stream, bars.SIBLING, "primary", spec["resamples"], *cell)
    if "untrained" in models:
        null = bars.behaviour_rows(stream, "untrained", "primary", spec["resamples"], *cell)
        for row, other in zip(rows, null, strict=True):
            row["null"] = other["value"]
    elements, made = read_tensors(args.elements, SCHEMA)
    check_cell(args.elements, made.spec, {name: spec[name] for name in study.PAIR})
    found = {
        (row["arm"], row["metric"]): float(row["value"])
        for row in read_table(args.weights, study.COLUMNS)
        if row["tensor"] == "all"
    }
    error = found[study.ALIGNED, "relative_error"]
    null_error = found.get((study.UNTRAINED, "relative_error"), float("nan"))
    n = len(dyck.from_state(dyck.load(spec["members"]["source"], args.source)).tensors())
    rows += bars.parameter_rows(found[study.PUBLISHED, "max_mse"], error, null_error, n)
    own = _causes(args.target_causes)
    probe = _probe(target, sets, spec)
    heads = elements[f"{study.ALIGNED}/heads"]
    as_published = elements[f"{study.PUBLISHED}/heads"]
    rows += bars.causal_rows(primary, own, heads, as_published, spec["resamples"], *cell)
    rows.append(bars.cumulative_row(primary, probe, own, heads, spec["orders"], *cell))
    return [{"candidate": bars.SIBLING, **row} for row in rows]
