"""What the page says of one cohort, study by study, and the table that each is read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crossseed.report.listing import Cell, Study, Table, anchor, cell, cells, joined, noted

Cohort = dict[str, Any]


def of_cohort(cohort: Cohort) -> list[Study]:
    """The studies that a run made of a cohort, in reading order; see `crossseed.report.answer.of_cohort`."""
    found = [_transfer(cohort, section) for section in cohort["sections"]]
    for title, key in (("The activations", "companions"), ("The rotations", "haar")):
        if cohort[key]:
            found.append(Study(title, [("", joined(cohort[key]))], []))
    if cohort["steering"]:
        found.append(_steering(cohort))
    for title, key in (("Single latents", "features"), ("Attribution", "attribution")):
        if cohort[key]:
            found.append(Study(title, [("", joined(cohort[key]))], []))
    found += [make(cohort) for key, make in TABLED.items() if cohort[key]]
    if cohort["drift"]:
        found.append(Study("Drift", [("", joined(cohort["drift"]))], []))
    return found


def _transfer(cohort: Cohort, section: dict[str, Any]) -> Study:
    name = section["dictionary"]
    rows = [
        cells(row["arm"], row["ev"], row["firing"], row["alignment"]) for row in section["rows"]
    ]
    table = Table(
        anchor("t", cohort["name"], name),
        f"Cohort {cohort['name']}, dictionary {name}, by what it is tried on: median (range) over pairs and sites.",
        ["activations tried", "explained variance", "firing correlation", "fit of the map"],
        rows,
    )
    return Study(f"Dictionary {name}", [("", joined(section["sentences"]))], [table])


def _steering(cohort: Cohort) -> Study:
    heads = [
        *("vector", "ratio to native", "medians of the ends of its 95 % intervals, or bands"),
        *("cosine of effects", "predictions intended, dose 2", "loss added elsewhere, dose 2 (nats)"),
        "divergence over that within the source, as published, dose 2",
    ]  # fmt: skip
    keys = ("arm", "ratio", "interval", "cosine", "share", "damage", "kl")
    tables = [
        Table(
            anchor("t", cohort["name"], "steering", part["concept"]),
            f"Cohort {cohort['name']}, steering, {part['concept']}: median (range) over pairs and sites.",
            heads,
            [cells(*(row[key] for key in keys)) for row in part["rows"]],
        )
        for part in cohort["steering"]
    ]
    opens = (
        "Vectors are added at every position of a site; all have the length of the target's own. Ratios are of slopes on "
        "held-out trials, so that a sign shows."
    )
    paragraphs = [("", joined([opens, *cohort["regimes"]]))]
    paragraphs += [(f"{p['concept']}.", joined(p["sentences"])) for p in cohort["steering"]]
    return Study("Steering", paragraphs, tables)


def _ports(cohort: Cohort) -> Study:
    rows = [
        [cell(f"{row['dictionary']} by {row['map']}"), *cells(row["source_seed"], row["target_seed"], row["site"], word, *values)]
        for row in cohort["ports"]
        for word, values in zip(
            ("explained variance", "firing correlation", "cross-entropy recovered"), row["cells"], strict=True
        )
    ]  # fmt: skip
    table = Table(
        anchor("t", cohort["name"], "ports"),
        f"Cohort {cohort['name']}, ported dictionaries on held-out tokens of the target; in brackets the 95 % interval. Best "
        "null: the best of the maps that know no pairing; own: the target's dictionary of the same recipe; source: the "
        "dictionary on the source.",
        [
            *("dictionary", "from seed", "to seed", "site", "measure", "ported", "raw"),
            *("best null", "own", "source"),
        ],
        rows,
    )
    said = (
        f"{len(cohort['ports'])} dictionaries lie in results/{cohort['name']}/ports/, each as a folder that SAELens loads, its "
        "card beside it."
    )
    return Study("Ported dictionaries", [("", said)], [table])


def _stability(cohort: Cohort) -> Study:
    found = cohort["stability"]
    opens = "SAEs of one member and site that differ in nothing but their seed, on the same data in the same order."
    paragraphs = [("", joined([opens, *found["sentences"]]))]
    if found["bridge"]:
        paragraphs.append(("", joined(found["bridge"])))
    table = Table(
        anchor("t", cohort["name"], "stability"),
        f"Cohort {cohort['name']}, stability over SAE seeds. Small: the 95 % interval, and nulls.",
        ["dictionary", "site", "SAEs (median)", *found["heads"]],
        [
            [*cells(row["dictionary"], row["site"], row["recipe"]), *noted(row["cells"])]
            for row in found["rows"]
        ],
    )
    return Study("Stability", paragraphs, [table])


def _graded(
    title: str, key: str, names: Sequence[str], opens: str, caption: str
) -> Callable[[Cohort], Study]:
    """A study of one paragraph and one table, whose rows have names and cells with something small below.

    Args:
        key: of what is said of it, and its table's anchor. names: of the columns that say what a row is of.
    """

    def study(cohort: Cohort) -> Study:
        found = cohort[key]
        table = Table(
            anchor("t", cohort["name"], key),
            f"Cohort {cohort['name']}, {caption}",
            [*names, *found["heads"]],
            [
                [*cells(*(row[name] for name in names)), *noted(row["cells"])]
                for row in found["rows"]
            ],
        )
        return Study(title, [("", joined([opens, *found["sentences"]]))], [table])

    return study


_absorption = _graded(
    "Absorption",
    "absorption",
    ("dictionary", "site"),
    "First letters of tokens that are words, read on held-out documents from token ids that no probe was fitted on. A rate "
    "says something only where a letter's latents read it, with an F1 far above that of permuted letters: latents that "
    "read nothing are silent by chance, and some other one carries the projection.",
    "absorption of first letters.",
)
_interpret = _graded(
    "Interpretability",
    "interpret",
    ("dictionary", "site", "scorer"),
    "Latents of the first SAE seed, drawn evenly from those found in exactly 1, 2, … SAEs: balanced accuracy on held-out "
    "windows of saying where they fire.",
    "interpretability of latents by the number of SAEs that have them. Small: 95 % interval, null.",
)


def _weights(cohort: Cohort) -> Study:
    found = cohort["weights"]
    table = Table(
        anchor("t", cohort["name"], "weights"),
        f"Cohort {cohort['name']}, weights moved from one member to another: median (range) over pairs.",
        [
            *("weights moved", "relative error"),
            *("largest mean squared difference of a tensor", "mean squared difference"),
        ],
        [
            cells(row["arm"], row["relative_error"], row["max_mse"], row["global_mse"])
            for row in found["rows"]
        ],
    )
    paragraphs = [("", joined(found["sentences"])), ("", joined(found["joint"]))]
    return Study("Weights", [said for said in paragraphs if said[1]], [table])


def _bars(cohort: Cohort) -> Study:
    found = cohort["bars"]
    opens = (
        "B: behaviour below 1e-4 nats; P: parameters, below 1e-3 as published, .032 as a relative error; C: causes and Pr: "
        "predictions, above .99. Medians over members or pairs. A candidate is rejected by a bar that the model itself passes, "
        "and rigorously also by C and Pr where the model's effects predict it reliably worse than the model itself, by more "
        "than .01; in how many of all members or pairs."
    )
    table = Table(
        anchor("t", cohort["name"], "bars"),
        f"Cohort {cohort['name']}, four bars: medians. Small: how many pass, and the null.",
        ["candidate", *found["heads"]],
        [
            [cell(row["candidate"]), *noted(row["cells"]), *cells(*row["rejected"])]
            for row in found["rows"]
        ],
    )
    return Study("Four bars", [("", joined([opens, *found["sentences"]]))], [table])


def _lenses(cohort: Cohort) -> Study:
    opens = (
        "Weights: norm and effective rank of what a head carries (OV), or an MLP writes. Dictionaries: what a transcoder of an "
        "MLP, or a dictionary of what a head writes, explains with how many latents a token (null in brackets). Causal: loss "
        "added by ablation, and edges that pruning keeps at the first threshold. Polyhedral: activation patterns of an MLP; how "
        "many of its neurons a head's ablation flips (another token's write in brackets). Constructive: held-out variance of "
        "what the component writes that features of the task explain, and as roles what only a group of them explains."
    )
    members = cohort["lenses"]["members"]
    keys = (
        *("component", "norm", "rank", "dictionary", "effect", "edges", "regions", "explained"),
        *("roles", "remarks"),
    )
    rows: list[list[Cell]] = [
        cells(f"seed {member['seed']}, {row['component']}", *(row[key] for key in keys[1:]))
        for member in members
        for row in member["rows"]
    ]
    table = Table(
        anchor("t", cohort["name"], "lenses"),
        f"Cohort {cohort['name']}, components through five lenses.",
        [
            *("component", "norm", "effective rank", "dictionary", "ablation (nats)", "edges kept"),
            *("regions", "explained by the task", "roles", "where lenses disagree"),
        ],
        rows,
    )
    paragraphs = [("", opens)]
    paragraphs += [(f"Seed {member['seed']}.", joined(member["sentences"])) for member in members]
    return Study("Five lenses", paragraphs, [table])


# Studies with a table, by what `answer.of_cohort` names them, in reading order.
TABLED: dict[str, Callable[[Cohort], Study]] = {
    "ports": _ports,
    "stability": _stability,
    "absorption": _absorption,
    "interpret": _interpret,
    "weights": _weights,
    "bars": _bars,
    "lenses": _lenses,
}
