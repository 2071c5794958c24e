"""Whether a steering vector of one model steers another, and through which map.

A concept is a difference of class means: v_A in the source, v_B in the target. The target is steered by
α v for α in `DOSES`, added at every position of one site, v in turn

    native       v_B itself: what could be had
    mapped       v_A carried by the Procrustes rotation (`crossseed.port`)
    raw          v_A as it is
    mismatched   v_A carried by the rotation of another pair
    shuffled     v_A carried by the rotation fitted on shuffled tokens
    random       directions drawn evenly
    shaped       directions drawn from the target's covariance

all of v_B's length, so that they differ in direction alone. With m a logit less the mean of logits that
are neither intended nor old, the response to a vector is the slope β = Σ α Δm / Σ α² and its ratio to the
native one, in which a sign shows. Three measures: ``to_intended`` (m of the class that steering
should move to), ``from_old`` (−m of the class that it should move away from) and ``margin``, their sum;
a head of two classes has the margin alone. Definitions: Haar and controls, section 6 of the project's
rotation page.

What arXiv 2605.24577 measured stands beside it under its own name: vectors of their own length
(``as_published`` in the target, ``within`` in the source they are of), the accuracy lost
(``accuracy_drop``), the divergence on other text (``kl``), and their ratios to those ``within``. None has a
sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossseed import port
from crossseed.alignment.maps import AffineMap
from crossseed.cohorts.base import Concept, Subject, TokenSet, spread
from crossseed.metrics import Estimate, estimate, resample_weights, unit_rows
from crossseed.pairs import CELL
from crossseed.progress import Progress
from crossseed.seeding import generator
from crossseed.steering_vectors import (
    pinned_share,
    random_directions,
    shaped_directions,
)

if TYPE_CHECKING:
    from crossseed.responses import Damage, Responses

# In lengths of the vector.
DOSES = (-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0)
NATIVE, MAPPED, RAW, MISMATCHED, SHUFFLED = "native", "mapped", "raw", "mismatched", "shuffled"
RANDOM, SHAPED = "random", "shaped"
NULLS = (RANDOM, SHAPED)
AS_PUBLISHED, WITHIN = "as_published", "within"
MEASURES = ("to_intended", "from_old", "margin")
# Random directions whose effect on neutral text is measured: that costs a run of whole sequences each.
ON_TEXT = 20
# Quantiles between which 95 % of random directions lie.
BAND = (0.025, 0.975)
COLUMNS = (
    *CELL,
    "concept",
    "arm",
    "measure",
    "metric",
    "dose",
    "value",
    "low",
    "high",
    "n",
)
Row = dict[str, Any]


def arms(
    v_a: np.ndarray,
    v_b: np.ndarray,
    maps: Mapping[str, AffineMap],
    covariance_b: np.ndarray,
    directions: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Unit directions by arm, each (directions, width); one for all but the random arms.

    Args:
        v_a, v_b: vectors of source and target.
        maps: from target to source, by the name of the arm that a carried v_A makes.
        covariance_b: of the target, (width, width).
        directions: how many random ones of either kind.
        rng: draws them.
    """
    carried = {arm: port.direction(v_a, affine) for arm, affine in maps.items()}
    single = {NATIVE: v_b, RAW: v_a, **carried}
    found = {arm: unit_rows(v[None]) for arm, v in single.items()}
    found[RANDOM] = random_directions(rng, directions, len(v_b))
    found[SHAPED] = shaped_directions(rng, directions, covariance_b)
    return found


class Side(NamedTuple):
    """A model of the pair, and its vectors."""

    subject: Subject
    vector: np.ndarray


