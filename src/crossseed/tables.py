"""The tables of a run: their names and columns."""

from __future__ import annotations

from crossseed import decoder_cosine, drift, transfer
from crossseed.cohorts import base
from crossseed.sae import study

COLUMNS = {
    "quality": base.QUALITY_COLUMNS,
    "training": base.CURVE_COLUMNS,
    "dictionaries": study.COLUMNS,
    "transfer": transfer.COLUMNS,
    "decoder_cosine": decoder_cosine.COLUMNS,
    "drift": drift.COLUMNS,
}
