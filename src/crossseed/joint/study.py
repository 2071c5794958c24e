"""One condition of a pair, measured on `eval`: rows of `crossseed.joint.tables`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap
from crossseed.joint.behaviour import Behaviour, behaviour, behaviour_rows, side_by_side
from crossseed.joint.conditions import MATCHED, OF_INDEPENDENT, Condition
from crossseed.joint.config import JointEvaluation
from crossseed.joint.geometry import Projection, geometry, projection
from crossseed.joint.model import JointSAE
from crossseed.joint.sides import (
    Pairing,
    Sides,
    condition_sides,
    correlations,
    decoders,
    joint_sides,
    matched,
)
from crossseed.joint.universality import Universality, universality
from crossseed.joint.upper import Cache, Upper
from crossseed.metrics import Estimate

INDEX = "index"
EVAL = "eval"


class Told(NamedTuple):
    """What is measured on what.

    Attributes:
        condition: the row of the table. saes: its SAEs, one of both models or one of each.
        carried: W, where the condition takes one that is not the SAE's own.
        uppers: of models A and B. eval: examples. others: by split, examples that latents are matched on.
        config: what is measured. name: of its random draws.
    """

    condition: Condition
    saes: Sequence[JointSAE]
    carried: AffineMap
    uppers: Sequence[Upper]
    eval: Cache
    others: Mapping[str, Cache]
    config: JointEvaluation
    name: tuple[object, ...]


def sides_of(condition: Condition, saes: Sequence[JointSAE], carried: AffineMap) -> Sides:
    """How each model is encoded in a condition."""
    if condition.condition in OF_INDEPENDENT:
        return condition_sides(condition.condition, saes[0], saes[1], carried)
    return joint_sides(saes[0])


def behaviour_of(sides: Sides, uppers: Sequence[Upper], cache: Cache) -> Behaviour:
    """Both models with the SAE, or each with its own, in their passes."""
    saes = list(dict.fromkeys(side.sae for side in sides))
    found = [behaviour(sae, uppers, cache) for sae in saes]
    return found[0] if len(found) == 1 else side_by_side(*found)


class Measured(NamedTuple):
    """Attributes: rows: of the condition's table. latents: of the table of its latents; both without the pair."""

    rows: list[dict[str, Any]]
    latents: list[dict[str, Any]]


def measure(told: Told, reference: Behaviour | None) -> Measured:
    """Everything that is measured of a condition.

    Args:
        reference: of the independent SAEs on `eval`, for the second reading of the accuracy change.
    """
    sides = sides_of(told.condition, told.saes, told.carried)
    rows: list[dict[str, Any]] = []
    shown: tuple[Universality, np.ndarray | None] | None = None
    for matched_on, pairing in pairings(told, sides):
        for pooled in (False, True):
            found = universality(
                sides, told.eval, told.config, *told.name, pairing=pairing, pooled=pooled
            )
            about = {"rows": "texts" if pooled else "tokens", "matched_on": matched_on}
            rows += [{**about, **row} for row in _universality_rows(found)]
            if shown is None:
                shown = found, None if pairing is None else pairing.partner
    assert shown is not None
    passed = behaviour_of(sides, told.uppers, told.eval)
    about = {"rows": "", "matched_on": ""}
    wanted = told.config.accuracy_references
    for measure_, value in behaviour_rows(
        passed, told.config, *told.name, independent=reference
    ).items():
        if measure_ != "accuracy_change" or "clean" in wanted:
            rows.append({**about, **_row(measure_, value)})
    active = shown[0].active_f
    cosines = geometry(decoders(sides, shown[1]), active)
    rows.append(
        {
            **about,
            **_row("cosine", Estimate(cosines["cosine"]), cosines["cosine_random"]),
        }
    )
    return Measured(rows, list(_latent_rows(*shown, sides, told.config.threshold)))


def pairings(told: Told, sides: Sides) -> Iterator[tuple[str, Pairing | None]]:
    """What latents of A are compared with: those of equal index, or of each split those that match on it."""
    if told.condition.condition not in MATCHED:
        yield INDEX, None
        return
    for split in told.config.match_splits:
        on = told.eval if split == EVAL else told.others[split]
        yield split, matched(correlations(sides, on))


def _row(measure_: str, value: Estimate, null: float = float("nan")) -> dict[str, Any]:
    low, high = value.low, value.high
    return {"measure": measure_, "value": value.value, "low": low, "high": high, "null": null}


def _universality_rows(found: Universality) -> Iterator[dict[str, Any]]:
    for key, one in found.measured.items():
        yield _row(key, one.estimate, one.null)
    for key, used in found.used.items():
        yield _row(key.replace("_r", "_used"), Estimate(float(used)))
    yield _row("n_rows", Estimate(float(found.n_rows)))


def _latent_rows(
    found: Universality, partner: np.ndarray | None, sides: Sides, threshold: float
) -> Iterator[dict[str, Any]]:
    """All latents of A; principal axes are those of active ones."""
    active = np.flatnonzero(found.active_f)
    place = {int(latent): number for number, latent in enumerate(active)}
    projected: list[Projection | None] = [
        projection(rows[active]) if len(active) > 1 else None for rows in decoders(sides, partner)
    ]
    for latent in range(len(found.r_f)):
        row: dict[str, Any] = {
            "latent": latent,
            "partner": latent if partner is None else int(partner[latent]),
            "r": float(found.r_f[latent]),
            "null_r": float(found.null_r_sf[:, latent].mean()),
            "active": int(found.active_f[latent]),
            "universal": int(found.active_f[latent] and found.r_f[latent] >= threshold),
            "mean_activation": float(found.mean_f[latent]),
        }
        for model, one in zip("ab", projected, strict=True):
            known = one is not None and latent in place
            for axis in (0, 1):
                value = one.coordinates[place[latent], axis] if one is not None and known else None
                row[f"pc{axis + 1}_{model}"] = None if value is None else float(value)
            row[f"pc_share_{model}"] = sum(one.shares) if one is not None and known else None
        yield row
