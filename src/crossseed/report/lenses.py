"""What the page says of components through five lenses, and where the lenses disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crossseed import lenses as l
from crossseed.lenses import agreement
from crossseed.report import tables as t

# Ranks of eight heads, by two lenses, that are called apart; half the range.
APART = 4
# Above which two lenses agree no better than chance.
ALPHA = 0.05
# Loss in nats that an ablation adds where it hurts.
HURTS = 0.1
# What only a group of features explains, to be named as a role.
NOTICED = 0.03


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences and the cross-lens table of each member; empty without the study."""
    rows = tables.lenses[tables.lenses.cohort == cohort]
    if rows.empty:
        return {}
    effects = _effects(tables, cohort)
    members = []
    for seed, part in rows.groupby("seed", sort=True):
        of = effects.get(int(seed), {})
        by_lens = _by_lens(part, _heads(part), of)
        lines = _lines(part, of, by_lens)
        members.append({"seed": int(seed), "sentences": _sentences(part, by_lens), "rows": lines})
    return {"members": members}


def _effects(tables: t.Tables, cohort: str) -> dict[int, dict[str, float]]:
    """What ablating each component adds to the loss, mean over batches, by seed."""
    rows = tables.causes[(tables.causes.cohort == cohort) & tables.causes.destination.isna()]
    found: dict[int, dict[str, float]] = {}
    for (seed, source), part in rows.groupby(["seed", "source"]):
        found.setdefault(int(seed), {})[str(source)] = float(part.measured_nats.mean())
    return found


def _value(rows: pd.DataFrame, component: str, quantity: str, part: str | None = None) -> float:
    chosen = rows[(rows.component == component) & (rows.quantity == quantity)]
    chosen = chosen if part is None else chosen[chosen.part == part]
    return float(chosen.value.iloc[0]) if len(chosen) else float("nan")


def _by_lens(
    rows: pd.DataFrame, heads: list[str], effects: dict[str, float]
) -> dict[str, np.ndarray]:
    """Ranks of heads by lens."""
    values = {
        lens: [
            effects.get(head, float("nan")) if how is None else _value(rows, head, *how)
            for head in heads
        ]
        for lens, how in agreement.RANKED_BY.items()
    }
    return agreement.ranks(values)


def _heads(rows: pd.DataFrame) -> list[str]:
    return [c for c in pd.unique(rows.component) if "hook_z" in c]


