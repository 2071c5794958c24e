"""What the jobs of a run took of GPUs, from their logs: each says so in a line when it ends (see `crossseed.cli`).

The logs lie beside the benchmarks, under the same names. A job that was killed and run again counts from where it was
run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

OPENS = "used {"


class Spent(NamedTuple):
    """What the jobs of a stage took together.

    Attributes:
        seconds: device-seconds, summed. peak_bytes: of the job that took most. names: of devices.
    """

    seconds: float
    peak_bytes: int
    names: frozenset[str]


NOTHING = Spent(0.0, 0, frozenset())


def of_stages(results: Path, cohorts: Iterable[str]) -> dict[str, Spent]:
    """By stage, the first folder or name below a cohort's logs; stages that used no GPU are left out."""
    found: dict[str, Spent] = {}
    for cohort in cohorts:
        root = results / cohort / "logs"
        for path in sorted(root.rglob("*.log")):
            used = _of_log(path)
            if used is not None:
                stage = path.relative_to(root).parts[0].removesuffix(".log")
                found[stage] = _together(found.get(stage, NOTHING), used)
    return found


def _together(one: Spent, other: Spent) -> Spent:
    peak = max(one.peak_bytes, other.peak_bytes)
    return Spent(one.seconds + other.seconds, peak, one.names | other.names)


def _of_log(path: Path) -> Spent | None:
    found = None
    with open(path, encoding="utf-8", errors="replace") as handle:
        for line in handle:
            if line.startswith(OPENS):
                try:
                    told = json.loads(line[len(OPENS) - 1 :])
                    name = frozenset([str(told["device"])])
                    found = Spent(float(told["device_seconds"]), int(told["peak_gpu_bytes"]), name)
                except (ValueError, KeyError, TypeError):
                    # Cut off, or of another tool.
                    continue
    return found
