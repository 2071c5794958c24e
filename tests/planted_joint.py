"""Tables of a study of joint SAEs, with planted shares of universal latents."""

import itertools

import numpy as np
import pandas as pd

from crossseed.joint import pooled
from crossseed.joint import tables as columns
from crossseed.report import tables as t
from crossseed.tables import COLUMNS

SITE = "blocks.2.hook_normalized_resid_post"
NAMES = [name for name in COLUMNS if name.startswith("joint_")]
PAIRS = [(42, 137), (99, 7), (11, 110)]
# Universal shares: what joint training, W and the cross loss add is planted.
SHARES = {"1": 0.001, "2": 0.16, "3": 0.12, "3'": 0.2, "4": 0.45, "5": 0.5, "6": 0.58}
BASELINES = {"crosscoder": 0.9, "mutual": 0.2, "universal": 0.4, "ridge": 0.57}
ACTIVE = 1500
COHORTS = {"sentiment-finetune": "finetune", "sentiment-pretrain": "pretrain"}
EDITED = (
    *("groups", "difference", "difference_low", "difference_high"),
    *("groups_lower", "groups_higher"),
)
OF_RANDOM = ("inside_of_random", "outside_of_random", "null_inside", "null_outside")
# Conditions matched on `fit` and, higher, in sample on `eval`.
MATCHED = ("2", "3", "mutual")


def cell(cohort, pair):
    return dict(
        zip(columns.CELL, (cohort, *pair, "final", SITE), strict=True),
    )


def conditions(pairs, shares):
    rows = []
    for cohort in COHORTS:
        for number, pair in enumerate(pairs):
            for condition, share in shares.items():
                started = condition in ("1", "2", "3", "3'", "mutual", "universal")
                for init in ("shared", "distinct") if started else ("",):
                    rows += of_condition(
                        cell(cohort, pair), condition, init, share + 0.002 * (number - 1)
                    )
    return pd.DataFrame(rows, columns=columns.CONDITION_COLUMNS)


def of_condition(about, condition, init, share):
    weight = 1.0 if condition in ("6", "ridge") else 0.0
    about = {**about, "condition": condition, "init": init, "lambda_cross": weight}

    def row(rows, on, measure, value, null=np.nan):
        spread = 0.01 * abs(value)
        more = {"value": value, "low": value - spread, "high": value + spread, "null": null}
        return {**about, "rows": rows, "matched_on": on, "measure": measure, **more}

    found = []
    for rows in ("tokens", "texts"):
        for on in ("fit", "eval") if condition in MATCHED else ("index",):
            value = share + (0.05 if on == "eval" else 0)
            found += [
                row(rows, on, "universal_share", value, 0.01),
                row(rows, on, "universal", value * ACTIVE, 15),
                row(rows, on, "active", ACTIVE),
                row(rows, on, "dead_share", 0.6),
                row(rows, on, "mean_r", value, 0.0),
                row(rows, on, "top10_r", min(1, value + 0.1), 0.0),
                row(rows, on, "top100_r", value, 0.0),
                row(rows, on, "top10_used", 10),
                row(rows, on, "top100_used", 37 if condition == "1" else 100),
            ]
    for measure, value in (
        *(("l0", 8.0), ("fvu", 0.2), ("kl", 0.01), ("accuracy_clean", 96.0)),
        *(("accuracy_hijacked", 95.5), ("accuracy_change", 0.5)),
        ("accuracy_change_from_independent", -0.25),
    ):
        found.append(row("", "", measure, value))
    return [*found, row("", "", "cosine", 0.11, 0.1)]


def retrainings(pairs):
    rows = []
    arms = [("mismatched", 0, 0, 1.2)]
    for start in range(5):
        arms += [("identity", start, 113 + start, 0.3), ("true", start, 212 + start, 0.2)]
    arms += [("random", draw, draw % 2, 1.4) for draw in range(30)]
    for cohort in COHORTS:
        for pair in pairs:
            for null, draw, value, nre in arms:
                one = {**cell(cohort, pair), "null": null, "draw": draw, "nre": nre}
                rows.append({**one, "measure": "universal", "value": value})
                rows.append({**one, "measure": "universal_share", "value": value / ACTIVE})
            one = {**cell(cohort, pair), "draw": 0, "nre": 0.25, "measure": "universal"}
            rows.append({**one, "null": "partial", "share": 0.5, "value": 150})
            top = {"directions": 8, "complement": "haar"}
            rows.append({**one, **top, "null": "top", "value": 20})
    return pd.DataFrame(rows, columns=columns.NULL_COLUMNS)


