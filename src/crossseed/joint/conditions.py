"""The conditions of the published table, the baselines that it omits, and the SAEs that each is measured on.

    1    independent SAEs, latents of equal index            4  one SAE of both models, no map
    2    the same, latents matched one to one                5  one SAE, B's activations carried over by W
    3    the same, B's SAE reads what W carries over         6  the same, with the cross loss
    3'   A's SAE reads what W carries over, equal index

Baselines: `crosscoder`, `mutual` (matched one to one), `universal`, and `ridge`, which is condition 6 with a linear map in
place of a rotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from crossseed.joint.config import (
    CROSSCODER,
    INDEPENDENT,
    MUTUAL,
    UNIVERSAL,
    JointTraining,
    TrainingSettings,
)

CONDITIONS = ("1", "2", "3", "3'", "4", "5", "6")
BASELINES = ("crosscoder", "mutual", "universal", "ridge")
# Measured on the SAEs of condition 1.
OF_INDEPENDENT = ("1", "2", "3", "3'")
# Where each model has weights of its own, which may start equal or not.
STARTED = (*OF_INDEPENDENT, "mutual", "universal")
# Where latents of equal index have nothing to do with each other, and are matched.
MATCHED = ("2", "3", "mutual")
# By which map B's activations are carried over while the SAE is trained.
MAPS = {"5": "true", "6": "true", "mutual": "true", "ridge": "ridge"}
MODELS = ("a", "b")
_CHANGES: dict[str, dict[str, Any]] = {
    "1": {"kind": INDEPENDENT, "lambda_cross": 0.0},
    "4": {"lambda_cross": 0.0},
    "5": {"lambda_cross": 0.0},
    "6": {},
    "crosscoder": {"kind": CROSSCODER, "lambda_cross": 0.0},
    "mutual": {"kind": MUTUAL, "lambda_cross": 0.0},
    "universal": {"kind": UNIVERSAL, "lambda_cross": 0.0},
    "ridge": {},
}


def of_condition(
    settings: TrainingSettings, condition: str, more: Mapping[str, Any] | None = None
) -> tuple[JointTraining, str]:
    """Settings of the training of a condition or baseline, and the name of the map it takes.

    Args:
        settings: of condition 6, the full pipeline.
        condition: one that has SAEs of its own, of `CONDITIONS` or `BASELINES`.
        more: values that belong to this training alone (``init``, ``lambda_mutual``, ``lambda_cross``).
    """
    own = {**settings.model_dump(), **_CHANGES[condition], **(more or {})}
    return JointTraining.model_validate(own), MAPS.get(condition, "identity")


class Condition(NamedTuple):
    """A row of the study's table.

    Attributes:
        condition: of `CONDITIONS` or `BASELINES`.
        init: ``shared`` or ``distinct`` starts where there are two; empty where there is one.
        lambda_cross: another weight of the cross loss than that of the settings; None for theirs.
    """

    condition: str
    init: str = ""
    lambda_cross: float | None = None

    @property
    def name(self) -> str:
        """Of its files."""
        parts = [self.condition.replace("'", "prime")]
        parts += [self.init] if self.init else []
        parts += [] if self.lambda_cross is None else [f"lambda{self.lambda_cross:g}"]
        return "-".join(parts)

    @classmethod
    def of_name(cls, name: str) -> Condition:
        """The one whose files are called so."""
        # A weight may hold a hyphen of its own, as 1e-05 does.
        name, _, weight = name.partition("-lambda")
        condition, _, init = name.partition("-")
        return cls(condition.replace("prime", "'"), init, float(weight) if weight else None)

    @property
    def trained(self) -> Condition:
        """The condition whose SAEs it is measured on."""
        return self._replace(condition="1") if self.condition in OF_INDEPENDENT else self

    @property
    def trainings(self) -> list[str]:
        """Names of the SAEs it is measured on: one for each model where they are trained apart."""
        name = self.trained.name
        if self.condition in OF_INDEPENDENT:
            return [f"{name}-{model}" for model in MODELS]
        return [name]

    @property
    def map(self) -> str:
        """The map that measuring it takes, beside those that its SAEs were trained with."""
        return "true" if self.condition in ("3", "3'") else "identity"


def conditions(
    chosen: Iterable[str], baselines: Iterable[str], inits: Iterable[str], grid: Iterable[float]
) -> list[Condition]:
    """All rows, in the order of the table.

    Args:
        chosen: of `CONDITIONS`. baselines: of `BASELINES`.
        inits: of conditions 1 to 3'; baselines with two starts take the first.
        grid: more weights of the cross loss in condition 6.
    """
    inits = list(inits)
    found = []
    for condition in [*chosen, *baselines]:
        starts = inits if condition in OF_INDEPENDENT else inits[:1]
        found += [Condition(condition, init) for init in (starts if condition in STARTED else [""])]
        if condition == "6":
            found += [Condition("6", "", weight) for weight in grid]
    return found
