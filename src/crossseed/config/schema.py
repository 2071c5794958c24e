"""The typed model of a run's configuration.

Every leaf says in one sentence what it decides; the reference page is made from these
sentences. What a leaf changes downstream is decided in `crossseed.specs` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.classifier.config import ClassifierCohort
from crossseed.cohorts.config import Checkpoint, Checkpoints
from crossseed.cohorts.dyck.config import DyckCohort
from crossseed.cohorts.hub.config import HubCohort
from crossseed.cohorts.neox.config import NeoxCohort
from crossseed.config import checks
from crossseed.config.constructive import BarStudy, LensStudy, WeightStudy
from crossseed.config.fields import Count, Distinct, Model, Name, NonEmpty
from crossseed.config.interventions import (
    AttributionStudy,
    FeatureStudy,
    PortStudy,
    SteeringStudy,
)
from crossseed.config.joint import JointStudy
from crossseed.config.stability import StabilityStudy
from crossseed.dictionary_names import name_of
from crossseed.sae import architectures
from crossseed.sae.config import DictionaryConfig

AnyCohort = Annotated[
    DyckCohort | NeoxCohort | HubCohort | ClassifierCohort, Field(discriminator="kind")
]

if TYPE_CHECKING:
    AnyDictionary = DictionaryConfig
else:
    AnyDictionary = architectures.config_union()


class TransferStudy(Model):
    """How dictionaries of one member are tried on another."""

    pairs: Literal["anchor", "all"] = Field(
        description="`anchor`: the anchor's dictionaries on every other seed; `all`: every "
        "ordered pair of seeds."
    )
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        description="Bootstrap resamples of the `eval` documents behind 95 % intervals."
    )
    directions: Annotated[
        list[Count],
        Distinct,
        Field(
            description="How many leading principal directions of the target the restricted "
            "rotations (`top_k`) and the residual-shuffle twins (`twin_k`) keep, an arm each; those "
            "not below a site's width are left out."
        ),
    ]
    untrained: Checkpoint | None = Field(
        description="Checkpoint that counts as untrained, e.g. `step0`: the target as it was there "
        "is one more null. null leaves it out."
    )


class SpliceStudy(Model):
    """What a member still predicts with another's carried activations in place of its own."""

    sequences: Count = Field(
        description="Sequences of `eval` that are run, evenly spaced over the split."
    )


class HaarStudy(Model):
    """Whether the rotations between members are Haar draws, by calibrated tests."""

    draws: Annotated[int, Field(ge=600, le=10_000_000)] = Field(
        description="Null draws of each statistic; at least 40 for each test of a matrix, or Holm's "
        "correction leaves nothing that can reject, and 9,999 for a result to report. Kept in "
        "`results/nulls/`, shared by all cohorts."
    )
    power_draws: Annotated[int, Field(ge=20)] = Field(
        description="Matrices drawn from each alternative of the power table."
    )


class DriftStudy(Model):
    """How each member moves over training, and away from its siblings."""

    reference: Checkpoint = Field(
        description="Checkpoint that every other checkpoint of the same seed is compared with."
    )
    checkpoints: Annotated[
        Checkpoints,
        Field(
            description="Checkpoints compared, written as a cohort's; their activations are "
            "never stored."
        ),
    ]
    dictionaries: Annotated[
        list[Name],
        Distinct,
        Field(
            description="SAE variants of the reference checkpoint that are tried on the others; "
            "an empty list measures the maps alone."
        ),
    ]


class ClaimsStudy(Model):
    """Published figures beside what the run measures."""

    cohorts: Annotated[
        dict[Name, Name],
        NonEmpty,
        Field(
            description="Which cohort of the run stands for which of the published ones "
            "(`cohort` in `resources/published/*.csv`). Figures of others say that they were not run."
        ),
    ]
    dictionary: str | None = Field(
        description="The dictionaries that follow the published recipe, e.g. `relu-l1-x8`, or null where the run has "
        "claims on joint SAEs alone; with a "
        "`shared` start for the published protocol, an `independent` one for the rigorous one. Figures on SAE "
        "seeds that vary k or length are measured on its variants, e.g. `topk-k64`, `topk-short` and `topk-long`."
    )


