"""Configuration of the studies of weights, bars and lenses: of toy cohorts alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossseed.cohorts.config import Checkpoint
from crossseed.config.fields import Count, Distinct, Model, NonEmpty, NotNegative, Positive


class WeightStudy(Model):
    """Weights of every two members aligned by the symmetries of the model."""

    starts: Annotated[int, Field(ge=2)] = Field(
        description="Starts of a search for the best element of the symmetry group, side by side."
    )
    sweeps: Count = Field(
        description="Sweeps of each start; the best goes on until it has converged."
    )
    published_starts: Count = Field(
        description="Starts of the published search, each with and without its residual step (published: 16)."
    )
    draws: Annotated[int, Field(ge=2)] = Field(
        description="Random elements, the null of the alignment."
    )
    untrained: Checkpoint | None = Field(
        description="Checkpoint that counts as untrained, e.g. `step0`: aligned likewise, it says how close "
        "the search brings anything. null leaves it out."
    )
    lambdas: Annotated[int, Field(ge=2)] = Field(
        description="Points of the curve between weights alone and activations alone, evenly spaced, and as many closer and closer "
        "to weights alone."
    )


class BarStudy(Model):
    """The four bars: behaviour, parameters, causes and predictions."""

    sequences: Count = Field(
        description="Fresh sequences behind the behavioural bar of a member and its decoys (published: 10,000,000)."
    )
    sequences_between: Count = Field(
        description="Fresh sequences on which two members are compared (published: 2,048)."
    )
    batch_rows: Count = Field(description="Sequences at a time, all of one distribution.")
    batches: Annotated[int, Field(ge=4)] = Field(
        description="Batches of `eval` on which components and edges are cut: half of them predict, half are "
        "predicted, and intervals draw them anew."
    )
    rows: Count = Field(description="Sequences a batch.")
    points: Count = Field(
        description="Points of integrated gradients by the midpoint rule, of every edge and component."
    )
    taught_steps: Count = Field(
        description="Steps in which the decoy `taught` learns to predict what the model predicts."
    )
    orders: Count = Field(
        description="Random orders that the cumulative ablation is compared with."
    )


Component = Annotated[
    str,
    Field(pattern=r"^(head|mlp|blocks\.[01]\.(attn\.hook_z\.[0-3]|hook_mlp_out))$"),
]


class TranscoderRecipe(Model):
    """Transcoders of every MLP, their decoder's columns of unit length."""

    expansions: Annotated[
        list[Count], Distinct, NonEmpty, Field(description="Latents, in widths of the model.")
    ]
    l1: NotNegative = Field(description="Penalty on the sum of latents (published: 0.001).")
    lr: Positive = Field(description="Learning rate of Adam.")
    steps: Count = Field(description="Steps of 1,024 tokens of `train`.")


class LensStudy(Model):
    """Components of members seen through weights, dictionaries, cuts, regions and roles."""

    members: Literal["anchor", "all"] = Field(description="Which seeds are studied.")
    components: Annotated[
        list[Component],
        Distinct,
        NonEmpty,
        Field(
            description="Components whose roles are told: `head`, `mlp`, or one by name, e.g. "
            "`blocks.0.attn.hook_z.3`."
        ),
    ]
    transcoder: TranscoderRecipe
    thresholds: Annotated[
        list[Positive],
        Distinct,
        NonEmpty,
        Field(description="What pruning an edge may add to the loss, in nats (published: 0.001)."),
    ]
    rows: Count = Field(
        description="Sequences of `fit` on which edges are pruned, and of `eval` on which that is told."
    )
