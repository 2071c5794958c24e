"""Scores of latents by in how many SAEs they are found: means, contrasts and their nulls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crossseed.interpret import QUANTITIES
from crossseed.interpret.latents import Latent, Row
from crossseed.metrics import Estimate, jackknife
from crossseed.seeding import generator

# Latents below which no interval is told: it would reach beyond 0 and 1.
LEAST_LATENTS = 5
# Shuffles of which latent is found in how many SAEs.
SHUFFLES = 999
# Latents are told apart by how often they fire: quarters of those scored.
STRATA = 4
# Of latents: their scores, in how many SAEs each is found, and by how often it fires its stratum, (latents,) each.
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def step(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """Mean score of latents found in more than one SAE less that of those in one alone; NaN without either. All (latents,)."""
    alone = found_in == 1
    if alone.all() or not alone.any():
        return float("nan")
    return float(score[~alone].mean() - score[alone].mean())


def step_same_density(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """The same between latents that fire about as often: least squares with a level for each quarter of
    density, (latents,) each; NaN where these do not tell the two apart."""
    shared = found_in > 1
    levels = stratum[:, None] == np.unique(stratum)
    design = np.column_stack([shared, levels]).astype(float)
    found, _, rank, _ = np.linalg.lstsq(design, score, rcond=None)
    return float(found[0]) if rank == design.shape[1] else float("nan")


def slope(score: np.ndarray, found_in: np.ndarray, stratum: np.ndarray) -> float:
    """Change of the score with every SAE more, among latents found in two or more, (latents,) each; NaN where all are in
    equally many."""
    several = found_in > 1
    k = found_in[several] - found_in[several].mean() if several.any() else np.zeros(1)
    return float(k @ score[several] / (k @ k)) if (k @ k) > 0 else float("nan")


CONTRASTS: dict[str, Statistic] = {
    "step": step,
    "step_same_density": step_same_density,
    "slope": slope,
}


def _within(group: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values exchanged among those of one group."""
    found = values.copy()
    for name in np.unique(group):
        inside = np.flatnonzero(group == name)
        found[inside] = values[rng.permutation(inside)]
    return found


def exchanged(
    of: Statistic, found_in: np.ndarray, stratum: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """In how many SAEs latents are found, exchanged among those that a contrast takes for alike: (latents,): where it
    is at equal density those of one stratum, where it is among shared latents these alone."""
    if of is step_same_density:
        return _within(stratum, found_in, rng)
    return _within(found_in > 1, found_in, rng) if of is slope else rng.permutation(found_in)


def contrast(
    of: Statistic,
    score: np.ndarray,
    found_in: np.ndarray,
    stratum: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Estimate, float, float]:
    """A contrast with its interval by leaving out one latent at a time, its mean where it is `exchanged` which latent is
    found in how many SAEs, and how often that is as far from this mean (a p); (latents,) each."""
    value = of(score, found_in, stratum)
    if not np.isfinite(value):
        return Estimate(value), float("nan"), float("nan")
    found = Estimate(value)
    if len(score) >= LEAST_LATENTS:
        rest = [np.arange(len(score)) != k for k in range(len(score))]
        found = jackknife(value, np.array([of(score[r], found_in[r], stratum[r]) for r in rest]))
    drawn = (exchanged(of, found_in, stratum, rng) for _ in range(SHUFFLES))
    chance = np.array([of(score, found, stratum) for found in drawn])
    chance = chance[np.isfinite(chance)]
    null = float(chance.mean())
    as_far = int((np.abs(chance - null) >= abs(value - null) - 1e-12).sum())
    return found, null, (1 + as_far) / (1 + len(chance))


def mean_score(values: np.ndarray) -> Estimate:
    """Mean of (latents,), with its interval by leaving out one at a time; of few latents without one."""
    n = len(values)
    if not n:
        return Estimate(float("nan"))
    value = float(values.mean())
    if n < LEAST_LATENTS:
        return Estimate(value)
    return jackknife(value, (values.sum() - values) / (n - 1))


def step_row(
    scorer: str,
    quantity: str,
    part: object,
    value: Estimate,
    null: float = float("nan"),
    p: float = float("nan"),
    n: int = 0,
    note: str = "",
) -> Row:
    """A row of `STEP_COLUMNS`, without the cell's."""
    return {
        "scorer": scorer,
        "quantity": quantity,
        "part": str(part),
        **value._asdict(),
        "null": null,
        "p": p,
        "n": n,
        "note": note,
    }


def steps_over_latents(
    rows: Sequence[Row], latents: Sequence[Latent], least: float, *cell: object
) -> list[Row]:
    """Mean scores by the number of SAEs in which a latent is found, and contrasts of them."""
    found: list[Row] = []
    counts = sorted({latent.found_in for latent in latents})
    for k in counts:
        of = [latent for latent in latents if latent.found_in == k]
        share = float(np.mean([latent.density >= least for latent in of]))
        found.append(step_row("", "often_enough", k, Estimate(share), n=len(of)))
    for scorer in dict.fromkeys(row["scorer"] for row in rows):
        for quantity in QUANTITIES:
            of_both = [r for r in rows if (r["scorer"], r["quantity"]) == (scorer, quantity)]
            notes = sorted({row["note"] for row in of_both} - {""})
            note = "; ".join(notes)
            told = [row for row in of_both if np.isfinite(row["value"])]
            score, null, found_in, density = (
                np.array([row[name] for row in told], dtype=float)
                for name in ("value", "null", "found_in", "density")
            )
            for count in counts:
                here = found_in == count
                by_chance = null[here & np.isfinite(null)]
                chance = float(by_chance.mean()) if len(by_chance) else float("nan")
                found.append(
                    step_row(scorer, quantity, count, mean_score(score[here]), chance, n=int(here.sum()), note=note)
                )  # fmt: skip
            edges = np.quantile(density, np.linspace(0, 1, STRATA + 1)[1:-1]) if len(told) else []
            stratum = np.searchsorted(edges, density, side="right")
            for name, statistic in CONTRASTS.items():
                rng = generator("interpret-shuffles", *cell, scorer, quantity, name)
                value, chance, p = (
                    contrast(statistic, score, found_in, stratum, rng)
                    if len(told)
                    else (Estimate(float("nan")), float("nan"), float("nan"))
                )
                found.append(
                    step_row(scorer, quantity, name, value, chance, p, n=len(told), note=note)
                )
    return found
