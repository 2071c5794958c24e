"""Configuration of the study of joint SAEs: which pairs, which conditions, and what is measured on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Model,
    Name,
    NonEmpty,
    NotNegative,
    Number,
    Positive,
)
from crossseed.joint.conditions import OF_INDEPENDENT, Condition, conditions
from crossseed.joint.config import JointEvaluation, TrainingSettings


def _check_pairs(key: str, pairs: list[list[int]]) -> None:
    """Raises `ValueError` unless these are pairs of seeds, each listed once.

    Not by a type: a value that is no pair would be said to be no `anchor` either.
    """
    if not pairs:
        raise ValueError(f"{key} is empty; list pairs of seeds, e.g. [[42, 137]]")
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(
                f"{key} has {pair}, which is no pair; expected two seeds, e.g. [42, 137]"
            )
        if sum(sorted(pair) == sorted(other) for other in pairs) > 1:
            raise ValueError(f"{key} lists the pair {pair} twice; list each once")


Pairs = list[list[CountOrZero]]
Share = Annotated[Number, Field(gt=0, lt=1)]


class JointNulls(Model):
    """What the map is held against."""

    pairs: Pairs | None = Field(
        default=None,
        description="Pairs of which nulls are trained, of those of the study; null: all. Published: (42, 137), (99, 7).",
    )
    batches: Count | None = Field(
        default=35,
        description="Steps of each retraining, or null for as many as a whole training has; published: 35.",
    )
    lambda_cross: NotNegative = Field(
        default=0.0, description="Weight of the cross loss in retrainings; published: 0."
    )
    replicates: Annotated[int, Field(ge=1, le=12)] = Field(
        default=5,
        description="Retrainings with W, and with no map, each from a start and in an order of their own: without several, "
        "what W adds is not told from what another start does. Published: 1.",
    )
    random: CountOrZero = Field(
        default=30, description="Retrainings with a map drawn from the Haar law; published: 30."
    )
    mismatched: CountOrZero = Field(
        default=1,
        description="Retrainings with W fitted on shuffled tokens; published: 1.",
    )
    shares: Annotated[list[Share], Distinct] = Field(
        default=[0.25, 0.5, 0.75],
        description="Shares of the tokens that are shuffled before W is fitted, a retraining each; not published.",
    )
    directions: Annotated[list[Count], Distinct] = Field(
        default=[],
        description="Numbers of B's leading principal directions that W carries alone, a retraining for each complement; "
        "not published.",
    )
    complements: Annotated[list[Literal["identity", "haar"]], Distinct] = Field(
        default=["identity", "haar"],
        description="How the other directions are carried: by the orthogonal map closest to the identity, or by one drawn "
        "from the Haar law.",
    )
    post_hoc: Annotated[int, Field(ge=99)] = Field(
        default=999,
        description="Haar draws of statistics that need no training; published: none, and p is at least 1/31 there.",
    )
    shuffled: Annotated[int, Field(ge=99)] = Field(
        default=99,
        description="Draws of W fitted on shuffled tokens, for the same statistics; not published.",
    )


class SampleSizes(Model):
    """How many sequences decide W."""

    sequences: Annotated[list[Count], Distinct, NonEmpty] = Field(
        default=[25, 50, 100, 200, 400, 800, 1600],
        description="Numbers of sequences of `train` that W is fitted on, ascending, against W from all of them.",
    )
    splits: Annotated[int, Field(ge=2)] = Field(
        default=30,
        description="Random halves of the sequences of `fit`, from each of which W is fitted; published: 30.",
    )


class CounterfactualStudy(Model):
    """What minimal edits do to latents that tell classes apart."""

    files: Annotated[dict[Name, Name], NonEmpty] = Field(
        description="Which file of `resources/counterfactuals/` each cohort of classifiers is tried on."
    )
    condition: Literal["4", "5", "6", "universal", "ridge"] = Field(
        default="6", description="Whose latents are tried, of those with one code for both models."
    )
    latents: Count = Field(
        default=4,
        description="Latents of each class: those that fire in its sentences of `fit` and in few others, in both models. "
        "Published: 1, chosen by eye.",
    )
    contexts: Count = Field(
        default=10, description="Sentences of `eval` shown for each latent and model."
    )


class JointStudy(Model):
    """One SAE for two models, and what it is compared with."""

    cohorts: Annotated[list[Name], Distinct, NonEmpty] | None = Field(
        default=None, description="Cohorts whose members are paired; null: all of the run."
    )
    pairs: Literal["anchor"] | Pairs = Field(
        default="anchor",
        description="`anchor`: the anchor with every other seed; or pairs of seeds, which all cohorts of the study must have. "
        "The first is model A. Published: (42, 137), (99, 7), (11, 110), (25, 225), (35, 446).",
    )
    sites: Annotated[list[str], Distinct, NonEmpty] | None = Field(
        default=None,
        description="Sites among those of each cohort, after a block that has one above it; null: all. Published: layer 10, "
        "which counted from 0 is `blocks.10.hook_normalized_resid_post`, with one layer above.",
    )
    development: Count = Field(
        default=64,
        description="Sequences of `train` set aside for early stopping, in whole documents, where a cohort has no sentences "
        "for it (language models).",
    )
    predictions: Count = Field(
        default=8,
        description="Positions of each sequence, drawn at random, at which predictions of language models are compared; "
        "classifiers have one prediction.",
    )
    conditions: Annotated[list[Literal["1", "2", "3", "3'", "4", "5", "6"]], Distinct, NonEmpty] = (
        Field(
            default=["1", "2", "3", "3'", "4", "5", "6"],
            description="Conditions of the published table, and 3', in which A's SAE reads what W carries over.",
        )
    )
    baselines: Annotated[list[Literal["crosscoder", "mutual", "universal", "ridge"]], Distinct] = (
        Field(
            default=["crosscoder", "mutual", "universal", "ridge"],
            description="What the study omits: a BatchTopK crosscoder, SAEs whose decoders are drawn to each other, SAEs with one "
            "code, and condition 6 with a linear map instead of a rotation.",
        )
    )
    inits: Annotated[list[Literal["shared", "distinct"]], Distinct, NonEmpty] = Field(
        default=["shared", "distinct"],
        description="Whether the two SAEs of conditions 1 to 3' start from the same weights; each is run, and `mutual` and "
        "`universal` take the first. Published: one seed set globally, that is `shared`.",
    )
    lambda_mutual: Positive = Field(
        default=0.3, description="Weight of what draws decoders to each other, of `mutual` alone."
    )
    lambda_cross_grid: Annotated[list[NotNegative], Distinct] = Field(
        default=[],
        description="More weights of the cross loss at which condition 6 is trained; published: .1, .5, 1, 2, of which 1 was "
        "chosen.",
    )
    center: bool = Field(
        default=False,
        description="Whether W is fitted on activations less their means, and carries the mean too; the error of both is "
        "reported. Published: false.",
    )
    training: TrainingSettings
    evaluation: JointEvaluation
    nulls: JointNulls | None = Field(
        description="Retrainings with other maps, and Haar draws, or null for none."
    )
    sizes: SampleSizes | None = Field(description="How many sequences decide W, or null for none.")
    counterfactuals: CounterfactualStudy | None = Field(
        description="Latents in minimal edits of sentences, or null for none."
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> JointStudy:
        chosen: list[str] = [*self.conditions, *self.baselines]
        for name in ("2", "3", "3'"):
            if name in chosen and "1" not in chosen:
                raise ValueError(
                    f"conditions has {name!r}, which measures the SAEs of condition 1; add '1'"
                )
        if "independent" in self.evaluation.accuracy_references and "1" not in chosen:
            raise ValueError(
                "evaluation.accuracy_references has 'independent', which is condition 1; add '1' to conditions"
            )
        if self.lambda_cross_grid and "6" not in chosen:
            raise ValueError("lambda_cross_grid is of condition 6; add '6' to conditions")
        if self.training.lambda_cross in self.lambda_cross_grid:
            raise ValueError(
                f"lambda_cross_grid repeats training.lambda_cross = {self.training.lambda_cross:g}; leave it out"
            )
        if "crosscoder" in chosen and not self.training.relu_after_topk:
            raise ValueError(
                "training.relu_after_topk = false does not go with the baseline 'crosscoder'; leave that out, or set it to "
                "true"
            )
        if self.sizes and self.sizes.sequences != sorted(self.sizes.sequences):
            raise ValueError(f"sizes.sequences {self.sizes.sequences} does not ascend; sort it")
        known = self.pairs if isinstance(self.pairs, list) else None
        if known is not None:
            _check_pairs("pairs", known)
        nulled = self.nulls.pairs if self.nulls else None
        if nulled is not None:
            _check_pairs("nulls.pairs", nulled)
        for pair in nulled or []:
            if known is not None and pair not in known:
                raise ValueError(f"nulls.pairs has {pair}, which pairs does not; choose of {known}")
        of = self.counterfactuals
        if of and of.condition not in chosen:
            raise ValueError(
                f"counterfactuals.condition = {of.condition!r} is not run; add it to conditions or baselines"
            )
        return self

    @property
    def rows(self) -> list[Condition]:
        """Conditions and baselines, in the order of the table."""
        return conditions(self.conditions, self.baselines, self.inits, self.lambda_cross_grid)

    @property
    def reference(self) -> Condition | None:
        """The condition whose accuracy others are also compared with."""
        named = "independent" in self.evaluation.accuracy_references
        return Condition(OF_INDEPENDENT[0], self.inits[0]) if named else None

    def pairs_of(self, seeds: list[int], anchor: int) -> list[tuple[int, int]]:
        """(A, B) of a cohort."""
        if self.pairs == "anchor":
            return [(anchor, seed) for seed in seeds if seed != anchor]
        return [(pair[0], pair[1]) for pair in self.pairs]
