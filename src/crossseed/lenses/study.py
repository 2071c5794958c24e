"""All five lenses on one toy model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from crossseed.cohorts.base import FORWARD_TOKENS, TokenSet, batches
from crossseed.cohorts.dyck.interventions import DyckStart, DyckSubject
from crossseed.cohorts.dyck.paths import opened
from crossseed.errors import UserError
from crossseed.gauge.weights import Weights
from crossseed.lenses import dictionaries, edges, mlp_of, regions, roles, weights
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
    every = list(dict.fromkeys([*places, *mlps]))
    train, held = (Seen(subject, sets[split], every) for split in ("train", "eval"))
    rows += _sparse(train, held, every, spec["transcoder"], *cell)
    # Pruned on some sequences, told on others: what is pruned greedily fits the noise of its batch.
    pruned, told = (
        opened(subject, {"fit": sets["fit"], "eval": sets[split]}, 1, spec["rows"])[0]
        for split in ("fit", "eval")
    )
    rows += edges.measure(pruned, told, spec["thresholds"], generator("lens-edges", *cell))
    for layer, place in enumerate(mlps):
        rng = generator("lens-regions", *cell, layer)
        active = train.active[place][rng.permutation(len(train.active[place]))]
        rows += regions.measure(folded, layer, active, rng.permuted(active, axis=0))
    fitted = Seen(subject, sets["fit"], places)
    for place in places:
        if place not in mlps:
            mean = fitted.written[place].mean(axis=0)
            rng = generator("lens-flips", *cell, place)
            rows.append(regions.flipped(place, *_moved(subject, sets["eval"], place, mean, rng)))
        rows += roles.measure(
            place,
            (fitted.written[place], fitted.features),
            (held.written[place], held.features),
            generator("lens-roles", *cell, place),
        )
    return rows


def _moved(
    subject: DyckSubject, tokens: TokenSet, head: str, mean: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neurons of the MLP of a head's block, active or not, at kept tokens: as they are; without what the head
    writes, its mean in place; and without what it writes at other tokens."""
    found: list[list[np.ndarray]] = [[], [], []]
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    place = torch.from_numpy(mean)
    for part in batches(len(tokens.tokens_nt), size):
        keep = torch.from_numpy(tokens.keep_nt[part])
        reader = subject.start(tokens.tokens_nt[part], mlp_of(head))
        writer = subject.start(tokens.tokens_nt[part], head)
        with torch.no_grad():
            before = reader.before[keep]
            written = writer.written(writer.value_ntd)[keep]
            other = written[rng.permutation(len(written))]
            block = reader.model.block(reader.first // 2)
            for kept, x in zip(
                found, (before, before - written + place, before - other + place), strict=True
            ):
                kept.append((block.mlp.neurons(block.ln2(x)) > 0).numpy())
    as_is, without, elsewhere = (np.concatenate(parts) for parts in found)
    return as_is, without, elsewhere


def chosen(subject: DyckSubject, names: Sequence[str]) -> list[str]:
    """Components by name, or by kind: ``head``, ``mlp``.

    Raises:
        UserError: a name is unknown, or there is none.
    """
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


def _sparse(
    train: Seen, held: Seen, places: Sequence[str], recipe: Mapping[str, Any], *cell: object
) -> list[Row]:
    rows = []
    for place in places:
        y, y_held = train.written[place], held.written[place]
        rng = generator("lens-dictionary", *cell, place)
        if place in train.read:
            kind = dictionaries.TRANSCODER
            x, x_held = train.read[place], held.read[place]
            null, null_held = (x, y[rng.permutation(len(y))]), (x_held, y_held)
        else:
            kind = dictionaries.DICTIONARY
            x, x_held = y, y_held
            drawn = (dictionaries.gaussian(y, len(of), rng) for of in (y, y_held))
            null, null_held = ((values, values) for values in drawn)
        for expansion in recipe["expansions"]:
            how = (expansion * x.shape[1], recipe["l1"], recipe["lr"], recipe["steps"])
            seed = int(rng.integers(2**31))
            rows += dictionaries.measure(
                *(place, kind, expansion),
                (dictionaries.train(x, y, *how, seed), (x_held, y_held)),
                (dictionaries.train(*null, *how, seed), null_held),
            )
    return rows
