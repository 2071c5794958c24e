"""Whether W is better than other maps: retrainings with these, and draws of maps where nothing has to be trained.

Haar draws are trivially worse than no map at all where models start from one checkpoint; what says something of W stands
beside them: no map, W of shuffled and of partly shuffled tokens, and W of few directions. Two retrainings with one map differ
too, by their start and their order; W against no map is held against that. All maps are centred where W is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.maps import AffineMap
from crossseed.joint import maps, training
from crossseed.joint.arms import IDENTITY, MISMATCHED, PARTIAL, RANDOM, TOP, TRUE, Arm
from crossseed.joint.config import JointEvaluation, JointTraining
from crossseed.joint.fits import PERMUTATION
from crossseed.joint.maps import Pairs
from crossseed.joint.model import JointSAE, of_arrays
from crossseed.joint.sides import Side, fired, joint_sides
from crossseed.joint.tables import NULL
from crossseed.joint.universality import universality
from crossseed.joint.upper import Cache, Upper
from crossseed.metrics import jackknife
from crossseed.resume import Resume
from crossseed.seeding import generator


def map_of(arm: Arm, pairs: Pairs, center: bool, *name: object) -> AffineMap:
    """The map of a retraining.

    Args:
        pairs: tokens of `fit`. name: of the draws.

    Raises:
        ValueError: the arm is of no known null, or lacks its share or its directions.
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
    if arm.null in (RANDOM, IDENTITY):
        found = maps.haar(rng, width) if arm.null == RANDOM else maps.unaligned(width)
        return maps.about_means(found, pairs) if center else found
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
    pairs = fit.pairs(slice(None), special)
    scored = told.caches["eval"].coded_tokens(special)
    # Neither intervals nor shifts are told of them.
    config = told.evaluation.model_copy(update={"resamples": 0, "shifts": 0})
    for number, arm in enumerate(arms):
        if number < len(rows):
            continue
        carried = map_of(arm, pairs, told.center, *told.name)
        resume = within(number)
        own = {"init_seed": told.settings.init_seed + arm.start}
        settings = told.settings.model_copy(update=own)
        found = training.train(
            settings,
            carried,
            told.uppers,
            told.caches["train"],
            told.caches.get("development"),
            told.device,
            resume,
            f"{told.cell} {arm.null} {arm.draw}",
            names=(*told.name, arm.start) if arm.start else told.name,
        )
        sae = of_arrays(settings, found.arrays, device=told.device)
        sides = joint_sides(sae)
        universal = universality(sides, told.caches["eval"], config, *told.name)
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
    """Second moments of what encoders read of both models' tokens.

    What a map adds to B's activations is divided by each token's scale before it is encoded: so 1/scale stands beside B's
    normalised activations, and 1 beside the raw ones, as the last dimension (`with_shift`).

    Attributes:
        aa_dd, bb_ee, ba_ed: covariances, of B with A in rows of B; e is d + 1.
        squares_a, products_bb, products_ba: sums of raw activations, not centred, for the normalised error: Σ‖h_A‖²,
            (e, e), (e, d).
    """

    aa_dd: np.ndarray
    bb_ee: np.ndarray
    ba_ed: np.ndarray
    squares_a: float
    products_bb: np.ndarray
    products_ba: np.ndarray


def with_shift(carried: AffineMap) -> np.ndarray:
    """A map as one matrix, whose last row is what it adds, (width + 1, width)."""
    matrix = carried.matrix_dd
    return np.vstack([matrix, carried.shift_out_d - carried.shift_in_d @ matrix])


def alike(sae: JointSAE, cache: Cache) -> Alike:
    """Moments over coded tokens of a split, of activations as the SAE normalises them and as they are."""
    import torch

    width, n = cache.width, 0
    sum_a, sum_b = np.zeros(width), np.zeros(width + 1)
    aa, bb, ba = (
        np.zeros(shape) for shape in ((width, width), (width + 1, width + 1), (width + 1, width))
    )
    raw_bb, raw_ba = np.zeros_like(bb), np.zeros_like(ba)
    squares_a = 0.0
    for part in cache.coded_tokens(sae.config.special_tokens).blocks():
        # Before W, which the maps stand for.
        own = [sae.own_frame(torch.from_numpy(h).to(sae.device)) for h in (part.a_nd, part.b_nd)]
        z_a, z_b = (one.u_nd.double().cpu().numpy() for one in own)
        z_b = np.hstack([z_b, 1 / own[1].scale_n1.double().cpu().numpy()])
        n += len(z_a)
        sum_a += z_a.sum(axis=0)
        sum_b += z_b.sum(axis=0)
        aa += z_a.T @ z_a
        bb += z_b.T @ z_b
        ba += z_b.T @ z_a
        h_a, h_b = part.a_nd.astype(np.float64), part.b_nd.astype(np.float64)
        h_b = np.hstack([h_b, np.ones((len(h_b), 1))])
        squares_a += float(np.square(h_a).sum())
        raw_bb += h_b.T @ h_b
        raw_ba += h_b.T @ h_a
    mean_a, mean_b = sum_a / n, sum_b / n
    return Alike(
        aa / n - np.outer(mean_a, mean_a),
        bb / n - np.outer(mean_b, mean_b),
        ba / n - np.outer(mean_b, mean_a),
        squares_a,
        raw_bb,
        raw_ba,
    )


