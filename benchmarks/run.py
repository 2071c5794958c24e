"""Runs the benchmarks side by side and writes `benchmarks/results/*.csv`.

    python benchmarks/run.py --peer PYTHON_OF_THE_PEERS_ENVIRONMENT

Contestants alternate within each repeat, so that a slow minute of the machine hits all of them.
Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import constructive
import extraction
import haar
import imports
import interventions
import joint
import memory
import sae
import stability
import toys
import whole
from measured import REPEATS, fastest, machine

from crossseed.devices import n_gpus
from crossseed.haar import power
from crossseed.store import write_table

HERE = Path(__file__).parent
ROOT = HERE.parent
BENCHMARKS = (
    *("run", "planning", "memory", "haar", "power", "interventions", "constructive"),
    *("stability", "joint", "imports", "extraction", "toys", "sae"),
)


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
    only = args.only or BENCHMARKS
    if args.results is not None:
        if not args.peer:
            parser.error("--results wants --peer, the Python in which SAELens is installed")
        sae.check_cards(args.peer, args.results, args.each)
        return
    if "run" in only:
        write_table(
            HERE / "results/default_run.csv", whole.RUN_COLUMNS, whole.default_run(2, args.peer)
        )
    if "planning" in only:
        write_table(HERE / "results/planning.csv", whole.PLAN_COLUMNS, whole.planning())
    if "memory" in only:
        with tempfile.TemporaryDirectory() as folder:
            rows = memory.streaming_memory(Path(folder))
        write_table(HERE / "results/streaming_memory.csv", memory.MEMORY_COLUMNS, rows)
    if "haar" in only:
        write_table(HERE / "results/haar.csv", haar.HAAR_COLUMNS, haar.haar())
    if "power" in only:
        write_table(HERE / "results/power.csv", power.COLUMNS, haar.power_tables())
    if "interventions" in only:
        devices = ["cpu", *(["cuda"] if n_gpus() else [])]
        rows = [row for device in devices for row in interventions.interventions(device)]
        write_table(HERE / "results/interventions.csv", interventions.INTERVENTION_COLUMNS, rows)
    if "constructive" in only:
        rows = constructive.alignment(fastest, machine()) + constructive.stream(machine())
        write_table(HERE / "results/constructive.csv", constructive.COLUMNS, rows)
    if "stability" in only:
        found = stability.matching(machine()), stability.seeds(machine())
        write_table(HERE / "results/matching.csv", stability.MATCHING_COLUMNS, found[0])
        write_table(HERE / "results/sae_seeds.csv", stability.SEED_COLUMNS, found[1])
    if "joint" in only:
        rows = joint.joint(machine()) + (joint.joint(machine(), "cuda") if n_gpus() else [])
        write_table(HERE / "results/joint.csv", joint.COLUMNS, rows)
    if "imports" in only:
        write_table(
            HERE / "results/imports.csv", imports.COLUMNS, imports.imports(machine(), args.repeats)
        )
    if "extraction" in only:
        rows = extraction.extraction(machine(), args.repeats)
        write_table(HERE / "results/extraction.csv", extraction.COLUMNS, rows)
    if "toys" in only:
        rows = toys.toys(machine(), args.repeats, ROOT / "config/config.yaml")
        write_table(HERE / "results/toys.csv", toys.COLUMNS, rows)
    if "sae" not in only:
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.peer:
            sae.check_saelens_reads_our_folders(args.peer, Path(folder))
        common = args.repeats, machine()
        rows = sae.training(args.peer, Path(folder), "cpu", *common)
        if n_gpus():
            rows += sae.training(args.peer, Path(folder), "cuda", *common)
        write_table(HERE / "results/sae_training.csv", sae.COLUMNS, rows)


if __name__ == "__main__":
    main()
