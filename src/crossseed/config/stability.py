"""Configuration of the stability study: several SAEs of one member and site."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossseed.config.fields import Count, Distinct, Fraction, Model, Name, NonEmpty, Positive


class MatchedL0(Model):
    """Penalties found so that architectures are compared at one L0."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(
            description="Variants of the study with a penalty; that of the config is where the search starts."
        ),
    ]
    l0: Positive = Field(description="Active latents a token that are wanted.")
    steps: Count = Field(description="Steps of each short run.")
    runs: Count = Field(description="Short runs of each member, site and size, at most.")


class StabilityStudy(Model):
    """SAEs that differ in nothing but their seed: same member, site and data, in the same order."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(description="SAE variants that are trained from several seeds, in every size."),
    ]
    seeds: Annotated[int, Field(ge=2)] = Field(
        description="SAEs of each, from starts `seed1`, `seed2`, … (published: 9). More train only what is new. "
        "The curve over seeds has an asymptote from 5 on."
    )
    members: Literal["anchor", "all"] = Field(description="Members whose SAEs are compared.")
    sites: list[str] | None = Field(
        description="Sites among those of each cohort, e.g. `blocks.1.hook_resid_mid`; null: all."
    )
    matched: MatchedL0 | None = Field(
        description="Variants whose penalty is calibrated, or null for penalties as given."
    )
    threshold: Fraction = Field(
        description="Cosine above which two latents are the same (published: 0.7)."
    )