class RunConfig(Model):
    """One run: the cohorts it studies and what it measures on them."""

    run: Name = Field(description="Name of the run; its report is `results/reports/{run}/`.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where GPU-capable jobs run; `auto` takes a GPU where one is visible. "
        "Never part of a spec: changing it reruns nothing.",
    )
    slots_per_gpu: Count = Field(
        default=1,
        description="Jobs that may hold one GPU at a time, on one machine; the variable CROSSSEED_SLOTS_PER_GPU wins over it. "
        "With 2, say `--resources gpu=2` for one GPU. Never part of a spec.",
    )
    keep_activations: bool = Field(
        default=True,
        description="Whether stored activations stay. false deletes each file when its last reader "
        "is done; when something added later needs it, it is read anew and all its readers run "
        "again, so that is for runs made once. Never part of a spec.",
    )
    cohorts: Annotated[
        dict[Name, AnyCohort],
        NonEmpty,
        Field(description="Cohorts by name: sets of sibling models."),
    ]
    dictionaries: Annotated[
        dict[Name, AnyDictionary],
        Field(description="SAE variants by name, trained on every member and site."),
    ]
    transfer: TransferStudy | None = Field(
        description="Dictionaries of one seed tried on the others, or null for none."
    )
    splice: SpliceStudy | None = Field(
        description="Members of `transfer`'s pairs run with carried activations, or null for none."
    )
    haar: HaarStudy | None = Field(
        description="Calibrated tests of the rotations of `transfer`'s pairs, or null for none."
    )
    port: PortStudy | None = Field(
        description="Dictionaries of `transfer`'s pairs written for the target, or null for none."
    )
    steering: SteeringStudy | None = Field(
        description="Steering vectors carried between the members of `transfer`'s pairs, or null for "
        "none."
    )
    features: FeatureStudy | None = Field(
        description="Single latents carried between the members of `transfer`'s pairs, or null for none."
    )
    attribution: AttributionStudy | None = Field(
        description="Components ablated, and attributions that should predict it, or null for none."
    )
    stability: StabilityStudy | None = Field(
        description="SAEs of one member and site from several seeds, or null for none."
    )
    joint: JointStudy | None = Field(
        description="One SAE for two models, trained through both, or null for none."
    )
    weights: WeightStudy | None = Field(
        description="Weights of every two members of toy cohorts aligned by symmetry, or null for none."
    )
    bars: BarStudy | None = Field(
        description="Members of toy cohorts held against each other and against decoys by four bars, or "
        "null for none."
    )
    lenses: LensStudy | None = Field(
        description="Components of members of toy cohorts seen through five lenses, or null for none."
    )
    claims: ClaimsStudy | None = Field(
        description="A verdict on each published figure, or null for none."
    )
    drift: DriftStudy | None = Field(
        description="Drift over training and between seeds, or null for none."
    )

    @property
    def on_members(self) -> dict[str, DictionaryConfig]:
        """Variants that are trained on members; others are of `stability` alone."""
        return {name: variant for name, variant in self.dictionaries.items() if variant.inits}

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        checks.of_run(self)
        return self

    def trained_names(self) -> list[str]:
        """Dictionaries that are trained on members."""
        return [name_of(name, e) for name, v in self.on_members.items() for e in v.expansions]

    def seeded_names(self) -> list[str]:
        """Dictionaries of the stability study."""
        chosen = self.stability.dictionaries if self.stability else []
        variants = [(name, self.dictionaries[name]) for name in chosen if name in self.dictionaries]
        return [name_of(name, e) for name, variant in variants for e in variant.expansions]

    @property
    def joined(self) -> list[str]:
        """Cohorts of the study of joint SAEs."""
        if self.joint is None:
            return []
        return list(self.cohorts) if self.joint.cohorts is None else self.joint.cohorts
