"""A candidate held against a primary model by all four bars: the model itself and decoys made from it, or a sibling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from crossseed import bars
from crossseed.bars import Row
from crossseed.bars.behavioural import LABELS, PRIMARY, behaviour_rows
from crossseed.bars.causal import causal_rows, cumulative_row
from crossseed.bars.effects import Causes
from crossseed.bars.probe import Probe
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import behaviour, decoys
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import N_HEADS, DyckTransformer
from crossseed.cohorts.dyck.sites import N_LAYERS
from crossseed.gauge import element, search
from crossseed.gauge.weights import Weights, folded
from crossseed.published import alignment as published
from crossseed.seeding import generator

# The program is run on fewer sequences: its stream is long where it is wide.
PROGRAM_SEQUENCES = 2000
# Decoys are near the model they are made from.
DECOY_STARTS, DECOY_SWEEPS = 4, 6
UNTRAINED = "untrained"
State = dict[str, np.ndarray]


def itself(
    model: DyckTransformer,
    state: State,
    causes: Causes,
    sets: Mapping[str, TokenSet],
    spec: Mapping[str, Any],
    *cell: object,
) -> list[Row]:
    """Rows of `crossseed.bars.COLUMNS`, without the pair's, of a model and of decoys made from it.

    Args:
        model: runs. state: its tensors. causes: its effects.
        sets: token sets of the cohort.
        spec: ``lengths``, ``sequences``, ``batch_rows``, ``batches``, ``rows``, ``orders``,
            ``taught_steps``, ``resamples``.
        cell: names the pair.
    """
    device = str(model.W_E.device)
    made = {
        bars.AVERAGED: decoys.averaged(state),
        bars.SWAPPED: decoys.swapped(state),
        bars.SPLIT: decoys.split(state, _effects_of_heads(causes)),
    }
    models: dict[str, torch.nn.Module] = {bars.ITSELF: model}
    models.update({name: _model(changed, device) for name, changed in made.items()})
    taught = _model(made[bars.SPLIT], device)
    low, high = spec["lengths"]
    how = (spec["taught_steps"], bars.TAUGHT_ROWS, (low, high))
    decoys.teach(taught, model, *how, generator("bars-taught", *cell))
    models[bars.TAUGHT] = taught
    made[bars.TAUGHT] = {name: value.cpu().numpy() for name, value in taught.state_dict().items()}
    drawn = _stream(spec, models, spec["sequences"], device, *cell)
    fewer = min(spec["sequences"], PROGRAM_SEQUENCES)
    program: dict[str, torch.nn.Module] = {
        bars.ITSELF: model,
        bars.PROGRAM: behaviour.Program(),
    }
    streams = dict.fromkeys(models, drawn) | {
        bars.PROGRAM: _stream(spec, program, fewer, device, *cell, bars.PROGRAM)
    }
    same_heads = np.tile(np.arange(N_HEADS), (N_LAYERS, 1))
    rows: list[Row] = []
    for name, stream in streams.items():
        found = behaviour_rows(stream, name, LABELS, spec["resamples"], *cell, published=True)
        if name == bars.ITSELF:
            found += _parameters(state, state, name, *cell)
            moved = _parameters(state, _copy(state, *cell), name, *cell)
            found += [{**row, "part": bars.MOVED} for row in moved]
        else:
            found += behaviour_rows(stream, name, PRIMARY, spec["resamples"], *cell)
        if name in made:
            found += _parameters(state, made[name], name, *cell)
        if name in models:
            probe = _probe(models[name], sets, spec)
            # Of a decoy nothing is predicted, so that nothing is integrated.
            own = causes if name == bars.ITSELF else probe.causes(0)
            found += causal_rows(causes, own, same_heads, same_heads, spec["resamples"], *cell)
            found.append(
                cumulative_row(causes, probe, own, same_heads, spec["orders"], *cell, name)
            )
        rows += [{"candidate": name, **row} for row in found]
    return _rejected(rows)


def sibling(
    models: Mapping[str, DyckTransformer],
    causes: Sequence[Causes],
    errors: Sequence[Row],
    heads_lh: np.ndarray,
    published_heads_lh: np.ndarray,
    sets: Mapping[str, TokenSet],
    spec: Mapping[str, Any],
    *cell: object,
) -> list[Row]:
    """The same rows of another member.

    Args:
        models: ``primary``, ``sibling``, and the sibling ``untrained`` where that is the null.
        causes: effects of the primary and of the sibling.
        errors: of bar P (`parameter_rows`).
        heads_lh: which of the sibling's heads stands for each of the primary's; published_heads_lh: by the
            published search.
        sets, spec, cell: see `itself`; ``sequences_between`` in place of ``sequences``.
    """
    device = str(models[PRIMARY].W_E.device)
    stream = _stream(spec, models, spec["sequences_between"], device, *cell)
    rows = behaviour_rows(stream, bars.SIBLING, PRIMARY, spec["resamples"], *cell, published=True)
    if UNTRAINED in models:
        null = behaviour_rows(stream, UNTRAINED, PRIMARY, spec["resamples"], *cell, published=True)
        for row, other in zip(rows, null, strict=True):
            row["null"] = other["value"]
    primary, own = causes
    rows += errors
    rows += causal_rows(primary, own, heads_lh, published_heads_lh, spec["resamples"], *cell)
    probe = _probe(models[bars.SIBLING], sets, spec)
    rows.append(cumulative_row(primary, probe, own, heads_lh, spec["orders"], *cell))
    # What the primary itself passes, on the same sequences.
    same = np.tile(np.arange(N_HEADS), (N_LAYERS, 1))
    of_primary = causal_rows(primary, primary, same, same, spec["resamples"], *cell)
    judged = _rejected(
        [
            *({"candidate": bars.ITSELF, **row} for row in of_primary),
            *({"candidate": bars.SIBLING, **row} for row in rows),
        ]
    )
    return [row for row in judged if row["candidate"] == bars.SIBLING]


def parameter_rows(max_mse: float, relative_error: float, null: float, n: int) -> list[Row]:
    """Bar P, by both protocols.

    Args:
        max_mse: the published measure after the published search.
        relative_error: after the search over all symmetries. null: of an untrained model after the same search.
        n: tensors.
    """
    rigorous = bars.row(
        bars.P, bars.RIGOROUS, "all", "aligned", relative_error, quantity="relative_error", n=n
    )
    return [
        bars.row(bars.P, bars.PUBLISHED, "all", "aligned", max_mse, quantity="max_mse", n=n),
        {
            **rigorous,
            "null": null,
            "threshold": bars.RELATIVE_ERROR,
            "passes": int(relative_error < bars.RELATIVE_ERROR),
        },
    ]


def _rejected(rows: Sequence[Row]) -> list[Row]:
    """Marks what a candidate fails and the model itself, where it is among them, does not."""

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("bar", "protocol", "quantity", "part", "predictor"))

    own = {key(row): row["passes"] for row in rows if row["candidate"] == bars.ITSELF}
    for row in rows:
        if row["candidate"] == bars.ITSELF or row["passes"] == "":
            continue
        # What the primary is not measured by, it passes: no divergence from itself, nor of its weights.
        fails = not row["passes"] and own.get(key(row), 1) != 0
        row["rejected"] = int(fails or (row["gap_low"] > 0 and row["gap"] > bars.NOTICED))
    return list(rows)


def _probe(model: torch.nn.Module, sets: Mapping[str, TokenSet], spec: Mapping[str, Any]) -> Probe:
    assert isinstance(model, DyckTransformer)
    return Probe(DyckSubject(model), sets, spec["batches"], spec["rows"])


def _stream(
    spec: Mapping[str, Any],
    models: Mapping[str, torch.nn.Module],
    sequences: int,
    device: str,
    *cell: object,
) -> behaviour.Stream:
    low, high = spec["lengths"]
    return behaviour.stream(
        models, sequences, spec["batch_rows"], (low, high), generator("bars-stream", *cell), device
    )


def _effects_of_heads(causes: Causes) -> np.ndarray:
    """What ablating each head does, (layers, heads)."""
    found = causes.components
    effects = dict(zip(found.names, found.measured.mean(axis=1), strict=True))
    return np.array(
        [
            [effects[f"blocks.{layer}.attn.hook_z.{h}",] for h in range(N_HEADS)]
            for layer in range(N_LAYERS)
        ]
    )


def _model(state: State, device: str) -> DyckTransformer:
    model = DyckTransformer(0)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.to(device).eval()


def _copy(state: State, *cell: object) -> State:
    """The model moved by a random element: what bar P has to see through."""
    weights = dyck.from_state(folded(state, dyck.gains(), "the model"), dyck.ALL)
    g = element.random(generator("bars-copy", *cell), weights)
    return dyck.to_state(element.apply(g, weights))


def _parameters(state: State, changed: State, name: str, *cell: object) -> list[Row]:
    """Bar P of a decoy against the model it is made from."""

    def weights(of: State, used: slice = dyck.USED) -> Weights:
        return dyck.from_state(folded(of, dyck.gains(), name), used)

    moved = search.align(
        generator("alignment-decoy", *cell, name),
        *(weights(changed), weights(state), DECOY_STARTS, DECOY_SWEEPS),
    ).moved
    error = float(search.balanced_errors(moved, weights(state))["all"])
    whole = (weights(changed, dyck.ALL), weights(state, dyck.ALL))
    reached = published.search(*whole, True, n_starts=1)
    return parameter_rows(reached.max_mse, error, float("nan"), len(moved.tensors()))