def study(
    source: Side,
    target: Side,
    site: str,
    concept: Concept,
    tried: Mapping[str, np.ndarray],
    neutral: TokenSet,
    sequences: int,
    resamples: int,
    *cell: object,
) -> list[Row]:
    """Rows of `COLUMNS`, without the cell's.

    Args:
        source, target: the two models and their own vectors of the concept.
        tried: unit directions by arm, from `arms`.
        neutral: text that the damage is measured on: of other heads than the concept's, where a model
            has some.
        sequences: how many of its sequences are run.
        resamples: bootstrap resamples behind each interval.
        cell: names the cell.

    Raises:
        UserError: nothing can be scored.
    """
    # Imported here: PyTorch, which those who read the table do without.
    from crossseed.responses import damage, responses

    length = float(np.linalg.norm(target.vector))
    drawn = generator("bootstrap", *cell, concept.name)
    weights = resample_weights(drawn, len(concept.trials.tokens_nt), resamples)
    chosen = spread(len(neutral.tokens_nt), sequences)
    text_weights = resample_weights(drawn, len(chosen), resamples)
    table = _Table(concept.name)
    vectors = {arm: directions * length for arm, directions in tried.items()}
    # As the study has it: at the vector's own length.
    own = source.vector[None]
    progress = Progress(f"steer {concept.name}", len(tried) + 2)
    found = {}
    for number, (arm, tried_vectors) in enumerate(vectors.items()):
        found[arm] = responses(target.subject, site, concept, tried_vectors)
        progress.update(number + 1, "arms")
    asked = {**{arm: v[:ON_TEXT] for arm, v in vectors.items()}, AS_PUBLISHED: own}
    head = concept.trials.head
    everything = np.concatenate(list(asked.values()))
    on_text = damage(target.subject, site, neutral, chosen, everything, head)
    progress.update(len(tried) + 1, "arms")
    within = damage(source.subject, site, neutral, chosen, own, head)
    progress.close()
    bounds = np.cumsum([0, *(len(v) for v in asked.values())])
    harm = {
        arm: on_text._replace(ce_added=on_text.ce_added[a:b], kl=on_text.kl[a:b])
        for arm, a, b in zip(asked, bounds, bounds[1:], strict=False)
    }
    native = found[NATIVE]
    slopes = {arm: _slopes(r, weights) for arm, r in found.items()}
    for arm, response in found.items():
        _respond(table, arm, response, weights)
        _against(table, arm, slopes, native.slopes[0], response)
        n = int(response.n_u.sum())
        table.spread(arm, "", "cosine_native", None, tried[arm] @ tried[NATIVE][0], n)
    own_length = {
        AS_PUBLISHED: responses(target.subject, site, concept, own),
        WITHIN: responses(source.subject, site, concept, own),
    }
    _published_rows(table, {**found, **own_length}, weights, {**harm, WITHIN: within}, text_weights)
    norms = np.linalg.norm(source.vector) / length if length else np.nan
    table.add(RAW, "", "norm_ratio", None, Estimate(float(norms)), int(native.n_u.sum()))
    return table.rows


def regime(
    v_a: np.ndarray,
    v_b: np.ndarray,
    maps: Mapping[str, AffineMap],
    pinned_nd: np.ndarray,
    concept: Concept,
) -> list[Row]:
    """How much of a vector could transfer without a map: rows of `COLUMNS`, without the cell's.

    ``pinned_share`` is the share of ‖v_B‖² in the span of what weights shared by the members fix,
    ``pinned_share_random`` that of a direction drawn at random, and ``kept_by_map`` the cosine of v_A with
    itself carried.

    Args:
        pinned_nd: rows that span it; none where nothing is shared.
    """
    share, dimensions = pinned_share(v_b, pinned_nd)
    table = _Table(concept.name)
    n = int(concept.trials.at_nt.sum())
    both = unit_rows(v_a[None]) @ unit_rows(port.direction(v_a, maps[MAPPED])[None]).T
    for metric, value in (
        ("pinned_share", share),
        ("pinned_share_random", dimensions / len(v_b)),
        ("kept_by_map", float(both[0, 0])),
    ):
        table.add(NATIVE, "", metric, None, Estimate(value), n)
    return table.rows


class _Table:
    """Rows of one concept."""

    def __init__(self, concept: str) -> None:
        self.concept = concept
        self.rows: list[Row] = []

    def add(
        self, arm: str, measure: str, metric: str, dose: float | None, value: Estimate, n: int
    ) -> None:
        """A row of one value, measured on `n`."""
        row = {"concept": self.concept, "arm": arm, "measure": measure, "metric": metric}
        self.rows.append({**row, "dose": dose, **value._asdict(), "n": n})

    def spread(
        self, arm: str, measure: str, metric: str, dose: float | None, values: np.ndarray, n: int
    ) -> None:
        """One value, or of random directions their mean and the band that holds 95 % of them."""
        if len(values) == 1:
            self.add(arm, measure, metric, dose, Estimate(float(values[0])), n)
        elif not np.isnan(values).all():
            low, high = np.nanquantile(values, BAND)
            self.add(arm, measure, metric, dose, Estimate(float(np.nanmean(values)), low, high), n)

    def sampled(
        self, arm: str, measure: str, metric: str, dose: float | None, values: np.ndarray, n: int
    ) -> None:
        """Of (resamples, directions): of one direction its interval, of random ones their band."""
        if np.isnan(values[0]).all():
            return
        if values.shape[1] == 1:
            self.add(arm, measure, metric, dose, estimate(values[:, 0]), n)
        else:
            self.spread(arm, measure, metric, dose, values[0], n)


