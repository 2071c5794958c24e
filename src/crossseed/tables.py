"""The tables of a run: their names and columns."""

from __future__ import annotations

from crossseed import (
    absorption,
    attribution,
    bars,
    card,
    carried,
    claim_rule,
    decoder_cosine,
    drift,
    features,
    fits,
    gauge,
    interpret,
    lenses,
    over_seeds,
    published,
    stability,
    steering,
)
from crossseed.claims import verdicts
from crossseed.cohorts import base
from crossseed.haar import cocycle, power
from crossseed.haar import study as haar
from crossseed.joint import tables as joint
from crossseed.sae import calibration, study

COLUMNS = {
    "quality": base.QUALITY_COLUMNS,
    "training": base.CURVE_COLUMNS,
    "dictionaries": study.COLUMNS,
    "fits": fits.COLUMNS,
    "directions": fits.DIRECTION_COLUMNS,
    "transfer": carried.COLUMNS,
    "evidence": claim_rule.COLUMNS,
    "splice": carried.COLUMNS,
    "decoder_cosine": decoder_cosine.COLUMNS,
    "haar": haar.COLUMNS,
    "ks": haar.KS_COLUMNS,
    "phases": haar.PHASE_COLUMNS,
    "cocycle": cocycle.COLUMNS,
    "power": power.COLUMNS,
    "over_seeds": over_seeds.COLUMNS,
    "ports": card.COLUMNS,
    "steering": steering.COLUMNS,
    "features": features.COLUMNS,
    "attribution": attribution.COLUMNS,
    "attribution_cells": attribution.CELL_COLUMNS,
    "stability": stability.COLUMNS,
    "calibration": calibration.COLUMNS,
    "bridge": stability.BRIDGE_COLUMNS,
    "absorption": absorption.COLUMNS,
    "interpret": interpret.COLUMNS,
    "interpret_steps": interpret.STEP_COLUMNS,
    "weights": gauge.COLUMNS,
    "joint": gauge.JOINT_COLUMNS,
    "causes": bars.CAUSE_COLUMNS,
    "bars": bars.COLUMNS,
    "lenses": lenses.COLUMNS,
    "joint_conditions": joint.CONDITION_COLUMNS,
    "joint_latents": joint.LATENT_COLUMNS,
    "joint_training": joint.HISTORY_COLUMNS,
    "joint_fits": joint.FIT_COLUMNS,
    "joint_nulls": joint.NULL_COLUMNS,
    "joint_tests": joint.TEST_COLUMNS,
    "joint_sizes": joint.SIZE_COLUMNS,
    "joint_halves": joint.HALF_COLUMNS,
    "joint_counterfactuals": joint.COUNTERFACTUAL_COLUMNS,
    "joint_contexts": joint.CONTEXT_COLUMNS,
    "joint_pooled": joint.POOLED_COLUMNS,
    "joint_regression": joint.REGRESSION_COLUMNS,
    "drift": drift.COLUMNS,
    "published": published.COLUMNS,
    "claims": verdicts.COLUMNS,
}
