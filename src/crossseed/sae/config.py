"""What every SAE variant declares, whatever its architecture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossseed.config.fields import Count, CountOrZero, Distinct, Model, NonEmpty, Positive

# Leaves that decide which SAEs there are, not what any of them is.
SELECTION = frozenset({"expansions", "inits", "members"})


class DictionaryConfig(Model):
    """One SAE variant; an architecture's own config adds its parameters."""

    architecture: str
    expansions: Annotated[
        list[Count],
        Distinct,
        NonEmpty,
        Field(description="Sizes: latents as multiples of the activation width."),
    ]
    inits: Annotated[
        list[Literal["shared", "independent"]],
        Distinct,
        Field(
            description="Initialisations: `shared` starts the SAEs of all members from the same "
            "weights (as published), `independent` each from weights of its own. An empty list leaves the variant "
            "to `stability`, whose SAEs have starts of their own."
        ),
    ]
    members: Literal["all", "anchor"] = Field(
        description="Members the SAEs are trained on; `anchor` suffices for transfer from the "
        "anchor, decoder cosines need `all`."
    )
    steps: Count = Field(description="Adam steps.")
    batch_tokens: Count = Field(description="Tokens a step.")
    lr: Positive = Field(description="Adam's learning rate.")
    lr_latents: Count | None = Field(
        default=None,
        description="Latents that `lr` is for: other sizes take it times the square root of this over theirs (arXiv 2501.16615: "
        "2e-4 at 16,384). null: one rate for all sizes.",
    )
    warmup_steps: CountOrZero = Field(description="Linear warm-up steps; published: 0.")
    decay_steps: CountOrZero = Field(
        description="Steps at the end over which the rate falls linearly to 0; published: 0."
    )
    grad_clip: Positive | None = Field(
        description="Largest norm of the gradient of all weights together, as `1.0`; null: none, as "
        "published."
    )
    tied_init: bool = Field(
        description="Start the decoder as the encoder's transpose instead of independently; "
        "published: false."
    )
    absorb_norms: bool = Field(
        default=True,
        description="Each step makes decoder rows unit vectors. true puts their norm into the encoder, so that what the SAE "
        "computes stays (published by the rotation study; while decoders turn, encoders grow, and early in training at a "
        "high rate that costs); false drops it.",
    )
    standardise: bool = Field(
        description="Train on activations minus their mean and divided by one common scale, "
        "folded back into the saved weights; published: false."
    )

    def misfit(self, n_latents: int) -> str | None:
        """Why the variant cannot have so many latents; None if it can."""
        return None

    @model_validator(mode="after")
    def _schedule_fits(self) -> DictionaryConfig:
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} + decay_steps {self.decay_steps} exceed "
                f"steps {self.steps}"
            )
        return self
