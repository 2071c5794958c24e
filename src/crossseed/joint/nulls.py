"""Whether W is better than other maps: retrainings with these, and Haar draws where nothing has to be trained.

Haar draws are trivially worse than no map at all where models start from one checkpoint; what says something of W stands
beside them: no map, W of partly shuffled tokens, and W of few directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap, haar_orthogonal
from crossseed.joint import evaluation, maps, training
from crossseed.joint.arms import IDENTITY, MISMATCHED, PARTIAL, RANDOM, TOP, TRUE, Arm
from crossseed.joint.config import JointEvaluation, JointTraining
from crossseed.joint.evaluation import BLOCK_TOKENS
from crossseed.joint.maps import Pairs
from crossseed.joint.model import JointSAE, of_arrays
from crossseed.joint.tables import NULL
from crossseed.joint.upper import Cache, Upper
from crossseed.resume import Resume
from crossseed.seeding import generator


def map_of(arm: Arm, pairs: Pairs, center: bool, *name: object) -> AffineMap:
    """The map of a retraining.

    Args:
        pairs: tokens of `fit`. name: of the draws.
    """
    width = pairs.a_nd.shape[1]
    rng = generator("joint-null", *name, *map(str, arm))
    if arm.null == TRUE:
        return maps.true(pairs, center)
    if arm.null == MISMATCHED:
        return maps.shuffled(rng, pairs, 1.0, center)
    if arm.null == PARTIAL and arm.share is not None:
        return maps.shuffled(rng, pairs, arm.share, center)
    if arm.null == TOP and arm.directions is not None:
        complement: maps.Complement = "haar" if arm.complement == "haar" else "identity"
        return maps.restricted(rng, pairs, arm.directions, complement, center)
    if arm.null == RANDOM:
        return maps.haar(rng, width)
    if arm.null == IDENTITY:
        return maps.unaligned(width)
    raise ValueError(f"no map is called {arm.null}")


class Retraining(NamedTuple):
    """What the retrainings of a pair have in common.

    Attributes:
        settings: of the training. evaluation: what is measured. center: whether W is centred.
        uppers: of A and B. caches: of the splits ``fit``, ``train``, ``eval`` and, for a patience, ``development``.
        device: where they run. cell, name: for messages, and of what is drawn.
    """

    settings: JointTraining
    evaluation: JointEvaluation
    center: bool
    uppers: Sequence[Upper]
    caches: Mapping[str, Cache]
    device: str
    cell: str
    name: tuple[object, ...]


def retrained(
    told: Retraining, arms: Iterable[Arm], done: Resume, within: Callable[[int], Resume]
) -> list[dict[str, Any]]:
    """Trains an SAE with each map and measures it: rows of the table of retrainings, without the pair.

    Args:
        arms: maps. done: where finished retrainings are kept between kills; within: the state of one, by its number.
    """
    saved = done.load()
    rows: list[list[dict[str, Any]]] = [] if saved is None else saved[1]["rows"]
    special = told.settings.special_tokens
    fit = told.caches["fit"]
    pairs = fit.pairs(np.arange(len(fit)), special)
    scored = told.caches["eval"].pairs(np.arange(len(told.caches["eval"])), special)
    for number, arm in enumerate(arms):
        if number < len(rows):
            continue
        carried = map_of(arm, pairs, told.center, *told.name)
        resume = within(number)
        found = training.train(
            told.settings,
            carried,
            told.uppers,
            told.caches["train"],
            told.caches.get("development"),
            told.device,
            resume,
            f"{told.cell} {arm.null} {arm.draw}",
            names=told.name,
        )
        sae = of_arrays(told.settings, found.arrays, device=told.device)
        universal = evaluation.universality(
            evaluation.joint_sides(sae), told.caches["eval"], told.evaluation, *told.name
        )
        about = {**arm._asdict(), "nre": maps.nre(carried, scored)}
        rows.append(
            [
                {**about, "measure": key, "value": one.estimate.value}
                for key, one in universal.measured.items()
            ]
        )
        done.save({}, {"step": number + 1, "rows": rows})
        resume.discard()
    return [row for part in rows for row in part]


# --- tests --------------------------------------------------------------------------------


class Alike(NamedTuple):
    """Second moments of what encoders read of both models' tokens, centred.

    Attributes:
        aa_dd, bb_dd, ba_dd: covariances, of B with A in rows of B. squares_a, squares_b, product_ba: not centred, of raw
            activations, for the normalised error: Σ‖h_A‖², H_Bᵀ H_B, H_Bᵀ H_A.
    """

    aa_dd: np.ndarray
    bb_dd: np.ndarray
    ba_dd: np.ndarray
    squares_a: float
    products_bb: np.ndarray
    products_ba: np.ndarray


def alike(sae: JointSAE, cache: Cache) -> Alike:
    """Moments over coded tokens of a split, of activations as the SAE normalises them and as they are."""
    import torch

    pairs = cache.pairs(np.arange(len(cache)), sae.config.special_tokens)
    width, n = cache.width, len(pairs.a_nd)
    sums = {key: np.zeros(width) for key in "ab"}
    products = {key: np.zeros((width, width)) for key in ("aa", "bb", "ba")}
    raw_bb, raw_ba = np.zeros((width, width)), np.zeros((width, width))
    squares_a = 0.0
    for first in range(0, n, BLOCK_TOKENS):
        part = slice(first, first + BLOCK_TOKENS)
        h_a, h_b = (x[part] for x in (pairs.a_nd, pairs.b_nd))
        # Before W, which the maps stand for.
        z_a, z_b = (
            sae.own_frame(torch.from_numpy(h).to(sae.device)).u_nd.double().cpu().numpy()
            for h in (h_a, h_b)
        )
        sums["a"] += z_a.sum(axis=0)
        sums["b"] += z_b.sum(axis=0)
        products["aa"] += z_a.T @ z_a
        products["bb"] += z_b.T @ z_b
        products["ba"] += z_b.T @ z_a
        h_a, h_b = h_a.astype(np.float64), h_b.astype(np.float64)
        squares_a += float(np.square(h_a).sum())
        raw_bb += h_b.T @ h_b
        raw_ba += h_b.T @ h_a
    mean_a, mean_b = (sums[key] / n for key in "ab")
    return Alike(
        products["aa"] / n - np.outer(mean_a, mean_a),
        products["bb"] / n - np.outer(mean_b, mean_b),
        products["ba"] / n - np.outer(mean_b, mean_a),
        squares_a,
        raw_bb,
        raw_ba,
    )


class PostHoc(NamedTuple):
    """What a map does without training.

    Attributes:
        nre: ‖H_B W − H_A‖ / ‖H_A‖, nothing centred; less is better.
        encoder_r: mean correlation over latents of A's SAE of what their encoders read in A and in what the map carries.
        encoder_share: share of them at which it reaches the threshold.
    """

    nre: float
    encoder_r: float
    encoder_share: float


# Better where they are less; and those that are better neither way.
SMALLER, UNTESTED = ("nre",), ("active", "dead_share")


def post_hoc(matrix_dd: np.ndarray, of: Alike, encoder_fd: np.ndarray, threshold: float) -> PostHoc:
    """The statistics of one linear map.

    Args:
        matrix_dd: from B to A, acting from the right. encoder_fd: rows of the latents that count.
    """
    carried = matrix_dd.T @ of.ba_dd
    spread = matrix_dd.T @ of.bb_dd @ matrix_dd
    covariance = np.einsum("fd,fd->f", encoder_fd @ carried, encoder_fd)
    variance_a = np.einsum("fd,fd->f", encoder_fd @ of.aa_dd, encoder_fd)
    variance_b = np.einsum("fd,fd->f", encoder_fd @ spread, encoder_fd)
    some = variance_a * variance_b > 0
    r = np.zeros(len(encoder_fd))
    r[some] = covariance[some] / np.sqrt(variance_a[some] * variance_b[some])
    error = (
        np.einsum("ij,ij->", matrix_dd, of.products_bb @ matrix_dd)
        - 2 * np.einsum("ij,ij->", matrix_dd, of.products_ba)
        + of.squares_a
    )
    return PostHoc(
        float(np.sqrt(max(error, 0.0) / of.squares_a)),
        float(r.mean()),
        float((r >= threshold).mean()),
    )


def active_encoder(sae: JointSAE, cache: Cache, least: int) -> np.ndarray:
    """Encoder rows of the latents of A's own SAE that fire on enough tokens of a split, (active, width)."""
    fired = np.zeros(sae.n_latents)
    side = evaluation.Side(sae, 0)
    for block in evaluation.blocks((side, side), cache):
        fired += (block.a_nf > 0).sum(axis=0)
    rows: np.ndarray = sae.arrays()["W_enc/0"][fired >= least].astype(np.float64)
    return rows


