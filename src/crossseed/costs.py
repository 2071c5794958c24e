"""What runs of all sizes take, from units that were measured: the table of docs/beyond-one-cluster.md.

Disk, jobs and GPU-hours are those of `crossseed.estimate`. CPU-hours are counted here: every job pays its start, a job
that holds a GPU holds a core as long, and what is computed on a core costs what it did where it was measured, times how
its arithmetic grows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from crossseed import estimate, plan
from crossseed.cohorts.base import SPLITS
from crossseed.cohorts.config import CohortConfig
from crossseed.config import documents
from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import expansion_of
from crossseed.errors import UserError
from crossseed.estimate import rates
from crossseed.pages import between

BEGIN = "<!-- costs: make docs -->\n"
END = "<!-- end of costs -->\n"
PROFILE = Path(__file__).parents[2] / "workflow/profiles/slurm/config.yaml"
# Seconds until a job without PyTorch computes: process and imports (benchmarks/results/default_run.csv, `align`).
START_SECONDS = 0.4


class Unit(NamedTuple):
    """What one job of a stage took on one core.

    Attributes:
        stage: its name in an estimate. seconds: of one job, its start left out.
        width: of the activations that it was measured at. power: of the width with which its arithmetic grows.
        rows: activations it read, with the number of which it grows too; None where it does not.
        source: where it was measured.
    """

    stage: str
    seconds: float
    width: int
    power: int
    rows: int | None
    source: str


RUN, MAPS, DRIFT = "results/default_run.csv", "results/alignment.csv", "FIT_SECONDS"
# As measured; `FIT_SECONDS` is of twice the width.
FIT_SECONDS_512 = rates.FIT_SECONDS / 8
# A stage takes the most of its units: what calls take however small the matrices are, and what large ones take.
UNITS = (
    # Sums of a pair on two splits, shuffled, and of the member before training: six products of rows.
    Unit("align", 6 * 0.821 / 3, 512, 2, 65_536, MAPS),
    Unit("fits", 76.0 / 20, 64, 0, None, RUN),
    Unit("fits", FIT_SECONDS_512, 512, 3, None, DRIFT),
    Unit("shared", 31.7 / 8, 64, 0, None, RUN),
    Unit("shared", FIT_SECONDS_512, 512, 3, None, DRIFT),
    Unit("cosine", 18.1 / 20, 64, 0, None, RUN),
    Unit("haar", 25.1 / 20, 64, 0, None, RUN),
    Unit("haar", 0.841, 512, 3, None, MAPS),
    Unit("across", 21.7 / 10, 64, 0, None, RUN),
    Unit("cocycle", 6.1 / 10, 64, 0, None, RUN),
    Unit("cocycle", FIT_SECONDS_512, 512, 3, None, DRIFT),
    Unit("null", 18.0 / 4, 64, 0, None, RUN),
    # 9,999 draws of the angles of each determinant, and of whole matrices.
    Unit("null", 2 * 9999 * 0.954 / 1000 + 9999 * 0.166 / 10, 512, 3, None, MAPS),
)
GROWTH = {0: "–", 2: "width²", 3: "width³"}
# Two SAEs of so many latents and of so wide a layer matched, in seconds (benchmarks/results/matching.csv); grows with the
# products of directions.
MATCH_SECONDS, MATCH_LATENTS, MATCH_WIDTH = 26.93, 32_768, 768


def _rows(config: CohortConfig) -> int:
    return sum(config.most_tokens(split) or 0 for split in SPLITS)


def _seconds(stage: str, config: CohortConfig) -> float:
    """Of one job of a cohort."""
    found = []
    for unit in UNITS:
        if unit.stage == stage:
            growth = ((config.width or 0) / unit.width) ** unit.power
            rows = 1.0 if unit.rows is None else _rows(config) / unit.rows
            found.append(unit.seconds * growth * rows)
    return max(found)


def _matching(run: RunConfig) -> float:
    """Seconds on one core of matching SAEs of several seeds, and of those on shuffled features, two by two."""
    found = 0.0
    for cell in plan.seeded_cells(run):
        width = run.cohorts[cell.cohort].width or 0
        latents = expansion_of(cell.dictionary) * width
        two = sum(
            math.comb(len(names), 2) for names in (plan.sae_seeds(run), plan.shuffled_seeds(run))
        )
        found += two * MATCH_SECONDS * (latents / MATCH_LATENTS) ** 2 * width / MATCH_WIDTH
    return found


def _carrying(run: RunConfig, config: CohortConfig) -> float:
    """Seconds on one core of trying the dictionaries of a source on a pair, through every arm: two products each."""
    if run.transfer is None:
        return 0.0
    width = config.width or 0
    latents = sum(
        expansion * width * len(variant.inits)
        for variant in run.on_members.values()
        for expansion in variant.expansions
    )
    arms = estimate.most_arms(run.transfer.directions)
    tokens = config.most_tokens("eval") or 0
    return arms * tokens * 4 * width * latents / rates.CPU_RATE


def cpu_seconds(run: RunConfig) -> float:
    """On cores, of the whole run; jobs that train models, toys or SAEs are counted as holding a GPU."""
    found = sum(
        stage.gpu_seconds if stage.gpu_seconds else stage.jobs * START_SECONDS
        for stage in estimate.stages(run)
    )
    found += _matching(run)
    crossed = plan.crossed(run)
    for cohort, config in run.cohorts.items():
        pairs = sum(pair.cohort == cohort for pair in crossed)
        journeys = sum(journey.cohort == cohort for journey in plan.journeys(run))
        jobs = {"align": pairs, "fits": pairs, "cosine": pairs, "shared": 2 * journeys}
        if run.haar is not None:
            places = sum(place.cohort == cohort for place in plan.places(run))
            triples = sum(place.cohort == cohort for place in plan.triples(run))
            # Cohorts of one width share their draws; those of half the width take an eighth.
            draws = int(cohort == _first_of_width(run, config.width))
            jobs |= {"haar": pairs, "across": places, "cocycle": triples, "null": draws}
        found += sum(n * _seconds(stage, config) for stage, n in jobs.items() if n)
        found += pairs * _carrying(run, config)
    return found


def _first_of_width(run: RunConfig, width: int | None) -> str:
    return next(name for name, config in run.cohorts.items() if config.width == width)


def _largest(run: RunConfig) -> float:
    """Bytes of the activations that one job writes, at most."""
    found: list[float] = [
        len(config.sites)
        * _rows(config)
        * ((config.width or 0) * rates.BYTES[config.activation_dtype] + rates.INDEX_BYTES)
        for cohort, config in run.cohorts.items()
        if any(member.cohort == cohort for member in plan.stored(run))
    ]
    # Of the joint study a job writes what lies below one site of a member.
    cut = [stage for stage in estimate.stages(run) if stage.name == "joint_cache"]
    found += [stage.disk_bytes / stage.jobs for stage in cut if stage.jobs]
    return max(found, default=0.0)


def batch_sizes() -> dict[str, int]:
    """By rule, how many cells the SLURM profile puts into one job.

    Raises:
        UserError: the profile is missing, as outside a checkout.
    """
    if not PROFILE.exists():
        raise UserError(f"{PROFILE} is missing: costs are told from a checkout of the project")
    profile = documents.read(PROFILE)
    return {rule: profile["group-components"][group] for rule, group in profile["groups"].items()}


def submissions(run: RunConfig) -> int:
    """Jobs that SLURM gets, at least: groups are of a cohort, or a seed, and their last ones are smaller."""
    sizes = batch_sizes()
    return sum(math.ceil(of.jobs / sizes.get(of.name, 1)) for of in estimate.stages(run))


def row(run: RunConfig) -> list[str]:
    """Of one run: name, jobs, submissions, disk, the largest job's activations, downloads, GPU-hours, CPU-hours."""
    stages = estimate.stages(run)

    def size(n: float) -> str:
        return estimate.size(n) if n else "–"

    def hours(seconds: float) -> str:
        return f"{seconds / 3600:,.0f}" if seconds >= 36_000 else f"{seconds / 3600:.1f}"

    return [
        run.run,
        f"{sum(stage.jobs for stage in stages):,}",
        f"{submissions(run):,}",
        size(sum(stage.disk_bytes for stage in stages)),
        size(_largest(run)),
        size(estimate.downloads(run)),
        hours(sum(stage.gpu_seconds for stage in stages)),
        hours(cpu_seconds(run)),
    ]


def table(runs: Iterable[RunConfig]) -> str:
    """Runs as Markdown, and the units behind their CPU-hours."""
    head = ["run", "jobs", "SLURM jobs", "disk", "largest job writes", "downloads"]
    head += ["GPU-hours", "CPU-hours"]
    lines = _markdown(head, "l" + 7 * "r", [row(run) for run in runs])
    units = [
        [
            f"`{unit.stage}`",
            f"{unit.seconds:.2f}",
            str(unit.width),
            GROWTH[unit.power] + (", rows" if unit.rows else ""),
            f"`{unit.source}`",
        ]
        for unit in UNITS
    ]
    head = ["job", "seconds on a core", "at width", "grows with", "measured in"]
    return lines + "\n" + _markdown(head, "lrrll", units)


def _markdown(head: list[str], align: str, rows: list[list[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def put(page: Path, runs: Iterable[RunConfig]) -> str:
    """A page with the table of runs between its marks.

    Raises:
        UserError: it has no marks.
    """
    return between(page, BEGIN, END, table(runs))
