"""What the page says of SAEs that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crossseed.report import tables as t
from crossseed.stability import ITSELF, NULLS, decay

# Before the first step, in any cohort: SAEs of a model that learned nothing are the null of trained ones.
UNTRAINED = "step0"
# Columns of the table: quantity, and the part of it.
SHOWN = {
    "strict_on_data": "shared, strict, encoders on data",
    "strict": "shared, strict",
    "dual": "shared, dual (published)",
    "dec": "shared, decoders alone",
    "agree": "both matchings agree",
    "pw_mcc": "matched cosine (PW-MCC)",
    "mmcs": "largest cosine (MMCS)",
}


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences, and a line a dictionary and site; empty without the study."""
    rows = tables.stability[tables.stability.cohort == cohort]
    if rows.empty:
        return {}
    together = trained(rows[rows["first"].isna()])
    before = rows[rows["first"].isna() & (rows.checkpoint == UNTRAINED)]
    lines = [
        _line(tables, part, _same(before, *key), *key)
        for key, part in together.groupby(["dictionary", "seed", "checkpoint", "site"], sort=False)
    ]
    return {
        "bridge": between(tables, cohort),
        "heads": [*SHOWN.values(), "firing r", "in one SAE only"],
        "rows": lines,
        "sentences": _sentences(together),
    }


