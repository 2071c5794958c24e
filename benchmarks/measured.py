"""What all benchmarks share: the machine's name, and seconds."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from crossseed.devices import n_gpus

REPEATS = 3


def machine() -> str:
    if n_gpus():
        name = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        return f"{platform.machine()}, {name}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def seconds_of(command: list[str], repeats: int = REPEATS) -> float:
    """Median wall seconds of a command."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return median(found)


def fastest(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Wall seconds of the fastest run."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)
