"""Latents of two members matched after each map, beside those of two SAEs of one member.

How much of a dictionary is decided by its own seed is the ceiling of what another member can share: two SAEs of one
member, which need no map. The target's latents are carried into the source's frame by each map of the ladder whose
directions differ from the others' (a shift of the mean and a scale turn none): decoder rows by the map, encoder columns
by its inverse. The nulls of the ladder, which match no token to its own, are arms like the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossseed import pairs
from crossseed.alignment.maps import AffineMap
from crossseed.errors import UserError
from crossseed.matching import criteria as m
from crossseed.metrics import Estimate, jackknife, unit_rows
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator
from crossseed.stability import ITSELF, NULLS, RUNGS
from crossseed.stability.covariance import root
from crossseed.stability.rows import LEAST_SEEDS

DECODERS = (m.DEC, "pw_mcc", "mmcs")
ENCODERS = (m.AGREE, m.DUAL, m.STRICT)
Row = dict[str, Any]


def ring(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each SAE seed with the next: as many pairs as seeds, each seed once on either side."""
    return [(name, names[(k + 1) % len(names)]) for k, name in enumerate(names)]


def bridge(
    sources: Mapping[str, Dictionary],
    targets: Mapping[str, Dictionary],
    live: Mapping[str, Mapping[str, np.ndarray]],
    pair: pairs.Pair,
    threshold: float,
) -> list[Row]:
    """Rows of `crossseed.stability.BRIDGE_COLUMNS` without the cell's; shares and means over latents of the first SAE that fire.

    Args:
        sources, targets: SAEs of the two members by seed, the same seeds and all of one shape.
        live: of ``source`` and ``target`` by seed, True for latents that fire, (latents,).
        pair: moments of the two members.
        threshold: cosine above which latents are shared.

    Raises:
        UserError: the SAEs differ in seeds or in shape.
    """
    seeds = list(sources)
    shapes = {of.W_dec.shape for of in (*sources.values(), *targets.values())}
    if len(shapes) > 1 or seeds != list(targets):
        raise UserError(
            f"SAEs of seeds {', '.join(seeds)} and {', '.join(targets)}, of shapes {sorted(shapes)}, cannot be matched; "
            "give the same seeds of one dictionary for both members"
        )
    n, width = shapes.pop()
    still = np.eye(width), np.eye(width)
    root_a = root(pair.moments.covariance_a)
    members = (
        (sources, root_a, live["source"]),
        (targets, root(pair.moments.covariance_b), live["target"]),
    )
    # The mean of both members: neither is nearer to what the other could have.
    itself = {}
    for i, j in ring(seeds):
        both = [
            shared(of[i], of[j], still, root_dd, fires[i], threshold)
            for of, root_dd, fires in members
        ]
        itself[i, j] = {name: float(np.mean([of[name] for of in both])) for name in both[0]}
    rows = _over(itself, ITSELF, [[pair for pair in itself if seed in pair] for seed in seeds])
    maps, _ = pair.maps(())
    for arm in (*RUNGS, *NULLS):
        carry = maps[arm].matrix_dd, _inverse(maps[arm])
        found = {
            (i, j): shared(sources[i], targets[j], carry, root_a, live["source"][i], threshold)
            for i, j in ring(seeds)
        }
        rows += _over(found, arm, [[pair] for pair in found])
    null = _of_random(n, width, root_a, threshold)
    return [{**row, "null": null[row["quantity"]]} for row in rows]


def shared(
    one: Dictionary,
    other: Dictionary,
    carry: tuple[np.ndarray, np.ndarray | None],
    root_dd: np.ndarray,
    live: np.ndarray,
    threshold: float,
) -> dict[str, float]:
    """What two SAEs share once the second is carried to the first; encoders on data (`crossseed.stability.study`).

    Args:
        carry: matrix that rows are carried by, and its inverse, each (d, d); without one decoders alone are compared.
        root_dd: root of the covariance of the first's activations.
        live: latents of the first that count.
    """
    forward, back = carry
    encoders = (one.W_enc, one.W_enc if back is None else back @ other.W_enc)
    decoders = (one.W_dec, other.W_dec @ forward)
    found = m.compare(
        *(
            m.directions(d.astype(np.float32), (root_dd @ e).astype(np.float32))
            for d, e in zip(decoders, encoders, strict=True)
        )
    )
    return _named(m.summary(found, live, threshold), with_encoders=back is not None)


def _named(summary: Mapping[str, float], with_encoders: bool) -> dict[str, float]:
    found = {name: summary[name] for name in DECODERS}
    if with_encoders:
        found |= {f"{name}_on_data": summary[name] for name in ENCODERS}
    return found


def _inverse(affine: AffineMap) -> np.ndarray | None:
    """The way back of an orthogonal map, which encoders are carried by; None of others: the inverse of a regression
    amplifies what it predicts worst."""
    matrix = affine.matrix_dd
    back: np.ndarray = matrix.T
    return back if np.allclose(matrix @ back, np.eye(len(matrix)), atol=1e-6) else None


def _of_random(n: int, width: int, root_dd: np.ndarray, threshold: float) -> dict[str, float]:
    """What two random dictionaries share."""
    rng = generator("stability-random", n, width)
    drawn = (m.random_directions(rng, n, width) for _ in range(2))
    seen = (
        m.Directions(of.decoder, unit_rows(of.encoder @ root_dd).astype(np.float32)) for of in drawn
    )
    return _named(m.summary(m.compare(*seen), threshold=threshold), with_encoders=True)


def _over(
    found: Mapping[tuple[str, str], dict[str, float]],
    arm: str,
    units: Sequence[Sequence[tuple[str, str]]],
) -> list[Row]:
    """Means over pairs, with intervals over SAE seeds by leaving out the pairs of one unit at a time.

    Args:
        units: pairs that share an SAE, or single pairs where none do: in a ring between two members each SAE is in one.
    """
    rows = []
    for name in next(iter(found.values())):
        mean = float(np.mean([of[name] for of in found.values()]))
        without = np.array(
            [
                np.mean([of[name] for pair, of in found.items() if pair not in unit] or [np.nan])
                for unit in units
            ]
        )
        value = jackknife(mean, without) if len(units) >= LEAST_SEEDS else Estimate(mean)
        rows.append({"arm": arm, "quantity": name, **value._asdict(), "n": len(found)})
    return rows
