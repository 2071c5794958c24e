"""The figures that pages of studies quote from the default run, kept small and committed.

    python benchmarks/studies.py results/reports/default COMMIT   # after `make run` at COMMIT

`results/default_studies.csv` has a line a figure that `quoted.py` finds in a page; `tests/test_docs_numbers.py` holds one against the
other, so that a page cannot go stale unseen. Medians are over pairs, members and sites, less sites at which both models' activations are equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import answer
import pandas as pd
import quoted

from crossseed.claim_rule import ALPHA
from crossseed.report import tables as t
from crossseed.report.intervention_figures import measure_of

TABLE = answer.RESULTS / "default_studies.csv"
COLUMNS = ("commit", "config", "page", "figure", "value")
COHORTS = {"independent": "dyck-independent", "shared": "dyck-shared"}
LAST = "blocks.1.hook_resid_post"
Figures = Iterator[tuple[str, float]]


def spread(name: str, values: pd.Series) -> Figures:
    yield name, values.median()
    yield f"{name}.low", values.min()
    yield f"{name}.high", values.max()


def steering(tables: t.Tables, cohort: str) -> Figures:
    rows = tables.steering[tables.steering.cohort == cohort]
    keys = [*t.PAIR, "concept"]
    of = pd.concat([part[part.measure == measure_of(part)] for _, part in rows.groupby("concept")])
    ratio = of[of.metric == "ratio"].dropna(subset=["value"])
    for (concept, arm), part in ratio.groupby(["concept", "arm"]):
        yield f"{concept}.{arm}", part.value.median()
        if arm == "random":
            yield f"{concept}.low", part.low.median()
            yield f"{concept}.high", part.high.median()
    native = of[(of.arm == "native") & (of.metric == "slope")]
    works = native[(native.low > 0) | (native.high < 0)][keys]
    yield "works", len(works)
    told = of[of.metric == "p_random"].merge(works, on=keys)
    for arm, part in told.groupby("arm"):
        yield f"beyond.{arm}", (part.value <= ALPHA).sum()
    raw = ratio[ratio.arm == "raw"].set_index(keys)
    band = ratio[ratio.arm == "random"].set_index(keys).low.reindex(raw.index)
    yield "inverted", (raw.high < 0).sum()
    yield "inverted_beyond", ((raw.high < 0) & (raw.value < band)).sum()
    pinned = rows[(rows.arm == "native") & (rows.metric == "pinned_share")].set_index(keys).value
    both = pd.concat([pinned.rename("pinned"), raw.value.rename("raw")], axis=1).dropna()
    yield "pinned.vectors", len(both)
    yield "pinned.rank_correlation", both.pinned.rank().corr(both.raw.rank())


def attribution(tables: t.Tables, _: str) -> Figures:
    rows = tables.attribution
    for (method, points, metric), part in rows.groupby(["method", "points", "metric"]):
        if metric in ("pearson", "relative_error"):
            yield from spread(f"{method}.{points:.0f}.{metric}", part.value)
    yield "cells", rows.n_cells.max()
    yield "models", len(rows.drop_duplicates(["cohort", "seed"]))


def single_latents(tables: t.Tables, cohort: str) -> Figures:
    rows = tables.features[(tables.features.cohort == cohort) & tables.features.latent.isna()]
    for (metric, strength, arm), part in rows.groupby(["metric", "strength", "arm"], dropna=False):
        if metric in ("agreement", "auc") or (metric, strength) == ("transfer_ratio", 4):
            yield from spread(f"{metric}.{arm}", part.value)
    own = tables.dictionaries
    own = own[(own.cohort == cohort) & (own.metric == "l0") & (own.init == rows.init.iloc[0])]
    yield "l0", own[own.dictionary == rows.dictionary.iloc[0]].value.median()


def rotation(tables: t.Tables, cohort: str) -> Figures:
    def internal(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[(rows.cohort == cohort) & (rows.site != answer.NOT_INTERNAL)]

    fits, spliced = internal(tables.fits), internal(tables.splice)
    carried = fits[fits.metric == "alignment_ev"]
    spliced = spliced[spliced.dictionary.isna() & (spliced.metric == "ce_recovered")]
    for name, rows in (("alignment", carried), ("ce", spliced)):
        for arm in ("raw", "procrustes", "scaled", "ridge", "shared", "resampled"):
            yield f"{name}.{arm}", rows[rows.arm == arm].value.median()
            last = rows[(rows.arm == arm) & (rows.site == LAST)].value.median()
            yield f"{name}.{arm}.last", last
    yield "alignment.procrustes.low", carried[carried.arm == "procrustes"].value.min()
    for arm in ("procrustes", "twin_16", "twin_4"):
        part = spliced[spliced.arm == arm].value
        yield f"ce.{arm}.low", part.min()
        yield f"ce.{arm}.high", part.max()
    firing = t.crossed(internal(tables.transfer))
    firing = firing[(firing.metric == "firing_r") & (firing.dictionary == "topk-x8")]
    for arm in ("procrustes", "resampled"):
        yield f"topk.firing_r.{arm}", firing[firing.arm == arm].value.median()
    evidence = internal(tables.evidence)
    evidence = evidence[evidence.dictionary == answer.DICTIONARY]
    for metric in ("evx_3", "firing_r", "ce_recovered", "ev_published"):
        part = evidence[evidence.metric == metric]
        yield f"evidence.{metric}.shared", part.shared.sum()
        yield f"evidence.{metric}.cells", len(part)
        yield f"evidence.{metric}.null", part.null.median()


def haar(tables: t.Tables, cohort: str) -> Figures:
    ranks = tables.fits[(tables.fits.cohort == cohort) & (tables.fits.metric == "numerical_rank")]
    yield from spread("rank", ranks.value)
    skip = t.same_sites(tables.fits, cohort)

    def different(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[(rows.cohort == cohort) & ~rows.site.isin(skip)]

    tests = different(tables.haar)
    tests = tests[tests.holm.notna() & (tests.basis != "across")]
    yield "whole", (tests.subspace == "whole").sum()
    for name, part in tests.groupby("map"):
        lowest = part.groupby(t.PAIR).holm.min()
        yield f"told.{name}", (lowest <= ALPHA).sum()
        yield f"tested.{name}", len(lowest)
    one = different(tables.ks)
    for name, part in one[one.matrices == 1].groupby("map"):
        yield f"ks.{name}", part.p_published.median()
    composed = different(tables.cocycle)
    yield "tau", composed.tau_weighted.median()
    yield "tau.shuffled", composed.tau_weighted_shuffled.median()


def constructive(tables: t.Tables, cohort: str) -> Figures:
    weights = tables.weights[(tables.weights.cohort == cohort) & (tables.weights.tensor == "all")]
    for (arm, metric), part in weights.groupby(["arm", "metric"]):
        if metric in ("relative_error", "max_mse"):
            yield from spread(f"{metric}.{arm}", part.value)
    joint = tables.joint[(tables.joint.cohort == cohort) & (tables.joint["lambda"] == 1)]
    joint = joint[joint.objective == "published"]
    for method, rows in joint.groupby("method"):
        ends = [
            # Of both determinants the one that is the optimum.
            part.loc[part.groupby(t.PAIR[:-1]).loss.idxmin(), "activation_error"].median()
            for _, part in rows.groupby("start")
        ]
        yield from spread(f"lambda.{method}", pd.Series(ends))
    bars = tables.bars[tables.bars.cohort == cohort]
    for protocol, part in bars[bars.part == "moved copy"].groupby("protocol"):
        yield f"moved.{protocol}", part.value.median()
    wrong = bars[(bars.quantity == "error_rate") & (bars.part == "all depth")]
    yield "depth_error", wrong[wrong.candidate == "itself"].value.median()
    decided = bars[(bars.predictor == "integrated") & bars.part.isin(["components", "edges"])]
    for (candidate, bar, protocol), part in decided.groupby(["candidate", "bar", "protocol"]):
        name = f"{candidate}.{bar}.{protocol}"
        yield from spread(name, part.value)
        yield f"{name}.null", part.null.median()
        yield f"{name}.rejected", part.rejected.sum()
    apart = bars[(bars.quantity == "kl") & (bars.part == "all mean")]
    for candidate, part in apart.groupby("candidate"):
        yield f"{candidate}.kl", part.value.median()
    lenses = tables.lenses[(tables.lenses.cohort == cohort) & (tables.lenses.component == "model")]
    model = lenses[lenses.part.astype(str) == "0.001"].set_index("quantity")
    yield "edges_kept", model.value["edges_kept"]
    yield "edges", model.null["edges_kept"]
    yield "loss_added", model.value["loss_added"]
    yield "loss_added.null", model.null["loss_added"]


def tutorial(tables: t.Tables, cohort: str) -> Figures:
    rows = t.crossed(tables.transfer)
    rows = rows[(rows.cohort == cohort) & (rows.dictionary == answer.DICTIONARY)]
    for metric in ("ev", "firing_r"):
        of = rows[rows.metric == metric].groupby("arm").value.median()
        yield f"{metric}.procrustes", of["procrustes"]
        yield (
            f"{metric}.null",
            of.reindex([arm.name for arm in answer.ARMS if arm.kind == "null"]).max(),
        )


PAGES = {
    "steering": steering,
    "single-latents": single_latents,
    "rotation": rotation,
    "haar": haar,
    "constructive": constructive,
    "tutorial": tutorial,
}

# Told as sums over both cohorts.
ALSO = {
    "haar": [
        f"{c}.{of}.{m}"
        for c in COHORTS
        for of in ("told", "tested")
        for m in ("procrustes", "shuffled")
    ]
}


def measured(tables: t.Tables) -> Iterator[tuple[str, str, float]]:
    """Page, figure and value; figures of one cohort begin with its word."""
    for figure, value in attribution(tables, ""):
        yield "attribution", figure, value
    for word, cohort in COHORTS.items():
        skip = t.same_sites(tables.fits, cohort)
        told = tables._replace(
            steering=tables.steering[~tables.steering.site.isin(skip)],
            features=tables.features[~tables.features.site.isin(skip)],
        )
        for page, figures in PAGES.items():
            for figure, value in figures(told, cohort):
                yield page, f"{word}.{figure}", value


def main(report: str, commit: str) -> None:
    folder = Path(report) / "tables"
    made = [path.stem for path in folder.glob("*.csv") if path.stem in t.Tables._fields]
    tables = t.of_one_checkpoint(t.read(folder, made))
    found = {(page, figure): value for page, figure, value in measured(tables)}
    wanted = [
        (page, figure)
        for page in quoted.PAGES
        for figure in (*quoted.names(page), *ALSO.get(page, ()))
    ]
    answer._write(
        TABLE,
        COLUMNS,
        [
            dict(zip(COLUMNS, (commit, answer.CONFIG, *key, f"{found[key]:.6g}"), strict=True))
            for key in wanted
        ],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
