"""Transfer of one member's dictionaries to another member, arm by arm, on held-out tokens.

The source owns the dictionaries; the target's activations are carried into the source's
frame and encoded there. Each arm differs in the map alone. The Gaussian arm replaces the
target's activations by normal draws with the target's mean and covariance (from `fit`),
carried by the Procrustes map: it shows what second moments alone achieve, and has no
pairing, hence no firing correlation. Metrics: `crossseed.metrics`; arms:
`crossseed.alignment.maps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.activations import SplitReader, check_paired
from crossseed.alignment import maps as m
from crossseed.alignment.moments import Moments
from crossseed.errors import UserError
from crossseed.metrics import (
    ErrorSums,
    Estimate,
    FiringSums,
    estimate,
    mean_correlation,
    resample_weights,
    share_above,
    unit_blocks,
    unit_starts,
)
from crossseed.sae.dictionary import Dictionary
from crossseed.seeding import generator
from crossseed.store import add_dataset, create_h5, header, open_h5

MAPS_SCHEMA = "maps/1"
BLOCK_ROWS = 8192
GAUSSIAN = "gaussian"
FIRING_THRESHOLD = 0.5
COLUMNS = (
    "cohort",
    "source_seed",
    "target_seed",
    "checkpoint",
    "site",
    "dictionary",
    "init",
    "arm",
    "metric",
    "value",
    "low",
    "high",
    "n_tokens",
)


class Fit(NamedTuple):
    """What was fitted on the `fit` split of a pair.

    Attributes:
        arms: maps from the target into the source's frame, by arm.
        mean_d, covariance_dd: moments of the target.
        numbers: effective, numerical and identified rank of the paired fit; they describe the
            pair, whatever the arm.
        spec: the spec that made the file.
    """

    arms: dict[str, m.AffineMap]
    mean_d: np.ndarray
    covariance_dd: np.ndarray
    numbers: dict[str, float]
    spec: dict[str, Any]


def _paired_blocks(
    source: SplitReader, target: SplitReader
) -> Iterator[tuple[int, slice, np.ndarray, np.ndarray]]:
    check_paired(source, target)
    if source.width != target.width:
        raise UserError(
            f"{source.path} has width {source.width}, {target.path} {target.width}; "
            "an orthogonal map needs equal widths"
        )
    starts = unit_starts(source.document_n)
    for number, (_, rows, _) in enumerate(unit_blocks(starts, source.n_tokens, BLOCK_ROWS)):
        yield number, rows, source.rows(rows), target.rows(rows)


def fit_maps(
    source: SplitReader, target: SplitReader, *cell: object
) -> tuple[Moments, dict[str, Any]]:
    """Fits every arm on paired activations, in one pass.

    Args:
        source, target: the `fit` splits.
        cell: names the cell, for the random arms.

    Returns:
        The moments, and by name: ``arms`` and ``numbers`` (see `Fit`).

    Raises:
        UserError: not paired, of different width, or fewer tokens than dimensions.
    """
    if source.n_tokens < 2 * source.width:
        raise UserError(
            f"{source.path}: {source.n_tokens} tokens in the fit split cannot decide a rotation "
            f"in {source.width} dimensions; at least {2 * source.width} are needed"
        )
    halves = (Moments(source.width, target.width), Moments(source.width, target.width))
    shuffled = Moments(source.width, target.width)
    rng = generator("shuffled-pairs", *cell)
    for _, rows, a, b in _paired_blocks(source, target):
        odd = source.document_n[rows] % 2 == 1
        halves[0].add(a[~odd], b[~odd])
        halves[1].add(a[odd], b[odd])
        shuffled.add(a[m.shuffle_within_position(rng, source.position_n[rows])], b)
    if not (halves[0].n and halves[1].n):
        raise UserError(
            f"{source.path}: the fit split holds one document, which has no halves; ask for more "
            "sequences (tokens.fit), or fewer of a document (tokens.most_a_document)"
        )
    moments = halves[0].merged(halves[1])
    random_dd = m.haar_orthogonal(generator("random-rotation", *cell), source.width)
    ranks = m.ranks(moments.cross_covariance)
    numbers = {
        "effective_rank": ranks.effective,
        "numerical_rank": float(ranks.numerical),
        "identified_rank": float(m.identified_directions(*halves).shape[1]),
    }
    return moments, {"arms": m.arms(moments, shuffled, random_dd), "numbers": numbers}


def write_maps(
    path: Path,
    moments: Moments,
    fitted: Mapping[str, Any],
    spec: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Maps and moments of a pair as HDF5: a group an arm, and `moments`."""
    with create_h5(path, MAPS_SCHEMA, spec, inputs) as file:
        for arm, affine in fitted["arms"].items():
            group = file.create_group(arm)
            for name, value in affine._asdict().items():
                add_dataset(group, name, data=value)
        group = file.create_group("moments")
        add_dataset(group, "n_tokens", data=moments.n)
        for name in ("mean_a", "mean_b", "covariance_a", "covariance_b", "cross_covariance"):
            add_dataset(group, name, data=getattr(moments, name))
        for name, value in fitted["numbers"].items():
            add_dataset(group, name, data=value)


