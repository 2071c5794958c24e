"""All five lenses on one toy model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from crossseed.bars import Probe
from crossseed.cohorts.base import FORWARD_TOKENS, TokenSet, batches
from crossseed.cohorts.dyck.interventions import DyckStart, DyckSubject
from crossseed.errors import UserError
from crossseed.gauge.weights import Weights
from crossseed.lenses import edges, regions, roles, transcoders, weights
from crossseed.seeding import generator

Row = dict[str, Any]


class Seen:
    """What components of a model write, and what its MLPs do, on the kept tokens of a split."""

    def __init__(self, subject: DyckSubject, tokens: TokenSet, places: Sequence[str]) -> None:
        written: dict[str, list[np.ndarray]] = {place: [] for place in places}
        mlps = subject.components["mlp"]
        self.read: dict[str, np.ndarray] = {}
        self.active: dict[str, np.ndarray] = {}
        read: dict[str, list[np.ndarray]] = {place: [] for place in mlps}
        active: dict[str, list[np.ndarray]] = {place: [] for place in mlps}
        size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
        for part in batches(len(tokens.tokens_nt), size):
            keep = tokens.keep_nt[part]
            for place in dict.fromkeys([*places, *mlps]):
                start = subject.start(tokens.tokens_nt[part], place)
                if place in written:
                    out = start.written(start.value_ntd)
                    written[place].append(out.float().cpu().numpy()[keep])
                if place in read:
                    x, neurons = _inside(start)
                    read[place].append(x[keep])
                    active[place].append(neurons[keep])
        self.written = {place: np.concatenate(found) for place, found in written.items()}
        self.read = {place: np.concatenate(found) for place, found in read.items()}
        self.active = {place: np.concatenate(found) for place, found in active.items()}
        self.features = roles.features(tokens.tokens_nt, tokens.labels, tokens.keep_nt)


def _inside(start: DyckStart) -> tuple[np.ndarray, np.ndarray]:
    """What an MLP reads after its norm, and which neurons are active."""
    block = start.model.block(start.first // 2)
    with torch.no_grad():
        x = block.ln2(start.before)
        return x.float().cpu().numpy(), (block.mlp.neurons(x) > 0).cpu().numpy()


def study(
    subject: DyckSubject,
    folded: Weights,
    sets: Mapping[str, TokenSet],
    spec: Mapping[str, Any],
    *cell: object,
) -> list[Row]:
    """Rows of `crossseed.lenses.COLUMNS`, without the member's.

    Args:
        subject: the model. folded: its weights.
        sets: token sets: `train` for transcoders, `fit` for regressions, `eval` for what is told.
        spec: ``components``, ``transcoder``, ``thresholds``, ``rows``.
        cell: names the member.
    """
    places = chosen(subject, spec["components"])
    mlps = subject.components["mlp"]
    rows = weights.measure(folded)
    train = Seen(subject, sets["train"], mlps)
    held = Seen(subject, sets["eval"], list(dict.fromkeys([*places, *mlps])))
    rows += _transcoded(train, held, mlps, spec["transcoder"], *cell)
    # Pruned on some sequences, told on others: what is pruned greedily fits the noise of its batch.
    pruned, told = (
        Probe(subject, {"fit": sets["fit"], "eval": sets[split]}, 1, spec["rows"]).graphs[0]
        for split in ("fit", "eval")
    )
    rows += edges.measure(pruned, told, spec["thresholds"], generator("lens-edges", *cell))
    for layer, place in enumerate(mlps):
        rng = generator("lens-regions", *cell, layer)
        active = train.active[place][rng.permutation(len(train.active[place]))]
        rows += regions.measure(folded, layer, active, rng.permuted(active, axis=0))
    fitted = Seen(subject, sets["fit"], places)
    for place in places:
        rows += roles.measure(
            place,
            (fitted.written[place], fitted.features),
            (held.written[place], held.features),
            generator("lens-roles", *cell, place),
        )
    return rows


def chosen(subject: DyckSubject, names: Sequence[str]) -> list[str]:
    """Components by name, or by kind: ``head``, ``mlp``."""
    known = [place for places in subject.components.values() for place in places]
    found: list[str] = []
    for name in names:
        found += subject.components.get(name, [name])
    unknown = [place for place in found if place not in known]
    if unknown or not found:
        raise UserError(
            f"components {list(names)} name {unknown[0] if unknown else 'none'}; expected some of head, mlp, "
            f"{', '.join(known)}"
        )
    return list(dict.fromkeys(found))


def _transcoded(
    train: Seen, held: Seen, mlps: Sequence[str], recipe: Mapping[str, Any], *cell: object
) -> list[Row]:
    rows = []
    for layer, place in enumerate(mlps):
        x, y = train.read[place], train.written[place]
        rng = generator("lens-transcoder", *cell, layer)
        for expansion in recipe["expansions"]:
            how = (expansion * x.shape[1], recipe["l1"], recipe["lr"], recipe["steps"])
            seed = int(rng.integers(2**31))
            own = transcoders.train(x, y, *how, seed)
            null = transcoders.train(x, y[rng.permutation(len(y))], *how, seed)
            rows += transcoders.measure(
                layer, expansion, own, null, held.read[place], held.written[place]
            )
    return rows
