"""What a run will take, from its configuration alone: disk, arithmetic and GPU-hours.

Rough by design: a factor of two either way is usual. Arithmetic is counted, the rates are
assumed, and every job that loads a model pays a start. Time to download is not counted, nor text.

Rules ask this package.

    rates   what is assumed
    stages  kinds of job
    memory  main memory of a job
    told    a line, and a table
    jobs    seconds of one job of a rule
"""

from __future__ import annotations

from crossseed.estimate.jobs import seconds_of
from crossseed.estimate.memory import (
    absorption_mb,
    interpret_mb,
    joint_mb,
    matching_mb,
    matrices_mb,
    memory_mb,
    predictions_mb,
    published_mb,
    report_mb,
    training_mb,
    transfer_mb,
)
from crossseed.estimate.rates import SMALL_MB
from crossseed.estimate.stages import Stage, most_arms, stages
from crossseed.estimate.told import downloads, short, size, text

__all__ = [
    "SMALL_MB",
    "Stage",
    "absorption_mb",
    "downloads",
    "interpret_mb",
    "joint_mb",
    "matching_mb",
    "matrices_mb",
    "memory_mb",
    "most_arms",
    "predictions_mb",
    "published_mb",
    "report_mb",
    "seconds_of",
    "short",
    "size",
    "stages",
    "text",
    "training_mb",
    "transfer_mb",
]
