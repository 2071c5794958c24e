"""Configuration of cohorts whose models lie on the hub, in its cache, or in local folders."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.base import FINAL, step_of
from crossseed.cohorts.hub import sites
from crossseed.cohorts.text.cohort import TextCohort, block_flop
from crossseed.config.fields import Count, Model

# org/name or org/name@revision
# No part of a revision is `..`: below a folder of models it would lead out of it.
MODEL_ID = re.compile(
    r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@((?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9][\w./-]*))?"
)
# Rows of an embedding, about the most there are: the configuration does not say.
VOCABULARY = 131_072
PRECISION_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PLACEHOLDERS = {"seed", "checkpoint", "step", "ksteps"}


class HubModel(Model):
    """Where the members are, and what they must be."""

    id: str | dict[int, str] = Field(
        description="Pattern of the model ids, `org/name@revision`, over `{seed}`, `{checkpoint}` "
        "(e.g. `step1000`), `{step}` (`1000`) and `{ksteps}` (`1`), or one pattern for each seed. "
        "Without `@` the default revision is taken."
    )
    final_id: str | None = Field(
        description="Pattern for the checkpoint `final`, where it is named otherwise; null: `id`."
    )
    tokenizer: str = Field(
        description="Id of the model whose tokenizer makes the tokens of all; the members' own "
        "must equal it."
    )
    folder: str | None = Field(
        description="Folder that holds the models as `org/name@revision/`; null: the hub or, "
        "with HF_HUB_OFFLINE=1, its cache alone."
    )
    family: Literal["gpt_neox", "gpt_neox_sequential", "gpt2", "llama", "bert"] = Field(
        description="Kind of blocks: `gpt_neox` runs attention and MLP in parallel, as Pythia does; "
        "`llama` stands for Mistral and Qwen too. Checked against the models before any job needs "
        "them."
    )
    width: Count = Field(description="Hidden size; checked likewise.")
    layers: Count = Field(description="Number of blocks; checked likewise.")
    device_map: Literal["auto"] | None = Field(
        description="`auto` spreads each model over all GPUs and, where they do not hold it, the "
        "CPU (needs accelerate); null: one device. Never part of a spec, as the device."
    )

    @model_validator(mode="after")
    def _patterns(self) -> HubModel:
        several = isinstance(self.id, dict)
        patterns = [
            ("id", pattern)
            for pattern in (self.id.values() if isinstance(self.id, dict) else [self.id])
        ]
        if self.final_id is not None:
            patterns.append(("final_id", self.final_id))
        for key, pattern in [*patterns, ("tokenizer", self.tokenizer)]:
            if not MODEL_ID.fullmatch(re.sub(r"\{\w*\}", "0", pattern)):
                raise ValueError(
                    f"{key} {pattern!r} is no model id; expected org/name or org/name@revision"
                )
        for key, pattern in patterns:
            names = {
                name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None
            }
            if not names <= PLACEHOLDERS:
                raise ValueError(
                    f"{key} {pattern!r} names {sorted(names - PLACEHOLDERS)}; known are "
                    f"{', '.join('{' + name + '}' for name in sorted(PLACEHOLDERS))}"
                )
            if "seed" not in names and not (key == "id" and several):
                raise ValueError(
                    f"{key} {pattern!r} names one model for all seeds; put {{seed}} in"
                )
        return self

    def why_no_site(self, site: str) -> str | None:
        """Why models of this family and depth have no such site; None if they have."""
        family = self.family.removesuffix("_sequential")
        return sites.why_not(site, family, self.layers, parallel=self.family == "gpt_neox")

    def _pattern(self, seed: int, checkpoint: str) -> str:
        if checkpoint == FINAL and self.final_id is not None:
            return self.final_id
        chosen = self.id
        pattern = chosen[seed] if isinstance(chosen, dict) else chosen
        # The default revision is the last one.
        return pattern.replace("@{checkpoint}", "") if checkpoint == FINAL else pattern

    def why_unnamed(self, seed: int, checkpoint: str) -> str | None:
        """Why the patterns give no id of a checkpoint; None if they do."""
        pattern, step = self._pattern(seed, checkpoint), step_of(checkpoint)
        depends = any(name in pattern for name in ("{checkpoint}", "{step}", "{ksteps}"))
        if step is None:
            return (
                f"{pattern!r} needs a step, which 'final' has not; give model.final_id"
                if depends
                else None
            )
        if not depends:
            return (
                f"model.id {pattern!r} does not depend on the checkpoint, but {checkpoint!r} is "
                "asked for; put {checkpoint} or {step} in, or study 'final' alone"
            )
        if "{ksteps}" in pattern and step % 1000:
            return f"{checkpoint!r} is no whole number of thousand steps, as {{ksteps}} needs"
        return None

    def of(self, seed: int, checkpoint: str) -> str:
        """The id of one member, ``org/name@revision`` or ``org/name``."""
        step = step_of(checkpoint) or 0
        pattern = self._pattern(seed, checkpoint)
        return pattern.format(seed=seed, checkpoint=checkpoint, step=step, ksteps=step // 1000)


class HubCohort(TextCohort):
    """A cohort of models made elsewhere."""

    kind: Literal["hub"] = Field(
        description="`hub`: language models in transformers' format, made elsewhere."
    )
    model: HubModel

    @model_validator(mode="after")
    def _sites_exist(self) -> HubCohort:
        for site in self.sites:
            said = self.model.why_no_site(site)
            if said:
                raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _members_named(self) -> HubCohort:
        if isinstance(self.model.id, dict):
            missing = [seed for seed in self.seeds if seed not in self.model.id]
            if missing:
                raise ValueError(
                    f"model.id has no entry for seed {missing[0]}; give one for each of {self.seeds}"
                )
        for name in self.checkpoints:
            for seed in self.seeds:
                said = self.model.why_unnamed(seed, name)
                if said is not None:
                    raise ValueError(said)
        owners: dict[str, int] = {}
        for seed in self.seeds:
            found = self.model.of(seed, self.checkpoints[0])
            if owners.setdefault(found, seed) != seed:
                raise ValueError(
                    f"seeds {owners[found]} and {seed} are both the model {found!r}; give each its own"
                )
        return self

    def missing_checkpoints(self, names: Sequence[str]) -> list[str]:
        return [
            name
            for name in names
            if any(self.model.why_unnamed(seed, name) is not None for seed in self.seeds)
        ]

    def check_spec(self) -> dict[str, Any]:
        """What members must be; which models they are is told by `id_of`."""
        model = self.model.model_dump(include={"folder", "family", "width", "layers", "tokenizer"})
        return {**model, "context": self.tokens.context}

    def id_of(self, seed: int, checkpoint: str) -> str:
        return self.model.of(seed, checkpoint)

    def tokens_spec(self) -> dict[str, Any]:
        model = self.model.model_dump(include={"folder", "tokenizer"})
        return {**super().tokens_spec(), **model}

    def text_spec(self) -> dict[str, Any]:
        return {"tokenizer": self.model.tokenizer, "folder": self.model.folder}

    @property
    def why_not_steered(self) -> str | None:
        if self.model.family == "bert":
            return "predicts hidden tokens, and steering is scored on the next one"
        return None

    @property
    def why_not_trained_through(self) -> str | None:
        if self.model.family == "bert":
            return (
                "predicts hidden tokens, and no token is hidden here; fine-tune its models on sentences "
                "(kind: classifier)"
            )
        return None

    def why_not_cut(self, site: str) -> str | None:
        return sites.why_not_cut(site, self.model.family, self.model.layers)

    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        return {
            **super().reading_spec(seed, checkpoint),
            "model_id": self.model.of(seed, checkpoint),
            "folder": self.model.folder,
        }

    @property
    def classes(self) -> int:
        return VOCABULARY

    @property
    def downloaded(self) -> bool:
        return self.model.folder is None

    @property
    def device_map(self) -> str | None:
        return self.model.device_map

    def report_spec(self) -> dict[str, Any]:
        return {"shared": [], "recipe": self.model.model_dump(exclude={"device_map"})}

    @property
    def width(self) -> int:
        return self.model.width

    @property
    def forward_flop_per_token(self) -> float:
        return block_flop(self.model.width, self.model.layers)

    @property
    def loaded_bytes(self) -> int:
        model = self.model
        parameters = 12 * model.layers * model.width**2 + VOCABULARY * model.width
        return parameters * PRECISION_BYTES[self.precision]

    @property
    def checked(self) -> bool:
        return True
