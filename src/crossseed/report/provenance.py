"""Where a run comes from: its configuration, what its jobs were told, its models, the digests of its tables, and versions."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from crossseed import __version__, closure, joblogs
from crossseed.report.listing import Cell, Table, cell, cells

# More values than that of one setting are those of its cells.
FEW_VALUES = 3
# What tells cells apart, and artefacts, not settings.
OF_CELLS = ("seed", "source", "target", "activations", "member", "site", "checkpoint", "cohort")
PACKAGES = (
    *("h5py", "jinja2", "matplotlib", "numpy", "pandas", "pydantic", "safetensors", "scipy"),
    *("seaborn", "snakemake", "torch", "transformers"),
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Keys of nested mappings with dots between them, and the values as JSON, texts without quotes."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def configuration(spec: Mapping[str, Any]) -> Table:
    """What the run's cohorts and dictionaries are."""
    rows: list[list[Cell]] = []
    for kind, word in (("cohorts", "cohort"), ("dictionaries", "dictionary")):
        for name, about in spec[kind].items():
            rows += [cells(f"{word} {name}", *leaf) for leaf in sorted(leaves(about))]
    rows += [cells("drift", *leaf) for leaf in sorted(leaves(spec["drift"] or {})) if leaf[0]]
    caption = "What cohorts, dictionaries and drift were configured to be."
    return Table("t-configuration", caption, ["of", "key", "value"], rows)


def settings(jobs: Sequence[joblogs.Job]) -> Table:
    """What the jobs of each verb were told, by their logs, but for what tells one cell from another."""
    told: dict[str, dict[str, dict[str, None]]] = {}
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job.verb] = counts.get(job.verb, 0) + 1
        for key, value in leaves(job.spec):
            told.setdefault(job.verb, {}).setdefault(key, {})[value] = None
    rows = [
        cells(verb, counts[verb], key, " | ".join(values))
        for verb in sorted(told)
        for key, values in sorted(told[verb].items())
        if key and len(values) <= FEW_VALUES and not _of_cells(key)
    ]
    caption = (
        "What the jobs of each verb were told, by the logs that lie in the folders of the run's cohorts. Values that differ "
        f"between jobs are separated by |; keys with more than {FEW_VALUES} values are left out."
    )
    return Table("t-settings", caption, ["verb", "jobs", "key", "value"], rows)


def _of_cells(key: str) -> bool:
    return any(part in OF_CELLS or part.endswith("_seed") for part in key.split("."))


def models(results: Path, cohorts: Sequence[str], jobs: Sequence[joblogs.Job]) -> Table:
    """Weights that the run trained, with their digests, and models that it read from elsewhere."""
    rows = []
    trained = {
        path: digest
        for job in jobs
        if job.verb == "train"
        for path, digest in job.wrote.items()
        if path.endswith(".safetensors")
    }
    for weights, digest in sorted(trained.items()):
        folder, _, name = weights.partition("/models/")
        rows.append(cells(Path(folder).name, name, "trained by this run", digest))
    for cohort in cohorts:
        for path in sorted((results / cohort / "checks").glob("*.csv")):
            with open(path, newline="", encoding="utf-8") as handle:
                for row in csv.DictReader(handle):
                    which = f"seed {row['seed']}, {row['checkpoint']}: {row['model_id']}"
                    rows.append(cells(cohort, which, "read", row["commit"]))
    caption = "Models: digest of the weights that were trained, or commit of the repository that they were read from, where it has one."
    return Table("t-models", caption, ["cohort", "model", "how it came", "digest or commit"], rows)


def digests(found: Sequence[tuple[str, int, str]]) -> Table:
    """The run's tables: name of the file, rows, digest."""
    rows = [[cell(name, href=f"tables/{name}"), *cells(n, digest)] for name, n, digest in found]
    caption = (
        "Tables of the run: BLAKE2b of 16 bytes, as the logs of the jobs that wrote them have it."
    )
    return Table("t-digests", caption, ["file", "rows", "digest"], rows)


def versions() -> Table:
    """Of what wrote the page."""
    rows = [
        cells("crossseed", __version__),
        cells("code of crossseed", closure.package_digest()),
        cells("Python", platform.python_version()),
        cells("system", f"{platform.system()} {platform.machine()}"),
    ]
    for name in PACKAGES:
        try:
            rows.append(cells(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(cells(name, "not installed"))
    # No commit: one of the documentation alone would give other bytes for the same results.
    caption = (
        "Versions, where this page was written. Of crossseed's code the digest: two checkouts with the same one measure the same, "
        'however their comments, their documentation and what was not committed differ. `python -c "from crossseed import '
        'closure; print(closure.package_digest())"` prints that of a checkout.'
    )
    return Table("t-versions", caption, ["software", "version"], rows)
