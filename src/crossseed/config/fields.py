"""Field types shared by all config models."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
RESERVED = {"reports", "nulls"}
LONGEST_NAME = 60


class Model(BaseModel):
    """A config block: unknown keys are refused, values never change, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _number(value: Any) -> Any:
    # YAML 1.1 reads 5e-4 (no dot) as text; a person means the number.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _name(value: str) -> str:
    if len(value) > LONGEST_NAME:
        raise ValueError(
            f"{len(value)} characters, expected {LONGEST_NAME} at most; shorten it (the name becomes a folder)"
        )
    if not NAME.fullmatch(value) or value in RESERVED:
        raise ValueError(
            "expected lower-case letters and digits, joined by single '-', and not 'reports' or 'nulls' "
            "(the name becomes a folder)"
        )
    return value


def _distinct(values: list[Any]) -> list[Any]:
    repeated = sorted((value for value, n in Counter(values).items() if n > 1), key=str)
    if repeated:
        raise ValueError(f"{', '.join(map(str, repeated))} listed twice; list each once")
    return values


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
# Sequences of a split: their numbers are stored in 32 bits.
Sequences = Annotated[int, Field(ge=1, le=2_000_000_000)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Distinct = AfterValidator(_distinct)
NonEmpty = Field(min_length=1)
