"""Seconds of one job, roughly, for what is told of a run's rest before any of its kind has finished."""

from __future__ import annotations

import functools
from collections.abc import Callable

from crossseed.config.schema import RunConfig
from crossseed.estimate.rates import CPU_RATE
from crossseed.estimate.stages import stages

# Seconds until a job that uses no GPU computes: process and imports.
START_SECONDS = 3.0


def seconds_of(run: RunConfig, device: str) -> Callable[[str], float]:
    """By the name of a rule: a verb's, with more after it where rules are made from the configuration."""

    @functools.cache
    def by_verb() -> dict[str, float]:
        found = {}
        for stage in stages(run):
            if stage.jobs:
                own = stage.gpu_seconds if device == "cuda" else stage.flop / CPU_RATE
                start = 0.0 if device == "cuda" and stage.gpu_seconds else START_SECONDS
                found[stage.name] = start + own / stage.jobs
        return found

    def seconds(rule: str) -> float:
        words = rule.split("_")
        names = ("_".join(words[:n]) for n in range(len(words), 0, -1))
        return next((by_verb()[name] for name in names if name in by_verb()), START_SECONDS)

    return seconds