def _mean(sums: np.ndarray, n_u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over what is scored, (resamples, ...), of sums by sequence (..., sequences)."""
    n = weights @ n_u
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.moveaxis(sums @ weights.T, -1, 0) / n.reshape(-1, *[1] * (sums.ndim - 1))


def _slopes(response: Responses, weights: np.ndarray) -> np.ndarray:
    """β of each direction and measure, (resamples, directions, measures)."""
    doses = np.array(DOSES)
    moved = np.einsum("ijku,j->iku", response.moved, doses) / np.sum(doses**2)
    return _mean(moved, response.n_u, weights if len(moved) == 1 else weights[:1])


def _respond(table: _Table, arm: str, response: Responses, weights: np.ndarray) -> None:
    """What the predictions do dose by dose."""
    weights = weights if len(response.moved) == 1 else weights[:1]
    n = int(response.n_u.sum())
    shifts = _mean(response.moved, response.n_u, weights)
    shares = {
        "intended_share": _mean(response.intended, response.n_u, weights),
        "old_share": _mean(response.old, response.n_u, weights),
    }
    for j, dose in enumerate(DOSES):
        for k, measure in enumerate(MEASURES):
            table.sampled(arm, measure, "shift", dose, shifts[:, :, j, k], n)
        for metric, values in shares.items():
            table.sampled(arm, "", metric, dose, values[:, :, j], n)
    if arm == NATIVE:
        for metric, hits in zip(shares, response.clean, strict=True):
            values = _mean(hits[None], response.n_u, weights)
            table.sampled(arm, "", metric, 0.0, values, n)


def _dropped(response: Responses, weights: np.ndarray) -> np.ndarray:
    """Accuracy lost at the published positions, (resamples, directions, doses)."""
    right = _mean(response.right, response.right_n, weights)
    found: np.ndarray = right[:, :, :1] - right[:, :, 1:]
    return found


def _published_rows(
    table: _Table,
    found: Mapping[str, Responses],
    weights: np.ndarray,
    harm: Mapping[str, Damage],
    text_weights: np.ndarray,
) -> None:
    """Accuracy lost, divergence, and loss added on other text, by arm; ``within`` among them."""
    lost = _dropped(found[WITHIN], weights)
    for arm, response in found.items():
        n = int(response.right_n.sum())
        _published(table, arm, "accuracy_drop", _dropped(response, weights), lost, n)
    diverged = _mean(harm[WITHIN].kl, harm[WITHIN].n_kl, text_weights)
    for arm, hurt in harm.items():
        kl = _mean(hurt.kl, hurt.n_kl, text_weights)
        _published(table, arm, "kl", kl, diverged, int(hurt.n_kl.sum()))
        added = _mean(hurt.ce_added, hurt.n_ce, text_weights)
        for j, dose in enumerate(DOSES):
            table.sampled(arm, "", "ce_added", dose, added[:, :, j], int(hurt.n_ce.sum()))


def _published(
    table: _Table, arm: str, metric: str, values: np.ndarray, within: np.ndarray, n: int
) -> None:
    """A published measure, and its ratio to that of the source's own vector in the source; both
    (resamples, directions, doses)."""
    for j, dose in enumerate(DOSES):
        table.sampled(arm, "", metric, dose, values[:, :, j], n)
        if arm != WITHIN:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = values[:, :, j] / within[:, :, j]
            finite = np.where(np.isfinite(ratio), ratio, np.nan)
            table.sampled(arm, "", f"{metric}_ratio", dose, finite, n)


def _against(
    table: _Table,
    arm: str,
    slopes: Mapping[str, np.ndarray],
    native_effect: np.ndarray,
    response: Responses,
) -> None:
    """Slopes, beside the native one and beside those of random directions."""
    own, native = slopes[arm], slopes[NATIVE]
    n = int(response.n_u.sum())
    for k, measure in enumerate(MEASURES):
        if np.isnan(native[0, 0, k]):
            continue
        reference = estimate(native[:, 0, k])
        # Without a native response there is nothing to be a share of.
        defined = reference.low > 0 or reference.high < 0
        table.sampled(arm, measure, "slope", None, own[:, :, k], n)
        if arm in NULLS:
            if defined:
                table.spread(arm, measure, "ratio", None, own[0, :, k] / reference.value, n)
            continue
        ratio = own[:, 0, k] / native[:, 0, k]
        undefined = Estimate(float("nan"))
        table.add(arm, measure, "ratio", None, estimate(ratio) if defined else undefined, n)
        sign = np.sign(reference.value)
        for null in NULLS:
            drawn = slopes[null][0, :, k]
            beyond = np.sum(sign * drawn >= sign * own[0, 0, k])
            p = Estimate((1 + float(beyond)) / (1 + len(drawn)))
            table.add(arm, measure, f"p_{null}", None, p, n)
    cosine = unit_rows(response.slopes) @ unit_rows(native_effect[None])[0]
    table.spread(arm, "", "effect_cosine", None, cosine, n)
