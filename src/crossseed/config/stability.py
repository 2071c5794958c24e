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


class Bridge(Model):
    """SAEs of different members matched after each map."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(
            description="Variants of the study whose SAEs of all members are trained and matched, in every size."
        ),
    ]
    seeds: Annotated[int, Field(ge=2)] = Field(
        description="SAE seeds of each member that are matched, in a ring; an interval takes four."
    )


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
    shuffled: bool = Field(
        description="Whether two more SAEs of each are trained on activations whose principal components are "
        "dealt out to other tokens: what SAEs share of these is the null of what they find beyond second moments."
    )
    matched: MatchedL0 | None = Field(
        description="Variants whose penalty is calibrated, or null for penalties as given."
    )
    bridge: Bridge | None = Field(
        description="SAEs of the anchor and of each other member matched after each map, beside two SAEs of one "
        "member; or null for none."
    )
    threshold: Fraction = Field(
        description="Cosine above which two latents are the same (published: 0.7)."
    )
