"""What the page says of components through five lenses, and where the lenses disagree."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed import lenses as l
from crossseed.report import tables as t

# A head is called so if its ranks by two lenses are further apart, of eight heads.
APART = 3
# What a group of features alone explains, to be named as a role.
NOTICED = 0.03


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences and the cross-lens table of each member; empty without the study."""
    rows = tables.lenses[tables.lenses.cohort == cohort]
    if rows.empty:
        return {}
    effects = _effects(tables, cohort)
    members = []
    for seed, part in rows.groupby("seed", sort=True):
        lines = _lines(part, effects.get(int(seed), {}))
        members.append({"seed": int(seed), "sentences": _sentences(part, lines), "rows": lines})
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


def _lines(rows: pd.DataFrame, effects: dict[str, float]) -> list[dict[str, Any]]:
    """A line a component: what each lens says of it."""
    pruned = rows[(rows.quantity == "edges_kept") & (rows.component != l.MODEL)]
    threshold = pruned.part.iloc[0]
    heads = [c for c in pd.unique(pruned.component) if "hook_z" in c]
    norms = pd.Series({c: _value(rows, c, "norm", "ov") for c in heads})
    by_norm = norms.rank(ascending=False)
    by_effect = pd.Series(effects, dtype=float).reindex(heads).rank(ascending=False)
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
        remarks = []
        if is_head and abs(by_norm[component] - by_effect[component]) >= APART:
            remarks.append(
                f"norm ranks {by_norm[component]:.0f} of {len(heads)}, effect {by_effect[component]:.0f}"
            )
        if edges.value == 0 and effects.get(component, 0) > 0.1:
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


def _dictionary(rows: pd.DataFrame, component: str) -> str:
    """The transcoder of an MLP, of each size."""
    of = rows[(rows.component == component) & (rows.quantity == "transcoder_ev")]
    return ", ".join(f"{p}: {v:.2f}" for p, v in zip(of.part, of.value, strict=True)) or "–"


def _regions(rows: pd.DataFrame, component: str) -> str:
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


def _sentences(rows: pd.DataFrame, lines: list[dict[str, Any]]) -> list[str]:
    model = rows[rows.component == l.MODEL]
    kept = model[model.quantity == "edges_kept"]
    added = model[model.quantity == "loss_added"].set_index("part")
    pruned = "; ".join(
        f"at {row.part} nats an edge {row.value:.0f} of {row.null:.0f} stay and the loss rises by "
        f"{added.value[row.part]:.3f} ({added.null[row.part]:.2f} with as many random ones)"
        for row in kept.itertuples()
    )
    coders = rows[rows.quantity == "transcoder_ev"]
    sparse = rows[rows.quantity == "transcoder_l0"]
    apart = sum("ranks" in line["remarks"] for line in lines)
    return [
        f"Edges pruned to a threshold, again and again until none goes: {pruned}.",
        f"Transcoders of the MLPs explain {coders.value.min():.2f} to {coders.value.max():.2f} of what these write "
        f"({coders.null.max():.2f} at most when trained on other tokens' targets), with {sparse.value.min():.0f} to "
        f"{sparse.value.max():.0f} latents active a token.",
        f"Norms and effects rank {apart} heads {APART} places or more apart.",
    ]
