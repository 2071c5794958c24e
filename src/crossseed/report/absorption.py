"""What the page says of first letters in SAEs, and of latents that take them over."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed.absorption import RANDOM
from crossseed.report import tables as t

# Columns of the table: quantity, and its words. Means over letters.
SHOWN = {
    "probe_f1": "probe F1",
    "latent_f1": "F1 of a letter's first latent",
    "split_latents": "latents a letter",
    "silent": "silent, of rows that the probe reads",
    "absorbed_of_silent": "absorbed, of silent",
    "absorption_rate": "absorption rate",
    "main_reappears": "a letter's latents in other SAEs",
    "absorber_reappears": "absorbing latents in other SAEs",
}
OF_OTHERS = ("main_reappears", "absorber_reappears", "reappears_difference")


def of_cohort(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences, and a line a dictionary and site; empty without the study."""
    rows = tables.absorption[tables.absorption.cohort == cohort]
    if rows.empty:
        return {}
    lines, sentences = [], []
    by_cell = rows.groupby(["dictionary", "seed", "checkpoint", "site"], sort=False)
    for (dictionary, seed, checkpoint, site), part in by_cell:
        where = f"{dictionary} at {site}" + ("" if len(by_cell) == 1 else f" of seed {seed}")
        sentences.append(_sentence(where, part))
        lines.append(
            {
                "dictionary": dictionary,
                "site": f"seed {seed}, {checkpoint}, {site}",
                "cells": [_letters(part), *(_cell(part, quantity) for quantity in SHOWN)],
            }
        )
    return {"heads": ["letters", *SHOWN.values()], "rows": lines, "sentences": sentences}


def _one(rows: pd.DataFrame, quantity: str, init: str = "") -> pd.Series | None:
    """The mean over letters, and over SAE seeds or of one."""
    chosen = rows[(rows.quantity == quantity) & rows.letter.isna()]
    chosen = chosen[chosen.init.isna() if not init else chosen.init == init]
    return chosen.iloc[0] if len(chosen) else None


def _letters(rows: pd.DataFrame) -> dict[str, str]:
    kept, rare, weak = (_one(rows, f"letters_{name}") for name in ("kept", "rare", "weak"))
    assert kept is not None
    assert rare is not None
    assert weak is not None
    left_out = [
        f"{row.value:.0f} {words}"
        for row, words in ((rare, "with too few tokens"), (weak, "with too weak a probe"))
        if row.value
    ]
    return {"value": f"{kept.value:.0f} of {kept.n}", "more": "; ".join(left_out)}


def _interval(row: pd.Series) -> str:
    return "" if pd.isna(row.low) else f"{row.low:.2f} to {row.high:.2f}"


def _cell(rows: pd.DataFrame, quantity: str) -> dict[str, str]:
    row, random = _one(rows, quantity), _one(rows, quantity, RANDOM)
    if row is None or pd.isna(row.value):
        return {"value": "–", "more": ""}
    of_others = quantity in OF_OTHERS
    chance = "latents as frequent" if of_others else "permuted letters"
    said = [
        _interval(row),
        "" if pd.isna(row.null) else f"{chance} {row.null:.2f}",
        "" if random is None or pd.isna(random.value) else f"random {random.value:.2f}",
        f"{row.n:.0f} letter{'' if row.n == 1 else 's'}" if of_others else "",
    ]
    return {"value": f"{row.value:.2f}", "more": "; ".join(filter(None, said))}


def _sentence(where: str, rows: pd.DataFrame) -> str:
    kept = _one(rows, "letters_kept")
    assert kept is not None
    if not kept.value:
        return f"{where}: no letter has both enough tokens and a probe that reads it, so nothing can be said of its latents."
    rate, difference = _one(rows, "absorption_rate"), _one(rows, "reappears_difference")
    if rate is None or pd.isna(rate.value):
        return f"{where}: the probes read no held-out row of a letter that has a latent."
    random = _one(rows, "absorption_rate", RANDOM)
    beside = [] if pd.isna(rate.null) else [f"{rate.null:.2f} with letters permuted over tokens"]
    if random is not None and not pd.isna(random.value):
        beside.append(f"{random.value:.2f} in a random dictionary")
    held = f" ({_interval(rate)})" if _interval(rate) else ""
    said = f"{where}: of rows whose letter the probe reads, the letter's latents are silent and another one carries {rate.value:.2f}{held}"
    said += f", {' and '.join(beside)}" if beside else ""
    read = _one(rows, "latent_f1")
    if read is None or pd.isna(read.null) or read.value <= 2 * read.null:
        return f"{said}; the letters' latents do not read them better than permuted letters, so that this is no absorption."
    return said + f". {_compared(difference)}"


def _compared(difference: pd.Series | None) -> str:
    """Whether absorbing latents are found in fewer other SAEs than the letters' own."""
    if difference is None or pd.isna(difference.value):
        return "No letter has absorbing latents to compare with its own."
    by = f"{difference.value:+.2f} (their frequencies alone: {difference.null:+.2f}; {difference.n:.0f} letters)"
    if pd.isna(difference.low):
        return (
            f"Latents of letters less absorbing ones, share of other SAEs that have them: {by}; too few letters "
            "for an interval."
        )
    held = f"{by}, 95 % interval {_interval(difference)}"
    if difference.low > max(difference.null, 0):
        return f"Absorbing latents are found in fewer other SAEs than the letters' own: {held}."
    if difference.high < min(difference.null, 0):
        return f"Absorbing latents are found in more other SAEs than the letters' own: {held}."
    return f"Whether absorbing latents are found in fewer other SAEs than the letters' own cannot be told: {held}."