def trained(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of trained models; all, where there is nothing else."""
    found = rows[rows.checkpoint != UNTRAINED]
    return found if len(found) else rows


def _same(
    before: pd.DataFrame, dictionary: str, seed: int, checkpoint: str, site: str
) -> pd.DataFrame:
    """Rows of the same cell of the model before training; none of itself."""
    chosen = before[(before.dictionary == dictionary) & (before.seed == seed)]
    return chosen[(chosen.site == site) & (chosen.checkpoint != checkpoint)]


def _one(rows: pd.DataFrame, quantity: str, part: object = "live") -> pd.Series | None:
    found = rows[(rows.quantity == quantity) & (rows.part.fillna("").astype(str) == str(part))]
    return found.iloc[0] if len(found) else None


def _cell(row: pd.Series | None, before: pd.Series | None = None) -> dict[str, str]:
    if row is None or pd.isna(row.value):
        return {"value": "–", "more": ""}
    interval = "" if pd.isna(row.low) else f"{row.low:.2f} to {row.high:.2f}"
    null = "" if pd.isna(row.null) else f"random {row.null:.2f}"
    shuffled = "" if pd.isna(row.shuffled) else f"shuffled {row.shuffled:.2f}"
    untrained = "" if before is None or pd.isna(before.value) else f"untrained {before.value:.2f}"
    said = filter(None, (interval, null, shuffled, untrained))
    return {"value": f"{row.value:.2f}", "more": "; ".join(said)}


def _wanted(tables: t.Tables, dictionary: str) -> str:
    """The L0 that a dictionary's penalty was calibrated for."""
    if tables.calibration.empty:
        return ""
    found = tables.calibration[tables.calibration.dictionary == dictionary].wanted_l0
    return f" (wanted {found.iloc[0]:g})" if len(found) else ""


def _recipe(of: Sequence[float], wanted: str = "") -> str:
    ev, l0, dead = of
    return f"EV {ev:.2f}, L0 {l0:.1f}{wanted}, dead {dead:.0%}"


def _line(
    tables: t.Tables,
    rows: pd.DataFrame,
    before: pd.DataFrame,
    dictionary: str,
    seed: int,
    checkpoint: str,
    site: str,
) -> dict[str, Any]:
    saes = tables.dictionaries
    saes = saes[
        (saes.cohort == rows.cohort.iloc[0])
        & (saes.dictionary == dictionary)
        & (saes.seed == seed)
        & (saes.checkpoint == checkpoint)
        & (saes.site == site)
    ]
    own, shuffled = (
        [
            saes[(saes.metric == name) & saes.init.str.startswith(of)].value.median()
            for name in ("ev", "l0", "dead_share")
        ]
        for of in ("seed", "shuffled")
    )
    alone = rows[rows.quantity == "alone"]
    last = alone.iloc[alone.part.astype(int).argmax()] if len(alone) else None
    cells = [_cell(_one(rows, name), _one(before, name)) for name in SHOWN]
    cells.append(_cell(_one(rows, "firing_r", ""), _one(before, "firing_r", "")))
    found = _cell(last, None if last is None else _one(before, "alone", last.part))
    if last is not None:
        found["more"] = "; ".join(filter(None, (f"of {int(last.part)}", found["more"])))
    beside = f"; on shuffled features {_recipe(shuffled)}" if pd.notna(shuffled[0]) else ""
    return {
        "dictionary": dictionary,
        "site": f"seed {seed}, {checkpoint}, {site}",
        "recipe": _recipe(own, _wanted(tables, dictionary)) + beside,
        "cells": [*cells, found],
    }


def _sentences(rows: pd.DataFrame) -> list[str]:
    """What holds of the dictionaries, each by its median over sites, and over all of them."""

    def of(quantity: str, part: str, column: str = "value") -> pd.Series:
        chosen = rows[(rows.quantity == quantity) & (rows.part.fillna("").astype(str) == part)]
        return chosen.groupby("dictionary", sort=False)[column].median().dropna()

    def listed(quantity: str) -> str:
        values, shuffled = of(quantity, "live"), of(quantity, "live", "shuffled")
        return ", ".join(
            f"{name} {value:.2f}" + (f" ({shuffled[name]:.2f})" if name in shuffled else "")
            for name, value in values.items()
        )

    beside = (
        "; in brackets SAEs on shuffled features" if len(of("pw_mcc", "live", "shuffled")) else ""
    )
    chance = {name: _range(of(name, "live", "null")) for name in ("strict_on_data", "pw_mcc")}
    sentences = [
        f"Latents that fire and are shared by two SAEs (strict, encoders compared on data{beside}; random directions "
        f"{chance['strict_on_data']}): {listed('strict_on_data')}.",
        f"Matched decoder cosine (random directions {chance['pw_mcc']}): {listed('pw_mcc')}.",
    ]
    sentences += _ends(rows)
    overlap = of("subspace_overlap", "unshared")
    if len(overlap):
        sentences.append(
            f"Directions that are in one SAE alone span subspaces that overlap by {_range(overlap)}, as many of all "
            f"that fire by {_range(of('subspace_overlap', 'any'))}, random ones of that rank by "
            f"{_range(of('subspace_overlap', 'unshared', 'null'))}."
        )
    return sentences


def _ends(rows: pd.DataFrame) -> list[str]:
    """Where the share found in one SAE only goes, if that can be told."""
    fitted = rows[rows.quantity.str.startswith("decay_") & (rows.part == "sse")]
    fitted = fitted[~fitted.quantity.str.startswith("decay_published_")]
    if fitted.empty:
        return []
    ends: dict[str, list[float]] = {form: [] for form in decay.ABOVE}
    said = []
    key = ["dictionary", "seed", "checkpoint", "site"]
    cells = rows.set_index([*key, "quantity", "part"]).value.sort_index()
    for cell, of in fitted.groupby(key):
        forms = [quantity.removeprefix("decay_") for quantity in of.quantity]
        # Without a row where there are too few points to weigh a form.
        weighed = {form: (*cell, f"decay_{form}", "aicc") for form in forms}
        aicc = {form: cells[at] for form, at in weighed.items() if at in cells.index}
        said.append(decay.told(aicc))
        if said[-1]:
            for form, values in ends.items():
                if (*cell, f"decay_{form}", "c") in cells.index:
                    values.append(cells[(*cell, f"decay_{form}", "c")])
    if not any(said):
        to_zero = said.count(False)
        return [
            "Where the share that is in one SAE only ends as SAEs are added cannot be told from so few of them"
            + (
                f"; at {to_zero} of {len(said)} dictionaries and sites a form to zero does best."
                if to_zero
                else "."
            )
        ]
    by_form = ", ".join(
        f"{_range(pd.Series(values))} by {form}" for form, values in ends.items() if values
    )
    return [
        f"The share that is in one SAE only does not go to zero at {said.count(True)} of {len(said)} dictionaries and sites, "
        f"as far as forms of few parameters tell it: it would end at {by_form}. What is found again in one SAE of "
        "hundreds looks, over these, as what never is."
    ]


def _range(values: pd.Series) -> str:
    if values.empty:
        return "–"
    if values.min() == values.max():
        return f"{values.iloc[0]:.2f}"
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


def between(tables: t.Tables, cohort: str) -> list[str]:
    """What SAEs of two members share through each map, beside what two SAEs of one member do."""
    rows = trained(tables.bridge[tables.bridge.cohort == cohort])
    sentences = []
    for dictionary, part in rows.groupby("dictionary", sort=False):
        said = []
        for quantity, words in (
            ("strict_on_data", "latents are shared, strict, encoders on data"),
            ("pw_mcc", "is the mean matched decoder cosine"),
        ):
            of = part[part.quantity == quantity].groupby("arm").value.median()
            if ITSELF not in of or "procrustes" not in of:
                continue
            nulls = of[of.index.isin(NULLS)]
            said.append(
                f"{of[ITSELF]:.2f} {words} for two SAEs of one member, {of['procrustes']:.2f} for SAEs of two members "
                f"after one rotation, {of['raw']:.2f} without a map, {nulls.max():.2f} for the best map that matches no "
                f"token ({str(nulls.idxmax()).replace('_', ' ')})"
            )
        if said:
            sentences.append(f"Between members, {dictionary}: {'; '.join(said)}.")
    return sentences
