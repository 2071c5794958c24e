"""The digest of the code behind a verb, for a cohort's kind or a dictionary's architecture."""

from __future__ import annotations

import hashlib
from pathlib import Path

from crossseed.closure import code_digest
from crossseed.cohorts import base
from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import parts_of
from crossseed.sae import architectures

# The module of a cohort's kind that each verb runs.
PARTS = {
    "tokenizer": "tokenizer",
    "check": "check",
    "tokens": "tokens",
    "train": "training",
    "extract": "members",
    "splice": "interventions",
    "port": "interventions",
    "steer": "interventions",
    "features": "interventions",
    "attribute": "interventions",
    "absorption": "words",
    "drift": "members",
    "interpret": "words",
    "joint_cache": "upper",
    "joint_train": "upper",
    "joint_evaluate": "upper",
    "joint_null": "upper",
    "joint_counterfactuals": "upper",
}
# Verbs that also ask a kind what its models are steered by.
STEERED = ("steer", "features")
TEMPLATES = Path(__file__).parent.parent / "report" / "templates"


def verb_code(verb: str, *modules: str) -> str:
    """Digest of a verb's code and of modules it imports by name."""
    return code_digest(f"crossseed.verbs.{verb}", *modules)


def split_dictionary(run: RunConfig, dictionary: str) -> tuple[str, int]:
    """Variant and expansion behind a dictionary's name, e.g. ``relu-x8``.

    Raises:
        ValueError: the run has none of that name.
    """
    variant, expansion = parts_of(dictionary)
    if variant not in run.dictionaries or not expansion.isdigit():
        raise ValueError(f"no dictionary {dictionary!r} in this run")
    return variant, int(expansion)


def code(
    run: RunConfig, verb: str, cohort: str | None = None, dictionary: str | None = None
) -> str:
    """Digest of the code that a verb runs for a cohort's kind or a dictionary's architecture."""
    modules = []
    if cohort is not None and verb in PARTS:
        modules.append(base.module_name(run.cohorts[cohort].kind, PARTS[verb]))
    if cohort is not None and verb in STEERED:
        modules.append(base.module_name(run.cohorts[cohort].kind, "concepts"))
    if dictionary is not None:
        variant, _ = split_dictionary(run, dictionary)
        modules.append(architectures.module_name(run.dictionaries[variant].architecture))
    if verb == "report":
        files = sorted(path for path in TEMPLATES.iterdir() if path.is_file())
        text = b"".join(path.read_bytes() for path in files)
        return verb_code(verb) + hashlib.blake2b(text, digest_size=8).hexdigest()
    if verb in {"transfer", "shared", "splice", "published", "drift", "port", "features"}:
        used = {variant.architecture for variant in run.dictionaries.values()}
        modules += [architectures.module_name(name) for name in sorted(used)]
    return verb_code(verb, *modules)
