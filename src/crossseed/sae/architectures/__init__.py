"""One module an architecture; put another beside them and it is known.

A module offers:

    activate(pre_nf, cfg, more)     NumPy: latents from pre-activations, given cfg.json and the
                                    arrays it has beside those of every dictionary

and where dictionaries of the kind are trained too:

    Config                          its `DictionaryConfig`, with `architecture: Literal[its file name]`
    PENALTY                         the key of its config that decides L0, where it has a penalty
    saelens_fields(config)          its name and own keys in SAELens's cfg.json
    Objective(config)               a `crossseed.sae.objective.Objective`: gradients of its loss

Modules import torch only inside `Objective`, so that planning and analysis do without.
"""

from __future__ import annotations

import functools
import importlib
import operator
import pkgutil
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field


def names() -> list[str]:
    """All architectures, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def module_name(architecture: str) -> str:
    """Under which name an architecture's module is imported."""
    return f"{__name__}.{architecture}"


def module_of(architecture: str) -> ModuleType:
    """The module of one architecture, imported by name so that editing one architecture's
    code reruns no dictionary of another's."""
    return importlib.import_module(module_name(architecture))


def trained() -> list[str]:
    """Names of those that can be trained."""
    return [name for name in names() if hasattr(module_of(name), "Config")]


def config_union() -> Any:
    """The union of all architectures' configs, told apart by ``architecture``."""
    configs = [module_of(name).Config for name in trained()]
    return Annotated[functools.reduce(operator.or_, configs), Field(discriminator="architecture")]
