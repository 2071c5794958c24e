"""Configuration of cohorts whose models lie on the hub, in its cache, or in local folders."""

from __future__ import annotations

import string
from typing import Any, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.base import FINAL, step_of
from crossseed.cohorts.hub import sites
from crossseed.cohorts.text.cohort import TextCohort
from crossseed.config.fields import Count, Model

PLACEHOLDERS = {"seed", "checkpoint", "step", "ksteps"}


class HubModel(Model):
    """Where the members are, and what they must be."""

    id: str = Field(
        description="Pattern of the model ids, `org/name@revision`, over `{seed}`, `{checkpoint}` "
        "(e.g. `step1000`), `{step}` (`1000`) and `{ksteps}` (`1`). Without `@` the default "
        "revision is taken."
    )
    final_id: str | None = Field(
        description="Pattern for the checkpoint `final`, where it is named otherwise; null: `id`."
    )
    folder: str | None = Field(
        description="Folder that holds the models as `org/name@revision/`; null: the hub or, "
        "with HF_HUB_OFFLINE=1, its cache alone."
    )
    family: Literal["gpt_neox", "gpt2", "llama", "bert"] = Field(
        description="Kind of blocks; checked against the models before any job needs them."
    )
    width: Count = Field(description="Hidden size; checked likewise.")
    layers: Count = Field(description="Number of blocks; checked likewise.")

    @model_validator(mode="after")
    def _patterns(self) -> HubModel:
        for key in ("id", "final_id"):
            pattern = getattr(self, key)
            if pattern is None:
                continue
            names = {
                name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None
            }
            if not names <= PLACEHOLDERS:
                raise ValueError(
                    f"{key} {pattern!r} names {sorted(names - PLACEHOLDERS)}; known are "
                    f"{', '.join('{' + name + '}' for name in sorted(PLACEHOLDERS))}"
                )
            if "seed" not in names:
                raise ValueError(
                    f"{key} {pattern!r} names one model for all seeds; put {{seed}} in"
                )
        return self


class HubCohort(TextCohort):
    """A cohort of models made elsewhere."""

    kind: Literal["hub"] = Field(
        description="`hub`: language models in transformers' format, made elsewhere."
    )
    model: HubModel

    @model_validator(mode="after")
    def _sites_exist(self) -> HubCohort:
        for site in self.sites:
            said = sites.why_not(site, self.model.family, self.model.layers, parallel=False)
            if said:
                raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _checkpoints_named(self) -> HubCohort:
        pattern = self.model.id
        if "{step}" not in pattern and "{ksteps}" not in pattern and "{checkpoint}" not in pattern:
            named = [name for name in self.checkpoints if name != FINAL]
            if named:
                raise ValueError(
                    f"model.id {pattern!r} does not depend on the checkpoint, but {named[0]!r} is "
                    "asked for; put {checkpoint} or {step} in, or study `final` alone"
                )
        for name in self.checkpoints:
            if "{ksteps}" in pattern and (step_of(name) or 0) % 1000:
                raise ValueError(
                    f"{name!r} is no whole number of thousand steps, as {{ksteps}} needs"
                )
        return self

    def model_id(self, seed: int, checkpoint: str) -> str:
        """The id of one member, ``org/name@revision`` or ``org/name``."""
        step = step_of(checkpoint)
        pattern = self.model.id
        if step is None:
            pattern = self.model.final_id or pattern
            if self.model.final_id is None and "{step" in pattern:
                raise ValueError(
                    f"model.id {pattern!r} needs a step, `final` has none; give model.final_id"
                )
            if self.model.final_id is None:
                pattern = pattern.replace("@{checkpoint}", "")
        return pattern.format(
            seed=seed,
            checkpoint=checkpoint,
            step="" if step is None else step,
            ksteps="" if step is None else step // 1000,
        )

    def check_spec(self) -> dict[str, Any]:
        return {"sites": [], **self.model.model_dump()}

    def tokens_spec(self) -> dict[str, Any]:
        tokenizer = self.model_id(self.anchor, self.checkpoints[0])
        return {**super().tokens_spec(), "tokenizer": tokenizer, "folder": self.model.folder}

    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        return {
            **super().reading_spec(seed, checkpoint),
            "model_id": self.model_id(seed, checkpoint),
            "folder": self.model.folder,
        }

    def report_spec(self) -> dict[str, Any]:
        return {"shared": [], "recipe": self.model.model_dump()}

    @property
    def width(self) -> int:
        return self.model.width

    @property
    def checked(self) -> bool:
        return True
