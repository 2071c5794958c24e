"""How long the rest of a run takes: an interval, from the times of the jobs that have finished.

Jobs are of kinds, a rule and a cohort each, of which a kind's jobs take about as long. With `m` slots, work `W` and a longest
chain of jobs `C`, any schedule that leaves no slot idle while a job is ready takes between max(W / m, C) and
W / m + C (1 - 1 / m) (Graham 1969, Bounds on multiprocessing timing anomalies, theorem 1). To that the spread of the times
is added, and for kinds of which no job has finished the doubt about what they were estimated at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Standard deviations to either side.
WIDE = 2.0
# How far off, either way, a kind may be of which no job has finished, and one of which one has.
UNSEEN, ONCE = 4.0, 2.0


class Kind(NamedTuple):
    """Jobs that take about as long."""

    rule: str
    cohort: str


class Times:
    """Seconds of finished jobs of a kind; their mean and spread without keeping them (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """One more finished job."""
        self.n += 1
        off = seconds - self.mean
        self.mean += off / self.n
        self._squares += off * (seconds - self.mean)

    @property
    def sd(self) -> float:
        """Of one job; of a single one it is not known, and half of it is taken."""
        if self.n < 2:
            return self.mean * (ONCE - 1) / WIDE
        return math.sqrt(self._squares / (self.n - 1))


class Rest(NamedTuple):
    """What is left of a kind.

    Attributes:
        waiting: jobs that have not begun. running: seconds that each running one has taken.
        times: of finished ones. told: seconds of one by the estimate of the whole run.
        asks: what one takes of each limit.
    """

    waiting: int
    running: Sequence[float]
    times: Times
    told: float
    asks: Mapping[str, float]


class Interval(NamedTuple):
    """Seconds."""

    low: float
    high: float


def left(
    rests: Mapping[Kind, Rest], after: Mapping[Kind, frozenset[Kind]], limits: Mapping[str, float]
) -> Interval | None:
    """Seconds until all is done; None while no job has finished.

    Args:
        rests: of all kinds, each after those that it needs.
        after: kinds that a kind's jobs need.
        limits: of which jobs together may take so much, such as ``{"_cores": 8, "gpu": 1}``.
    """
    if not any(rest.times.n for rest in rests.values()):
        return None
    scales = _scales(rests)
    work = {limit: [0.0, 0.0, 0.0] for limit in limits}
    longest: dict[Kind, tuple[float, float]] = {}
    for kind, rest in rests.items():
        before = [longest[other] for other in after.get(kind, ()) if other in longest]
        start = (max((p[0] for p in before), default=0.0), max((p[1] for p in before), default=0.0))
        if not rest.waiting and not rest.running:
            longest[kind] = start
            continue
        low, mean, high, sd = _one(kind, rest, scales)
        rests_low = [max(0.0, low - seconds) for seconds in rest.running]
        # Of a job that outlasts what was seen nothing is known but that it did: it may take as long again.
        rests_high = [high - s if s < high else s for s in rest.running]
        one_low = low if rest.waiting else max(rests_low)
        one_high = max(rests_high + ([high] if rest.waiting else []))
        longest[kind] = start[0] + one_low, start[1] + one_high
        n = rest.waiting
        if rest.times.n:
            lowest = highest = n * mean
            # Of the sum, and of the mean that it is computed from.
            variance = n * sd**2 + (n * sd) ** 2 / rest.times.n
        else:
            lowest, highest, variance = n * low, n * high, 0.0
        for limit, sums in work.items():
            asked = rest.asks.get(limit, 0.0)
            sums[0] += asked * (lowest + sum(rests_low))
            sums[1] += asked * (highest + sum(rests_high))
            sums[2] += asked**2 * variance
    chain_low = max((path[0] for path in longest.values()), default=0.0)
    chain_high = max((path[1] for path in longest.values()), default=0.0)
    shares = [
        (
            max(0.0, lowest - WIDE * math.sqrt(variance)) / limits[limit],
            (highest + WIDE * math.sqrt(variance)) / limits[limit],
            limits[limit],
        )
        for limit, (lowest, highest, variance) in work.items()
    ]
    low = max([chain_low, *(share[0] for share in shares)])
    high = max([chain_high, *(w + chain_high * max(0.0, 1 - 1 / m) for _, w, m in shares)])
    return Interval(low, high)


def _one(kind: Kind, rest: Rest, scales: Mapping[str, float]) -> tuple[float, float, float, float]:
    """Seconds of one job: at least, on average, at most, and their spread."""
    if rest.times.n:
        mean, sd = rest.times.mean, rest.times.sd
        return max(0.0, mean - WIDE * sd), mean, mean + WIDE * sd, sd
    mean = rest.told * scales.get(kind.rule, scales[""])
    return mean / UNSEEN, mean, mean * UNSEEN, 0.0


def _scales(rests: Mapping[Kind, Rest]) -> dict[str, float]:
    """How many times as long jobs take as was estimated, by rule; of all that finished under no name."""
    ratios: dict[str, list[float]] = {}
    for kind, rest in rests.items():
        if rest.times.n and rest.times.mean > 0 and rest.told > 0:
            for name in (kind.rule, ""):
                ratios.setdefault(name, []).append(math.log(rest.times.mean / rest.told))
    middle = {name: math.exp(sorted(logs)[len(logs) // 2]) for name, logs in ratios.items()}
    return {"": 1.0, **middle}