def _lines(
    rows: pd.DataFrame, effects: dict[str, float], by_lens: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """A line a component: what each lens says of it."""
    pruned = rows[(rows.quantity == "edges_kept") & (rows.component != l.MODEL)]
    threshold = pruned.part.iloc[0]
    heads = _heads(pruned)
    found = []
    for component in pd.unique(pruned.component):
        edges = pruned[(pruned.component == component) & (pruned.part == threshold)].iloc[0]
        is_head = component in heads
        spectrum = "ov" if is_head else "writes"
        roles = rows[(rows.component == component) & (rows.quantity == "unique")]
        roles = roles[roles.value > NOTICED].sort_values("value", ascending=False)
        named = ", ".join(
            f"{part} {value:.2f}" for part, value in zip(roles.part, roles.value, strict=True)
        )
        remarks = _apart(by_lens, heads.index(component)) if is_head else []
        if edges.value == 0 and effects.get(component, 0) > HURTS:
            remarks.append("no edge is needed, yet its ablation hurts")
        found.append(
            {
                "component": _short(component),
                "norm": f"{_value(rows, component, 'norm', spectrum):.2f}",
                "rank": f"{_value(rows, component, 'effective_rank', spectrum):.1f}",
                "dictionary": _dictionary(rows, component),
                "effect": f"{effects[component]:.3f}" if component in effects else "–",
                "edges": f"{edges.value:.0f} of {edges.null:.0f}",
                "regions": _regions(rows, component),
                "explained": _number(_value(rows, component, "explained", "all")),
                "roles": named or "–",
                "remarks": "; ".join(remarks) or "–",
            }
        )
    return found


def _apart(by_lens: dict[str, np.ndarray], head: int) -> list[str]:
    """The two lenses that are furthest apart on a head, where they are far apart."""
    pairs = agreement.apart(by_lens, head, APART)
    if not pairs:
        return []
    first, second = max(pairs, key=lambda pair: by_lens[pair[1]][head] - by_lens[pair[0]][head])
    n = len(by_lens[first])
    others = len(pairs) - 1
    more = f", and {others} more {'pair' if others == 1 else 'pairs'}" if others else ""
    return [
        f"{first} {by_lens[first][head]:.0f} of {n}, {second} {by_lens[second][head]:.0f}{more}"
    ]


def _dictionary(rows: pd.DataFrame, component: str) -> str:
    """The transcoder of an MLP, or the dictionary of a head, of each size: what it explains with how many
    latents, and the null."""
    of = rows[rows.component == component].set_index("part")
    ev, l0 = (of[of.quantity.str.fullmatch(f"(transcoder|dictionary)_{q}")] for q in ("ev", "l0"))
    return (
        ", ".join(
            f"{part}: {ev.value[part]:.2f} with {l0.value[part]:.0f} ({ev.null[part]:.2f} with {l0.null[part]:.0f})"
            for part in ev.index
        )
        or "–"
    )


def _regions(rows: pd.DataFrame, component: str) -> str:
    of = rows[(rows.component == component) & (rows.quantity == "neurons_flipped")]
    if len(of):
        return f"flips {of.value.iloc[0]:.1f} neurons ({of.null.iloc[0]:.1f})"
    of = rows[(rows.component == component) & (rows.quantity == "patterns")]
    if of.empty:
        return "–"
    last = of.iloc[-1]
    return f"{last.value:,.0f} on {int(float(last.part)):,} tokens"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def _short(place: str) -> str:
    """`blocks.1.attn.hook_z.3` as `block 1, head 3`."""
    parts = place.split(".")
    return f"block {parts[1]}, {'head ' + parts[-1] if parts[2] == 'attn' else 'MLP'}"


def _sentences(rows: pd.DataFrame, by_lens: dict[str, np.ndarray]) -> list[str]:
    model = rows[rows.component == l.MODEL]
    kept = model[model.quantity == "edges_kept"]
    added = model[model.quantity == "loss_added"].set_index("part")
    pruned = "; ".join(
        f"at {row.part} nats an edge {row.value:.0f} of {row.null:.0f} stay and the loss changes by "
        f"{added.value[row.part]:+.3f} ({added.null[row.part]:+.2f} with as many random ones)"
        for row in kept.itertuples()
    )
    coders = rows[rows.quantity == "transcoder_ev"]
    sparse = rows[rows.quantity == "transcoder_l0"]
    return [
        f"Edges pruned to a threshold, again and again until none goes: {pruned}.",
        f"Transcoders of the MLPs explain {coders.value.min():.2f} to {coders.value.max():.2f} of what these write "
        f"({coders.null.max():.2f} at most when trained on other tokens' targets), with {sparse.value.min():.0f} to "
        f"{sparse.value.max():.0f} latents active a token.",
        *_agreed(by_lens),
    ]


def _agreed(by_lens: dict[str, np.ndarray]) -> list[str]:
    """How far any two lenses rank heads alike."""
    found = agreement.agreements(by_lens)
    if not found:
        return []
    n = len(next(iter(by_lens.values())))
    best, worst = max(found, key=lambda a: a.rho), min(found, key=lambda a: a.rho)
    chance = sum(a.p > ALPHA for a in found)
    far = sum(bool(agreement.apart(by_lens, head, APART)) for head in range(n))
    expected = agreement.apart_by_chance(len(by_lens), n, APART)
    return [
        f"Each lens ranks the {n} heads by one number; of {len(found)} pairs of lenses {chance} cannot be told from "
        f"unrelated orders (ρ from {worst.rho:.2f}, {worst.first} and {worst.second}, to {best.rho:.2f}, {best.first} and "
        f"{best.second}), and {far} heads are {APART} or more ranks apart by some two, where {expected:.1f} are if no two "
        "lenses agree."
    ]
