"""Configuration of a joint training and of what is measured on it.

Defaults are the published settings, or, where the study says nothing, the choice that its description names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Fraction,
    Model,
    NonEmpty,
    NotNegative,
    Positive,
)

JOINT, INDEPENDENT, MUTUAL = "joint", "independent", "mutual"
CROSSCODER, UNIVERSAL = "crosscoder", "universal"


class TrainingSettings(Model):
    """What every training of an SAE of two models has in common; `lambda_cross` is of the full pipeline, condition 6."""

    expansion: Count = Field(
        default=8, description="Latents as a multiple of the activation width; published: 8 (6144)."
    )
    k: Count = Field(default=32, description="Latents kept per token; published: 32.")
    relu_after_topk: bool = Field(
        default=True,
        description="Whether kept pre-activations below 0 become 0. Published: TopK in place of ReLU, which read to the "
        "letter is false; `crosscoder` needs true.",
    )
    norm: Literal["rms", "layernorm", "none"] = Field(
        default="rms",
        description="Normalisation of each token's activations before the encoder, without parameters, undone after the "
        "decoder: `rms` commutes with rotations; `layernorm` is applied before W; published: unspecified.",
    )
    special_tokens: bool = Field(
        default=True,
        description="Whether [CLS] and [SEP] are encoded, reconstructed and counted; published: only pads are left out.",
    )
    mask_ds: bool = Field(
        default=True,
        description="Whether the downstream loss leaves out pads; published: its equation has no mask.",
    )
    cross_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="Cross loss as a mean over tokens and latents, or as a mean over tokens of the sum over latents; "
        "published: a mean squared error.",
    )
    lambda_kl: NotNegative = Field(
        default=1.0, description="Weight of the logits' divergence; published: 1."
    )
    lambda_ds: NotNegative = Field(
        default=1.5, description="Weight of the downstream loss; published: 1.5."
    )
    lambda_local: NotNegative = Field(
        default=1.0, description="Weight of the reconstruction at the site; published: 1."
    )
    lambda_cross: NotNegative = Field(
        default=1.0,
        description="Weight of the difference of the two models' codes, of `joint` alone; published: 1, of .1, .5, 1, 2.",
    )
    lambda_aux: NotNegative = Field(
        default=1 / 32, description="Weight of the AuxK loss; published: 1/32."
    )
    aux_k: Count = Field(
        default=512, description="Dead latents that AuxK lets fire per token; published: 512."
    )
    dead_window: Positive = Field(
        default=1.0,
        description="Epochs without firing in either model after which a latent counts as dead; published: unspecified.",
    )
    lr: Positive = Field(default=5e-5, description="AdamW's peak learning rate; published: 5e-5.")
    weight_decay: NotNegative = Field(
        default=1e-3, description="AdamW's decoupled weight decay; published: .001."
    )
    warmup_ratio: Fraction = Field(
        default=0.1,
        description="Share of all steps in which the rate rises, before it falls as a cosine to 0; published: .1.",
    )
    grad_clip: Positive | None = Field(
        default=None,
        description="Largest norm of the gradient of all weights together, or null for none; published: unspecified (10 in the "
        "recipe it builds on).",
    )
    batch: Count = Field(default=16, description="Examples a step; published: 16.")
    epochs: Count = Field(default=5, description="Passes over the examples; published: 5.")
    batches: Count | None = Field(
        default=None,
        description="Steps after which training ends, as the 35 of the published nulls; null: as many as the epochs have.",
    )
    early_stopping_patience: Count | None = Field(
        default=5,
        description="Epochs in a row without a lower held-out loss after which training ends; the weights of the lowest are "
        "kept. null: no held-out loss, the last weights are kept. Published: 5.",
    )
    init_seed: CountOrZero = Field(
        default=42, description="Names the initial weights; published: 42."
    )
    precision: Literal["float32", "bf16-mixed"] = Field(
        default="float32",
        description="Arithmetic of the SAE's matrix products; weights, losses, optimiser, and the models above the site, whose "
        "passes are compared with clean ones, stay in float32. Published: mixed.",
    )

    def misfit(self, n_latents: int) -> str | None:
        """Why there cannot be so many latents; None if there can."""
        if self.k > n_latents:
            return f"k {self.k} exceeds the {n_latents} latents of the dictionary; lower k"
        return None


class JointTraining(TrainingSettings):
    """One training of an SAE of two models above which the passes go on."""

    kind: Literal["joint", "independent", "mutual", "crosscoder", "universal"] = Field(
        default="joint",
        description="`joint`: one encoder and decoder for both models (published); `independent`: one model's own SAE; "
        "`mutual`: two SAEs whose decoders are drawn to each other (arXiv 2411.01220); `crosscoder`: BatchTopK on both "
        "models' activations together, a decoder for each; `universal`: an encoder and a decoder for each, one "
        "code, that of a model drawn each step (arXiv 2502.03714).",
    )
    lambda_mutual: NotNegative = Field(
        default=0.0,
        description="Weight of the penalty on decoders that differ, of `mutual` alone; not of the joint study.",
    )
    init: Literal["shared", "distinct"] = Field(
        default="shared",
        description="Whether SAEs of the two models start from the same weights; published: one seed set globally.",
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> JointTraining:
        own = {"lambda_cross": JOINT, "lambda_mutual": MUTUAL}
        for name, kind in own.items():
            if getattr(self, name) > 0 and self.kind != kind:
                raise ValueError(
                    f"{name} {getattr(self, name)} has no meaning for kind {self.kind}, only for {kind}; set it to 0"
                )
        if self.kind == CROSSCODER and not self.relu_after_topk:
            raise ValueError(
                "relu_after_topk false does not go with kind crosscoder; set it to true"
            )
        return self


class JointEvaluation(Model):
    """What is measured on held-out tokens."""

    active_tokens: Count = Field(
        default=10, description="Tokens a latent must fire on in both models; published: 10."
    )
    threshold: Annotated[float, Field(gt=-1, lt=1)] = Field(
        default=0.7, description="Correlation from which a latent is universal; published: .70."
    )
    tops: Annotated[list[Count], Distinct, NonEmpty] = Field(
        default=[10, 100],
        description="Numbers of latents of the largest mean activation whose mean correlation is given; published: 10, 100.",
    )
    shifts: Count = Field(
        default=5,
        description="Draws of the null, in which one model's tokens are shifted against the other's.",
    )
    resamples: Annotated[int, Field(ge=100)] = Field(
        default=200, description="Bootstrap resamples of texts behind 95 % intervals."
    )
    match_splits: Annotated[list[Literal["fit", "train", "eval"]], Distinct, NonEmpty] = Field(
        default=["fit", "eval"],
        description="Splits on which latents are matched one to one, each an arm of its own; every number is of `eval`, so "
        "that `eval` is the in-sample variant, in which chance matches correlate. Published: unspecified.",
    )
    accuracy_references: Annotated[list[Literal["clean", "independent"]], Distinct, NonEmpty] = (
        Field(
            default=["clean", "independent"],
            description="What an accuracy change is from: the models without an SAE (published: its tables), or with those of "
            "condition 1 (published: its text).",
        )
    )
