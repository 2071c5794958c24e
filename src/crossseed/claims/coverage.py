"""How each published figure is measured, or what measuring it needs: from the wiring, the tables and the shipped configs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossseed import estimate, plan, specs
from crossseed.claims import cells, verdicts
from crossseed.claims.cells import Claim, Wiring
from crossseed.claims.trace import CELL, Read, reads
from crossseed.config.load import load_files
from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import name_of
from crossseed.errors import UserError
from crossseed.estimate.rates import BYTES
from crossseed.tables import COLUMNS

ROOT = Path(__file__).parents[3]
# The rule whose jobs measure a table's rows; `collect` joins them.
RULES = {
    "fits": "fits",
    "transfer": "transfer",
    "evidence": "transfer",
    "decoder_cosine": "cosine",
    "haar": "haar",
    "ks": "ks",
    "published": "published",
    "steering": "steer",
    "attribution": "attribute",
    "weights": "weights",
    "joint": "weights",
    "bars": "bars",
    "drift": "drift",
    "stability": "stability",
    "joint_conditions": "joint_evaluate",
    "joint_nulls": "joint_null",
    "joint_tests": "joint_tests",
    "joint_sizes": "joint_size",
    "joint_halves": "joint_size",
    "joint_counterfactuals": "joint_counterfactuals",
    "joint_regression": "joint_tables",
}
# Figures that no shipped config measures, by the claim's name, and what measuring them takes.
NEEDS = {
    "weight-edits": (
        "a study of weight edits, which this version does not have; the published statement has no number, no model and no "
        "data to hold one against. At the toy's size it would be CPU hours, once a rule writes edited members"
    ),
    "frontier-sae-transfer": (
        "two independently trained models of ten billion parameters with published SAEs, which nobody has released; the "
        "statement is a prediction without a number. What such a pair takes is estimated in docs/beyond-one-cluster.md for "
        "docs/hypothetical/pair-10b.yaml"
    ),
}


class Measures(NamedTuple):
    """What the three parts of a wiring read."""

    as_published: tuple[Read, ...]
    rigorous: tuple[Read, ...]
    null: tuple[Read, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(read.table for part in self for read in part))

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(RULES[table] for table in self.tables))


class Source(NamedTuple):
    """A shipped config that measures figures of a cohort, and what it takes.

    Attributes:
        config: below the repository. models: of the cohort, and how many. parameters: of one.
        hours: GPU-hours of the whole config, on one data-centre GPU. disk: bytes of its results. data: what is read.
    """

    config: str
    models: str
    parameters: int
    hours: float
    disk: float
    data: str


class Coverage(NamedTuple):
    """A published figure and what measures it.

    Attributes:
        kind: the name of its wiring; empty where it has none.
        measures: None so. sources: configs that have the cohort, the site, the dictionaries and the tables.
        needs: what measuring it takes where no config does.
    """

    claim: Claim
    kind: str
    measures: Measures | None
    sources: tuple[Source, ...]
    needs: str


def published(folder: Path = ROOT / "resources/published") -> list[Claim]:
    """All published figures.

    Raises:
        UserError: the folder has none.
    """
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise UserError(
            f"{folder} has no published figures; run it in a copy of the repository, installed with `pip install -e .`"
        )
    return [claim for path in paths for claim in cells.read(path)]


def shipped(folder: Path = ROOT / "config") -> dict[str, RunConfig]:
    """Configs that judge claims, by name; that of tests is none that measures anything."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        run = load_files(path)
        if run.claims is not None and path.stem != "smoke":
            found[f"config/{path.name}"] = run
    return found


def coverage(claims: Sequence[Claim], runs: dict[str, RunConfig]) -> list[Coverage]:
    """How each figure is measured, by which of the configs, or what it needs."""
    return [_covered(claim, runs) for claim in claims]


