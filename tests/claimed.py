"""Claims and measured cells that tests of verdicts are made of."""

import pandas as pd

from crossseed.claims import cells as of

SITES = ["s0", "s1", "s2"]


CELL = {"cohort": "c", "source_seed": 0, "target_seed": 1, "checkpoint": "final"}


def claim(name, low, high, site="internal", tolerance=0.05):
    return of.Claim(f"toy-{name}", "words", "toy-shared", site, "", low, high, tolerance, "post")


def cells(site="internal", **tables):
    frames = {
        name: pd.DataFrame([{**CELL, "site": s, **row} for row in rows for s in SITES])
        for name, rows in tables.items()
    }
    return of.Cells(frames, "c", "final", of.chosen(site, SITES), "v")
