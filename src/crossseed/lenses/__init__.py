"""Five ways to look at the parts of one toy model (arXiv 2605.24577, section on lenses), in one table.

A row is one quantity of one component; ``null`` is what it is where there is nothing to see. Components are
heads and MLPs under their names in `crossseed.cohorts.dyck.interventions`; ``model`` is the whole.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

COLUMNS = (
    *("cohort", "seed", "checkpoint", "lens", "component", "quantity", "part", "value", "null"),
)
WEIGHTS, DICTIONARIES, CAUSAL = "weights", "dictionaries", "causal"
POLYHEDRAL, CONSTRUCTIVE = "polyhedral", "constructive"
LENSES = (WEIGHTS, DICTIONARIES, CAUSAL, POLYHEDRAL, CONSTRUCTIVE)
MODEL = "model"


def row(
    lens: str,
    component: str,
    quantity: str,
    value: SupportsFloat,
    part: object = "",
    null: SupportsFloat = float("nan"),
) -> dict[str, Any]:
    """A row of `COLUMNS`, without the member's."""
    return {
        "lens": lens,
        "component": component,
        "quantity": quantity,
        "part": str(part),
        "value": float(value),
        "null": float(null),
    }


def head(layer: int, number: int) -> str:
    """The name of an attention head."""
    return f"blocks.{layer}.attn.hook_z.{number}"


def mlp_of(head: str) -> str:
    """The MLP of a head's block."""
    return mlp(int(head.split(".")[1]))


def mlp(layer: int) -> str:
    """The name of an MLP."""
    return f"blocks.{layer}.hook_mlp_out"
