"""The symmetries of a transformer's weights, and alignment of two models through them.

Here are the names that its tables and files are read by; see `crossseed.gauge.study` for what the arms are.
"""

from __future__ import annotations

from crossseed.keys import JOURNEY

SCHEMA = "alignment/1"
COLUMNS = (*JOURNEY, "arm", "tensor", "metric", "value", "low", "high")
JOINT_COLUMNS = (
    *(
        *JOURNEY,
        "start",
        "objective",
        "method",
        "lambda",
        "det",
        "weight_error",
        "activation_error",
    ),
    *("loss", "max_mse", "rotation_distance"),
)
ALIGNED, GIVEN, RANDOM, UNTRAINED, ZERO = "aligned", "given", "random", "untrained", "zero"
PUBLISHED, MENDED = "published", "mended"
CLOSED, LEAST_LOSS = "closed_form", "published_least_loss"
