"""What the page says of edited sentences, and the pages of single latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from crossseed.report import tables as t
from crossseed.report.joint.vocabulary import LEVEL, WORDS, at_site, text
from crossseed.report.tables import PAIR


def edits(tables: t.Tables, cohort: str, checkpoint: str, site: str) -> dict[str, Any]:
    """What edits of sentences do to latents of a cohort that is tried on them."""
    rows = at_site(tables.joint_counterfactuals, cohort, checkpoint, site)
    if rows.empty:
        none = "No latent that fires in both models tells a class from which an edit starts, so that none is tried."
        return {"sentences": [none], "rows": []}
    return {"sentences": _edit_sentences(rows), "rows": list(_edit_lines(rows))}


def changing(rows: pd.DataFrame) -> pd.Series:
    """Which edits change the class; the others are a placebo."""
    found: pd.Series = rows["class"] != rows.after
    return found


def feature_name(row: Any) -> str:
    """The file of a latent's page."""
    site = str(row.site).replace(".", "-")
    return f"{row.cohort}-{row.source_seed}-{row.target_seed}-{row.checkpoint}-{site}-{row.latent}.html"


def _edit_lines(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Edits that change the class first, then the others."""
    changes = changing(rows)
    for row in pd.concat([rows[changes], rows[~changes]]).itertuples():
        edit = str(row.edit).replace("_", " ")
        yield {
            "file": f"features/{feature_name(row)}",
            "latent": row.latent,
            "pair": f"{row.source_seed}, {row.target_seed}",
            "class": rows.loc[row.Index, "class"],
            "r": f"{row.r:.2f}",
            "edit": edit + (f" (to {row.after})" if changes[row.Index] else " (placebo)"),
            "model": str(row.model).upper(),
            "sentences": f"{row.items:.0f} in {row.groups:.0f}"
            + (f" ({row.silent:.0f} silent)" if row.silent else ""),
            "effect": _percent(row.effect, row.effect_low, row.effect_high),
            "control": _percent(row.control, row.control_low, row.control_high),
            "difference": _percent(row.difference, row.difference_low, row.difference_high),
            "signs": f"{row.groups_lower:.0f} : {row.groups_higher:.0f}",
            "p": f"{row.p:.2g}",
            "holm": f"{row.p_holm:.2g}",
        }


def _percent(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "–"
    interval = "" if pd.isna(low) else f" ({100 * low:+.0f} to {100 * high:+.0f})"
    return f"{100 * value:+.0f}{interval}"


def _edit_sentences(rows: pd.DataFrame) -> list[str]:
    """How many latents do what their class would have them do, beside neutral edits, and in both models."""
    known = rows.dropna(subset=["effect", "control"])
    if known.empty:
        return ["No sentence to be edited makes a chosen latent fire."]
    changes = changing(known)
    sentences = [
        _edit_sentence(part, words)
        for part, words in (
            (known[changes], "Edits that change the class"),
            (known[~changes], "A placebo, edits that leave the class,"),
        )
        if len(part)
    ]
    tested = known[changes]
    if len(tested):
        below, above = (
            tested[
                (tested.p_holm < LEVEL) & ((tested.groups_lower > tested.groups_higher) == lower)
            ]
            for lower in (True, False)
        )
        sentences.append(
            "Sentences of one template with one content word are no independent items: they count as one group, of which there "
            f"are {tested.groups.min():.0f} to {tested.groups.max():.0f} an edit. By the sign test over groups, corrected for "
            f"all edits of a pair that change the class, the peak falls more in {len(below)} of {len(tested)}, less in "
            f"{len(above)}; its p cannot be below {2.0 ** (1 - tested.groups.max()):.2g}."
        )
    by_model = known[changes].pivot_table(
        index=[*PAIR, "class", "latent", "edit"], columns="model", values="effect"
    )
    by_model = by_model.dropna()
    if by_model.shape[1] == 2 and len(by_model) > 2:
        first, second = (by_model[name] for name in by_model.columns)
        if first.std() > 0 and second.std() > 0:
            sentences.append(
                f"Effects in A and in B correlate by {first.corr(second):.2f} over {len(by_model)} latents and edits that change "
                "the class."
            )
    return sentences


def _edit_sentence(rows: pd.DataFrame, words: str) -> str:
    known = rows.dropna(subset=["difference_low", "difference_high"])
    below, above = (known.difference_high < 0).sum(), (known.difference_low > 0).sum()
    return (
        f"{words} change the peak by {100 * rows.effect.median():+.0f} %, neutral edits of the same sentences by "
        f"{100 * rows.control.median():+.0f} %, a difference of {100 * rows.difference.median():+.0f} points (medians over "
        f"{len(rows)} latents, edits and models). Its interval over groups of sentences lies below 0 in {below}, above 0 in "
        f"{above}, of {len(known)} that have one."
    )


def features(tables: t.Tables) -> list[dict[str, Any]]:
    """A page a latent: the sentences of `eval` in which it peaks highest, in A and in B, and what edits do to it."""
    contexts = tables.joint_contexts
    effects = tables.joint_counterfactuals
    if contexts.empty:
        return []
    found = []
    for key, part in contexts.groupby([*PAIR, "latent"], sort=False):
        same = effects
        for name, value in zip([*PAIR, "latent"], key, strict=True):
            same = same[same[name] == value]
        one = next(part.itertuples())
        # A latent may be among those of several classes.
        part = part.drop_duplicates(["model", "rank"])
        found.append(
            {
                "file": feature_name(one),
                "latent": one.latent,
                "cohort": one.cohort,
                "where": f"seeds {one.source_seed} (A) and {one.target_seed} (B), {one.checkpoint}, {one.site}",
                "condition": WORDS.get(text(part.condition).iloc[0], str(one.condition)),
                "r": f"{one.r:.2f}",
                "universal": bool(one.universal),
                "tells": [
                    (name, f"{row.tells_a:.2f}", f"{row.tells_b:.2f}")
                    for name, row in (
                        (values["class"].iloc[0], next(values.itertuples()))
                        for _, values in same.groupby("class", sort=False)
                    )
                ],
                "models": [
                    (str(model).upper(), [_context(row) for row in rows.itertuples()])
                    for model, rows in part.groupby("model", sort=True)
                ],
                "edits": list(_edit_lines(same)),
            }
        )
    return found


def _context(row: Any) -> dict[str, Any]:
    before, token, after = marked(str(row.context), str(row.token))
    return {
        "peak": f"{row.peak:.2f}",
        "label": row.label,
        "before": before,
        "token": token,
        "after": after,
    }


def marked(context: str, token: str) -> tuple[str, str, str]:
    """A text before, at and after the token at which a latent peaks, where it stands in it as a word once; else the token
    is told apart from the text."""
    word = token.removeprefix("##")
    places = [i for i in range(len(context)) if context.startswith(word, i)]
    if word and len(places) == 1:
        at = places[0]
        return context[:at], word, context[at + len(word) :]
    return f"{context} (at ", token, ")"
