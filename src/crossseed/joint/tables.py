"""Columns of the joint study's tables.

Model A is the source of a pair, B the target. ``condition``, ``init`` and ``lambda_cross`` are those of
`crossseed.joint.conditions.Condition`. Shares are from 0 to 1, accuracies in per cent, their changes in points.
"""

from __future__ import annotations

from crossseed.keys import PAIR

CELL = PAIR

ROW = ("condition", "init", "lambda_cross")
# ``rows``: a token or a text is a row of what is correlated. ``matched_on``: split on which latents were matched, or that
# they are paired by index. ``null``: with one model's tokens shifted against the other's, and where latents are matched,
# matched on such tokens too; of cosines, what random directions have.
CONDITION_COLUMNS = (*CELL, *ROW, "rows", "matched_on", "measure", "value", "low", "high", "null")
# ``pc…``: coordinates of decoders on their two leading principal axes, and the variance along these.
LATENT_COLUMNS = (
    *(*CELL, *ROW, "latent", "partner", "r", "null_r", "active", "universal", "mean_activation"),
    *("pc1_a", "pc2_a", "pc1_b", "pc2_b", "pc_share_a", "pc_share_b"),
)
HISTORY_COLUMNS = (
    *(*CELL, "training", "epoch", "step", "kl", "ds", "local", "cross", "aux", "mutual", "total"),
    *("held_out", "dead", "kept"),
)
# Normalised errors on `fit`, in sample, and on `eval`; of the transpose, and of no map.
FIT_COLUMNS = (
    *(*CELL, "map", "centered", "nre_fit", "nre", "nre_low", "nre_high"),
    *("nre_transposed", "nre_raw", "determinant"),
)
NULL = ("null", "draw", "share", "directions", "complement")
NULL_COLUMNS = (*CELL, *NULL, "nre", "measure", "value")
# ``draw`` of ``identity`` and ``true``: the start; of others: the map.
# ``how``: ``retrained``, a retraining against those with another kind of map; ``post_hoc``, without training, against Haar
# draws (``random``) or W of shuffled tokens (``mismatched``), over so many ``latents``; ``replicated``, W less no map over
# several starts with its interval, where ``null_…`` are of retrainings with one map and draws are sign flips.
# ``as_good``: draws that are at least as good as the map; ``p`` is (1 + as_good) / (1 + draws), ``p_least`` its floor.
TEST_COLUMNS = (
    *(*CELL, "how", "statistic", "map", "against", "share", "directions", "complement", "value"),
    *(
        "low",
        "high",
        "latents",
        "draws",
        "null_mean",
        "null_sd",
        "null_best",
        "as_good",
        "p",
        "p_least",
    ),
)
# ``…_of_random``: as a share of the distance of two Haar draws; ``null_…``: where A's tokens are paired with others of B.
SIZE_COLUMNS = (
    *(*CELL, "sequences", "tokens", "distance", "distance_of_most", "distance_of_random"),
    *("inside", "inside_of_most", "inside_of_random", "outside", "outside_of_random", "nre"),
    *("gain", "flat", "null_distance", "null_inside", "null_outside", "null_nre"),
)
HALF_COLUMNS = (
    *(*CELL, "split", "sequences", "tokens", "splits", "mean", "sd", "inside_mean", "inside_sd"),
    *("outside_mean", "outside_sd", "of_random", "inside_of_random", "outside_of_random"),
    *("null_mean", "null_inside", "null_outside", "k95", "k99", "k95_squared", "k99_squared"),
)
_LATENT = (*ROW, "class", "latent", "r", "universal", "tells_a", "tells_b")
# ``groups``: of sentences that are one template about one thing, over which intervals and ``p`` are; ``difference``: of
# ``effect`` less that of the neutral edit. ``lower`` and ``higher`` count sentences.
COUNTERFACTUAL_COLUMNS = (
    *(*CELL, *_LATENT, "edit", "after", "model", "items", "silent", "groups"),
    *("effect", "effect_low", "effect_high", "control", "control_low", "control_high"),
    *("difference", "difference_low", "difference_high", "lower", "higher"),
    *("groups_lower", "groups_higher", "p", "p_holm"),
)
ITEM_COLUMNS = (
    *(
        *CELL,
        *ROW,
        "class",
        "latent",
        "edit",
        "model",
        "item",
        "group",
        "original",
        "edited",
        "control",
    ),
    *("peak_original", "peak_edited", "peak_control", "effect", "effect_control"),
)
CONTEXT_COLUMNS = (*CELL, *_LATENT, "model", "rank", "peak", "label", "token", "context")
POOLED_COLUMNS = (
    *(
        "cohort",
        "data",
        "kind_of_seed",
        "checkpoint",
        "site",
        *ROW,
        "rows",
        "matched_on",
        "measure",
    ),
    *("mean", "sd", "low", "high", "null", "pairs"),
)
REGRESSION_COLUMNS = (
    *("scope", "draws", "points", "pairs", "slope", "slope_low", "slope_high", "r2"),
)