def _covered(claim: Claim, runs: dict[str, RunConfig]) -> Coverage:
    kind = claim.claim if claim.claim in verdicts.WIRED else verdicts.name_of(claim)
    if kind not in verdicts.WIRED:
        return Coverage(claim, "", None, (), NEEDS.get(claim.claim, ""))
    named = [(name, run) for name, run in runs.items() if _has(run, claim, kind)]
    sources = tuple(_source(name, run, claim.cohort) for name, run in named)
    measures = _measures(kind, "variant-x1")
    return Coverage(claim, kind, measures, sources, "" if sources else NEEDS.get(claim.claim, ""))


@functools.cache
def _measures(kind: str, dictionary: str) -> Measures:
    wiring: Wiring = verdicts.WIRED[kind]
    nulls = wiring.null if isinstance(wiring.null, tuple) else (wiring.null,)
    parts = [
        reads(values, COLUMNS, dictionary) for values in (wiring.as_published, wiring.rigorous)
    ]
    null = dict.fromkeys(read for values in nulls for read in reads(values, COLUMNS, dictionary))
    return Measures(parts[0], parts[1], tuple(null))


def _has(run: RunConfig, claim: Claim, kind: str) -> bool:
    """Whether a run has what the figure as published is read from: cohort, site, tables, dictionaries."""
    spec = specs.claims(run)
    role = spec["cohorts"].get(claim.cohort)
    if role is None:
        return False
    if claim.site != "model" and not cells.chosen(claim.site, role["sites"]):
        return False
    dictionary = cells.dictionary_of(claim, spec["dictionary"])
    asked = _measures(kind, dictionary).as_published
    tables = _tables(run.model_dump_json(), run)
    made = {name_of(name, e) for name, of in run.dictionaries.items() for e in of.expansions}
    wanted = {word for read in asked for column, word in read.words if column == "dictionary"}
    return all(read.table in tables for read in asked) and wanted - {""} <= made


_KNOWN: dict[str, frozenset[str]] = {}


def _tables(key: str, run: RunConfig) -> frozenset[str]:
    if key not in _KNOWN:
        _KNOWN[key] = frozenset(plan.tables(run))
    return _KNOWN[key]


_SOURCES: dict[tuple[str, str], Source] = {}


def _source(name: str, run: RunConfig, cohort: str) -> Source:
    if (name, cohort) not in _SOURCES:
        assert run.claims is not None
        config = run.cohorts[run.claims.cohorts[cohort]]
        told: dict[str, Any] = config.model_dump()
        stages = estimate.stages(run)
        model = told.get("model")
        identity = model.get("id") if isinstance(model, dict) else None
        if isinstance(identity, dict):
            identity = ", ".join(identity.values())
        seeds = len(config.seeds)
        _SOURCES[name, cohort] = Source(
            name,
            f"{identity or config.kind}, {seeds} {'member' if seeds == 1 else 'members'}",
            config.parameters or config.loaded_bytes // BYTES[told.get("precision", "float32")],
            sum(stage.gpu_seconds for stage in stages) / 3600,
            sum(stage.disk_bytes for stage in stages),
            _data(told),
        )
    return _SOURCES[name, cohort]


def _data(told: dict[str, Any]) -> str:
    """What a cohort reads."""
    source = told.get("corpus") or told.get("data") or {}
    if source.get("train_file"):
        return f"files of your own, {source['train_file']}"
    return str(source.get("dataset") or source.get("source") or "generated")


# --- words --------------------------------------------------------------------------------


def told_of(reads_: Sequence[Read]) -> str:
    """``transfer: metric, value (arm = procrustes)``, table by table."""
    parts = []
    for read in reads_:
        columns = ", ".join(column for column in read.columns if column not in CELL)
        words = ", ".join(f"{n} = {word}" for n, word in read.words if n not in CELL and word)
        parts.append(f"{read.table}: {columns}" + (f" ({words})" if words else ""))
    return "; ".join(parts) or "none"


def figure(claim: Claim) -> str:
    """The printed figure."""
    if claim.low != claim.low:
        return "no number"
    return f"{claim.low:g}" if claim.low == claim.high else f"{claim.low:g} to {claim.high:g}"


