"""The page of a run: one HTML file that a person reads offline from top to bottom, and that asks for nothing else.

Verdicts, figures, tables, provenance, times, versions, in this order. All of it is there without JavaScript, which adds
sorting and filtering (`templates/page.js`) and the rows of the run's tables beyond the first.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from crossseed import joblogs
from crossseed.errors import UserError
from crossseed.report import alts, answer, embedded, figures, models, provenance, studies, times
from crossseed.report import tables as t
from crossseed.report.captions import caption
from crossseed.report.joint import glance, section
from crossseed.report.joint import studies as joint_studies
from crossseed.report.listing import Study, Table, anchor, joined
from crossseed.store import write_text

_SIZE = re.compile(rb'<svg[^>]* height="([\d.]+)pt"[^>]* width="([\d.]+)pt"|<svg[^>]*? width="([\d.]+)pt"[^>]*? height="([\d.]+)pt"')  # fmt: skip
POINT = 4 / 3


class Group(NamedTuple):
    """What is said of one cohort.

    Attributes: opens: paragraphs before its studies.
    """

    name: str
    title: str
    opens: list[str]
    studies: list[Study]

    @property
    def tables(self) -> list[Table]:
        return [table for study in self.studies for table in study.tables]


class Drawn(NamedTuple):
    """A figure on the page: its name, an image as a data URI, its size in CSS pixels, what it shows, and the same for those who
    do not see it."""

    name: str
    source: str
    width: int
    height: int
    caption: str
    alt: str


def drawn(folder: Path, name: str, tables: t.Tables) -> Drawn:
    """A figure that was drawn into a folder.

    Raises:
        UserError: the figure says no size in points.
    """
    data = (folder / f"{name}.svg").read_bytes()
    found = _SIZE.search(data[:4000])
    if found is None:
        raise UserError(f"{folder / name}.svg: says no size in points; draw the figures again")
    height, width = (found[1], found[2]) if found[1] else (found[4], found[3])
    source = "data:image/svg+xml;base64," + base64.b64encode(data).decode()
    size = round(POINT * float(width)), round(POINT * float(height))
    alt = alts.of_figure(name, alts.axes_of(data), tables)
    return Drawn(name, source, *size, caption(name), alt)


def of_cohort(cohort: dict[str, Any]) -> Group:
    """What is said of a cohort; see `crossseed.report.answer.of_cohort`."""
    seeds = ", ".join(str(seed) for seed in cohort["seeds"])
    shared = (
        f"the others copy {', '.join(cohort['shared'])} from the anchor and keep them frozen."
        if cohort["shared"]
        else "no weight is shared."
    )
    same = (
        f" At {', '.join(cohort['same_sites'])} all models compute the same activations, so raw equals own; left out of the "
        "medians below."
        if cohort["same_sites"]
        else ""
    )
    name = cohort["name"]
    opens = [f"Seeds {seeds}; anchor {cohort['anchor']}; {shared}{same}"]
    return Group(anchor("cohort", name), f"Cohort {name}", opens, studies.of_cohort(cohort))


def of_joint(joint: Mapping[str, Any]) -> list[Group]:
    """What is said of SAEs that two models share, a group a cohort; see `crossseed.report.joint.section.of_run`."""
    opens = [joint_studies.OPENS, *filter(None, [joined(joint.get("regression", []))])]
    return [
        Group(
            anchor("joint", cohort["name"]),
            "One SAE for two models: "
            + ", ".join(filter(None, [cohort["data"], cohort["kind"]]))
            + f" ({cohort['name']})",
            opens if number == 0 else [],
            joint_studies.of_cohort(cohort),
        )
        for number, cohort in enumerate(joint.get("cohorts", []))
    ]


def _write_features(
    environment: jinja2.Environment, shared: Mapping[str, Any], run: str, folder: Path
) -> None:
    """A page a latent that was tried on edited sentences, and nothing else, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.html"):
        old.unlink()
    template = environment.get_template("feature.html.j2")
    for feature in shared.get("features", []):
        write_text(folder / feature["file"], template.render(run=run, **feature))


def write(spec: dict[str, Any], results: Path, page: Path) -> None:
    """Draws the figures of a run and writes its page.

    Args:
        spec: ``run``, ``edited`` (cohorts whose latents are tried on edited sentences), and by cohort ``kind``,
            ``anchor``, ``seeds``, ``sites``, ``shared``, ``width``.
        results: root of all results, where benchmarks and logs lie.
        page: HTML file to write; the run's tables lie in ``tables/`` beside it.

    Raises:
        UserError: a table is missing or empty.
    """
    folder = page.parent
    info: dict[str, Any] = spec["cohorts"]
    try:
        tables = t.of_one_checkpoint(t.read(folder / "tables", spec["tables"]))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / 'tables'}: {error}; run the workflow to make the tables"
        ) from error
    variants = {name: about["recipe"] for name, about in spec["dictionaries"].items()}
    names = figures.draw_all(
        tables, info, variants, spec["drift"], folder / "figures", spec["tables"]
    )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crossseed.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = section.of_run(tables, spec["edited"])
    if "joint_contexts" in spec["tables"]:
        _write_features(environment, shared, spec["run"], folder / "features")
    cohorts = [answer.of_cohort(tables, name, about) for name, about in info.items()]
    # Of cohorts that only joint SAEs are trained on, all is said there.
    said = [of_cohort(cohort) for cohort in cohorts if not (shared and cohort["silent"])]
    jobs = [job for cohort in info for job in joblogs.read(results / cohort / "logs")]
    stages = times.of_run(results, spec["run"], list(info))
    files = [embedded.read(folder / "tables" / f"{name}.csv") for name in sorted(spec["tables"])]
    at_a_glance = glance.of_run(tables)
    text = environment.get_template("index.html.j2").render(
        run=spec["run"],
        only_joint=bool(shared) and all(cohort["silent"] for cohort in cohorts),
        claims=answer.claims(tables),
        glance=at_a_glance,
        glance_table=joint_studies.at_a_glance(at_a_glance) if at_a_glance else None,
        groups=said + of_joint(shared),
        figures=[drawn(folder / "figures", name, tables) for name in names],
        quality=models.quality(tables) if len(tables.quality) else [],
        language_models=models.language_models(tables) if len(tables.quality) else [],
        files=files,
        checkpoint=next(iter(tables.dictionaries.checkpoint), None),
        provenance=[
            provenance.configuration(spec),
            provenance.settings(jobs),
            provenance.models(results, list(info), jobs),
            provenance.digests([(file.file, file.n_rows, file.digest) for file in files]),
        ],
        times=times.table(stages),
        times_said=times.sentence(stages),
        versions=provenance.versions(),
    )
    write_text(page, text)
