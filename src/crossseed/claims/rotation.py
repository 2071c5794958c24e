"""How the claims on transfer, cosines, rotations and drift are measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossseed.alignment import ladder
from crossseed.claims.cells import Cells, Values, Wiring, less, none


def _published(quantity: str, init: str = "shared") -> Values:
    return lambda c: c.of("published", quantity=quantity, dictionary=c.dictionary, init=init)


def _of_rotation(quantity: str) -> Values:
    return lambda c: c.of("published", quantity=quantity)


def _transfer(arm: str, metric: str, init: str = "independent") -> Values:
    return lambda c: c.of("transfer", arm=arm, metric=metric, dictionary=c.dictionary, init=init)


def _null_of_rule(metric: str) -> Values:
    return lambda c: c.of(
        "evidence", metric=metric, dictionary=c.dictionary, init="independent", value="null"
    )


def _distance(arm: str) -> Values:
    return lambda c: c.of("fits", arm=arm, metric="rotation_distance")


def _alignment(arm: str) -> Values:
    return lambda c: c.of("fits", arm=arm, metric="alignment_ev")


def _cosine(init: str, map_: str, value: str) -> Values:
    return lambda c: c.of(
        "decoder_cosine", init=init, map_=map_, dictionary=c.dictionary, value=value
    )


def _haar_p(map_: str, statistic: str) -> Values:
    """Calibrated p in the neuron basis of the rotations that are decided wholly."""
    return lambda c: c.of(
        "haar", map_=map_, statistic=statistic, subspace="whole", basis="neuron", value="p"
    )


def _worst_site(values: Values) -> Values:
    """The cells of the site with the lowest mean."""

    def chosen_rows(c: Cells) -> pd.DataFrame:
        rows = values(c)
        if rows.empty:
            return rows
        return rows[rows.site == rows.groupby("site").value.mean().idxmin()]

    return chosen_rows


_ROTATED = Wiring(
    _published("ev_rotated"),
    _transfer("procrustes", "evx_3"),
    _null_of_rule("evx_3"),
    "falls",
    "explained variance of the carried activations rewards second moments; token by token, beyond "
    "three directions, against the best map without pairing",
)
_RAW = Wiring(
    _published("ev_raw"),
    _transfer("raw", "ev"),
    _transfer("mean", "ev"),
    "leaves",
    "raw activations lack the shift of the mean that rotated ones get: a shift alone stands beside them",
)
_RAW_WORST = Wiring(
    _worst_site(_published("ev_raw")),
    _worst_site(_transfer("raw", "ev")),
    _worst_site(_transfer("mean", "ev")),
    "leaves",
    _RAW.why,
    "dictionaries of that expansion",
    over="mean",
)
_RAW_INPUT = Wiring(
    less(_published("ev_raw"), _published("ev_self")),
    less(_alignment("raw"), _alignment("procrustes")),
    none,
    "never",
    "where embeddings are shared the activations are the same; beside it what the identity explains "
    "of them less what a rotation does",
)
_GAUSSIAN = Wiring(
    _published("ev_gaussian"),
    _transfer("gaussian", "ev"),
    _transfer("shuffled", "ev"),
    "never",
    "noise without any feature is reconstructed: the control that the study ran and did not apply",
)
_DISTANCE = Wiring(
    _published("rotation_distance"),
    _distance("procrustes"),
    tuple(_distance(arm) for arm in ("random", "shuffled", "covariance_random")),
    "passes",
    "‖R − I‖² = 2d − 2 tr R: a random rotation, one fitted on shuffled tokens or one that matches "
    "principal axes has it too",
)
_COSINE_MEAN = Wiring(
    _cosine("shared", "raw", "mean_max_cosine"),
    _cosine("independent", "rotated", "mean_max_cosine"),
    _cosine("independent", "rotated", "random_floor"),
    "falls",
    "SAEs of one initialisation keep their columns; with independent starts, rotated, against "
    "random directions",
)
_COSINE_ABOVE = _COSINE_MEAN._replace(
    as_published=_cosine("shared", "raw", "share_above_0.5"),
    rigorous=_cosine("independent", "rotated", "share_above_0.5"),
    null=_cosine("independent", "raw", "share_above_0.5"),
    why="SAEs of one initialisation keep their columns; with independent starts, rotated against raw",
)


def _firing(arm: str, published: str | None = None) -> Wiring:
    return Wiring(
        _published(f"firing_{published or arm}"),
        _transfer("procrustes" if arm == "rotated" else "raw", "firing_r"),
        _null_of_rule("firing_r"),
        "falls" if arm == "rotated" else "never",
        "latents that never fire are counted, not averaged in as 0; against the best map without "
        "pairing",
    )


def _firing_above(arm: str, published: str) -> Wiring:
    metric = "firing_r_above_0.5"
    return Wiring(
        _published(f"firing_{published}_above"),
        _transfer("procrustes" if arm == "rotated" else "raw", metric),
        tuple(_transfer(null, metric) for null in ladder.NULLS),
        "falls" if arm == "rotated" else "never",
        "a share of the live latents alone, against the map without pairing that comes closest",
    )


_FIRING_SELF = Wiring(
    _published("firing_self"),
    none,
    none,
    "never",
    "a latent that fires correlates fully with itself: what is missing from 1 are latents that never "
    "fire, averaged in as 0",
)
_KS_POOLED = Wiring(
    lambda c: c.pooled(map_="procrustes", value="ks_published"),
    lambda c: c.pooled(map_="procrustes", value="p"),
    lambda c: c.pooled(map_="shuffled", value="p"),
    "control_p",
    "calibrated p of the pool, of the rotations that are decided, as if sites of a pair were "
    "independent; beside that of rotations fitted on shuffled tokens",
    "a study of Haar measure",
)


def _drift_ev(published: str, arm: str, null: str, control: str) -> Wiring:
    def ev(arm: str, metric: str) -> Values:
        return lambda c: c.moved(arm=arm, metric=metric, dictionary=c.dictionary)

    return Wiring(
        ev(published, "ev_published"),
        ev(arm, "ev"),
        ev(null, "ev"),
        control,
        "maps fitted on other tokens than those measured; centred by dimension, against a rotation "
        "fitted on shuffled tokens",
        "drift of dictionaries of the early checkpoint",
    )


def _arbitrary(c: Cells) -> pd.DataFrame:
    """√(2(d − rank)): the distance from the identity of a rotation that is the identity wherever
    the activations decide it, and arbitrary elsewhere."""
    found = c.moved(arm="haar", metric="rotation_distance")
    rank = c.moved(arm="procrustes", metric="numerical_rank")
    # √(2d) is what a random rotation has.
    square = np.square(found.value.to_numpy()) - 2 * rank.value.to_numpy()
    return found.assign(value=np.sqrt(np.clip(square, 0, None)))


_DRIFT_DISTANCE = Wiring(
    lambda c: c.moved(arm="procrustes", metric="rotation_distance_published"),
    lambda c: c.moved(arm="procrustes", metric="rotation_distance_identified"),
    _arbitrary,
    "passes",
    "where activations do not span all dimensions the rest of R is arbitrary, and has a distance "
    "from the identity of its own; beside it the distance inside the identified directions",
    "drift from the early checkpoint",
)

# By the claim's name without the study's cohort.
WIRED: dict[str, Wiring] = {
    "raw-ev": _RAW,
    "raw-ev-worst": _RAW_WORST,
    "raw-ev-input": _RAW_INPUT,
    "gaussian-ev": _GAUSSIAN,
    "rotated-ev": _ROTATED,
    "rotation-distance": _DISTANCE,
    "rotation-distance-mean": _DISTANCE,
    "firing-self": _FIRING_SELF,
    "firing-raw": _firing("raw"),
    "firing-rotated": _firing("rotated"),
    # On the toy the study shifts no mean here, on Pythia it does.
    "pythia-firing-rotated": _firing("rotated", "rotated_shifted"),
    "firing-raw-above": _firing_above("raw", "raw"),
    "firing-rotated-above": _firing_above("rotated", "rotated_shifted"),
    "cosine-mean": _COSINE_MEAN,
    "cosine-above": _COSINE_ABOVE,
    "cosine-above-last": _COSINE_ABOVE,
    "mean-cosine": Wiring(
        _of_rotation("mean_cosine"),
        _haar_p("procrustes", "trace_1"),
        _haar_p("shuffled", "trace_1"),
        "control_p",
        "the calibrated p of the trace, beside that of rotations fitted on shuffled tokens",
    ),
    "permutation-distance": Wiring(
        _of_rotation("permutation_distance"),
        _haar_p("procrustes", "assignment"),
        _haar_p("shuffled", "assignment"),
        "control_p",
        "the calibrated p of the best assignment, beside that of rotations fitted on shuffled tokens",
    ),
    "ks": Wiring(
        _of_rotation("ks"),
        lambda c: c.of("ks", matrices=1, map_="procrustes", value="p"),
        lambda c: c.of("ks", matrices=1, map_="shuffled", value="p"),
        "control_p",
        "calibrated p: eigenphases repel each other, so that the textbook test never rejects",
    ),
    "ks-pooled": _KS_POOLED,
    "ks-pooled-p": _KS_POOLED._replace(
        as_published=lambda c: c.pooled(map_="procrustes", value="p_published"),
        null=lambda c: c.pooled(map_="shuffled", value="p_published"),
        control="passes",
        why="the textbook p of rotations fitted on shuffled tokens is the same",
    ),
    "drift-self-ev": _drift_ev("self", "self", "shuffled", "never"),
    "drift-raw-ev": _drift_ev("raw", "raw", "shuffled", "never"),
    "drift-rotated-ev": _drift_ev("procrustes", "procrustes", "shuffled", "falls"),
    "drift-distance": _DRIFT_DISTANCE,
    "drift-distance-input": _DRIFT_DISTANCE,
}
