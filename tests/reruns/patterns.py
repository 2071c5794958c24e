"""What cases of the rerun table are made of: the runs that are changed, patterns over their files, and a case."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# The runs that are changed, by file; and the kinds of their cohorts.
ROOT = Path(__file__).parent.parent.parent
SMOKE = "config/smoke.yaml"
SMOKE_LM = "tests/smoke_lm.yaml"
SMOKE_CLASSIFIER = "tests/smoke_classifier.yaml"
# By kind of cohort, the run that has one.
RUNS = {
    "dyck": SMOKE,
    "neox": SMOKE_LM,
    "hub": SMOKE_LM,
    "classifier": SMOKE_CLASSIFIER,
}
KINDS = {
    "smoke-shared": "dyck",
    "smoke-independent": "dyck",
    "smoke-neox": "neox",
    "smoke-hub": "hub",
    "smoke-bert": "classifier",
}

# Patterns over output paths.
TABLES = r"results/reports/smoke[a-z-]*/tables/(?:{})\.csv"
PAGE = r"results/reports/smoke[a-z-]*/(?:index\.html|features|figures/.*)"
OF_DICTIONARIES = "transfer|evidence|splice|decoder_cosine|over_seeds"
# Of what is carried: dictionaries, vectors, single latents.
CARRIED = "ports|steering|features"
OF_MAPS = f"fits|directions|over_seeds|haar|ks|phases|cocycle|{CARRIED}"
PAIR_TABLES = TABLES.format(f"{OF_DICTIONARIES}|{OF_MAPS}|published|claims")
ATTRIBUTION_TABLES = TABLES.format("attribution|attribution_cells|claims")
# Of whole models, which read no stored activations.
MODEL_TABLES = TABLES.format(
    "attribution|attribution_cells|weights|joint|causes|bars|lenses|claims"
)
DRIFT_TABLE = TABLES.format("drift|claims")
SAE_TABLES = TABLES.format(f"dictionaries|{OF_DICTIONARIES}|claims")
PAIR_STUDY_TABLES = TABLES.format(f"dictionaries|{OF_DICTIONARIES}|{OF_MAPS}|published|claims")
# Latents of SAE seeds explained: of the ReLU variant in the smoke run.
INTERPRETED = "interpret|interpret_steps"
# With those of single members too.
STUDY_TABLES = TABLES.format(
    f"dictionaries|stability|calibration|bridge|absorption|{INTERPRETED}|{OF_DICTIONARIES}|{OF_MAPS}|published|claims"
)
TRAINING_TABLES = TABLES.format("quality|training")
MAPPED = f"maps|fits|transfer|splice|decoder_cosine|haar|{CARRIED}"
PAIRED = f"{MAPPED}|published"
# Tests over all pairs of a site, or all seeds.
POOLED = r"(?:across/.*|.*-ks\.csv)"
TOGETHER = rf"(?:{POOLED}|cocycle/.*)"
NEW_WIDTH = (r"results/nulls/(?:power-)?d32-.*", TABLES.format("power"))
OTHERS = r"seed(\d+)-seed(?!\1/)\d+/.*"
ITSELF = r"seed(\d+)-seed\1/.*"
# Variants whose SAE seeds are trained on the anchor alone.
UNBRIDGED = "(?!relu-l1-)[a-z0-9-]+-x2"
STORED = f"activations|dictionaries|stability|{PAIRED}"
READ = f"{STORED}|drift"
# Of members whose symmetries are known.
CONSTRUCTIVE = "weights|causes|bars|lenses"
CONSTRUCTIVE_TABLES = TABLES.format("weights|joint|causes|bars|claims")
ANALYSIS = f"{READ}|attribution|{CONSTRUCTIVE}"


# Cohorts of which SAEs of two models are trained, and what is joined of these.
JOINED = {"smoke-neox", "smoke-bert"}
JOINT_TABLES = TABLES.format("joint_[a-z_]+")
# Of a pair: SAEs, what is measured of them, retrainings and their tests, edited sentences.
SAES, MEASURED, NULLS, TESTS = r"saes/.*", r"conditions/.*", r"nulls/.*", r"null_tests\.csv"
EDITS, FITS, SIZES = r"(?:counterfactual.*|contexts\.csv)", r"maps\.csv", r"(?:sizes|halves)\.csv"
# Tables of conditions, and of the SAEs behind them.
OF_CONDITIONS = "joint_conditions|joint_latents|joint_pooled|joint_regression"
OF_NULLS = "joint_nulls|joint_tests|joint_pooled|joint_regression"
OF_EDITS = "joint_counterfactuals|joint_contexts"


def one_cohort() -> dict[str, Any]:
    """The smoke run with one of its cohorts alone."""
    config = yaml.safe_load((ROOT / SMOKE).read_text())
    config["cohorts"] = {"smoke-shared": config["cohorts"]["smoke-shared"]}
    config["claims"]["cohorts"] = {"toy-shared": "smoke-shared"}
    return config


def below(cohort: str, folders: str, rest: str = ".*") -> str:
    return rf"results/{cohort}/(?:{folders})/{rest}"


def toy(cohort: str, *patterns: str) -> tuple[str, ...]:
    """Patterns over what is made of members whose symmetries are known; none for other kinds."""
    return patterns if KINDS[cohort] == "dyck" else ()


def joined(cohort: str, *patterns: str) -> tuple[str, ...]:
    """Patterns over what is made of SAEs of two models; none for cohorts that have none."""
    return (*patterns, JOINT_TABLES) if cohort in JOINED else ()


class Case(NamedTuple):
    """One changed value.

    Attributes:
        run: file of the run that is changed.
        path: where in the config; ``*`` of the leaf replaced by a name.
        value: the new value.
        outputs: patterns of the files made again.
        reruns: the same in words, for the table.
    """

    run: str
    path: str
    value: Any
    outputs: tuple[str, ...]
    reruns: str


def each(
    run: str, path: str, values: Iterable[tuple[str, Any]], outputs: tuple[str, ...], reruns: str
) -> list[Case]:
    """Cases of several keys below one path, after which the same is made again."""
    return [Case(run, f"{path}{key}", value, outputs, reruns) for key, value in values]


def of_cohort(
    cohort: str,
    key: str,
    value: Any,
    folders: str,
    tables: tuple[str, ...],
    reruns: str,
    joint: bool = True,
) -> Case:
    """A key after which whole folders of its cohort are made again; with `joint` SAEs of two models too."""
    run = RUNS[KINDS[cohort]]
    both = joined(cohort, below(cohort, "joint")) if joint else ()
    outputs = (below(cohort, folders), *tables, *both, PAGE)
    return Case(run, f"cohorts.{cohort}.{key}", value, outputs, reruns)