def read_maps(path: Path) -> Fit:
    """Maps written by `write_maps`."""
    with open_h5(path, MAPS_SCHEMA) as file:
        arms = {
            arm: m.AffineMap(*(file[arm][name][:] for name in m.AffineMap._fields))
            for arm in m.ARMS
        }
        moments = file["moments"]
        numbers = {
            name: float(moments[name][()])
            for name in ("effective_rank", "numerical_rank", "identified_rank")
        }
        return Fit(
            arms, moments["mean_b"][:], moments["covariance_b"][:], numbers, header(file).spec
        )


def check_cell(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `UserError` unless an artefact was made for the cell that a job is told."""
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UserError(
                f"{path}: made for {key} = {found.get(key)}, but this job needs {value}; "
                "the file is stale or of another cell: run the workflow, or delete it and run again"
            )


def map_metrics(affine: m.AffineMap, numbers: Mapping[str, float]) -> dict[str, Estimate]:
    """Properties of the map itself, without interval."""
    return {
        "rotation_distance": Estimate(m.rotation_distance(affine.matrix_dd)),
        "det": Estimate(float(np.linalg.det(affine.matrix_dd))),
        **{name: Estimate(value) for name, value in numbers.items()},
    }


class _ArmSums:
    """Sums of one arm and one dictionary."""

    def __init__(self, n_units: int, dictionary: Dictionary) -> None:
        width, n_latents = dictionary.W_enc.shape
        self.errors = ErrorSums(n_units, width)
        self.firing = FiringSums(n_units, n_latents)


def transfer(
    source: SplitReader,
    target: SplitReader,
    dictionaries: Mapping[tuple[str, str], Dictionary],
    fit: Fit | None,
    resamples: int,
    *cell: object,
) -> list[dict[str, Any]]:
    """Every metric of every arm and dictionary of one pair and site.

    Args:
        source, target: the `eval` splits.
        dictionaries: the source's dictionaries by (name, init).
        fit: the pair's maps; None for a member with itself, where only ``raw`` is measured.
        resamples: bootstrap resamples behind each interval.
        cell: names the cell, for the random draws.

    Returns:
        Rows with keys dictionary, init, arm, metric, value, low, high, n_tokens.
    """
    starts = unit_starts(source.document_n)
    weights = resample_weights(generator("bootstrap", *cell), len(starts), resamples)
    arms = fit.arms if fit is not None else {"raw": m.identity(source.width)}
    alignment = {arm: ErrorSums(len(starts), source.width) for arm in arms}
    sums = {
        (arm, key): _ArmSums(len(starts), dictionary)
        for arm in ((*arms, GAUSSIAN) if fit is not None else arms)
        for key, dictionary in dictionaries.items()
    }
    rng = generator("gaussian", *cell)
    check_paired(source, target)
    for units, rows, local in unit_blocks(starts, source.n_tokens, BLOCK_ROWS):
        a, b = source.rows(rows), target.rows(rows)
        carried = {arm: affine(b) for arm, affine in arms.items()}
        for arm, x in carried.items():
            alignment[arm].add(units, local, a, x)
        if fit is not None:
            drawn = m.gaussian_rows(rng, fit.mean_d, fit.covariance_dd, len(b))
            carried[GAUSSIAN] = arms["procrustes"](drawn)
        for key, dictionary in dictionaries.items():
            h_source = dictionary.encode(a)
            for arm, x in carried.items():
                h = dictionary.encode(x)
                found = sums[arm, key]
                active = np.count_nonzero(h, axis=1)
                found.errors.add(units, local, x, dictionary.decode(h), active)
                if arm != GAUSSIAN:
                    found.firing.add(units, local, h_source, h)
    result = []
    for (arm, (name, init)), found in sums.items():
        metrics = {
            "ev": estimate(found.errors.ev(weights)),
            "ev_published": estimate(found.errors.ev_published(weights)),
            "l0": estimate(found.errors.l0(weights)),
        }
        if arm != GAUSSIAN:
            r = found.firing.correlations(weights)
            metrics["alignment_ev"] = estimate(alignment[arm].ev(weights))
            metrics["firing_r"] = mean_correlation(r)
            metrics["firing_r_above_0.5"] = share_above(r, FIRING_THRESHOLD)
            metrics["firing_live"] = Estimate(r.shape[1])
            metrics["firing_not_live"] = Estimate(found.firing.a.shape[1] - r.shape[1])
        if fit is not None:
            # The Gaussian arm is carried by the Procrustes map.
            affine = arms["procrustes" if arm == GAUSSIAN else arm]
            metrics |= map_metrics(affine, fit.numbers)
        for metric, found_value in metrics.items():
            result.append(
                {
                    "dictionary": name,
                    "init": init,
                    "arm": arm,
                    "metric": metric,
                    **found_value._asdict(),
                    "n_tokens": source.n_tokens,
                }
            )
    return result
