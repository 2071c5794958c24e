"""Bar B: what a model predicts on fresh sequences."""

from __future__ import annotations

import numpy as np

from crossseed import bars
from crossseed.bars import Row
from crossseed.cohorts.dyck import behaviour, task
from crossseed.metrics import Estimate, estimate, resample_weights
from crossseed.seeding import generator

LABELS, PRIMARY = "labels", "primary"


def behaviour_rows(
    stream: behaviour.Stream,
    name: str,
    against: str,
    resamples: int,
    *cell: object,
    published: bool = False,
) -> list[Row]:
    """Bar B of one model of a stream, by both protocols.

    Args:
        against: ``labels``, or ``primary``: the first model of the stream.
        published: whether the study measured this: divergence from the primary between seeds alone.
    """
    rng = generator("bars-behaviour", *cell, name)
    pooled = stream.rates(name, np.ones((1, len(stream.counts))), range(len(behaviour.SHARES)))
    # Within each distribution, since a stream may draw more of one than of another.
    within = {}
    for number, distribution in enumerate(behaviour.SHARES):
        units = np.flatnonzero(stream.counts[:, number])
        if len(units):
            weights = np.zeros((1 + resamples, len(stream.counts)))
            weights[:, units] = resample_weights(rng, len(units), resamples)
            within[distribution] = stream.rates(name, weights, [number])
    shares = {d: behaviour.SHARES[d] for d in within}
    total = sum(shares.values())
    mixed = np.sum([share / total * within[d] for d, share in shares.items()], axis=0)
    printed = behaviour.SMOOTHED if against == LABELS else behaviour.DIVERGENCE
    judged = behaviour.LOSS if against == LABELS else behaviour.DIVERGENCE
    # The study pools all positions of what it drew; between seeds it draws from the first distribution.
    published_part = "pooled mean" if against == LABELS else "train mean"
    wanted = {
        LABELS: (behaviour.LOSS, behaviour.SMOOTHED, behaviour.WRONG),
        PRIMARY: (behaviour.DIVERGENCE,),
    }
    rows = []
    for distribution, rates in {"all": mixed, **within, "pooled": pooled}.items():
        parts = {"mean": rates.mean(axis=1)}
        if distribution == "all":
            parts |= {head: rates[:, i] for i, head in enumerate(task.HEADS)}
        for part, values in parts.items():
            for quantity in wanted[against]:
                of = values[:, behaviour.MEASURES.index(quantity)]
                found = estimate(of) if len(of) > 1 else Estimate(float(of[0]))
                where = f"{distribution} {part}"
                # As published, heads are pooled; rigorously each must stay below, its interval too.
                as_published = published and quantity == printed and where == published_part
                judges = quantity == judged and distribution == "all" and part != "mean"
                row = bars.row(
                    bars.B, bars.PUBLISHED if as_published else bars.RIGOROUS, where, against, found.value,
                    quantity=quantity, n=int(stream.counts.sum()),
                )  # fmt: skip
                if not as_published:
                    # Without an interval nothing is known to stay below.
                    known = judges and np.isfinite(found.high)
                    row["passes"] = int(found.high < bars.THRESHOLD[bars.B]) if known else ""
                rows.append({**row, "low": found.low, "high": found.high})
    return rows
