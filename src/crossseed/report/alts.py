"""What a figure says to a reader who does not see it: what is drawn, along which axes, and its main number beside its null."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from crossseed.report import tables as t
from crossseed.report.captions import caption, kind_of
from crossseed.report.joint import vocabulary
from crossseed.report.stability import trained

# Of more cohorts the median is over all of them.
MOST_COHORTS = 4
_DESCRIBED = re.compile(rb"<dc:description>(.*?)</dc:description>", re.DOTALL)


class Measured(NamedTuple):
    """The main number of a kind of figure: a median over rows of a table.

    Attributes:
        of: what the rows have, by column. null: the same of its null, or the column that holds it; none where the figure
        has none. words, against: what the two are. null_table: that of the null, where it is another, whose rows have what `null` says.
    """

    table: str
    words: str
    of: Mapping[str, str]
    null: Mapping[str, str] | str | None = None
    against: str = ""
    column: str = "value"
    null_table: str = ""


_ROTATED, _SHUFFLED = {"arm": "procrustes"}, {"arm": "shuffled"}
_BY_SHUFFLED = "through one fitted on shuffled tokens"
_CARRIED = {"metric": "alignment_ev", **_ROTATED}
_COSINE = Measured(
    "stability",
    "mean cosine of matched decoder directions",
    {"quantity": "pw_mcc", "part": "all"},
    "null",
    "of random directions",
)
_DRIFTED = "activations of the reference that a rotation explains"
# By kind of figure, as captions are.
MEASURED = {
    "ev": Measured("transfer", "explained variance after the rotation", {"metric": "ev", **_ROTATED}, _SHUFFLED, _BY_SHUFFLED),
    "firing": Measured("transfer", "firing correlation after the rotation", {"metric": "firing_r", **_ROTATED}, _SHUFFLED, _BY_SHUFFLED),
    "published-ev": Measured("published", "explained variance as published, rotated", {"quantity": "ev_rotated"}, {"quantity": "ev_gaussian"}, "on Gaussian noise"),
    "ladder": Measured("fits", "activations explained after the rotation", _CARRIED, _SHUFFLED, _BY_SHUFFLED),
    "twins": Measured("transfer", "explained variance after the rotation, over all dictionaries", {"metric": "ev", **_ROTATED}, _SHUFFLED, _BY_SHUFFLED),
    "decoder-cosine": Measured("decoder_cosine", "largest decoder cosine, independent starts, rotated", {"init": "independent", "map": "rotated"}, "random_floor", "of random directions", "mean_max_cosine"),
    "published-rotation": Measured("published", "distance of R from the identity as published", {"quantity": "rotation_distance"}, {"metric": "rotation_distance", "arm": "random"}, "of a random rotation", null_table="fits"),
    "eigenphases": Measured("ks", "Kolmogorov-Smirnov distance of eigenphases as published, beside their law for large d", {"map": "procrustes"}, {"map": "shuffled"}, _BY_SHUFFLED, "ks_published"),
    "power": Measured("power", "share of matrices near the identity that tests reject", {"alternative": "near_identity"}, {"alternative": "haar"}, "of Haar draws", "rejected"),
    "steering-doses": Measured("steering", "response to the rotated vector over the native response", {"metric": "ratio", "arm": "mapped"}, _SHUFFLED, _BY_SHUFFLED),
    "steering-regimes": Measured("steering", "response to the raw vector over the native response", {"metric": "ratio", "arm": "raw"}, {"arm": "random"}, "of random directions"),
    "features": Measured("features", "agreement of what rotated latents do with the source", {"metric": "agreement", "arm": "ported"}, _SHUFFLED, _BY_SHUFFLED),
    "attribution": Measured("attribution", "correlation of predicted with measured effects, integrated gradients", {"metric": "pearson", "method": "right"}, {"method": "size"}, "by the size of a component's output alone"),
    "attribution-cost": Measured("attribution", "relative error of integrated gradients", {"metric": "relative_error", "method": "right"}, {"method": "other_batch"}, "of what another batch measures"),
    "stability": _COSINE,
    "stability-sweeps": _COSINE,
    "stability-latents": _COSINE,
    "stability-decay": Measured("stability", "share of latents in one of two SAEs only", {"quantity": "alone", "part": "2"}, "null", "of random directions"),
    "bridge": Measured("bridge", "mean cosine of matched decoder directions after the rotation", {"quantity": "pw_mcc", **_ROTATED}, _SHUFFLED, _BY_SHUFFLED),
    "interpret": Measured("interpret", "balanced accuracy of detection", {"quantity": "detection"}, "null", "of explanations that are not the latent's"),
    "weights": Measured("weights", "relative error of aligned weights", {"metric": "relative_error", "tensor": "all", "arm": "aligned"}, {"arm": "random"}, "of random elements"),
    "weights-joint": Measured("joint", "weight error of the published search with one more rotation", {"objective": "published", "method": "published"}, {"method": "given"}, "without it", "weight_error"),
    "bars": Measured("bars", "correlation of effects predicted for another seed", {"bar": "Pr", "protocol": "rigorous", "quantity": "r", "part": "components", "candidate": "sibling"}, "null", "with heads under each other's names"),
    "edges": Measured("causes", "nats of loss that cutting an edge adds", {}, column="measured_nats"),
    "joint": Measured("joint_conditions", "share of universal latents of one SAE with W", {"condition": "5", "measure": vocabulary.SHARE}, "null", "with tokens shifted"),
    "joint-geometry": Measured("joint_conditions", "mean absolute cosine of active latents of one SAE with W", {"condition": "5", "measure": "cosine"}, "null", "of random directions"),
    "joint-nulls": Measured("joint_nulls", "universal latents retrained with W", {"measure": vocabulary.COUNT, "null": "true"}, {"null": "mismatched"}, "with W of shuffled tokens"),
    "joint-sizes": Measured("joint_sizes", "normalised error of W on held-out sequences", {}, "null_nre", "with A's tokens paired with others of B", "nre"),
    "joint-counterfactuals": Measured("joint_counterfactuals", "relative change of a latent's peak by an edit", {}, "control", "by a neutral edit", "effect"),
    "drift-checkpoint": Measured("drift", _DRIFTED, {"comparison": "checkpoint", **_CARRIED}, _SHUFFLED, _BY_SHUFFLED),
    "drift-seed": Measured("drift", "activations of the anchor that a rotation explains", {"comparison": "seed", **_CARRIED}, _SHUFFLED, _BY_SHUFFLED),
    "drift-ev": Measured("drift", "explained variance after the rotation", {"metric": "ev", **_ROTATED}, _SHUFFLED, _BY_SHUFFLED),
    "training": Measured("training", "training loss in nats over all steps", {}, column="loss_nats"),
}  # fmt: skip


def axes_of(svg: bytes) -> str:
    """What a figure's file says of its axes; see `crossseed.report.style.axes_in_words`."""
    found = _DESCRIBED.search(svg)
    return html.unescape(found[1].decode()) if found else ""


