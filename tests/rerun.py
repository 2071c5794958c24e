"""The rerun table: for every config leaf, what one changed value makes run again.

`CASES` says for each leaf of each kind of cohort which value is changed in one of three small runs
and which output files must then be made again, and no others. The test compares this with
Snakemake's plan; `python tests/rerun.py` writes the table of docs/reruns.md and the short one of README.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from crossseed.config import reference
from crossseed.config.schema import RunConfig

# The runs that are changed, by file; and the kinds of their cohorts.
ROOT = Path(__file__).parent.parent
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


def scored_by(scorer: str, model: str) -> dict[str, Any]:
    """The explanation of latents in the smoke run, by a language model."""
    config = yaml.safe_load((ROOT / SMOKE).read_text())
    return {**config["stability"]["interpret"], "scorer": scorer, "model": model}


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


def _cohort(
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


def _training(cohort: str, key: str, value: Any) -> Case:
    return _cohort(
        cohort,
        f"training.{key}",
        value,
        f"models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort's training and all that follows; not its token sets, no other cohort",
    )


def _tokens(cohort: str, key: str, value: Any) -> Case:
    return _cohort(
        cohort,
        f"tokens.{key}",
        value,
        f"tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort's token sets, activations and all that follows; no training",
    )


def _text(key: str, value: Any) -> Case:
    """What decides on which documents the project's own language models are trained."""
    return _cohort(
        "smoke-neox",
        key,
        value,
        f"tokenizer|tokens|models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: tokenizer, token sets, training and all that follows",
    )


def _stored_as(cohort: str, value: str) -> Case:
    return _cohort(
        cohort,
        "activation_dtype",
        value,
        READ,
        (STUDY_TABLES, DRIFT_TABLE),
        "the cohort's activations and all that follows; no attribution",
    )


def _precision(cohort: str) -> Case:
    return _cohort(
        cohort,
        "precision",
        "bfloat16",
        READ,
        (STUDY_TABLES, DRIFT_TABLE),
        "the cohort's activations and all that follows; no attribution, no SAE of two models",
        joint=False,
    )


def _checked(key: str, value: Any) -> Case:
    return _cohort(
        "smoke-hub",
        f"model.{key}",
        value,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: the check of its members, token sets, and all that follows",
    )


def _sae(variant: str, key: str, value: Any) -> Case:
    # Of the two variants, drift, ports and single latents are of the TopK one, the published recipe is
    # the other.
    also = (
        (
            below("[^/]*", "drift"),
            below("[^/]*", "ports|features"),
            DRIFT_TABLE,
            TABLES.format("ports|features"),
        )
        if variant == "topk"
        else (below("[^/]*", "published"), TABLES.format("published"))
    )
    if key != "inits":
        # Seeds have starts of their own; the penalty of one variant's is calibrated.
        also += (
            below("[^/]*", "stability", rf".*/{variant}-x2.*"),
            TABLES.format(
                "stability|claims"
                if variant == "topk"
                else f"stability|calibration|bridge|{INTERPRETED}|claims"
            ),
        )
    return Case(
        SMOKE,
        f"dictionaries.{variant}.{key}",
        value,
        (
            below(
                "[^/]*",
                "dictionaries",
                rf".*/{variant}-x2[-.]{'(?!seed|shuffled)' if key == 'inits' else ''}.*",
            ),
            below("[^/]*", "transfer|splice|decoder_cosine"),
            SAE_TABLES,
            PAGE,
            *also,
        ),
        "that variant's SAEs, transfer, splicing and cosines, and drift, ports and single latents where "
        "they are of it; no other variant, no map",
    )