class PostHoc(NamedTuple):
    """What a map does without training.

    Attributes:
        nre: ‖H_B W − H_A‖ / ‖H_A‖, of a centred map with the means that it carries; less is better.
        encoder_r: mean correlation over latents of A's SAE of what their encoders read in A and in what the map carries;
            NaN without latents.
        encoder_share: share of them at which it reaches the threshold.
    """

    nre: float
    encoder_r: float
    encoder_share: float


# Better where they are less; and those that are better neither way.
SMALLER, UNTESTED = ("nre",), ("active", "dead_share")


def post_hoc(carried: AffineMap, of: Alike, encoder_fd: np.ndarray, threshold: float) -> PostHoc:
    """The statistics of one linear map.

    Args:
        carried: from B to A. encoder_fd: rows of the latents that count, (latents, width).
    """
    matrix = with_shift(carried)
    error = (
        np.einsum("ij,ij->", matrix, of.products_bb @ matrix)
        - 2 * np.einsum("ij,ij->", matrix, of.products_ba)
        + of.squares_a
    )
    nre = float(np.sqrt(max(error, 0.0) / of.squares_a))
    if not len(encoder_fd):
        return PostHoc(nre, float("nan"), float("nan"))
    covariance = np.einsum("fd,fd->f", encoder_fd @ (matrix.T @ of.ba_ed), encoder_fd)
    variance_a = np.einsum("fd,fd->f", encoder_fd @ of.aa_dd, encoder_fd)
    spread = matrix.T @ of.bb_ee @ matrix
    variance_b = np.einsum("fd,fd->f", encoder_fd @ spread, encoder_fd)
    some = variance_a * variance_b > 0
    r = np.zeros(len(encoder_fd))
    r[some] = covariance[some] / np.sqrt(variance_a[some] * variance_b[some])
    return PostHoc(nre, float(r.mean()), float((r >= threshold).mean()))


def active_encoder(sae: JointSAE, cache: Cache, least: int) -> np.ndarray:
    """Encoder rows of the latents of A's own SAE that fire on enough tokens of a split, (active, width)."""
    side = Side(sae, 0)
    counts, _ = fired((side, side), cache)
    rows: np.ndarray = sae.arrays()["W_enc/0"][counts >= least].astype(np.float64)
    return rows


def post_hoc_rows(
    sae: JointSAE,
    fit: Cache,
    scored: Cache,
    fitted: Mapping[str, AffineMap],
    center: bool,
    config: JointEvaluation,
    draws: Mapping[str, int],
    *name: object,
) -> Iterator[dict[str, Any]]:
    """Maps against Haar draws and against W of shuffled tokens, by statistics that need no training: rows of the table of
    tests.

    Args:
        sae: of A alone. fit: examples that maps are fitted on. scored: others, of `eval`.
        fitted: maps by name, beside which stand no map and a permutation of dimensions.
        draws: how many of each null. name: of them.
    """
    of, encoder = alike(sae, scored), active_encoder(sae, scored, config.active_tokens)
    pairs = fit.pairs(slice(None), sae.config.special_tokens)
    width = pairs.width
    still = maps.about_means(maps.unaligned(width), pairs) if center else maps.unaligned(width)
    rng = generator("joint-post-hoc", *name)

    def drawn(null: str) -> AffineMap:
        if null == MISMATCHED:
            return maps.shuffled(rng, pairs, 1.0, center)
        return still._replace(matrix_dd=maps.haar(rng, width).matrix_dd)

    nulls = {
        null: [post_hoc(drawn(null), of, encoder, config.threshold) for _ in range(n)]
        for null, n in draws.items()
    }
    tried = {**fitted, IDENTITY: still, PERMUTATION: maps.permutation(pairs, center)}
    for (key, carried), (against, null) in itertools.product(tried.items(), nulls.items()):
        own = post_hoc(carried, of, encoder, config.threshold)
        for statistic in PostHoc._fields:
            values = np.array([getattr(one, statistic) for one in null])
            yield {
                **dict.fromkeys(("share", "directions", "complement", "low", "high")),
                "how": "post_hoc",
                "statistic": statistic,
                "map": key,
                "against": against,
                "latents": None if statistic == "nre" else len(encoder),
                **against_draws(getattr(own, statistic), values, statistic),
            }