def post_hoc_rows(
    sae: JointSAE,
    cache: Cache,
    found: Mapping[str, AffineMap],
    config: JointEvaluation,
    draws: int,
    *name: object,
) -> Iterator[dict[str, Any]]:
    """Maps against Haar draws, by statistics that need no training: rows of the table of tests.

    Args:
        sae: of A alone. cache: examples of `eval`. found: maps by name. name: of the draws.
    """
    moments, encoder = alike(sae, cache), active_encoder(sae, cache, config.active_tokens)
    if not len(encoder):
        return
    rng = generator("joint-post-hoc", *name)
    null = [
        post_hoc(haar_orthogonal(rng, cache.width), moments, encoder, config.threshold)
        for _ in range(draws)
    ]
    for key, carried in found.items():
        own = post_hoc(carried.matrix_dd, moments, encoder, config.threshold)
        for statistic in PostHoc._fields:
            values = np.array([getattr(one, statistic) for one in null])
            about: dict[str, Any] = {
                "how": "post_hoc",
                "statistic": statistic,
                "map": key,
                "against": RANDOM,
            }
            about |= {"share": None, "directions": None, "complement": None}
            yield {**about, **against_draws(getattr(own, statistic), values, statistic)}


def against_draws(value: float, null_r: np.ndarray, statistic: str) -> dict[str, Any]:
    """A value against draws: how many are at least as good, and p = (1 + that) / (1 + draws)."""
    smaller = statistic in SMALLER
    as_good = int((null_r <= value).sum() if smaller else (null_r >= value).sum())
    draws = len(null_r)
    return {
        "value": value,
        "draws": draws,
        "null_mean": float(null_r.mean()),
        "null_sd": float(null_r.std(ddof=1)) if draws > 1 else float("nan"),
        "null_best": float(null_r.min() if smaller else null_r.max()),
        "as_good": as_good,
        "p": (1 + as_good) / (1 + draws),
        "p_least": 1 / (1 + draws),
    }


def retrained_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Retrainings with W and with no map against those with each other kind: rows of the table of tests.

    Args:
        rows: of the table of retrainings, values parsed.
    """
    kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[key] for key in NULL if key != "draw"), []).append(row)
    measures = [key for key in dict.fromkeys(row["measure"] for row in rows) if key not in UNTESTED]

    def values(part: Sequence[Mapping[str, Any]], measure: str) -> np.ndarray:
        if measure == "nre":
            one = measures[0]
            return np.array([row["nre"] for row in part if row["measure"] == one])
        return np.array([row["value"] for row in part if row["measure"] == measure])

    own = {part[0]["null"]: part for part in kinds.values() if part[0]["null"] in (TRUE, IDENTITY)}
    for name, part in own.items():
        for others in kinds.values():
            against = others[0]
            if against["null"] == name:
                continue
            for measure in ("nre", *measures):
                (value,), null = values(part, measure), values(others, measure)
                null = null[~np.isnan(null)]
                if np.isnan(value) or not len(null):
                    continue
                about = {"how": "retrained", "statistic": measure, "map": name}
                about |= {"against": against["null"]}
                about |= {key: against[key] for key in ("share", "directions", "complement")}
                yield {**about, **against_draws(float(value), null, measure)}
