"""The typed model of a run's configuration.

Every leaf says in one sentence what it decides; the reference page is made from these
sentences. What a leaf changes downstream is decided in `crossseed.specs` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.classifier.config import ClassifierCohort
from crossseed.cohorts.declared import Checkpoint, Checkpoints, CohortConfig
from crossseed.cohorts.dyck.config import DyckCohort
from crossseed.cohorts.hub.config import HubCohort
from crossseed.cohorts.neox.config import NeoxCohort
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
from crossseed.sae import architectures
from crossseed.sae.config import DictionaryConfig

AnyCohort = Annotated[
    DyckCohort | NeoxCohort | HubCohort | ClassifierCohort, Field(discriminator="kind")
]

if TYPE_CHECKING:
    AnyDictionary = DictionaryConfig
else:
    AnyDictionary = architectures.config_union()


# The most that were ever published of one SAE (arXiv 2406.04093).
MOST_LATENTS = 1 << 24


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

    def _trained_names(self) -> list[str]:
        return [f"{name}-x{e}" for name, v in self.on_members.items() for e in v.expansions]

    def _seeded_names(self) -> list[str]:
        """Dictionaries of the stability study."""
        chosen = self.stability.dictionaries if self.stability else []
        variants = [(name, self.dictionaries[name]) for name in chosen if name in self.dictionaries]
        return [f"{name}-x{e}" for name, variant in variants for e in variant.expansions]

    @model_validator(mode="after")
    def _dictionaries_fit(self) -> RunConfig:
        for name, variant in self.dictionaries.items():
            for cohort, config in self.cohorts.items():
                for expansion in variant.expansions if config.width else ():
                    if expansion * (config.width or 0) > MOST_LATENTS:
                        raise ValueError(
                            f"dictionaries.{name}.expansions: x{expansion} on {cohort} is "
                            f"{expansion * (config.width or 0):,} latents, expected {MOST_LATENTS:,} at most; lower it"
                        )
                    said = variant.misfit(expansion * (config.width or 0))
                    if said:
                        raise ValueError(f"dictionaries.{name}: {said} (x{expansion} on {cohort})")
        return self

    @model_validator(mode="after")
    def _tokens_suffice(self) -> RunConfig:
        for cohort, config in self.cohorts.items():
            most, width = config.most_tokens("fit"), config.width
            if most is not None and width is not None and most < 2 * width:
                raise ValueError(
                    f"cohorts.{cohort}.tokens.fit holds {most} tokens at most, but a rotation in "
                    f"{width} dimensions needs {2 * width}; make the split larger"
                )
            most = config.most_tokens("train")
            for name, variant in self.dictionaries.items():
                if most is not None and variant.batch_tokens > most:
                    raise ValueError(
                        f"dictionaries.{name}.batch_tokens = {variant.batch_tokens}, but "
                        f"cohorts.{cohort}.tokens.train holds {most} tokens at most; lower it"
                    )
        return self

    @model_validator(mode="after")
    def _sources_have_dictionaries(self) -> RunConfig:
        for name, variant in self.on_members.items():
            if self.transfer and self.transfer.pairs == "all" and variant.members != "all":
                raise ValueError(
                    f"transfer.pairs = all needs dictionaries of every member, but "
                    f"dictionaries.{name}.members = {variant.members}; set it to all"
                )
        return self

    @model_validator(mode="after")
    def _untrained_exists(self) -> RunConfig:
        name = self.transfer.untrained if self.transfer else None
        for cohort, config in self.cohorts.items():
            if name is not None and config.missing_checkpoints([name]):
                raise ValueError(
                    f"transfer.untrained names {name!r}, which cohorts.{cohort} does not have; name "
                    "a checkpoint that it keeps (training.keep_steps) or that model.id can name, "
                    "or null"
                )
        return self

    @model_validator(mode="after")
    def _something_is_studied(self) -> RunConfig:
        if self.transfer and not self.dictionaries:
            raise ValueError("transfer needs dictionaries; name some, or set transfer: null")
        for cohort, config in self.cohorts.items() if self.transfer else ():
            if len(config.seeds) < 2:
                raise ValueError(
                    f"transfer carries between seeds, but cohorts.{cohort}.seeds has one; name "
                    "another, or set transfer: null"
                )
        if self.splice and not self.transfer:
            raise ValueError("splice runs the members of transfer's pairs; give transfer")
        if self.claims:
            of_dictionaries = self.transfer or self.drift or self.stability
            if not (of_dictionaries or self.joint):
                raise ValueError(
                    "claims are about pairs, checkpoints, SAE seeds and joint SAEs; give transfer, drift, stability "
                    "or joint"
                )
            unknown = sorted(set(self.claims.cohorts.values()) - set(self.cohorts))
            if unknown:
                raise ValueError(
                    f"claims.cohorts names {unknown[0]!r}, which is no cohort of this run; choose "
                    f"from {', '.join(self.cohorts)}"
                )
            known = self._trained_names() if self.transfer or self.drift else self._seeded_names()
            if (self.claims.dictionary is None) == bool(of_dictionaries):
                raise ValueError(
                    "claims.dictionary names what claims on pairs, checkpoints and SAE seeds are measured on; "
                    + (f"choose from {', '.join(known)}" if known else "set it to null")
                )
            if of_dictionaries and self.claims.dictionary not in known:
                raise ValueError(
                    f"claims.dictionary {self.claims.dictionary!r} is not made by this run; choose "
                    f"from {', '.join(known)}"
                )
        if self.haar and not self.transfer:
            raise ValueError("haar tests the rotations of transfer's pairs; give transfer")
        studies = (self.drift, self.attribution, self.weights, self.joint)
        if not (self.dictionaries or any(studies)):
            raise ValueError(
                "nothing is measured; name dictionaries, or give drift, attribution, weights or joint"
            )
        return self

    @model_validator(mode="after")
    def _stability_fits(self) -> RunConfig:
        study = self.stability
        for name in study.dictionaries if study else ():
            if name not in self.dictionaries:
                raise ValueError(
                    f"stability.dictionaries names {name!r}, but dictionaries has "
                    f"{', '.join(self.dictionaries) or 'none'}"
                )
        for name in study.matched.dictionaries if study and study.matched else ():
            if study is None or name not in study.dictionaries:
                raise ValueError(
                    f"stability.matched.dictionaries names {name!r}, which stability.dictionaries does not"
                )
            architecture = self.dictionaries[name].architecture
            if not hasattr(architectures.module_of(architecture), "PENALTY"):
                raise ValueError(
                    f"stability.matched.dictionaries names {name!r}, but {architecture} has no penalty: its k is "
                    "its L0; set k, and leave the variant out"
                )
            penalty = architectures.module_of(architecture).PENALTY
            if getattr(self.dictionaries[name], penalty) <= 0:
                raise ValueError(
                    f"dictionaries.{name}.{penalty} is 0, where the search of stability.matched starts; give a "
                    "number above 0"
                )
        bridge = study.bridge if study else None
        for name in bridge.dictionaries if study and bridge else ():
            if study and name not in study.dictionaries:
                raise ValueError(
                    f"stability.bridge.dictionaries names {name!r}, which stability.dictionaries does not"
                )
        if bridge and all(len(config.seeds) < 2 for config in self.cohorts.values()):
            raise ValueError(
                "stability.bridge matches SAEs of two members, but no cohort has two seeds; set it to null"
            )
        if study and bridge and bridge.seeds > study.seeds:
            raise ValueError(
                f"stability.bridge.seeds is {bridge.seeds}, but stability.seeds trains {study.seeds}; lower it"
            )
        for name in study.interpret.dictionaries if study and study.interpret else ():
            if study is None or name not in study.dictionaries:
                raise ValueError(
                    f"stability.interpret.dictionaries names {name!r}, which stability.dictionaries does not"
                )
        for name in self.dictionaries:
            if name not in self.on_members and name not in (study.dictionaries if study else ()):
                raise ValueError(
                    f"dictionaries.{name}.inits is empty and stability does not name the variant, so that none "
                    "would be trained; name `shared` or `independent`, or leave it out"
                )
        reads_text = any(config.reads_text for config in self.cohorts.values())
        if study and study.absorption and not reads_text:
            raise ValueError(
                "stability.absorption is about first letters of tokens, but no cohort reads text; set "
                "stability.absorption: null"
            )
        if study and study.sites is not None:
            known = [site for config in self.cohorts.values() for site in config.sites]
            for site in study.sites:
                if site not in known:
                    raise ValueError(
                        f"stability.sites names {site!r}, which no cohort has; choose from "
                        f"{', '.join(dict.fromkeys(known))}"
                    )
            if not study.sites:
                raise ValueError("stability.sites is empty; name some, or null for all")
        return self

    @model_validator(mode="after")
    def _constructive_fits(self) -> RunConfig:
        toys = {name: config for name, config in self.cohorts.items() if config.symmetric}
        for study in ("weights", "bars", "lenses"):
            if getattr(self, study) and not toys:
                raise ValueError(
                    f"{study} is about cohorts whose symmetries are known (kind: dyck), of which there is "
                    f"none; set {study}: null"
                )
        if self.weights and all(len(config.seeds) < 2 for config in toys.values()):
            raise ValueError("weights aligns two members; give a toy cohort two seeds")
        if self.bars and not self.weights:
            raise ValueError("bars match heads by the alignment of weights; give weights")
        for cohort, config in toys.items():
            name = self.weights.untrained if self.weights else None
            if name is not None and config.missing_checkpoints([name]):
                raise ValueError(
                    f"weights.untrained names {name!r}, which cohorts.{cohort} does not have; name a "
                    "checkpoint that it keeps (training.keep_steps), or null"
                )
            pruned = self.lenses.rows if self.lenses else 0
            if pruned > config.sequences_of("eval"):
                raise ValueError(
                    f"lenses.rows = {pruned}, but cohorts.{cohort}.tokens.eval has "
                    f"{config.sequences_of('eval')} sequences; lower it, or make the split larger"
                )
            asked = self.bars.batches * self.bars.rows if self.bars else 0
            if asked > config.sequences_of("eval"):
                raise ValueError(
                    f"bars asks for {asked} sequences (batches × rows), but cohorts.{cohort}.tokens.eval "
                    f"has {config.sequences_of('eval')}; lower one, or make the split larger"
                )
        return self

    @model_validator(mode="after")
    def _interventions_fit(self) -> RunConfig:
        for study in ("port", "steering", "features"):
            if getattr(self, study) and not self.transfer:
                raise ValueError(f"{study} is about transfer's pairs; give transfer")
        for name in self.port.dictionaries if self.port else ():
            if name not in self.on_members:
                raise ValueError(
                    f"port.dictionaries names {name!r}, but the members have {', '.join(self.on_members)}"
                )
        if self.features:
            if not self.steering:
                raise ValueError("features takes concepts from steering; give steering")
            known = self._trained_names()
            if self.features.dictionary not in known:
                raise ValueError(
                    f"features.dictionary {self.features.dictionary!r} is not made by this run; choose "
                    f"from {', '.join(known)}"
                )
        attribution = self.attribution
        asked = attribution.batches * attribution.sequences if attribution else 0
        for cohort, config in self.cohorts.items():
            if asked > config.sequences_of("eval"):
                raise ValueError(
                    f"attribution asks for {asked} sequences (batches × sequences), but cohorts.{cohort}."
                    f"tokens.eval has {config.sequences_of('eval')}; lower one, or make the split larger"
                )
        for study in ("splice", "port", "attribution"):
            for cohort, config in self.cohorts.items() if getattr(self, study) else ():
                if config.why_not_resumed:
                    raise ValueError(
                        f"{study}: cohorts.{cohort} {config.why_not_resumed}; set {study}: null"
                    )
        for cohort, config in self.cohorts.items() if self.steering else ():
            said = config.why_not_steered
            if said:
                raise ValueError(f"steering: cohorts.{cohort} {said}; set steering: null")
            which = "prompts" if config.reads_text else "concepts"
            if not getattr(self.steering, which):
                raise ValueError(
                    f"steering.{which} is empty, but cohorts.{cohort} is steered by them; name some, or set "
                    "steering: null"
                )
        return self

    @property
    def joined(self) -> list[str]:
        """Cohorts of the study of joint SAEs."""
        if self.joint is None:
            return []
        return list(self.cohorts) if self.joint.cohorts is None else self.joint.cohorts

    @model_validator(mode="after")
    def _joint_fits(self) -> RunConfig:
        study = self.joint
        for cohort in self.joined:
            if cohort not in self.cohorts:
                raise ValueError(
                    f"joint.cohorts names {cohort!r}, which is no cohort of this run; choose from "
                    f"{', '.join(self.cohorts)}"
                )
            assert study is not None
            config = self.cohorts[cohort]
            said = config.why_not_trained_through
            if said:
                raise ValueError(f"joint: cohorts.{cohort} {said}; leave it out of joint.cohorts")
            _check_pairs(study, cohort, config)
            _check_sizes(study, cohort, config)
        for site in study.sites or [] if study else []:
            known = [name for cohort in self.joined for name in self.cohorts[cohort].sites]
            if site not in known:
                raise ValueError(
                    f"joint.sites names {site!r}, which no cohort of it has; choose from "
                    f"{', '.join(dict.fromkeys(known))}"
                )
        for cohort in study.counterfactuals.files if study and study.counterfactuals else ():
            if cohort not in self.joined or self.cohorts[cohort].predicts_positions:
                raise ValueError(
                    f"joint.counterfactuals.files names {cohort!r}, which is no cohort of classifiers of the study; "
                    "name one, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _drift_exists(self) -> RunConfig:
        if self.drift is None:
            return self
        for name in self.drift.dictionaries:
            if name not in self.on_members:
                raise ValueError(
                    f"drift.dictionaries names {name!r}, but dictionaries has "
                    f"{sorted(self.on_members) or 'none'}"
                )
        for cohort, config in self.cohorts.items():
            wanted = [self.drift.reference, *self.drift.checkpoints]
            missing = config.missing_checkpoints(wanted)
            if missing:
                raise ValueError(
                    f"drift names {missing[0]!r}, which cohorts.{cohort} does not have; name "
                    "checkpoints that it keeps (training.keep_steps) or that model.id can name"
                )
            if self.drift.dictionaries and self.drift.reference not in config.checkpoints:
                raise ValueError(
                    f"drift.reference {self.drift.reference!r} is not in cohorts.{cohort}."
                    "checkpoints, so it has no dictionaries; add it there"
                )
        return self

    @model_validator(mode="after")
    def _dictionary_names_distinct(self) -> RunConfig:
        names = [
            f"{name}-x{expansion}"
            for name, variant in self.dictionaries.items()
            for expansion in variant.expansions
        ]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two dictionaries would be called {name!r}; rename a variant")
        return self


def _check_pairs(study: JointStudy, cohort: str, config: CohortConfig) -> None:
    """Raises `ValueError` unless pairs are of members, and members can be cut at the sites."""
    pairs = study.pairs_of(config.seeds, config.anchor)
    if not pairs:
        raise ValueError(
            f"joint pairs members, but cohorts.{cohort}.seeds has one; name another, or leave the cohort out"
        )
    asked = [("joint.pairs", pair) for pair in pairs]
    if study.nulls and study.nulls.pairs:
        asked += [("joint.nulls.pairs", (pair[0], pair[1])) for pair in study.nulls.pairs]
    for key, pair in asked:
        for seed in pair:
            if seed not in config.seeds:
                raise ValueError(
                    f"{key} has {list(pair)}, but {seed} is no member of cohorts.{cohort}; choose of its seeds "
                    f"{config.seeds}"
                )
    if study.nulls and study.nulls.pairs:
        for of in study.nulls.pairs:
            if (of[0], of[1]) not in pairs:
                raise ValueError(
                    f"joint.nulls.pairs has {of}, which is no pair of cohorts.{cohort}; choose of "
                    f"{[list(pair) for pair in pairs]}"
                )
    for site in config.sites if study.sites is None else study.sites:
        said = config.why_not_cut(site) if site in config.sites else None
        if said:
            raise ValueError(f"joint: cohorts.{cohort}: {said}; or name other sites in joint.sites")


def _check_sizes(study: JointStudy, cohort: str, config: CohortConfig) -> None:
    """Raises `ValueError` unless latents, directions and sequences are as many as are asked for."""
    width = config.width
    if width is not None:
        said = study.training.misfit(study.training.expansion * width)
        if said:
            raise ValueError(
                f"joint.training: {said} (x{study.training.expansion} on cohorts.{cohort})"
            )
        for r in study.nulls.directions if study.nulls else ():
            if r > width:
                raise ValueError(
                    f"joint.nulls.directions has {r}, but cohorts.{cohort} is {width} wide; lower it"
                )
    train = config.sequences_of("train")
    if not config.has_development:
        if study.development >= train:
            raise ValueError(
                f"joint.development = {study.development}, but cohorts.{cohort}.tokens.train has {train} sequences; "
                "lower it"
            )
        train -= study.development
    if study.sizes and study.sizes.sequences[-1] > train:
        raise ValueError(
            f"joint.sizes.sequences has {study.sizes.sequences[-1]}, but cohorts.{cohort} trains on {train} sequences; "
            "lower it"
        )
