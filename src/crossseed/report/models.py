"""What the page says of the models that a run trained."""

from __future__ import annotations

from typing import Any

from crossseed.report import tables as t
from crossseed.report.listing import Cell, Table, cells


def quality(tables: t.Tables) -> list[Table]:
    """Final held-out measures of the trained models, one table for all cohorts with equal columns."""
    rows = tables.quality
    last = rows[rows.step == rows.groupby(["cohort", "seed"]).step.transform("max")]
    found: dict[tuple[Any, ...], list[list[Cell]]] = {}
    for (cohort, seed), part in last.groupby(["cohort", "seed"]):
        columns = tuple(zip(part.distribution, part.measure, strict=True))
        texts = [
            _measure(name, value) for name, value in zip(part.measure, part.value, strict=True)
        ]
        found.setdefault(columns, []).append(cells(cohort, seed, *texts))
    return [
        Table(
            f"t-quality-{number}",
            "Models that the run trained, at their last step, measured per position on held-out sequences; every seed of a cohort "
            "on the same ones. Accuracies in percent, losses in nats a token.",
            ["cohort", "seed", *(f"{d}, {m.replace('_', ' ')}" for d, m in columns)],
            entries,
        )
        for number, (columns, entries) in enumerate(found.items())
    ]


def _measure(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.startswith("accuracy") else f"{value:.3f}"


def language_models(tables: t.Tables) -> list[str]:
    """Whether the language models that the run trained beat models that only count."""
    rows = tables.quality[tables.quality.measure.str.endswith("loss_nats")]
    last = rows[rows.step == rows.groupby(["cohort", "seed"]).step.transform("max")]
    sentences = []
    for cohort, part in last.groupby("cohort"):
        worst = part.groupby("measure").value.max()
        best = part.groupby("measure").value.min()
        if not {"loss_nats", "unigram_loss_nats", "bigram_loss_nats"} <= set(worst.index):
            continue
        beaten = worst["loss_nats"] < best["bigram_loss_nats"]
        sentences.append(
            f"On text that no model of {cohort} was trained on, the worst seed has a loss of "
            f"{worst['loss_nats']:.2f} nats a token, against {best['unigram_loss_nats']:.2f} of a "
            f"unigram and {best['bigram_loss_nats']:.2f} of a bigram model counted on the training "
            "text: "
            + ("every seed beats both." if beaten else "not every seed has learnt more than pairs.")
        )
    return sentences
