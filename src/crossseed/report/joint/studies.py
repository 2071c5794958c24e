"""What the page says of SAEs that two models share, study by study, and the tables that each is read from."""

from __future__ import annotations

from typing import Any

from crossseed.report.listing import Study, Table, anchor, cell, cells, joined, noted

OPENS = (
    "Model A is the first of a pair, B the second; W is the rotation that carries B’s activations to A’s. A latent is active where "
    "it fires on enough held-out tokens in both models, dead otherwise, and universal where its activations in A and in B correlate "
    "by the threshold and more (published: .7). Matchings, W and SAEs are fitted on other sentences than those scored."
)
SMALL = (
    "Small: the 95 % interval (over pairs; of one pair over its texts), and the null, in which one model’s tokens are shifted "
    "against the other’s, where latents are matched those that they are matched on too (of cosines: random directions)."
)
EDITS = {
    "pair": "pair",
    "class": "tells",
    "r": "r",
    "edit": "edit",
    "model": "model",
    "sentences": "sentences in groups",
    "effect": "change of the peak, %",
    "control": "under neutral edits, %",
    "difference": "difference",
    "signs": "groups lower : higher",
    "p": "p",
    "holm": "corrected",
}


def at_a_glance(glance: dict[str, Any]) -> Table:
    """The share of latents that fire alike, by cohort and condition; see `glance.of_run`."""
    return Table(
        "t-universal",
        "Universal latents, in percent of those active in both models: mean over pairs. Small: its 95 % interval over pairs (of "
        "two: their range), and how many such latents there are.",
        ["models", *glance["heads"]],
        [[cell(row["label"]), *noted(row["cells"])] for row in glance["rows"]],
    )


def of_cohort(cohort: dict[str, Any]) -> list[Study]:
    """A study a checkpoint and site, see `section.of_cohort`."""
    return [_of_part(cohort["name"], number, part) for number, part in enumerate(cohort["parts"])]


def _of_part(cohort: str, number: int, part: dict[str, Any]) -> Study:
    said = [("", joined(part["sentences"]))]
    tables = [
        Table(
            anchor("t", "joint", cohort, number, words),
            f"{cohort}, {part['where']}: conditions, {words}. {SMALL}",
            ["condition", *part["heads"]],
            [[cell(row["label"]), *noted(row["cells"])] for row in rows],
        )
        for words, rows in part["tables"]
    ]
    for title, key, make in (
        ("Maps.", "nulls", _maps),
        ("Sample size.", "sizes", _sizes),
        ("Edited sentences.", "edits", _edits),
    ):
        if part[key]:
            said.append((title, joined(part[key]["sentences"])))
            name = anchor("t", "joint", cohort, number, key)
            tables += [t for t in make(name, f"{cohort}, {part['where']}", part[key]) if t.rows]
    pairs = f"{part['pairs']} pair{'s' if part['pairs'] != 1 else ''}"
    return Study(f"{part['where']}; {pairs}", [one for one in said if one[1]], tables)


def _maps(name: str, where: str, found: dict[str, Any]) -> list[Table]:
    def rows(key: str, *columns: str) -> list[Any]:
        return [cells(row["label"], *(row[column] for column in columns)) for row in found[key]]

    return [
        Table(
            f"{name}-retrained",
            f"{where}: SAEs retrained with other maps.",
            [
                *("SAE retrained with", "retrainings", "universal latents, mean", "range"),
                *("of active ones, %", "normalised error, held out"),
            ],
            rows("retrained", "n", "universal", "range", "share", "nre"),
        ),
        Table(
            f"{name}-replicated",
            f"{where}: W less no map, equal starts and orders.",
            [
                *("measure", "mean", "95 % over starts, or range over pairs"),
                *("sd between retrainings with one map", "p of sign flips"),
            ],
            rows("replicated", "value", "interval", "noise", "p"),
        ),
        Table(
            f"{name}-errors",
            f"{where}: errors of maps.",
            [
                *("map", "normalised error, held out", "interval, or range over pairs"),
                *("where fitted", "determinant"),
            ],
            rows("fits", "nre", "interval", "fit", "determinant"),
        ),
        Table(
            f"{name}-tests",
            f"{where}: tests of maps without training.",
            [
                *("statistic, map", "value", "against", "these, mean ± sd", "best of them"),
                *("draws", "p = (1 + as good) / (1 + draws)"),
            ],
            rows("tests", "value", "against", "null", "best", "draws", "p"),
        ),
    ]


def _sizes(name: str, where: str, found: dict[str, Any]) -> list[Table]:
    rows = [[cell(row["label"]), *cells(*row["cells"])] for row in found["halves"]]
    caption = f"{where}: W fitted on halves of the sequences."
    return [Table(name, caption, ["pair", *found["heads"]], rows)]


def _edits(name: str, where: str, found: dict[str, Any]) -> list[Table]:
    rows = [
        [cell(row["latent"], href=row["file"]), *cells(*(row[key] for key in EDITS))]
        for row in found["rows"]
    ]
    caption = f"{where}: latents, edits and models; each latent has a page of its own."
    return [Table(name, caption, ["latent", *EDITS.values()], rows)]