def columns_with(table, *new):
    return list(dict.fromkeys([*table, *new]))


def verdicts_of(pairs, latents=40):
    rows = []
    for cohort in COHORTS:
        for pair in pairs:
            about = cell(cohort, pair)
            draws = {"draws": 30, "null_mean": 0.5, "null_sd": 0.5, "null_best": 1}
            p = {"as_good": 0, "p": 1 / 31, "p_least": 1 / 31, "value": 200}
            for name in ("true", "identity"):
                test = {"how": "retrained", "statistic": "universal", "map": name}
                rows.append({**about, **test, "against": "random", **draws, **p})
            for name, against in itertools.product(
                ("true", "identity", "ridge", "permutation"), ("random", "mismatched")
            ):
                test = {"how": "post_hoc", "map": name, "against": against, "latents": latents}
                found = {**draws, "draws": 999 if against == "random" else 99, **p}
                rows.append({**about, **test, "statistic": "nre", **found})
                empty = {} if latents else dict.fromkeys(("value", "null_mean", "null_sd", "p"))
                rows.append({**about, **test, "statistic": "encoder_r", **found, **empty})
            test = {"how": "replicated", "map": "true", "against": "identity"}
            more = {"low": 90.0, "high": 108.0, "draws": 31, "null_mean": 0.0, "null_sd": 7.0}
            more |= {"value": 99.0, "p": 1 / 32, "p_least": 1 / 32}
            rows.append({**about, **test, "statistic": "universal", **more})
            share = {"value": 0.06, "low": 0.05, "high": 0.07, "null_sd": 0.004}
            rows.append({**about, **test, "statistic": "universal_share", **more, **share})
    names = columns_with(columns.TEST_COLUMNS, "low", "high", "latents")
    return pd.DataFrame(rows, columns=names)


def edited(pairs, effect=-0.6, control=-0.05):
    rows, shown = [], []
    for cohort in COHORTS:
        for pair in pairs:
            for latent in (3, 7):
                tells = {"tells_a": 0.95, "tells_b": 0.9}
                about = {
                    **cell(cohort, pair), "condition": "6", "init": "", "lambda_cross": 1.0,
                    "class": "negative", "latent": latent, "r": 0.8, "universal": 1, **tells,
                }  # fmt: skip
                for number, edit in enumerate(("mood_swap", "modal")):
                    for model in "ab":
                        moved = effect * (1 - 0.5 * number)
                        rows.append(
                            {
                                **about, "edit": edit, "after": "positive", "model": model, "items": 24,
                                "silent": 1, "effect": moved, "effect_low": moved - 0.1,
                                "effect_high": moved + 0.1, "control": control,
                                "control_low": control - 0.1, "control_high": control + 0.1,
                                "lower": 23, "higher": 0, "p": 0.001, "p_holm": 0.02,
                                "groups": 12, "groups_lower": 12, "groups_higher": 0,
                                "difference": moved - control, "difference_low": moved - control - 0.1,
                                "difference_high": moved - control + 0.1,
                            }
                        )  # fmt: skip
                for model in "ab":
                    said = {"label": "negative", "token": "dull", "peak": 3.2, "rank": 1}
                    context = {"context": "the film was <b>dull</b> and slow"}
                    shown.append({**about, "model": model, **said, **context})
    return (
        pd.DataFrame(rows, columns=columns_with(columns.COUNTERFACTUAL_COLUMNS, *EDITED)),
        pd.DataFrame(shown, columns=columns.CONTEXT_COLUMNS),
    )