def against_draws(value: float, null_r: np.ndarray, statistic: str) -> dict[str, Any]:
    """A value against draws, (draws,): how many are at least as good, and p = (1 + that) / (1 + draws).

    What is not there (a share of no active latents) is worse than all that is; p is NaN if nothing is there.
    """
    smaller = statistic in SMALLER
    # With the sign by which more is better.
    sign = -1 if smaller else 1
    own, *null = np.nan_to_num(sign * np.r_[value, null_r], nan=-np.inf)
    draws, known = len(null_r), null_r[~np.isnan(null_r)]
    as_good = int((np.array(null) >= own).sum())
    some = len(known) > 0
    return {
        "value": value,
        "draws": draws,
        "null_mean": float(known.mean()) if some else float("nan"),
        "null_sd": float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
        "null_best": sign * float((sign * known).max()) if some else float("nan"),
        "as_good": as_good,
        "p": (1 + as_good) / (1 + draws) if some or not np.isnan(value) else float("nan"),
        "p_least": 1 / (1 + draws),
    }


def retrained_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Retrainings with W and with no map, of one start, against those with each other kind: rows of the table of tests; and
    W against no map from several starts.

    Args:
        rows: of the table of retrainings, values parsed.
    """
    kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[key] for key in NULL if key != "draw"), []).append(row)
    measures = [key for key in dict.fromkeys(row["measure"] for row in rows) if key not in UNTESTED]

    def values(part: Sequence[Mapping[str, Any]], measure: str) -> dict[int, float]:
        """By draw."""
        key, of = ("nre", measures[0]) if measure == "nre" else ("value", measure)
        return {int(row["draw"]): row[key] for row in part if row["measure"] == of}

    own = {part[0]["null"]: part for part in kinds.values() if part[0]["null"] in (TRUE, IDENTITY)}
    for name, part in own.items():
        for others in kinds.values():
            against = others[0]
            if against["null"] == name:
                continue
            for measure in ("nre", *measures):
                null = np.array(list(values(others, measure).values()))
                yield {
                    "how": "retrained",
                    "statistic": measure,
                    "map": name,
                    "against": against["null"],
                    **{key: against[key] for key in ("share", "directions", "complement")},
                    **dict.fromkeys(("low", "high", "latents")),
                    **against_draws(values(part, measure)[0], null, measure),
                }
    if len(own) == 2:
        for measure in measures:
            by_map = [values(own[name], measure) for name in (TRUE, IDENTITY)]
            starts = sorted(by_map[0].keys() & by_map[1].keys())
            # One retraining of each says nothing of what another start does.
            if len(starts) > 1:
                yield {
                    **dict.fromkeys(("share", "directions", "complement", "latents")),
                    "how": "replicated",
                    "statistic": measure,
                    "map": TRUE,
                    "against": IDENTITY,
                    **over_starts(*(np.array([one[n] for n in starts]) for one in by_map)),
                }


def over_starts(first_n: np.ndarray, second_n: np.ndarray) -> dict[str, Any]:
    """Difference of two maps over retrainings from several starts, (starts,) each, start by start.

    Returns:
        ``value`` and its 95 % interval (Student's t); ``null_sd`` and ``null_best`` of differences between two retrainings
        with one map, which is what another start does; and ``p`` of sign flips: were the maps alike, either could be the
        first at each start. All NaN where a retraining has no value.
    """
    both = np.stack([first_n, second_n])
    n = both.shape[1]
    difference = both[0] - both[1]
    mean = float(difference.mean())
    own = jackknife(mean, (difference.sum() - difference) / (n - 1))
    flips = np.array(list(itertools.product((1, -1), repeat=n)))
    # Up to rounding, so that the unflipped one is as good as itself.
    least = mean - 1e-9 * float(np.abs(difference).max())
    as_good = int((flips @ difference / n >= least).sum()) - 1
    known = bool(np.isfinite(mean))
    return {
        "value": mean,
        "low": own.low,
        "high": own.high,
        "draws": len(flips) - 1,
        "null_mean": 0.0 if known else float("nan"),
        "null_sd": float(np.sqrt(2 * both.var(axis=1, ddof=1).mean())),
        "null_best": float(np.ptp(both, axis=1).max()),
        "as_good": as_good if known else None,
        "p": (1 + as_good) / len(flips) if known else float("nan"),
        "p_least": 1 / len(flips),
    }
