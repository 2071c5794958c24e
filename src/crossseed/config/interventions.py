"""Configuration of the studies that change what models compute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossseed.config.fields import Count, Distinct, Model, Name, NonEmpty

Points = Annotated[list[Count], Distinct]


class PortStudy(Model):
    """Dictionaries of one member written as dictionaries for another."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(description="SAE variants of the source that are ported to the target of each pair."),
    ]
    map: Literal["procrustes", "scaled", "ridge"] = Field(
        description="The map that is folded in; `ridge` may have no usable inverse, which is an error."
    )
    sequences: Count = Field(
        description="Sequences of `eval` on which the target is run on reconstructions, evenly spaced."
    )


class SteeringStudy(Model):
    """Members steered by their own, carried and random vectors."""

    concepts: Annotated[
        list[Literal["depth_shift", "sticky_suppression", "closer_signal"]],
        Distinct,
        Field(description="What toy cohorts are steered by."),
    ]
    prompts: Annotated[
        list[Name],
        Distinct,
        Field(
            description="What language models are steered by: files `resources/prompts/{name}.yaml`."
        ),
    ]
    directions: Annotated[int, Field(ge=100)] = Field(
        description="Random directions of either kind: drawn evenly, and by the target's covariance."
    )
    trials: Annotated[int, Field(ge=4)] = Field(
        description="Prompts a class that score a vector; for toy cohorts, sequences of `eval`."
    )
    sequences: Count = Field(
        description="Sequences of `eval` on which the damage to other predictions is measured."
    )


class FeatureStudy(Model):
    """Single latents patched, compared by what they do, and put in each other's place."""

    dictionary: str = Field(
        description="The dictionaries, e.g. `topk-x8`, their last init; substitution needs those of both "
        "members (`members: all`)."
    )
    latents: Count = Field(
        description="Latents that are patched for the size of their contributions; for every concept "
        "of `steering` three more."
    )
    sequences: Count = Field(
        description="Sequences of `eval` that are run; eight times as many of `fit` match latents."
    )


class AttributionStudy(Model):
    """Effects of ablating components, and what predicts them."""

    members: Literal["anchor", "all"] = Field(description="Which seeds are studied.")
    right: Points = Field(
        description="Points of integrated gradients by the right Riemann sum (published: 32)."
    )
    midpoint: Points = Field(description="Points of the midpoint rule.")
    gauss: Points = Field(description="Points of Gauss–Legendre quadrature.")
    batches: Annotated[int, Field(ge=2)] = Field(
        description="Batches of `eval` on which every component is ablated."
    )
    sequences: Count = Field(description="Sequences a batch.")
