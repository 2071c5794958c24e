"""The rerun table: for every config leaf, what one changed value makes run again.

`CASES` says for each leaf of each kind of cohort which value is changed in one of three small runs
and which output files must then be made again, and no others; its parts lie in `reruns/`. The test compares this with
Snakemake's plan; `python tests/rerun.py` writes the table of docs/reruns.md and the short one of README.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

from reruns import cells, classifiers, cohorts, dictionaries, joint, members, pairs, runs, stability
from reruns.classifiers import BASE_CHECKPOINT, LABELLED_FILES, LABELLED_HUB
from reruns.cohorts import HUB_CORPUS
from reruns.patterns import KINDS, ROOT, Case

from crossseed.config import reference
from crossseed.config.schema import RunConfig

PARTS = (runs, cells, cohorts, classifiers, joint, dictionaries, pairs, members, stability)
CASES = [case for part in PARTS for case in part.CASES]

# A tag decides which other keys there are: changing it alone is no valid configuration.
TAGS = {
    "cohorts.*.kind",
    "cohorts.*.corpus.source",
    "cohorts.*.data.source",
    "cohorts.*.model.source",
    "dictionaries.*.architecture",
}
# Leaves changed by a case that replaces the block they stand in.
OF_BLOCKS = {
    "cohorts.*.corpus": {f"cohorts.*.corpus.{key}" for key in HUB_CORPUS},
    "cohorts.*.data": {
        f"cohorts.*.data.{key}" for key in LABELLED_HUB.keys() | LABELLED_FILES.keys()
    },
    "cohorts.*.model": {f"cohorts.*.model.{key}" for key in BASE_CHECKPOINT},
    "drift": {"drift.reference"},
    # A scorer and its model go together.
    "stability.interpret": {"stability.interpret.scorer", "stability.interpret.model"},
}


def leaf_of(case: Case) -> str:
    """The schema's leaf, or block, that a case changes."""
    return re.sub(r"^(cohorts|dictionaries)\.[^.]+\.", r"\1.*.", case.path)


def kind_of(case: Case) -> str:
    """The kind of cohort that a case is about; empty for keys outside the cohorts."""
    return KINDS[case.path.split(".")[1]] if case.path.startswith("cohorts.") else ""


def leaves() -> Iterator[tuple[str, str]]:
    """(kind of cohort or empty, path) of every leaf that can be changed alone."""
    cohorts = typing.get_args(RunConfig.model_fields["cohorts"].annotation)[1]
    for model in reference.models_of(cohorts):
        kind = typing.get_args(model.model_fields["kind"].annotation)[0]
        for leaf in reference.leaves(model, "cohorts.*."):
            yield kind, leaf.path
    for leaf in reference.leaves():
        if not leaf.path.startswith("cohorts."):
            yield "", leaf.path


def covered() -> set[tuple[str, str]]:
    """(kind, path) of every leaf that some case changes."""
    return {
        (kind_of(case), path)
        for case in CASES
        for path in OF_BLOCKS.get(leaf_of(case), {leaf_of(case)})
    }


def table() -> str:
    """The rerun table as Markdown: a row for each block of keys with one consequence."""
    rows: dict[tuple[str, str], list[str]] = {}
    for case in CASES:
        keys = rows.setdefault((kind_of(case), case.reruns), [])
        for path in sorted(OF_BLOCKS.get(leaf_of(case), {leaf_of(case)}) - TAGS):
            if path not in keys:
                keys.append(path)
    lines = ["| cohort | edit one of these keys | → these run again |", "|---|---|---|"]
    for (kind, reruns), keys in rows.items():
        listed = "<br>".join(f"`{key}`" for key in keys)
        lines.append(f"| {kind and f'`{kind}`'} | {listed} | {reruns} |")
    tags = "<br>".join(f"`{key}`" for key in sorted(TAGS))
    lines.append(f"| | {tags} | decides which other keys there are: all that those name |")
    return "\n".join(lines) + "\n"


# Keys of the short table: (kind of cohort, path).
SHORT = (
    ("dyck", "cohorts.*.seeds"), ("dyck", "cohorts.*.sites"), ("dyck", "cohorts.*.training.steps"), ("dyck", "cohorts.*.tokens.eval"),
    ("", "dictionaries.*.k"), ("", "transfer.pairs"), ("", "transfer.resamples"), ("", "steering.directions"), ("", "weights.starts"),
    ("", "bars.orders"), ("", "claims.dictionary"), ("", "run"), ("", "device"),
)  # fmt: skip


def short_table() -> str:
    """A few rows of the rerun table, for README."""
    said = {(kind_of(case), leaf_of(case)): case.reruns for case in CASES}
    lines = ["| edit | → these run again |", "|---|---|"]
    lines += [f"| `{path}` | {said[kind, path]} |" for kind, path in SHORT]
    return "\n".join(lines) + "\n"


def written(page: Path, mark: str, text: str) -> str:
    """A page with a table between its marks."""
    head, opening, rest = page.read_text(encoding="utf-8").partition(
        f"<!-- {mark}: python tests/rerun.py -->\n"
    )
    _, ending, tail = rest.partition(f"<!-- end of {mark} -->")
    if not ending:
        raise SystemExit(
            f"{page} has no place for the {mark}: <!-- {mark}: … --> and <!-- end of {mark} -->"
        )
    return head + opening + text + ending + tail


if __name__ == "__main__":
    for name, mark, text in (
        ("docs/reruns.md", "rerun table", table()),
        ("README.md", "short rerun table", short_table()),
    ):
        page = ROOT / name
        page.write_text(written(page, mark, text), encoding="utf-8")