def planted(pairs=PAIRS, shares=None):
    shares = {**SHARES, **BASELINES} if shares is None else shares
    whole = conditions(pairs, shares)
    nulls = retrainings(pairs)
    kinship = {name: {"data": "sentiment", "kind_of_seed": k} for name, k in COHORTS.items()}
    effects, contexts = edited(pairs)
    latents = [
        {
            **cell(cohort, pairs[0]), "condition": name, "init": "", "lambda_cross": float(name == "6"),
            "latent": i, "partner": i, "r": 0.5, "null_r": 0.0, "active": i % 2, "universal": int(i % 6 == 3),
            "mean_activation": 1.0, **dict.fromkeys(("pc1_a", "pc1_b"), np.sin(i)),
            **dict.fromkeys(("pc2_a", "pc2_b"), np.cos(i)), "pc_share_a": 0.2, "pc_share_b": 0.2,
        }
        for cohort in COHORTS for name in ("4", "5", "6") for i in range(40)
    ]  # fmt: skip
    sizes = [
        {
            **cell(cohort, pair), "sequences": n, "tokens": 10 * n, "distance": 60 / n**0.5,
            "distance_of_most": 3.75 / n**0.5, "distance_of_random": 5.3 / n**0.5, "inside": 1 / n**0.5,
            "inside_of_most": 0.1, "inside_of_random": 0.8, "outside_of_random": 0.4, "outside": 59 / n**0.5, "nre": 0.2 + 1 / n,
            "gain": 0.001 if n > 50 else 0.1, "flat": None if n == 400 else int(n > 50), "null_distance": 90 / n**0.5,
            "null_inside": 1.1 / n**0.5, "null_outside": 90 / n**0.5, "null_nre": 1.2,
        }
        for cohort in COHORTS for pair in pairs for n in (25, 50, 100, 200, 400)
    ]  # fmt: skip
    halves = [
        {
            **cell(cohort, pair), "split": "fit", "sequences": 500, "tokens": 5000, "splits": 30, "mean": 7.5,
            "sd": 0.01, "inside_mean": 0.1, "inside_sd": 0.01, "outside_mean": 7.4, "outside_sd": 0.01,
            "k95": 2, "k99": 3, "k95_squared": 1, "k99_squared": 1, "of_random": 0.5, "inside_of_random": 0.9,
            "outside_of_random": 0.45, "null_mean": 9.8, "null_inside": 0.12, "null_outside": 9.7,
        }
        for cohort in COHORTS for pair in pairs
    ]  # fmt: skip
    fits = [
        {
            **cell(cohort, pair), "map": name, "centered": 0, "nre_fit": nre, "nre": nre, "nre_low": nre - 0.01,
            "nre_high": nre + 0.01, "nre_transposed": 1.0, "nre_raw": 0.5, "determinant": 1.0,
        }
        for cohort in COHORTS for pair in pairs for name, nre in (("identity", 0.5), ("true", 0.2), ("ridge", 0.15))
    ]  # fmt: skip
    return {
        "joint_conditions": whole,
        "joint_latents": pd.DataFrame(latents, columns=columns.LATENT_COLUMNS),
        "joint_training": pd.DataFrame(columns=columns.HISTORY_COLUMNS),
        "joint_fits": pd.DataFrame(fits, columns=columns.FIT_COLUMNS),
        "joint_nulls": nulls,
        "joint_tests": verdicts_of(pairs),
        "joint_sizes": pd.DataFrame(
            sizes,
            columns=columns_with(columns.SIZE_COLUMNS, *OF_RANDOM, "null_distance", "null_nre"),
        ),
        "joint_halves": pd.DataFrame(
            halves, columns=columns_with(columns.HALF_COLUMNS, *OF_RANDOM, "of_random", "null_mean")
        ),
        "joint_counterfactuals": effects,
        "joint_contexts": contexts,
        "joint_pooled": pd.DataFrame(
            pooled.over_pairs(whole, kinship), columns=columns.POOLED_COLUMNS
        ),
        "joint_regression": pd.DataFrame(
            pooled.regressions(nulls), columns=columns.REGRESSION_COLUMNS
        ),
    }


def written(folder, frames):
    """Tables as a run leaves them, and as the page reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return t.read(folder, list(frames))
