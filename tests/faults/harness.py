"""Faults on purpose, counted: jobs killed, disks filled, files damaged, and what of a run's results was lost.

    python tests/faults/harness.py --count 20 [--only kill-training …] [--seed 0] [--results faults.json] [--page docs/faults.md]

A count is of faults that were done: kills that hit a running process, writes that found the disk full, files that were
damaged. Each scenario compares what is there in the end with an undisturbed run, byte by byte. Counts add up in the
results file; the page shows its table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from damages import damaged, refused_when_read
from folders import clock_changed, record_removed, same_moment, two_at_once
from full_disks import disk_full, small_disk
from hangups import hub_dropped
from kills import (
    killed_at_files,
    killed_at_random,
    killed_with_other_values,
    killed_workflow,
)
from tallies import add
from undisturbed import Context, Outcome

from crossseed.pages import between

BETWEEN = ("<!-- faults: python tests/faults/harness.py -->\n", "<!-- end of faults -->\n")


Scenario = Callable[[Context, Outcome, int], None]
SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "kill-training": ("toy training killed at a random moment", killed_at_random("training")),
    "kill-sae": ("SAE training killed at a random moment", killed_at_random("sae")),
    "kill-extraction": (
        "activation writer killed at a random moment",
        killed_at_random("extraction"),
    ),
    "kill-training-files": (
        "toy training killed just before or after a file is flushed or renamed",
        killed_at_files("training"),
    ),
    "kill-sae-files": ("SAE training killed at such a moment", killed_at_files("sae")),
    "kill-extraction-files": (
        "activation writer killed at such a moment",
        killed_at_files("extraction"),
    ),
    "kill-workflow": (
        "a whole run killed at a random moment, with its jobs or without, a quarter with `.snakemake` removed",
        killed_workflow,
    ),
    "kill-changed": (
        "a finished run with other values killed at its work; then those, or the former values again",
        killed_with_other_values,
    ),
    "disk-limit": ("no file may grow beyond a random size", disk_full),
    "disk-small": ("a file system that is full but for a part of the output", small_disk),
    "damage": (
        "a finished file damaged: cut short, a bit flipped, zeros in it, or another's content",
        damaged,
    ),
    "damage-read": ("a file damaged so before a job reads it", refused_when_read),
    "record-removed": (
        "`.snakemake` or its metadata removed with three results, every other time of a run that was killed then",
        record_removed,
    ),
    "clock": (
        "times of all results set up to two days back or ahead, and work left or other values in the configuration",
        clock_changed,
    ),
    "two-at-once": (
        "two Snakemakes in one folder: locked out, with `--nolock`, or the lock removed",
        two_at_once,
    ),
    "same-moment": (
        "the same job twice, both about to give the same results their names",
        same_moment,
    ),
    "hub-dropped": ("the hub hangs up in the middle of a model's weights", hub_dropped),
}


@contextlib.contextmanager
def working(seed: int, kept: Path | None = None) -> Iterator[Context]:
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield Context(home, seed, kept)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def table(told: dict[str, Any]) -> str:
    """The table of the page, as Markdown."""
    lines = [
        "| what was done | how often | refused in a sentence | went on from saved state | results compared | lost |",
        "|---|---|---|---|---|---|",
    ]
    for name, (words, _) in SCENARIOS.items():
        if name in told:
            of = told[name]
            cells = [
                words,
                of["faults"],
                of["said"] or "–",
                of["resumed"] or "–",
                of["runs"] or "–",
            ]
            cells.append(len(of["lost"]) or "nothing")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, told: dict[str, Any]) -> None:
    page.write_text(between(page, *BETWEEN, table(told)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, help="faults of each scenario")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="JSON file to which counts are added")
    parser.add_argument("--page", type=Path, help="page whose table is written from that file")
    parser.add_argument("--undisturbed", type=Path, help="folder in which that run is kept")
    args = parser.parse_args()
    lost = 0
    with working(args.seed, args.undisturbed) as context:
        for name in args.only:
            found = Outcome()
            began = time.monotonic()
            SCENARIOS[name][1](context, found, args.count)
            lost += len(found.lost)
            seconds = time.monotonic() - began
            print(f"{name}: {json.dumps(found.as_dict())} {seconds:.0f} s", flush=True)
            if args.results:
                add(args.results, name, found)
    if args.page and args.results:
        write_page(args.page, json.loads(args.results.read_text()))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