def _new_seed(cohort: str, seeds: list[int], made: str) -> Case:
    anchor, *_, new = seeds
    run = RUNS[KINDS[cohort]]
    tables = (TRAINING_TABLES,) if "models" in made else (below(cohort, "checks", r"1\.csv"),)
    return Case(
        run,
        f"cohorts.{cohort}.seeds",
        seeds,
        (
            below(cohort, made, f"seed{new}/.*"),
            below(cohort, PAIRED, rf"seed{anchor}-seed{new}/.*"),
            below(cohort, "haar", TOGETHER),
            # The old pair now has another, whose rotation it is steered by.
            below(cohort, "steering"),
            below(cohort, "drift", rf"seed{new}(?:/.*|\.csv)"),
            *toy(
                cohort,
                below(cohort, "causes", f"seed{new}/.*"),
                below(cohort, "weights|bars", rf"seed\d+-seed{new}/.*"),
                CONSTRUCTIVE_TABLES,
                # SAE seeds that are matched between members.
                below(cohort, "stability", rf"(?:seed\d+-)?seed{new}/.*"),
                TABLES.format(f"stability|calibration|bridge|{INTERPRETED}"),
            ),
            *tables,
            # Rows of latents are those of the first pair.
            *(
                (
                    below(cohort, "joint", rf"(?:cache/seed{new}|seed{anchor}-seed{new})/.*"),
                    TABLES.format("joint_(?!latents)[a-z_]+"),
                )
                if cohort in JOINED
                else ()
            ),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the new seed's cells, its pairs with the anchor, the tests over all pairs, and steering where the "
        "rotation of another pair is now another's",
    )


def _new_checkpoint(cohort: str, new: str, *also: str) -> Case:
    run = RUNS[KINDS[cohort]]
    return Case(
        run,
        f"cohorts.{cohort}.checkpoints",
        [new, "final"],
        (
            below(cohort, STORED, rf"(?:.*/)?{new}(?:/.*|-shared\.csv|-ks\.csv)"),
            below(cohort, "attribution", rf".*/{new}(?:-cells)?\.csv"),
            *toy(cohort, below(cohort, CONSTRUCTIVE, rf".*/{new}[-.].*")),
            *joined(cohort, below(cohort, "joint", rf".*/{new}/.*")),
            *also,
            STUDY_TABLES,
            MODEL_TABLES,
            PAGE,
        ),
        "the new checkpoint's cells",
    )


def _new_site(cohort: str, sites: list[str]) -> Case:
    run = RUNS[KINDS[cohort]]
    new = re.escape(sites[-1])
    return Case(
        run,
        f"cohorts.{cohort}.sites",
        sites,
        (
            below(cohort, STORED, rf".*{new}.*"),
            below(cohort, "fits|transfer|haar", r".*-(?:shared|ks)\.csv"),
            below(cohort, "splice|drift"),
            *toy(
                cohort,
                below(cohort, "weights"),
                below(cohort, "bars", OTHERS),
                TABLES.format("weights|joint|bars|claims"),
            ),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the new site's cells, the rotation that all sites share and splicing by it, eigenphases "
        "pooled over sites, and drift, which runs each member once for all its sites",
    )


def _other_anchor(cohort: str, anchor: int) -> Case:
    run = RUNS[KINDS[cohort]]
    return Case(
        run,
        f"cohorts.{cohort}.anchor",
        anchor,
        (
            below(cohort, PAIRED, f"seed{anchor}-seed.*"),
            below(cohort, "haar", TOGETHER),
            below(cohort, "activations", rf"(?!seed{anchor}/)[^/]*/step0/.*"),
            below(cohort, "drift"),
            below(cohort, "attribution"),
            *toy(
                cohort,
                below(cohort, "weights|bars", rf"seed{anchor}-seed(?!{anchor}/).*"),
                below(cohort, "lenses"),
            ),
            below(cohort, "dictionaries", rf"seed{anchor}/.*/{UNBRIDGED}-(?:seed|shuffled)\d.*"),
            below(cohort, "stability", rf"(?:seed{anchor}/.*/{UNBRIDGED}|seed\d+-seed\d+/).*"),
            TABLES.format("dictionaries|stability|bridge|absorption|claims"),
            PAIR_TABLES,
            # Effects of cuts are each member's own.
            TABLES.format("attribution|attribution_cells|weights|joint|bars|lenses|claims"),
            DRIFT_TABLE,
            *joined(cohort, below(cohort, "joint", f"seed{anchor}-seed.*")),
            PAGE,
        ),
        "the new anchor's pairs, and drift; where tensors are shared, also the cohort's training "
        "and all that follows",
    )


def _classifier(key: str, value: Any, folders: str, reruns: str, joint: bool = True) -> Case:
    """A key of classifiers, after which whole folders of their cohort are made again."""
    tables = (TRAINING_TABLES,) if "models" in folders else ()
    tables = (*tables, PAIR_STUDY_TABLES)
    return _cohort("smoke-bert", key, value, folders, tables, reruns, joint)


def _of_pair(*parts: str) -> str:
    """Files of the pair of classifiers that shares SAEs."""
    return below("smoke-bert", "joint", f"seed42-seed137/.*/(?:{'|'.join(parts)})")


def _joint(key: str, value: Any, parts: tuple[str, ...], tables: str, reruns: str) -> Case:
    """A key of joint SAEs, after which files of the pair and tables are made again; no table, no page."""
    outputs = (_of_pair(*parts),) if parts else ()
    outputs += (TABLES.format(tables), PAGE) if tables else ()
    return Case(SMOKE_CLASSIFIER, f"joint.{key}", value, outputs, reruns)


def _joint_cases() -> Iterator[Case]:
    """Of every key of joint SAEs."""
    for key in ("cohorts", "sites"):
        yield _joint(key, None, (), "", "nothing, where it names all there are; else the new pairs")
    yield Case(
        SMOKE_CLASSIFIER,
        "joint.pairs",
        [[137, 42]],
        (below("smoke-bert", "joint", "seed137-seed42/.*"), JOINT_TABLES, PAGE),
        "the new pairs",
    )
    for key, value in (("development", 6), ("predictions", 2)):
        yield Case(
            SMOKE_LM,
            f"joint.{key}",
            value,
            (below("smoke-neox", "joint"), JOINT_TABLES, PAGE),
            "joint SAEs of language models: all that is clean of them, and what follows",
        )
    more = f"{OF_CONDITIONS}|joint_training"
    for key, value in (
        ("conditions", ["1", "2", "3", "3'", "4", "6"]),
        ("baselines", ["mutual", "universal"]),
    ):
        yield _joint(key, value, (), more, "the tables; SAEs of new conditions")
    yield _joint(
        "inits",
        ["shared", "distinct"],
        (r"saes/.*-distinct.*", r"conditions/.*-distinct.*"),
        more,
        "SAEs from the new starts, and what is measured of them",
    )
    yield _joint(
        "lambda_mutual",
        0.2,
        (r"saes/mutual.*", r"conditions/mutual.*"),
        more,
        "SAEs whose decoders are drawn to each other",
    )
    yield _joint(
        "lambda_cross_grid",
        [0.5, 2.0],
        (r"saes/6-lambda2.*", r"conditions/6-lambda2.*"),
        more,
        "condition 6 at the new weight",
    )
    rotated = r"(?:[56](?:-lambda.*)?|mutual.*|ridge)"
    yield _joint(
        "center",
        True,
        (
            r"maps\.h5", rf"saes/{rotated}\..*", rf"conditions/(?:3.*|{rotated})(?:-latents)?\.csv",
            NULLS, TESTS, SIZES, EDITS,
        ),
        f"{more}|{OF_NULLS}|{OF_EDITS}|joint_sizes|joint_halves",
        "maps, SAEs trained with one, and all that is measured of these",
    )  # fmt: skip
    every = (SAES, MEASURED, NULLS, TESTS, EDITS)
    followed = f"{more}|{OF_NULLS}|{OF_EDITS}"
    for key, value in (
        ("expansion", 3), ("k", 5), ("relu_after_topk", False), ("norm", "none"), ("mask_ds", False),
        ("lambda_kl", 0.5), ("lambda_ds", 1.0), ("lambda_local", 0.5), ("lambda_aux", 0.0),
        ("aux_k", 7), ("dead_window", 0.4), ("lr", 4e-3), ("weight_decay", 0.0),
        ("warmup_ratio", 0.2), ("grad_clip", 1.0), ("batch", 15), ("epochs", 3), ("init_seed", 41),
        ("precision", "bf16-mixed"),
    ):  # fmt: skip
        yield _joint(
            f"training.{key}",
            value,
            every,
            followed,
            "every joint SAE, and all that follows; no map",
        )
    yield _joint(
        "training.special_tokens",
        False,
        (*every, r"maps\.h5", FITS, SIZES),
        "joint_[a-z_]+",
        "maps, every joint SAE, and all that follows",
    )
    for key, value in (("batches", 7), ("early_stopping_patience", 4)):
        yield _joint(
            f"training.{key}",
            value,
            (SAES, MEASURED, TESTS, EDITS),
            f"{more}|joint_tests|{OF_EDITS}",
            "every joint SAE, and all that follows; no short retraining",
        )
    for key, value, crossed in (
        ("cross_reduction", "sum", r"(?:6|6-lambda0\.5|ridge)"),
        ("lambda_cross", 2.0, r"(?:6|ridge)"),
    ):
        yield _joint(
            f"training.{key}",
            value,
            (
                rf"saes/{crossed}\.(?:csv|safetensors)",
                rf"conditions/{crossed}(?:-latents)?\.csv",
                EDITS,
            ),
            f"{more}|{OF_EDITS}",
            "SAEs with a cross loss, and all that follows",
        )
    for key, value, tables in (
        ("active_tokens", 9, f"{OF_CONDITIONS}|{OF_NULLS}|{OF_EDITS}"),
        ("threshold", 0.6, f"{OF_CONDITIONS}|{OF_NULLS}|{OF_EDITS}"),
    ):
        yield _joint(
            f"evaluation.{key}",
            value,
            (MEASURED, NULLS, TESTS, EDITS),
            tables,
            "what is measured of conditions, retrainings and edited sentences; no joint SAE",
        )
    yield _joint(
        "evaluation.tops",
        [6, 20],
        (MEASURED, NULLS, TESTS),
        f"{OF_CONDITIONS}|{OF_NULLS}",
        "what is measured of conditions and retrainings; no joint SAE",
    )
    yield _joint(
        "evaluation.resamples",
        101,
        (FITS, MEASURED),
        f"{OF_CONDITIONS}|joint_fits",
        "tables of conditions and of maps; no joint SAE",
    )
    for key, value, some in (
        ("shifts", 3, ".*"),
        ("match_splits", ["fit"], r"(?:[23]-|mutual).*"),
        ("accuracy_references", ["clean"], ".*"),
    ):
        yield _joint(
            f"evaluation.{key}",
            value,
            (rf"conditions/{some}",),
            OF_CONDITIONS,
            "what is measured of the conditions it is about",
        )
    yield _joint(
        "nulls.pairs", [[42, 137]], (), "", "nothing, where it names all; else the new pairs"
    )
    for key, value, some in (
        ("batches", 5, ".*"),
        ("lambda_cross", 1.0, ".*"),
        ("replicates", 3, "fitted2"),
        ("random", 3, "random0"),
        ("mismatched", 2, "mismatched"),
        ("shares", [0.4], "partial"),
        ("directions", [4, 6], "top"),
        ("complements", ["identity"], "top"),
    ):
        yield _joint(
            f"nulls.{key}",
            value,
            (rf"nulls/{some}\.csv", TESTS),
            OF_NULLS,
            "the retrainings it is about, and tests of the map",
        )
    for key in ("post_hoc", "shuffled"):
        yield _joint(f"nulls.{key}", 100, (TESTS,), "joint_tests", "tests of the map")
    for key, value in (("sequences", [10, 20]), ("splits", 4)):
        yield _joint(
            f"sizes.{key}",
            value,
            (SIZES,),
            "joint_sizes|joint_halves",
            "how many sequences decide W",
        )
    for key, value in (
        ("files", {"smoke-bert": "politeness"}),
        ("condition", "5"),
        ("latents", 3),
        ("contexts", 4),
    ):
        yield _joint(
            f"counterfactuals.{key}", value, (EDITS,), OF_EDITS, "latents in edited sentences"
        )


def _of_seed(key: str, value: Any, seed: int, reruns: str, also: tuple[str, ...] = ()) -> Case:
    """A key of classifiers that touches one seed, its pair with the anchor, and `also`."""
    return Case(
        SMOKE_CLASSIFIER,
        f"cohorts.smoke-bert.{key}",
        value,
        (
            below("smoke-bert", "models|activations|dictionaries", f"seed{seed}/.*"),
            below("smoke-bert", PAIRED, f"seed42-seed{seed}/.*"),
            TRAINING_TABLES,
            PAIR_STUDY_TABLES,
            PAGE,
            *also,
        ),
        reruns,
    )


LABELLED_HUB = {
    "source": "hub",
    "dataset": "org/labelled",
    "name": None,
    "revision": None,
    "train_split": "train",
    "eval_split": "validation",
    "text_field": "text",
    "label_field": "label",
    "classes": ["negative", "positive"],
    "train": 120,
    "development": 20,
    "eval": 40,
}
LABELLED_FILES = {
    "source": "files",
    "train_file": "train.jsonl",
    "eval_file": "eval.jsonl",
    **{
        key: LABELLED_HUB[key]
        for key in ("text_field", "label_field", "classes", "train", "development", "eval")
    },
}
BASE_CHECKPOINT = {
    "source": "checkpoint",
    "id": "org/base",
    "tokenizer": "org/base",
    "folder": "hub",
    "width": 16,
    "layers": 2,
}
HUB_CORPUS = {
    "source": "hub",
    "dataset": "org/text",
    "name": None,
    "split": "train",
    "revision": None,
    "text_field": "text",
    "min_characters": 50,
}
# What is drawn under Haar measure depends on no cohort.
_ALL_TABLES = TABLES.format("(?!power).*")

CASES = [
    *(
        Case(
            run,
            "run",
            f"{name}2",
            (rf"results/reports/{name}2/.*",),
            "the joined tables and the report, under the new name",
        )
        for run, name in ((SMOKE, "smoke"), (SMOKE_LM, "smoke-lm"))
    ),
    Case(SMOKE, "device", "cpu", (), "nothing"),
    Case(SMOKE, "slots_per_gpu", 2, (), "nothing"),
    Case(SMOKE, "keep_activations", False, (), "nothing"),
    _new_seed("smoke-shared", [0, 1, 2], "models|activations|dictionaries"),
    _new_seed("smoke-neox", [0, 1, 2], "models|activations|dictionaries"),
    _new_seed("smoke-hub", [1, 2, 3], "activations|dictionaries"),
    _other_anchor("smoke-independent", 101),
    _other_anchor("smoke-neox", 1),
    _other_anchor("smoke-hub", 2),
    Case(
        SMOKE,
        "cohorts.smoke-shared.anchor",
        1,
        (
            below(
                "smoke-shared",
                f"models|activations|dictionaries|stability|drift|attribution|{CONSTRUCTIVE}",
            ),
            below("smoke-shared", PAIRED, "seed1-seed.*"),
            below("smoke-shared", "haar", TOGETHER),
            _ALL_TABLES,
            PAGE,
        ),
        "the new anchor's pairs, and drift; where tensors are shared, also the cohort's training "
        "and all that follows",
    ),
    _new_checkpoint("smoke-shared", "step20"),
    _new_checkpoint("smoke-neox", "step10"),
    _new_checkpoint("smoke-hub", "step10", below("smoke-hub", "checks", r"1\.csv")),
    _new_site(
        "smoke-shared",
        ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"],
    ),
    *(
        _new_site(
            cohort,
            ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"],
        )
        for cohort in ("smoke-neox", "smoke-hub")
    ),
    Case(
        SMOKE,
        "cohorts.smoke-shared.share",
        ["W_E"],
        (
            below("smoke-shared", "models|activations|dictionaries", "seed1/.*"),
            below("smoke-shared", PAIRED, "seed0-seed1/.*"),
            below("smoke-shared", "haar", TOGETHER),
            below("smoke-shared", "drift", r"seed1(?:/.*|\.csv)"),
            below("smoke-shared", "causes", "seed1/.*"),
            below("smoke-shared", "weights|bars", "seed[01]-seed1/.*"),
            below("smoke-shared", "stability", "(?:seed0-)?seed1/.*"),
            TABLES.format("(?!power|attribution|lenses).*"),
            PAGE,
        ),
        "every seed but the anchor, and their pairs",
    ),
    *(
        _training(cohort, key, value)
        for cohort in ("smoke-shared", "smoke-neox")
        for key, value in (
            ("steps", 61),
            ("batch_rows", 15),
            ("peak_lr", 2e-3),
            ("warmup_steps", 11),
            ("final_lr_fraction", 0.03),
            ("weight_decay", 0.0),
            ("grad_clip", 2.0),
            ("precision", "bfloat16"),
            ("keep_steps", [0, 10, 20, 25]),
            ("eval_every_steps", 15),
            ("eval_rows", 65),
        )
    ),
    _training("smoke-shared", "pool_rows", 80),
    _training("smoke-shared", "lengths", [2, 21]),
    _training("smoke-shared", "short_first_steps", 0),
    _training("smoke-shared", "stop.accuracy", 0.5),
    _training("smoke-shared", "stop.patience_steps", 20),
    _training("smoke-neox", "context", 28),
    _tokens("smoke-shared", "seed", 1),
    _tokens("smoke-shared", "sequences", 330),
    _tokens("smoke-shared", "lengths", [4, 21]),
    _tokens("smoke-shared", "fit", [0, 95]),
    _tokens("smoke-shared", "train", [97, 224]),
    _tokens("smoke-shared", "eval", [225, 320]),
    _text("tokens.seed", 1),
    _text("training.corpus_share", 0.6),
    _text("model.vocabulary", 310),
    _text("corpus.path", "other"),
    _text("corpus.text_field", "content"),
    _text("corpus.min_characters", 40),
    _text("corpus", HUB_CORPUS),
    *(
        _cohort(
            "smoke-neox",
            f"model.{key}",
            value,
            f"models|{ANALYSIS}",
            (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort's training and all that follows; not its token sets, no other cohort",
        )
        for key, value in (("layers", 3), ("heads", 1), ("mlp_width", 48))
    ),
    _cohort(
        "smoke-neox",
        "model.width",
        32,
        f"models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE, *NEW_WIDTH),
        "the cohort's training and all that follows, and the null draws of that width",
    ),
    *(
        _tokens(cohort, key, value)
        for cohort, packing in (("smoke-neox", "documents"), ("smoke-hub", "packed"))
        for key, value in (
            *((("context", 15),) if cohort == "smoke-neox" else ()),
            ("packing", packing),
            ("most_a_document", 3),
            ("keep_first_position", cohort == "smoke-neox"),
            ("special_tokens", True),
            ("fit", 15),
            ("train", 33),
            ("eval", 17),
        )
    ),
    _tokens("smoke-hub", "seed", 1),
    *(
        _cohort(
            "smoke-hub",
            f"corpus{key}",
            value,
            f"tokens|{ANALYSIS}",
            (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort's token sets, activations and all that follows; no training",
        )
        for key, value in (
            (".path", "other"),
            (".text_field", "content"),
            (".min_characters", 40),
            ("", HUB_CORPUS),
        )
    ),
    _checked("folder", "elsewhere"),
    _cohort(
        "smoke-hub",
        "tokens.context",
        15,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: the check of its members, token sets, and all that follows",
    ),
    _checked("tokenizer", "org/tiny-seed2"),
    # Each of these would be refused by the check: it is not what the models are.
    *(
        _cohort(
            "smoke-hub",
            f"model.{key}",
            value,
            f"checks|tokens|{ANALYSIS}",
            (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort: the check of its members, and all that follows",
        )
        for key, value in (("family", "gpt_neox_sequential"), ("layers", 4))
    ),
    _cohort(
        "smoke-hub",
        "model.width",
        32,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE, *NEW_WIDTH),
        "the cohort: the check of its members, and all that follows; and the null draws of that "
        "width",
    ),
    Case(SMOKE_LM, "cohorts.smoke-hub.model.device_map", "auto", (), "nothing"),
    _stored_as("smoke-shared", "float16"),
    _stored_as("smoke-neox", "float16"),
    _stored_as("smoke-hub", "float32"),
    _precision("smoke-neox"),
    _precision("smoke-hub"),
    _of_seed(
        "seeds",
        [42, 137, 7],
        7,
        "the new seed's cells, and its pairs with the anchor",
    ),
    _of_seed(
        "kind_of_seed",
        "pretrain",
        137,
        "every seed but the anchor, and their pairs",
        joined("smoke-bert", below("smoke-bert", "joint", r"(?:cache/seed137|seed42-seed137)/.*")),
    ),
    _classifier(
        "anchor",
        137,
        f"models|activations|dictionaries|{PAIRED}",
        "the cohort's training, since all start from the anchor's base, and all that follows",
    ),
    Case(
        SMOKE_CLASSIFIER,
        "cohorts.smoke-bert.checkpoints",
        ["step0", "final"],
        (
            below("smoke-bert", STORED, r"(?:.*/)?step0(?:/.*|-shared\.csv)"),
            *joined("smoke-bert", below("smoke-bert", "joint", r".*/step0/.*")),
            PAIR_STUDY_TABLES,
            PAGE,
        ),
        "the new checkpoint's cells",
    ),
    Case(
        SMOKE_CLASSIFIER,
        "cohorts.smoke-bert.sites",
        ["blocks.0.hook_normalized_resid_post", "blocks.1.hook_mlp_out"],
        (
            below("smoke-bert", STORED, r".*blocks\.1\.hook_mlp_out.*"),
            below("smoke-bert", "fits|transfer", r".*-shared\.csv"),
            PAIR_STUDY_TABLES,
            PAGE,
        ),
        "the new site's cells, and the rotation that all sites share",
    ),
    *(
        _classifier(
            f"data{key}",
            value,
            f"tokenizer|tokens|models|{STORED}",
            "the cohort: tokenizer, token sets, training and all that follows",
        )
        for key, value in (
            (".grammar", "politeness"),
            (".seed", 1),
            (".classes", ["positive", "negative"]),
            (".unlabelled", 61),
            (".train", 121),
            (".development", 21),
            (".eval", 41),
            ("", LABELLED_HUB),
            ("", LABELLED_FILES),
        )
    ),
    _classifier(
        "model.vocabulary",
        230,
        f"tokenizer|tokens|models|{STORED}",
        "the cohort: tokenizer, token sets, training and all that follows",
    ),
    *(
        _classifier(
            key,
            value,
            f"models|{STORED}",
            "the cohort's training and all that follows; not its token sets, no other cohort",
        )
        for key, value in (
            ("model.width", 32),
            ("model.layers", 3),
            ("model.heads", 4),
            ("model.mlp_width", 48),
            ("model.dropout", 0.2),
            ("model.pretraining.steps", 7),
            ("model.pretraining.batch_rows", 15),
            ("model.pretraining.peak_lr", 1e-3),
            ("model.pretraining.masked", 0.2),
            ("training.epochs", 3),
            ("training.batch_rows", 15),
            ("training.peak_lr", 2e-3),
            ("training.warmup_ratio", 0.2),
            ("training.weight_decay", 0.0),
            ("training.grad_clip", 2.0),
            ("training.patience", 4),
            ("training.precision", "bfloat16"),
        )
    ),
    *(
        _classifier(
            key,
            value,
            f"tokens|models|{STORED}",
            "the cohort: token sets, training and all that follows; not the tokenizer",
        )
        for key, value in (("tokens.context", 31), ("model", BASE_CHECKPOINT))
    ),
    *(
        _classifier(
            f"tokens.{key}",
            value,
            f"tokens|{STORED}",
            "the cohort's token sets, activations and all that follows; no training",
        )
        for key, value in (
            ("seed", 43),
            ("keep_special_tokens", False),
            ("fit", 39),
            ("train", 59),
            ("eval", 29),
        )
    ),
    *(
        _classifier(key, value, STORED, reruns, joint)
        for key, value, reruns, joint in (
            (
                "precision",
                "bfloat16",
                "the cohort's activations and all that follows; no SAE of two models",
                False,
            ),
            ("activation_dtype", "float16", "the cohort's activations and all that follows", True),
        )
    ),
    *_joint_cases(),
    Case(
        SMOKE_LM,
        "cohorts.smoke-hub.model.id",
        {1: "org/tiny-seed1@{checkpoint}", 2: "org/other-seed2@{checkpoint}"},
        (
            below("smoke-hub", "checks", r"1\.csv"),
            below("smoke-hub", "activations|dictionaries", "seed2/.*"),
            below("smoke-hub", PAIRED, "seed1-seed2/.*"),
            below("smoke-hub", "haar", TOGETHER),
            below("smoke-hub", "drift", r"seed2(?:/.*|\.csv)"),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the check and the cells of the members that now have another id",
    ),
    Case(
        SMOKE_LM,
        "cohorts.smoke-hub.model.final_id",
        "org/last-seed{seed}",
        (
            below("smoke-hub", "checks", r"1\.csv"),
            below("smoke-hub", STORED, r"(?:.*/)?final(?:/.*|-shared\.csv|-ks\.csv)"),
            below("smoke-hub", "drift|attribution"),
            STUDY_TABLES,
            ATTRIBUTION_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the check and the cells of the members that now have another id",
    ),
    *(
        _sae(variant, key, value)
        for variant in ("relu-l1", "topk")
        for key, value in (
            ("steps", 41),
            ("batch_tokens", 127),
            ("lr", 3e-3),
            ("lr_latents", 16),
            ("warmup_steps", 6),
            ("decay_steps", 11),
            ("grad_clip", 0.01),
            ("tied_init", variant == "relu-l1"),
            ("standardise", variant == "relu-l1"),
            ("inits", ["shared"]),
        )
    ),
    _sae("relu-l1", "l1", 2e-3),
    _sae("topk", "k", 7),
    _sae("topk", "aux_coefficient", 0.0),
    _sae("topk", "aux_k", 7),
    _sae("topk", "dead_after_tokens", 511),
    *(
        Case(
            SMOKE,
            f"dictionaries.{variant}.expansions",
            [2, 3],
            (
                below("[^/]*", "dictionaries", rf".*/{variant}-x3[-.].*"),
                below("[^/]*", "stability", rf".*/{variant}-x3.*"),
                TABLES.format(
                    "stability|claims"
                    if variant == "topk"
                    else f"stability|calibration|bridge|{INTERPRETED}|claims"
                ),
                below("[^/]*", "transfer|splice|decoder_cosine"),
                SAE_TABLES,
                PAGE,
                *(
                    (
                        below("[^/]*", "drift"),
                        below("[^/]*", "ports", r".*/topk-x3-.*"),
                        DRIFT_TABLE,
                        TABLES.format("ports"),
                    )
                    if variant == "topk"
                    else (below("[^/]*", "published"), TABLES.format("published"))
                ),
            ),
            "the new size's SAEs, transfer, splicing and cosines, its ports, and drift or the published "
            "protocol where they try them",
        )
        for variant in ("relu-l1", "topk")
    ),
    *(
        Case(
            SMOKE,
            f"dictionaries.{variant}.members",
            "anchor",
            (
                below("[^/]*", "decoder_cosine"),
                TABLES.format("dictionaries|decoder_cosine|claims"),
                PAGE,
                *(
                    (
                        below("[^/]*", "drift", r"seed1(?:01)?(?:/.*|\.csv)"),
                        below("[^/]*", "ports|features"),
                        DRIFT_TABLE,
                        TABLES.format("ports|features"),
                    )
                    if variant == "topk"
                    else ()
                ),
            ),
            "the cosines, and drift, ports and single latents where they are of that variant; SAEs of other "
            "members are no longer made, or are made anew",
        )
        for variant in ("relu-l1", "topk")
    ),
    Case(
        SMOKE,
        "transfer.pairs",
        "all",
        (
            below("smoke-shared", PAIRED, "seed1-seed.*"),
            below("smoke-independent", PAIRED, "seed101-seed.*"),
            below("smoke-shared", "activations", "seed0/step0/.*"),
            below("smoke-independent", "activations", "seed100/step0/.*"),
            TABLES.format(f"{OF_DICTIONARIES}|fits|directions|haar|{CARRIED}|published|claims"),
            PAGE,
        ),
        "the new pairs",
    ),
    Case(
        SMOKE,
        "transfer.resamples",
        101,
        (
            below("[^/]*", f"fits|transfer|splice|attribution|bars|{CARRIED}"),
            TABLES.format(f"fits|directions|transfer|evidence|splice|over_seeds|bars|{CARRIED}"),
            ATTRIBUTION_TABLES,
            PAGE,
        ),
        "every table with intervals; no map, no SAE",
    ),
    Case(
        SMOKE,
        "transfer.directions",
        [2, 3],
        (
            below("[^/]*", "fits|transfer|splice", OTHERS.replace(".*", ".*/.*")),
            TABLES.format("fits|directions|transfer|evidence|splice|over_seeds|claims"),
            PAGE,
        ),
        "fits, transfer and splicing of different members; no SAE",
    ),
    Case(
        SMOKE,
        "transfer.untrained",
        None,
        (
            below("[^/]*", MAPPED, OTHERS),
            below("[^/]*", "haar", POOLED),
            below("[^/]*", "stability", r"seed\d+-seed\d+/.*"),
            TABLES.format(f"bridge|{OF_DICTIONARIES}|{OF_MAPS}|claims"),
            PAGE,
        ),
        "all that is measured on different members; no SAE",
    ),
    Case(
        SMOKE,
        "splice.sequences",
        9,
        (below("[^/]*", "splice"), TABLES.format("splice|evidence|over_seeds|claims"), PAGE),
        "every splicing",
    ),
    Case(
        SMOKE,
        "haar.draws",
        620,
        (
            "results/nulls/.*",
            below("[^/]*", "haar", f"(?:{OTHERS}|{POOLED})"),
            TABLES.format("haar|ks|phases|power|claims"),
            PAGE,
        ),
        "the null draws, and every test; no map",
    ),
    Case(
        SMOKE,
        "haar.power_draws",
        21,
        ("results/nulls/power.*", TABLES.format("power"), PAGE),
        "the power table",
    ),
    *(
        Case(
            SMOKE,
            f"port.{key}",
            value,
            (below("[^/]*", "ports"), TABLES.format("ports"), PAGE),
            "every ported dictionary",
        )
        for key, value in (("dictionaries", ["relu-l1"]), ("map", "scaled"), ("sequences", 9))
    ),
    *(
        Case(
            run,
            f"steering.{key}",
            value,
            (
                below("[^/]*", "steering|features"),
                TABLES.format("steering|features" + ("|claims" if run == SMOKE else "")),
                PAGE,
            ),
            "steering, and single latents, which are chosen by its concepts",
        )
        for run, key, value in (
            (SMOKE, "concepts", ["depth_shift"]),
            (SMOKE_LM, "prompts", ["recipient", "sentiment"]),
            (SMOKE, "trials", 25),
        )
    ),
    *(
        Case(
            SMOKE,
            f"steering.{key}",
            value,
            (below("[^/]*", "steering"), TABLES.format("steering|claims"), PAGE),
            "steering",
        )
        for key, value in (("directions", 101), ("sequences", 5))
    ),
    *(
        Case(
            SMOKE,
            f"features.{key}",
            value,
            (below("[^/]*", "features"), TABLES.format("features"), PAGE),
            "the study of single latents",
        )
        for key, value in (("dictionary", "relu-l1-x2"), ("latents", 3), ("sequences", 9))
    ),
    Case(
        SMOKE,
        "attribution.members",
        "all",
        (below("[^/]*", "attribution", r"seed1(?:01)?/.*"), ATTRIBUTION_TABLES, PAGE),
        "attribution of the members that are new to it",
    ),
    *(
        Case(
            SMOKE,
            f"attribution.{key}",
            value,
            (below("[^/]*", "attribution"), ATTRIBUTION_TABLES, PAGE),
            "attribution",
        )
        for key, value in (
            ("right", [2]),
            ("midpoint", [2, 4]),
            ("gauss", [2, 4]),
            ("batches", 3),
            ("sequences", 3),
        )
    ),
    *(
        Case(
            SMOKE,
            f"weights.{key}",
            value,
            (
                below("[^/]*", "weights"),
                below("[^/]*", "bars", OTHERS),
                TABLES.format("weights|joint|bars|claims"),
                PAGE,
            ),
            "the alignment of weights, and the bars between members",
        )
        for key, value in (
            ("starts", 3),
            ("sweeps", 3),
            ("published_starts", 2),
            ("draws", 3),
            ("lambdas", 4),
        )
    ),
    Case(
        SMOKE,
        "stability.dictionaries",
        ["relu-l1", "jump"],
        (TABLES.format("dictionaries|stability|claims"), PAGE),
        "SAEs of a new variant's seeds, and what they share; the tables",
    ),
    Case(
        SMOKE,
        "stability.seeds",
        4,
        (
            below("[^/]*", "dictionaries", r".*/[a-z0-9-]+-x2-seed4.*"),
            # Their tables of latents are new, and so all that reads them.
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"dictionaries|stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "SAEs of the new seed, and what all seeds share",
    ),
    Case(
        SMOKE,
        "stability.members",
        "all",
        (
            below("[^/]*", "dictionaries", rf"seed1(?:01)?/.*/{UNBRIDGED}-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", rf"seed1(?:01)?/.*/{UNBRIDGED}.*"),
            TABLES.format("dictionaries|stability|claims"),
            PAGE,
        ),
        "SAE seeds of the members that are new to them",
    ),
    Case(
        SMOKE,
        "stability.sites",
        ["blocks.0.hook_resid_pre"],
        (
            below(
                "[^/]*", "dictionaries", r".*/blocks\.0\.hook_resid_pre/.*-x2-(?:seed|shuffled)\d.*"
            ),
            below("[^/]*", "stability"),
            TABLES.format(f"dictionaries|stability|calibration|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "SAE seeds of the new site",
    ),
    Case(
        SMOKE,
        "stability.threshold",
        0.6,
        (
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "what SAE seeds share, of one member and of two, and how well their latents are explained",
    ),
    Case(
        SMOKE,
        "stability.shuffled",
        False,
        (
            # Tables of single latents are written with the others, so that their readers follow.
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"dictionaries|stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "what SAE seeds share, without that null",
    ),
    Case(
        SMOKE,
        "stability.bridge.dictionaries",
        ["relu-l1", "jump"],
        (
            below("[^/]*", "dictionaries", r"seed1(?:01)?/.*/jump-x2-.*"),
            below("[^/]*", "stability", r"(?:seed1(?:01)?|seed\d+-seed\d+)/.*/jump-x2.*"),
            TABLES.format("dictionaries|stability|bridge|claims"),
            PAGE,
        ),
        "SAE seeds of the variant on the other members, and what they share",
    ),
    Case(
        SMOKE,
        "stability.bridge.seeds",
        3,
        (
            below("[^/]*", "stability", r"seed\d+-seed\d+/.*"),
            TABLES.format("bridge"),
            PAGE,
        ),
        "what SAE seeds of two members share",
    ),
    *(
        Case(
            SMOKE,
            f"stability.interpret{key}",
            value,
            (below("[^/]*", "stability", r".*-interpret.*"), TABLES.format(INTERPRETED), PAGE),
            "the explanation of latents of SAE seeds",
        )
        for key, value in (
            (".latents", 5),
            (".tokens", 3000),
            (".context", 5),
            (".train_examples", 4),
            (".test_examples", 19),
            (".least_windows", 9),
            (".order", 2),
            (".sides", "both"),
            (".embeddings", "sentences"),
            ("", scored_by("openai", "a-model")),
        )
    ),
    Case(
        SMOKE,
        "stability.interpret.dictionaries",
        ["relu-l1", "topk"],
        (
            below("[^/]*", "stability", r".*/topk-x2-interpret.*"),
            TABLES.format(INTERPRETED),
            PAGE,
        ),
        "the explanation of latents of the new variant",
    ),
    *(
        Case(
            SMOKE_LM,
            f"stability.absorption.{key}",
            value,
            (
                below("[^/]*", "stability", r".*-absorption\.csv"),
                TABLES.format("absorption"),
                PAGE,
            ),
            "first letters in SAE seeds",
        )
        for key, value in (
            ("letters_min_tokens", 3),
            ("rows", 31),
            ("permutations", 2),
            ("k", 3),
            ("jump", 0.02),
            ("probe_f1", 0.01),
            ("cosine", 0.03),
            ("share", 0.5),
        )
    ),
    *(
        Case(
            SMOKE,
            f"stability.matched.{key}",
            value,
            (
                below("[^/]*", "dictionaries", r".*/relu-l1-x2-(?:seed|shuffled)\d.*"),
                below("[^/]*", "stability", r".*/relu-l1-x2.*"),
                TABLES.format(f"dictionaries|stability|calibration|bridge|{INTERPRETED}|claims"),
                PAGE,
            ),
            "the calibration, and all SAE seeds it is of",
        )
        for key, value in (("l0", 21), ("steps", 11), ("runs", 4))
    ),
    Case(
        SMOKE,
        "stability.matched.dictionaries",
        ["relu-l1", "jump"],
        (
            below("[^/]*", "dictionaries", r".*/jump-x2-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", r".*/jump-x2.*"),
            TABLES.format("dictionaries|stability|calibration|claims"),
            PAGE,
        ),
        "the calibration of the new variant, and its SAE seeds",
    ),
    *(
        Case(
            SMOKE,
            f"dictionaries.jump.{key}",
            value,
            (
                below("[^/]*", "dictionaries", r".*/jump-x2-(?:seed|shuffled)\d.*"),
                below("[^/]*", "stability", r".*/jump-x2.*"),
                TABLES.format("dictionaries|stability|claims"),
                PAGE,
            ),
            "that variant's SAE seeds, and what they share",
        )
        for key, value in (("l0", 2e-3), ("bandwidth", 0.4), ("threshold", 0.4))
    ),
    Case(
        SMOKE,
        "weights.untrained",
        None,
        (
            below("[^/]*", "weights"),
            below("[^/]*", "bars", OTHERS),
            TABLES.format("weights|joint|bars|claims"),
            PAGE,
        ),
        "the alignment of weights, and the bars between members",
    ),
    Case(
        SMOKE,
        "lenses.members",
        "all",
        (below("[^/]*", "lenses", r"seed1(?:01)?/.*"), TABLES.format("lenses"), PAGE),
        "lenses of the members that are new to them",
    ),
    *(
        Case(
            SMOKE,
            f"lenses.{key}",
            value,
            (below("[^/]*", "lenses"), TABLES.format("lenses"), PAGE),
            "the lenses",
        )
        for key, value in (
            ("components", ["mlp"]),
            ("transcoder.expansions", [3]),
            ("transcoder.l1", 2e-3),
            ("transcoder.lr", 2e-3),
            ("transcoder.steps", 9),
            ("thresholds", [0.02]),
            ("rows", 9),
        )
    ),
    *(
        Case(
            SMOKE,
            f"bars.{key}",
            value,
            (below("[^/]*", "bars"), TABLES.format("bars|claims"), PAGE),
            "the bars",
        )
        for key, value in (("batch_rows", 32), ("orders", 3))
    ),
    *(
        Case(
            SMOKE,
            f"bars.{key}",
            value,
            (below("[^/]*", "bars", which), TABLES.format("bars|claims"), PAGE),
            words,
        )
        for key, value, which, words in (
            ("sequences", 200, ITSELF, "the bars of members and their decoys"),
            ("taught_steps", 3, ITSELF, "the bars of members and their decoys"),
            ("sequences_between", 200, OTHERS, "the bars between members"),
        )
    ),
    *(
        Case(
            SMOKE,
            f"bars.{key}",
            value,
            (below("[^/]*", "causes|bars"), TABLES.format("causes|bars|claims"), PAGE),
            "the effects of components and edges, and the bars",
        )
        for key, value in (("batches", 5), ("rows", 5), ("points", 3))
    ),
    Case(
        SMOKE,
        "claims.cohorts",
        {"toy-shared": "smoke-shared"},
        (TABLES.format("published|claims"), PAGE),
        "the claims, and pairs of cohorts that are new to them by the published protocol",
    ),
    Case(
        SMOKE,
        "claims.dictionary",
        "topk-x2",
        (below("[^/]*", "published"), TABLES.format("published|claims"), PAGE),
        "the claims, and what is measured by the published protocol",
    ),
    Case(
        SMOKE_LM,
        "drift.checkpoints",
        ["step0", "step10", "final"],
        (
            below("[^/]*", "drift", r"seed\d/step10\.csv"),
            below("[^/]*", "drift", r"seed\d\.csv"),
            below("smoke-hub", "checks", r"1\.csv"),
            DRIFT_TABLE,
            PAGE,
        ),
        "the new checkpoint of every seed",
    ),
    *(
        Case(
            SMOKE_LM,
            f"drift{key}",
            value,
            (below("[^/]*", "drift"), DRIFT_TABLE, PAGE),
            "the drift study",
        )
        for key, value in (
            (".dictionaries", []),
            # A reference with dictionaries has to be among the cohorts' checkpoints.
            ("", {"reference": "step0", "checkpoints": ["step0", "final"], "dictionaries": []}),
        )
    ),
]

# A tag decides which other keys there are: changing it alone is no valid configuration.
TAGS = {
    "cohorts.*.kind",
    "cohorts.*.corpus.source",
    "cohorts.*.data.source",
    "cohorts.*.model.source",
    "dictionaries.*.architecture",
}
# Leaves changed by a case that replaces the block they stand in.
OF_BLOCKS = {
    "cohorts.*.corpus": {f"cohorts.*.corpus.{key}" for key in HUB_CORPUS},
    "cohorts.*.data": {
        f"cohorts.*.data.{key}" for key in LABELLED_HUB.keys() | LABELLED_FILES.keys()
    },
    "cohorts.*.model": {f"cohorts.*.model.{key}" for key in BASE_CHECKPOINT},
    "drift": {"drift.reference"},
    # A scorer and its model go together.
    "stability.interpret": {"stability.interpret.scorer", "stability.interpret.model"},
}


def leaf_of(case: Case) -> str:
    """The schema's leaf, or block, that a case changes."""
    return re.sub(r"^(cohorts|dictionaries)\.[^.]+\.", r"\1.*.", case.path)


def kind_of(case: Case) -> str:
    """The kind of cohort that a case is about; empty for keys outside the cohorts."""
    return KINDS[case.path.split(".")[1]] if case.path.startswith("cohorts.") else ""


def leaves() -> Iterator[tuple[str, str]]:
    """(kind of cohort or empty, path) of every leaf that can be changed alone."""
    cohorts = typing.get_args(RunConfig.model_fields["cohorts"].annotation)[1]
    for model in reference.models_of(cohorts):
        kind = typing.get_args(model.model_fields["kind"].annotation)[0]
        for leaf in reference.leaves(model, "cohorts.*."):
            yield kind, leaf.path
    for leaf in reference.leaves():
        if not leaf.path.startswith("cohorts."):
            yield "", leaf.path


def covered() -> set[tuple[str, str]]:
    """(kind, path) of every leaf that some case changes."""
    return {
        (kind_of(case), path)
        for case in CASES
        for path in OF_BLOCKS.get(leaf_of(case), {leaf_of(case)})
    }


def table() -> str:
    """The rerun table as Markdown: a row for each block of keys with one consequence."""
    rows: dict[tuple[str, str], list[str]] = {}
    for case in CASES:
        keys = rows.setdefault((kind_of(case), case.reruns), [])
        for path in sorted(OF_BLOCKS.get(leaf_of(case), {leaf_of(case)}) - TAGS):
            if path not in keys:
                keys.append(path)
    lines = ["| cohort | edit one of these keys | → these run again |", "|---|---|---|"]
    for (kind, reruns), keys in rows.items():
        listed = "<br>".join(f"`{key}`" for key in keys)
        lines.append(f"| {kind and f'`{kind}`'} | {listed} | {reruns} |")
    tags = "<br>".join(f"`{key}`" for key in sorted(TAGS))
    lines.append(f"| | {tags} | decides which other keys there are: all that those name |")
    return "\n".join(lines) + "\n"


# Keys of the short table: (kind of cohort, path).
SHORT = (
    ("dyck", "cohorts.*.seeds"), ("dyck", "cohorts.*.sites"), ("dyck", "cohorts.*.training.steps"), ("dyck", "cohorts.*.tokens.eval"),
    ("", "dictionaries.*.k"), ("", "transfer.pairs"), ("", "transfer.resamples"), ("", "steering.directions"), ("", "weights.starts"),
    ("", "bars.orders"), ("", "claims.dictionary"), ("", "run"), ("", "device"),
)  # fmt: skip


def short_table() -> str:
    """A few rows of the rerun table, for README."""
    said = {(kind_of(case), leaf_of(case)): case.reruns for case in CASES}
    lines = ["| edit | → these run again |", "|---|---|"]
    lines += [f"| `{path}` | {said[kind, path]} |" for kind, path in SHORT]
    return "\n".join(lines) + "\n"


def written(page: Path, mark: str, text: str) -> str:
    """A page with a table between its marks."""
    head, opening, rest = page.read_text(encoding="utf-8").partition(
        f"<!-- {mark}: python tests/rerun.py -->\n"
    )
    _, ending, tail = rest.partition(f"<!-- end of {mark} -->")
    if not ending:
        raise SystemExit(
            f"{page} has no place for the {mark}: <!-- {mark}: … --> and <!-- end of {mark} -->"
        )
    return head + opening + text + ending + tail


if __name__ == "__main__":
    for name, mark, text in (
        ("docs/reruns.md", "rerun table", table()),
        ("README.md", "short rerun table", short_table()),
    ):
        page = ROOT / name
        page.write_text(written(page, mark, text), encoding="utf-8")
