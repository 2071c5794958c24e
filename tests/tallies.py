"""Counts of the harnesses that break things on purpose (`faults/`, `slurm/`), kept from one invocation to the next."""

from __future__ import annotations

import json
from pathlib import Path


def add(results: Path, name: str, found: object) -> None:
    """Adds the numbers and lists of an outcome to those of earlier invocations under the same name."""
    told = json.loads(results.read_text()) if results.exists() else {}
    old = told.get(name, {})
    told[name] = {key: old.get(key, type(value)()) + value for key, value in vars(found).items()}
    results.write_text(json.dumps(told, indent=1) + "\n")
