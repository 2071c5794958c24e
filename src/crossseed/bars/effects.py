"""What cutting components and edges does, and their names in another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.bars import COMPONENTS, EDGES, VALUES, Row


class Effects(NamedTuple):
    """What cutting each component, or edge, does to the loss of each batch, in nats; each (names, batches), NaN
    where it was not asked for.

    Attributes:
        names: of what is cut: a component, or an edge's source and destination.
        measured: by doing it. integrated: by integrated gradients. gradient: by one gradient.
        published: by the published quadrature; of components on the first two batches alone.
    """

    names: list[tuple[str, ...]]
    measured: np.ndarray
    integrated: np.ndarray
    gradient: np.ndarray
    published: np.ndarray


class Causes(NamedTuple):
    """Effects of one model."""

    components: Effects
    edges: Effects


def cause_rows(causes: Causes) -> list[Row]:
    """Rows of `CAUSE_COLUMNS`, without the member's."""
    return [
        {
            "source": name[0],
            "destination": name[1] if len(name) > 1 else "",
            "batch": batch,
            **{f"{key}_nats": float(getattr(effects, key)[i, batch]) for key in VALUES},
        }
        for effects in causes
        for i, name in enumerate(effects.names)
        for batch in range(effects.measured.shape[1])
    ]


def causes_of(rows: Sequence[Mapping[str, str]]) -> Causes:
    """What `cause_rows` were made from."""
    found = []
    for part in (COMPONENTS, EDGES):
        chosen = [row for row in rows if bool(row["destination"]) == (part == EDGES)]
        names = list(
            dict.fromkeys(tuple(filter(None, (r["source"], r["destination"]))) for r in chosen)
        )
        values = np.array(
            [[float(row[f"{key}_nats"] or "nan") for key in VALUES] for row in chosen]
        )
        found.append(Effects(names, *values.T.reshape(len(VALUES), len(names), -1)))
    return Causes(*found)


def renamed(names: Sequence[tuple[str, ...]], heads_lh: np.ndarray) -> list[tuple[str, ...]]:
    """Names of the primary's components or edges in a candidate whose head heads[l, h] stands for head h."""

    def one(name: str) -> str:
        block, _, head = name.partition(".attn.hook_z.")
        if not head:
            return name
        layer = int(block.rpartition(".")[2])
        return f"{block}.attn.hook_z.{heads_lh[layer, int(head)]}"

    return [tuple(one(part) for part in name) for name in names]


def matched(effects: Effects, names: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Measured effects under other names, (names, batches)."""
    number = {name: i for i, name in enumerate(effects.names)}
    return effects.measured[[number[name] for name in names]]


def chosen(effects: Effects, keep: Sequence[bool]) -> Effects:
    """Some of what is cut."""
    names = [name for name, kept in zip(effects.names, keep, strict=True) if kept]
    return Effects(names, *(values[list(keep)] for values in effects[1:]))
