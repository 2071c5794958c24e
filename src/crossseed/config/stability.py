"""Configuration of the stability study: several SAEs of one member and site."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class AbsorptionStudy(Model):
    """Whether latents of single tokens take over from those of a token's first letter."""

    letters_min_tokens: Annotated[int, Field(ge=2)] = Field(
        description="Token ids of a letter among those that its probe is fitted on, and among those held out, at "
        "least; letters with fewer are left out."
    )
    rows: Count = Field(
        description="Rows of a letter that probes are fitted on, and as many that are held out, at most; as evenly over "
        "token ids as they occur."
    )
    permutations: Count = Field(
        description="How often letters are permuted over token ids for the null."
    )
    k: Count = Field(description="Latents that a letter may be split over, at most (published: 5).")
    jump: Fraction = Field(
        description="What one more latent must add to F1 to count as a split (published: 0.03)."
    )
    probe_f1: Fraction = Field(
        description="F1 on held-out rows below which a letter's probe is too weak and the letter is left out "
        "(SAEBench: 0.6)."
    )
    cosine: Fraction = Field(
        description="Cosine with the probe that the decoder of an absorbing latent has, at least (published: 0.025)."
    )
    share: Fraction = Field(
        description="Share of a row's projection on the probe that an absorbing latent carries, at least (SAEBench: 0.4)."
    )


class InterpretStudy(Model):
    """How well it can be said at what the latents of the first SAE fire, by in how many SAEs they are found."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(description="Variants of the study whose latents are scored, in every size."),
    ]
    latents: Count = Field(
        description="Latents that are scored of each class, those found in exactly 1, 2, … SAEs."
    )
    tokens: Count = Field(
        description="Tokens of `train`, and of `eval`, that are read, at most (published: 10 million)."
    )
    context: Annotated[int, Field(ge=2)] = Field(description="Tokens of a window (published: 32).")
    train_examples: Count = Field(
        description="Windows of `train` that explain a latent (published: 40)."
    )
    test_examples: Annotated[int, Field(ge=10)] = Field(
        description="Windows of `eval` in which a latent fires, and as many in which it does not, that it is scored on, at "
        "most (published: 50)."
    )
    least_windows: Count = Field(
        description="Windows of `train` in which a latent has to fire to be scored (published: 200)."
    )
    order: Count = Field(description="Tokens of the longest n-gram of the embedded scorer.")
    sides: Literal["left", "both"] = Field(
        description="Tokens that an n-gram holds beside the one that it predicts a firing at: those before it, or those on "
        "both sides, for models that read both ways."
    )
    scorer: Literal["ngram", "openai", "local"] = Field(
        description="`ngram`: the embedded scorer alone, no language model; beside it `openai`: a model behind an "
        "endpoint that environment variables name (docs/interpretability.md), or `local`: one of transformers on this machine."
    )
    model: str | None = Field(
        description="Name of the model at the endpoint, or folder of the local one; null for `ngram`."
    )
    embeddings: str | None = Field(
        description="Folder of a transformers model whose sentence embeddings compare explanations, or null for none."
    )

    @model_validator(mode="after")
    def _scorer_has_its_model(self) -> InterpretStudy:
        if self.scorer == "ngram" and self.model is not None:
            raise ValueError(
                f"scorer ngram asks no language model, but model is {self.model!r}; set it to null, or choose openai or "
                "local"
            )
        if self.scorer != "ngram" and not self.model:
            raise ValueError(
                f"scorer {self.scorer} needs a model; give its name at the endpoint, or the folder of a local one"
            )
        if self.order > self.context:
            raise ValueError(
                f"order = {self.order} is longer than a window of context = {self.context} tokens; lower it"
            )
        return self


class StabilityStudy(Model):
    """SAEs that differ in nothing but their seed: same member, site and data, in the same order."""

    dictionaries: Annotated[
        list[Name],
        Distinct,
        NonEmpty,
        Field(description="SAE variants that are trained from several seeds, in every size."),
    ]
    seeds: Annotated[int, Field(ge=2, le=1000)] = Field(
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
    interpret: InterpretStudy | None = Field(
        description="Whether latents that are found in more SAEs can be explained better, or null for none."
    )
    absorption: AbsorptionStudy | None = Field(
        description="First letters in the SAEs of cohorts that read text, or null for none."
    )
