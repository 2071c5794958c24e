"""The penalty with which an SAE has a wanted number of active latents a token, by bisection on short runs.

Architectures are compared at one L0, or what is compared is how sparse they are. L0 falls as the penalty grows, so that its
logarithm is searched: first in steps of a factor until the wanted L0 lies between two runs, then by halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.activations import BatchStream, open_split
from crossseed.errors import UserError
from crossseed.progress import Progress
from crossseed.resume import Resume
from crossseed.sae.architectures import module_of
from crossseed.sae.dictionary import cfg_of, of_arrays
from crossseed.store import REMEDY, read_table

COLUMNS = (
    *("cohort", "seed", "checkpoint", "site", "dictionary", "penalty", "l0", "wanted_l0", "chosen"),
)
# A run this near the wanted L0, as a share of it, ends the search.
NEAR = 0.03
FACTOR = 4.0
# Tokens of `train` on which active latents are counted.
ROWS = 16384


class Tried(NamedTuple):
    """Attributes: penalty: of one run. l0: active latents a token."""

    penalty: float
    l0: float


def search(l0_of: Callable[[float], float], start: float, wanted: float, runs: int) -> list[Tried]:
    """Penalties that were tried, in order; the one nearest in L0 is the answer.

    Args:
        l0_of: trains with a penalty, and counts.
        start: first penalty. wanted: L0. runs: at most so many.
    """
    tried: list[Tried] = []
    penalty = start
    for _ in range(runs):
        tried.append(Tried(penalty, l0_of(penalty)))
        if abs(tried[-1].l0 / wanted - 1) < NEAR:
            break
        dense = [t.penalty for t in tried if t.l0 > wanted]
        sparse = [t.penalty for t in tried if t.l0 <= wanted]
        if not sparse:
            penalty = max(dense) * FACTOR
        elif not dense:
            penalty = min(sparse) / FACTOR
        else:
            # Where L0 is not monotone the nearest pair that encloses the wanted one.
            low, high = min(
                ((d, s) for d in dense for s in sparse),
                key=lambda pair: abs(math.log(pair[0] / pair[1])),
            )
            penalty = math.sqrt(low * high)
        if any(math.isclose(penalty, t.penalty, rel_tol=1e-3) for t in tried):
            break
    return tried


def nearest(tried: list[Tried], wanted: float) -> int:
    """Number of the run nearest the wanted L0, as a ratio; of those that are as near, that of the smallest penalty: where
    L0 no longer falls, more of it only harms."""
    away = np.array([abs(math.log(max(t.l0, 1e-9) / wanted)) for t in tried])
    near = np.flatnonzero(away <= away.min() + NEAR)
    return int(min(near, key=lambda number: tried[number].penalty))


def calibrate(
    spec: dict[str, Any], activations: Path, scratch: Path, device: str
) -> list[dict[str, Any]]:
    """Rows of `COLUMNS` of one cell.

    Args:
        spec: that of the cell's SAEs, and ``wanted_l0``, ``steps``, ``runs``.
        activations: its activation file.
        scratch: a name beside which nothing stays; short runs are not resumed.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: the architecture has no penalty.
    """
    from crossseed.sae import training

    variant = spec["variant"]
    module = module_of(variant["architecture"])
    name = getattr(module, "PENALTY", None)
    if name is None:
        raise UserError(
            f"{spec['dictionary']}: {variant['architecture']} has no penalty to calibrate; its k is its L0"
        )
    if variant[name] <= 0:
        raise UserError(
            f"{spec['dictionary']}: the search starts at {name} = {variant[name]:g}, which it can only multiply; give one "
            "above 0"
        )
    # The schedule keeps its shape.
    share = min(1.0, spec["steps"] / variant["steps"])
    short = {key: round(variant[key] * share) for key in ("steps", "warmup_steps", "decay_steps")}
    stream = BatchStream(
        activations, spec["activations"], variant["batch_tokens"], spec["dictionary"]
    )
    with open_split(activations, "train", spec["activations"]) as split:
        rows = split.rows(slice(0, ROWS))
    cell = tuple(spec[key] for key in COLUMNS[:5])
    progress = Progress("calibrate", spec["runs"])
    done = 0

    def l0_of(penalty: float) -> float:
        nonlocal done
        config = module.Config.model_validate(
            {
                **variant,
                **short,
                name: penalty,
                "expansions": [spec["expansion"]],
                "inits": [],
                "members": "all",
            }
        )
        resume = Resume(scratch, {"penalty": penalty}, seconds=math.inf)
        arrays = training.train(
            config, spec["expansion"], stream, device, resume, ("calibration", *cell), "calibrate"
        )
        cfg = cfg_of(config, spec["expansion"], stream.width, spec["site"])
        done += 1
        progress.update(done, "runs")
        return float(np.count_nonzero(of_arrays(arrays, cfg).encode(rows), axis=1).mean())

    tried = search(l0_of, variant[name], spec["wanted_l0"], spec["runs"])
    progress.close()
    chosen = nearest(tried, spec["wanted_l0"])
    return [
        {
            **dict(zip(COLUMNS[:5], cell, strict=True)),
            "penalty": run.penalty,
            "l0": run.l0,
            "wanted_l0": spec["wanted_l0"],
            "chosen": int(number == chosen),
        }
        for number, run in enumerate(tried)
    ]


def calibrated(spec: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The variant of a cell with the penalty that its calibration found: that is in the dictionary's own record.

    Raises:
        UserError: the calibration is of another cell.
    """
    rows = read_table(path, COLUMNS)
    for row in rows:
        other = [key for key in COLUMNS[:5] if row[key] != str(spec[key])]
        if other:
            raise UserError(
                f"{path}: of {other[0]} {row[other[0]]}, but this job is of {spec[other[0]]}; {REMEDY}"
            )
    (chosen,) = (row for row in rows if row["chosen"] == "1")
    variant = dict(spec["variant"])
    return {**variant, module_of(variant["architecture"]).PENALTY: float(chosen["penalty"])}
