"""The maps that W is held against, by name.

    identity    no map                          mismatched  W fitted on shuffled tokens
    true        W                               partial     W fitted where a share of the tokens is shuffled
    top         W on B's leading directions,    random      a Haar draw
                the rest carried otherwise

Retrainings are done in groups, a job each: those of a kind, random ones by tens, so that more draws leave the others be.
Draws of `identity` and of `true` have one map, and starts and orders of their own, the same in both; those of the others are
draws of the map, and start as draw 0 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from crossseed.joint.config import JointTraining, TrainingSettings

IDENTITY, TRUE, RANDOM = "identity", "true", "random"
MISMATCHED, PARTIAL, TOP = "mismatched", "partial", "top"
# Random retrainings of one job.
DRAWS_A_JOB = 10


class Arm(NamedTuple):
    """One retraining.

    Attributes:
        null: kind of map. draw: number among those alike. share: of the tokens that is shuffled.
        directions: that W carries. complement: how the others are carried.
    """

    null: str
    draw: int = 0
    share: float | None = None
    directions: int | None = None
    complement: str | None = None

    @property
    def start(self) -> int:
        """Number of its initial weights and order of examples; 0 for those of whole trainings."""
        return self.draw if self.null in (IDENTITY, TRUE) else 0


def groups(
    random: int,
    mismatched: int,
    shares: list[float],
    directions: list[int],
    complements: list[str],
    replicates: int = 1,
) -> dict[str, list[Arm]]:
    """Arms by the name of their job."""
    found = {
        **{
            f"fitted{start or ''}": [Arm(IDENTITY, start), Arm(TRUE, start)]
            for start in range(replicates)
        },
        MISMATCHED: [Arm(MISMATCHED, draw) for draw in range(mismatched)],
        PARTIAL: [Arm(PARTIAL, 0, share) for share in shares],
        TOP: [Arm(TOP, 0, None, r, rest) for r in directions for rest in complements],
    }
    for first in range(0, random, DRAWS_A_JOB):
        draws = range(first, min(first + DRAWS_A_JOB, random))
        found[f"{RANDOM}{first}"] = [Arm(RANDOM, draw) for draw in draws]
    return {name: arms for name, arms in found.items() if arms}


def settings_of(
    settings: TrainingSettings, batches: int | None, lambda_cross: float
) -> JointTraining:
    """Settings of all retrainings: of condition 5, but for these; a short one stops where it ends."""
    short = {} if batches is None else {"batches": batches, "early_stopping_patience": None}
    own = {**settings.model_dump(), "lambda_cross": lambda_cross, **short}
    return JointTraining.model_validate(own)


def plain(arms: list[Arm]) -> list[dict[str, Any]]:
    """Arms as plain values of a spec."""
    return [arm._asdict() for arm in arms]


def of_plain(told: list[dict[str, Any]]) -> Iterator[Arm]:
    """What `plain` gave."""
    for arm in told:
        yield Arm(**arm)
