"""Runs the benchmarks side by side and writes `benchmarks/results/*.csv`.

    python benchmarks/run.py --peer PYTHON_OF_THE_PEERS_ENVIRONMENT

Where several do the same, they alternate within each repeat, so that a slow minute of the machine hits all of them, and
medians are told; what takes minutes runs once. All but what is said to have more is done by one thread.
Only ratios within one run mean anything; `made.csv` says under what each table was measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alignment
import constructive
import extraction
import haar_power
import imports
import interventions
import joint
import memory
import sae
import scale
import stability
import together
import toys
import whole
from measured import COMPARED, REPEATS, conditions, machine, write

from crossseed.devices import n_gpus
from crossseed.haar import power

CONFIG = Path(__file__).parent.parent / "config/config.yaml"
DEVICES = ("cpu", "cuda") if n_gpus() else ("cpu",)
# A file of results, its columns and its rows.
Table = tuple[str, tuple[str, ...], list[dict[str, Any]]]


def streaming_memory() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return memory.streaming_memory(Path(folder))


def on_devices(bench: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for device in DEVICES for row in bench(device)]


def sae_training(args: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        if args.peer:
            sae.check_saelens_reads_our_folders(args.peer, Path(folder))
        return on_devices(
            lambda device: sae.training(args.peer, Path(folder), device, args.repeats, machine())
        )


def sae_learned(args: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return sae.learned(args.peer, Path(folder), args.repeats, machine())


def sae_together(args: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return on_devices(
            lambda device: together.together(Path(folder), device, args.repeats, machine())
        )


BENCHMARKS: dict[str, Callable[[argparse.Namespace], list[Table]]] = {
    "run": lambda args: [
        ("default_run.csv", whole.RUN_COLUMNS, whole.default_run(2, args.peer)),
    ],
    "planning": lambda _: [("planning.csv", whole.PLAN_COLUMNS, whole.planning())],
    "scale": lambda _: [("scale.csv", scale.COLUMNS, scale.scale())],
    "memory": lambda _: [("streaming_memory.csv", memory.MEMORY_COLUMNS, streaming_memory())],
    "alignment": lambda _: [("alignment.csv", COMPARED, alignment.alignment())],
    "power": lambda _: [("power.csv", power.COLUMNS, haar_power.power_tables())],
    "interventions": lambda _: [
        ("interventions.csv", COMPARED, on_devices(interventions.interventions))
    ],
    "constructive": lambda _: [
        ("constructive.csv", COMPARED, constructive.alignment() + constructive.stream())
    ],
    "matching": lambda _: [("matching.csv", COMPARED, stability.matching())],
    "seeds": lambda _: [("sae_seeds.csv", COMPARED, stability.seeds())],
    "joint": lambda _: [
        ("joint.csv", joint.COLUMNS, on_devices(lambda device: joint.joint(machine(), device)))
    ],
    "imports": lambda args: [
        ("imports.csv", imports.COLUMNS, imports.imports(machine(), args.repeats))
    ],
    "extraction": lambda args: [("extraction.csv", COMPARED, extraction.extraction(args.repeats))],
    "toys": lambda args: [
        ("toys.csv", COMPARED, toys.step(args.repeats, CONFIG)),
        ("toy_learned.csv", toys.LEARNED_COLUMNS, toys.to_accuracy(CONFIG)),
    ],
    "sae": lambda args: [("sae_training.csv", sae.COLUMNS, sae_training(args))],
    "together": lambda args: [("sae_together.csv", together.COLUMNS, sae_together(args))],
    "learned": lambda args: [("sae_learned.csv", sae.LEARNED_COLUMNS, sae_learned(args))],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python of the environment in which SAELens is installed")
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, help="leave out the others")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs a contestant")
    parser.add_argument(
        "--results",
        type=Path,
        help="no benchmark: score the ported dictionaries of a run in SAELens, beside their cards",
    )
    parser.add_argument("--each", type=int, default=2, help="of each cohort, with --results")
    args = parser.parse_args()
    if args.results is not None:
        if not args.peer:
            parser.error("--results wants --peer, the Python in which SAELens is installed")
        sae.check_cards(args.peer, args.results, args.each)
        return
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Libraries read it as they are imported.
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"}
        )
    for name in args.only or BENCHMARKS:
        under = conditions(args.peer)
        for file, columns, rows in BENCHMARKS[name](args):
            write(file, columns, rows, under)


if __name__ == "__main__":
    main()
