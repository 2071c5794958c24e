"""Specs of what is made of a whole run: claims, tables and the page."""

from __future__ import annotations

from crossseed import plan
from crossseed.config.schema import RunConfig
from crossseed.specs.models import Spec


def claims(run: RunConfig) -> Spec:
    """Which cohort stands for which, its sites in the order of the forward pass.

    Raises:
        ValueError: the run has no `claims`.
    """
    if run.claims is None:
        raise ValueError("this run judges no claim")
    return {
        "cohorts": {
            role: {
                "cohort": cohort,
                "sites": list(run.cohorts[cohort].sites),
                "checkpoint": plan.last_checkpoint(run, cohort),
                "anchor": run.cohorts[cohort].anchor,
            }
            for role, cohort in run.claims.cohorts.items()
        },
        "dictionary": run.claims.dictionary,
    }


def over_seeds(run: RunConfig) -> Spec:
    """Nothing: all is in the tables that are read."""
    return {}


def collect(run: RunConfig, table: str) -> Spec:
    """One table by name; its rows are in the files of its cells."""
    return {"table": table}


def report(run: RunConfig) -> Spec:
    """What the page says of the run beyond its tables."""
    cohorts = {
        name: {
            "kind": config.kind,
            "anchor": config.anchor,
            "seeds": list(config.seeds),
            "sites": list(config.sites),
            "width": config.width,
            **config.report_spec(),
        }
        for name, config in run.cohorts.items()
    }
    variants = {
        name: {"recipe": variant.model_dump()} for name, variant in run.dictionaries.items()
    }
    drift = run.drift.model_dump() if run.drift else None
    tables = plan.tables(run)
    return {
        "run": run.run,
        "cohorts": cohorts,
        "edited": sorted({pair.cohort for pair in plan.edited_pairs(run)}),
        "dictionaries": variants,
        "drift": drift,
        "tables": tables,
    }
