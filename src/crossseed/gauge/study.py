"""How close two members' weights come by the symmetries of the model, and what that is worth.

Errors are relative and taken in the balanced gauge of the reference (`crossseed.gauge.search`), of every
tensor and, as ``all``, of their root mean square: the zero predictor has 1. Arms:

    aligned     the best element the search found
    given       nothing but the balanced gauge
    random      random rotations and orders instead; mean, and 95 % of the draws
    untrained   the model as it was before training, every tensor as large as the trained one, aligned by the same
                search: what that makes fit to anything
    published   the search of arXiv 2605.24577, its rotation transposed
    mended      the same with the rotation as it was meant

The published measure, the largest mean squared difference of a tensor, stands beside it for every arm, in the
basis the reference was trained in: ``max_mse`` and, over all entries, ``global_mse``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.alignment.moments import Moments
from crossseed.gauge import (
    ALIGNED,
    CLOSED,
    GIVEN,
    LEAST_LOSS,
    MENDED,
    PUBLISHED,
    RANDOM,
    UNTRAINED,
    ZERO,
    element,
    joint,
    search,
)
from crossseed.gauge.element import Element
from crossseed.gauge.weights import OF_MODEL, Weights, squares
from crossseed.metrics import INTERVAL
from crossseed.published import alignment as published
from crossseed.published import joint as published_joint
from crossseed.seeding import generator

LEAST_LAMBDA = 1e-5
Row = dict[str, Any]


class Model(NamedTuple):
    """Folded weights, with the embeddings of tokens that occur and with all: the study counted all."""

    weights: Weights
    whole: Weights


def alignment(
    model: Model,
    reference: Model,
    untrained: Weights | None,
    n_starts: int,
    sweeps: int,
    published_starts: int,
    draws: int,
    *cell: object,
) -> tuple[list[Row], dict[str, Element]]:
    """Rows of `COLUMNS`, without the pair's, and the elements of the arms that found one.

    Args:
        model: is moved. reference: stays. untrained: the model before training.
        n_starts, sweeps: of every search; published_starts: of the published one. draws: random elements.
        cell: names the pair.
    """
    found = search.align(
        generator("alignment", *cell), model.weights, reference.weights, n_starts, sweeps
    )
    ours = element.canonical(model.weights)
    back = element.inverse(element.canonical(reference.weights))
    rows = _measured(ALIGNED, found.element, model, reference)
    rows += [
        _row(ALIGNED, "", metric, float(value))
        for metric, value in (
            ("starts_at_best", found.same),
            ("spread_of_starts", _spread(found)),
            ("converged", found.converged),
            ("sweeps", found.sweeps),
            (
                "heads_left_unbalanced",
                element.unbalanced(model.weights) + element.unbalanced(reference.weights),
            ),
        )
    ]
    rows += _measured(GIVEN, element.compose(back, ours), model, reference)
    rng = generator("random-alignment", *cell)
    balanced = element.apply(ours, model.weights)
    rows += _averaged(
        [
            _measured(RANDOM, element.compose(back, element.compose(g, ours)), model, reference)
            for g in (
                element.random(rng, balanced, search.MOVED, general=False) for _ in range(draws)
            )
        ]
    )
    rows += _published(ZERO, reference.whole.map(np.zeros_like), reference.whole)
    if untrained is not None:
        other = search.align(
            generator("alignment-untrained", *cell),
            *(_sized(untrained, model.weights), reference.weights, n_starts, sweeps),
        )
        errors = search.balanced_errors(other.moved, reference.weights)
        rows += [_row(UNTRAINED, name, "relative_error", float(v)) for name, v in errors.items()]
    elements = {ALIGNED: found.element}
    for arm, transposed in ((PUBLISHED, True), (MENDED, False)):
        elements[arm] = published.search(
            model.whole, reference.whole, transposed, published_starts
        ).element
        rows += _measured(arm, elements[arm], model, reference)
    return [{"low": np.nan, "high": np.nan, **row} for row in rows], elements


def _sized(untrained: Weights, model: Weights) -> Weights:
    """The untrained model, every tensor as large as the trained one's: small ones are close to zero weights
    whatever the search does."""
    ours, theirs = (element.apply(element.canonical(w), w) for w in (untrained, model))
    own, wanted = dict(squares(ours)), dict(squares(theirs))

    def scaled(name: str, array: np.ndarray) -> np.ndarray:
        if name in OF_MODEL:
            return array * np.sqrt(wanted[name] / own[name])
        by_layer = [
            np.sqrt(wanted[f"{layer}.{name}"] / own[f"{layer}.{name}"])
            for layer in range(len(array))
        ]
        return array * np.array(by_layer).reshape(-1, *[1] * (array.ndim - 1))

    arrays = {name: scaled(name, array) for name, array in ours.arrays().items()}
    return Weights(**arrays, classes=ours.classes)


def _spread(found: search.Found) -> float:
    """Standard deviation over starts of the relative error after the same number of sweeps."""
    return float(np.sqrt(found.objective / len(found.moved.tensors())).std())


def _row(arm: str, tensor: str, metric: str, value: float) -> Row:
    return {"arm": arm, "tensor": tensor, "metric": metric, "value": value}


def _measured(arm: str, g: Element, model: Model, reference: Model) -> list[Row]:
    errors = search.balanced_errors(element.apply(g, model.weights), reference.weights)
    rows = [_row(arm, name, "relative_error", float(value)) for name, value in errors.items()]
    return rows + _published(arm, element.apply(g, model.whole), reference.whole)


def _published(arm: str, moved: Weights, reference: Weights) -> list[Row]:
    by_tensor = published.distances(moved, reference)
    largest, mean = published.summary(by_tensor, reference)
    return [
        _row(arm, "all", "max_mse", float(largest)),
        _row(arm, "all", "global_mse", float(mean)),
        *(_row(arm, name, "mse", float(value)) for name, value in by_tensor.items()),
    ]


def _averaged(draws: Sequence[list[Row]]) -> list[Row]:
    found = []
    for same in zip(*draws, strict=True):
        values = np.array([row["value"] for row in same])
        low, high = np.nanquantile(values, INTERVAL)
        found.append({**same[0], "value": float(values.mean()), "low": low, "high": high})
    return found


def pareto(
    model: Weights,
    reference: Weights,
    elements: Mapping[str, Element],
    moments: Mapping[str, Mapping[str, Moments]],
    published_sites: Sequence[str],
    points: int,
) -> list[Row]:
    """Rows of `JOINT_COLUMNS`, without the pair's: what one more rotation trades between weights and
    activations, in closed form and by the published optimiser.

    Args:
        model, reference: weights with all embeddings.
        elements: what takes the model to the reference, by the arm that found it.
        moments: of activations, by split and site, the reference's as a. Rotations are fitted on `fit` and, but
            for the published objective, told on `eval`.
        published_sites: those the study counted, one of them twice.
        points: values of λ between 0 and 1.
    """
    rows: list[Row] = []
    for start, g in elements.items():
        moved = element.apply(g, model)
        for objective in (joint.NORMALISED, joint.PUBLISHED):
            sites = list(moments["fit"]) if objective == joint.NORMALISED else list(published_sites)
            of = published.tensors if objective == joint.PUBLISHED else Weights.tensors
            theirs = of(reference)
            sizes = np.array([value.size for value in theirs.values()])
            gains = published.N_GAINS * reference.width
            weights = joint.of_weights(of(moved), theirs, objective, gains)
            fitted, told = (
                joint.of_activations(
                    [moments[split][site] for site in sites], g.residual, sites, objective
                )
                for split in ("fit", "fit" if objective == joint.PUBLISHED else "eval")
            )

            def add(
                method: str,
                lam: float,
                rotation: np.ndarray,
                start: str = start,
                objective: str = objective,
                weights: joint.Terms = weights,
                activations: joint.Terms = told,
                sizes: np.ndarray = sizes,
            ) -> None:
                error_w, error_a = weights.error(rotation), activations.error(rotation)
                rows.append(
                    {
                        "start": start,
                        "objective": objective,
                        "method": method,
                        "lambda": lam,
                        "det": int(np.sign(np.linalg.det(rotation))),
                        "weight_error": error_w,
                        "activation_error": error_a,
                        "loss": (1 - lam) * error_w + lam * error_a,
                        "max_mse": float((weights.each(rotation) / weights.weight / sizes).max()),
                        "rotation_distance": float(
                            np.linalg.norm(rotation - np.eye(len(rotation)))
                        ),
                    }
                )

            add(GIVEN, 0.0, np.eye(reference.width))
            # Close to 0 too: there the published units, which are not normalised, trade most.
            lams = np.union1d(np.linspace(0, 1, points), np.geomspace(LEAST_LAMBDA, 1, points))
            if objective == joint.PUBLISHED:
                lams = np.union1d(lams, published_joint.LAMBDAS)
            for lam in map(float, lams):
                for det in (1, -1):
                    add(CLOSED, lam, joint.optimum(weights, fitted, lam, det))
            for lam in published_joint.LAMBDAS if objective == joint.PUBLISHED else ():
                kept = published_joint.minimise(weights, fitted, sizes, lam)
                add(PUBLISHED, lam, kept.published)
                add(LEAST_LOSS, lam, kept.least_loss)
    return rows