def of_figure(name: str, axes: str, tables: t.Tables) -> str:
    """The text of a figure: the first sentence of its caption, its axes, and its main number.

    Args:
        axes: in words.
    """
    opens = re.split(r"(?<=[a-z0-9)])\. ", caption(name))[0].rstrip(".")
    return " ".join(filter(None, [f"{opens}.", axes, measured(name, tables)]))


def measured(name: str, tables: t.Tables) -> str:
    """The main number of a figure, cohort by cohort where these are few; nothing where no row has it."""
    kind = kind_of(name)
    what = MEASURED[kind]
    rows = _rows(what.table, tables)
    if "dictionary" in rows and len(name) > len(kind):
        rows = rows[rows.dictionary == name[len(kind) + 1 :]]
    if "cohort" not in rows:
        rows = rows.assign(cohort="all")
    cohorts = list(pd.unique(rows.cohort))
    groups = [[one] for one in cohorts] if len(cohorts) <= MOST_COHORTS else [cohorts]
    said = [
        (names[0] if len(names) == 1 else "all cohorts", *found)
        for names in groups
        if (found := _medians(what, rows[rows.cohort.isin(names)], _others(what, names, tables)))
    ]
    if not said:
        return ""
    numbers = "; ".join(
        (f"{of}: " if len(said) > 1 else "")
        + number(value)
        + ("" if null is None else f", {what.against} {number(null)}")
        for of, value, null in said
    )
    return f"Median of {what.words}: {numbers}."


def _rows(name: str, tables: t.Tables) -> pd.DataFrame:
    """Rows of trained models, and of two models where there are two."""
    rows = getattr(tables, name)
    if name.startswith("joint_"):
        rows = vocabulary.read(rows)
    if name == "stability" and len(rows):
        rows = trained(rows)
    return t.crossed(rows) if name in ("transfer", "fits") and len(rows) else rows


def _others(what: Measured, cohorts: list[str], tables: t.Tables) -> pd.DataFrame | None:
    """Rows of another table that holds the null."""
    if not what.null_table:
        return None
    rows = _rows(what.null_table, tables)
    return rows[rows.cohort.isin(cohorts)]


def _medians(
    what: Measured, rows: pd.DataFrame, others: pd.DataFrame | None
) -> tuple[float, float | None] | None:
    """The median of what is measured, and of its null."""
    part = _having(rows, what.of)
    value = part[what.column].median() if len(part) else float("nan")
    if pd.isna(value):
        return None
    if isinstance(what.null, str):
        null = pd.to_numeric(part[what.null]).median()
    elif others is not None and what.null is not None:
        null = _having(others, what.null)[what.column].median()
    elif what.null is not None:
        null = _having(rows, {**what.of, **what.null})[what.column].median()
    else:
        null = float("nan")
    return float(value), None if pd.isna(null) else float(null)


def _having(rows: pd.DataFrame, of: Mapping[str, str]) -> pd.DataFrame:
    for column, value in of.items():
        rows = rows[rows[column].astype(str) == value]
    return rows


def number(value: float) -> str:
    """Three digits, with a minus that is read as one."""
    return f"{value:.3g}".replace("-", "−")