def takes(source: Source) -> str:
    """What a claim's models take, in words: how many and how large, GPU-hours, disk and data."""
    size = (
        f"{source.parameters / 1e6:,.0f} M"
        if source.parameters >= 1e6
        else f"{source.parameters:,}"
    )
    hours = f"{source.hours:.1f}" if source.hours < 10 else f"{source.hours:,.0f}"
    return f"{source.models}, {size} parameters each; {hours} GPU-hours, {estimate.size(source.disk)}; data: {source.data}"


def summary(found: Sequence[Coverage]) -> str:
    """One line."""
    wired = [c for c in found if c.measures is not None]
    ready = [c for c in wired if c.sources]
    return (
        f"{len(found):,} published figures: {len(wired):,} wired to a measurement, {len(ready):,} of them in a shipped "
        f"config; {len(found) - len(ready):,} say what they need."
    )


def text(found: Sequence[Coverage]) -> str:
    """A block a figure, for a terminal."""
    lines = []
    for c in found:
        lines.append(f"{c.claim.claim}  [{figure(c.claim)}]  {c.claim.quantity}")
        if c.measures is not None:
            lines.append(f"    as published   {told_of(c.measures.as_published)}")
            lines.append(f"    as it should   {told_of(c.measures.rigorous)}")
            lines.append(f"    control        {told_of(c.measures.null)}")
            lines.append(f"    rules          {', '.join(c.measures.rules)}")
        lines += [f"    run            {s.config}: {takes(s)}" for s in c.sources]
        if c.needs:
            lines.append(f"    needs          {c.needs}")
    return "\n".join([*lines, "", summary(found), ""])


def tell(word: str | None) -> None:
    """Prints figures, those whose name has a word.

    Raises:
        UserError: none has.
    """
    found = [c for c in coverage(published(), shipped()) if (word or "") in c.claim.claim]
    if not found:
        raise UserError(
            f"no published figure has {word!r} in its name; `crossseed claims` lists all"
        )
    print(text(found), end="")


def page() -> str:
    """All published figures, as Markdown."""
    found = coverage(published(), shipped())
    lines = [
        "# Published figures and what measures them",
        "",
        "Made by `crossseed reference claims`; `crossseed claims --coverage WORD` says the same of figures whose name has a word.",
        "",
        summary(found),
        "",
        "A figure of `resources/published/*.csv` is measured as published, as it should be, and with a control; the verdict of a run",
        "is in its `claims.csv` ([artefacts](artefacts.md)). Columns that say which cell a row is of are left out.",
        "",
        "## What configs take",
        "",
        "GPU-hours and disk are of the whole config, by [its estimate](configuration.md).",
        "",
        "| published cohort | config | takes |",
        "|---|---|---|",
    ]
    pairs = {(c.claim.cohort, s): None for c in found for s in c.sources}
    lines += [f"| {cohort} | `{s.config}` | {_cell(takes(s))} |" for cohort, s in pairs]
    lines += ["", "## How they are measured", ""]
    lines += [
        "| kind | as published | as it should be | control | rules |",
        "|---|---|---|---|---|",
    ]
    kinds = {c.kind: c.measures for c in found if c.measures is not None}
    for kind, of in sorted(kinds.items()):
        read = " | ".join(_cell(told_of(part)) for part in of)
        lines.append(f"| {kind} | {read} | {', '.join(f'`{rule}`' for rule in of.rules)} |")
    lines += [
        "",
        "## Figures",
        "",
        "| claim | quantity | printed | kind | configs, or what it needs |",
    ]
    lines.append("|---|---|---|---|---|")
    for c in found:
        where = ", ".join(f"`{s.config}`" for s in c.sources) or c.needs
        cells_ = (c.claim.claim, c.claim.quantity, figure(c.claim), c.kind or "–", where)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells_) + " |")
    return "\n".join([*lines, ""])


def _cell(text_: str) -> str:
    return text_.replace("|", "\\|")
