"""Specs of what makes and reads the members of a cohort, and the digest of all that decides their activations."""

from __future__ import annotations

import hashlib
from typing import Any

from crossseed import keys, plan
from crossseed.cohorts import base
from crossseed.config.schema import RunConfig
from crossseed.once import once_a_run
from crossseed.specs.digests import code
from crossseed.store import canonical_json, source_of

Spec = dict[str, Any]


def tokenizer(run: RunConfig, cohort: str) -> Spec:
    """A cohort's kind, and the leaves that decide its tokenizer."""
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].tokenizer_spec()}


def check(run: RunConfig, cohort: str, number: str) -> Spec:
    """A cohort's kind, and what its members must agree with; the same for a check of any number."""
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].check_spec()}


def tokens(run: RunConfig, cohort: str) -> Spec:
    """A cohort's kind, and the leaves that decide its token sets."""
    return {"kind": run.cohorts[cohort].kind, **run.cohorts[cohort].tokens_spec()}


def train(run: RunConfig, cohort: str, seed: int) -> Spec:
    """A cohort by kind and name, and the leaves that decide the weights of one seed."""
    config = run.cohorts[cohort]
    return {"kind": config.kind, "cohort": cohort, **config.training_spec(seed)}


def _reading(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """How activations are read from a member."""
    config = run.cohorts[cohort]
    return {
        "kind": config.kind,
        **member_cell(cohort, seed, checkpoint),
        **config.reading_spec(seed, checkpoint),
    }


@once_a_run
def origin(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> str:
    """Digest of all that decides the activations of a member, at whatever site."""
    return origin_of(run, cohort, seed, "extract", _reading(run, cohort, seed, checkpoint))


def origin_of(run: RunConfig, cohort: str, seed: int, verb: str, reading: Spec) -> str:
    """Digest of all that decides what a verb reads from a member."""
    config = run.cohorts[cohort]
    parts: list[Any] = [
        [tokens(run, cohort), code(run, "tokens", cohort=cohort)],
        [reading, code(run, verb, cohort=cohort)],
    ]
    if config.tokenizer_files:
        parts.append([tokenizer(run, cohort), code(run, "tokenizer", cohort=cohort)])
    if config.trained_files:
        parts.append([train(run, cohort, seed), code(run, "train", cohort=cohort)])
    if config.needs_anchor(seed):
        parts.append(train(run, cohort, config.anchor))
    return hashlib.blake2b(canonical_json(parts).encode(), digest_size=16).hexdigest()


def extract(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member, how it is read, and the splits: the train split only at checkpoints that are studied."""
    # A checkpoint that is only a null has no dictionaries.
    studied = checkpoint in run.cohorts[cohort].checkpoints
    return {
        **_reading(run, cohort, seed, checkpoint),
        "splits": list(base.SPLITS) if studied else [s for s in base.SPLITS if s != "train"],
        "origin": origin(run, cohort, seed, checkpoint),
    }


def activations(run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str) -> str:
    """What the readers of an activation file expect it to be made from."""
    return source_of(origin(run, cohort, seed, checkpoint), site)


def run_whole(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member that is run whole; its activations are not stored."""
    return {k: v for k, v in _reading(run, cohort, seed, checkpoint).items() if k != "dtype"}


def run_exactly(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member that is run whole in float32, whatever its activations are read in: effects of single
    latents and gradients drown in the rounding of half precision."""
    found = run_whole(run, cohort, seed, checkpoint)
    return {**found, **({"precision": "float32"} if "precision" in found else {})}


def member_cell(cohort: str, seed: int, checkpoint: str) -> Spec:
    """A member by name."""
    return dict(zip(keys.MEMBER, (cohort, seed, checkpoint), strict=True))


def journey_cell(cohort: str, source: int, target: int, checkpoint: str) -> Spec:
    """A pair of members by name, whatever the site."""
    return dict(zip(keys.JOURNEY, (cohort, source, target, checkpoint), strict=True))


def pair_cell(cohort: str, source: int, target: int, checkpoint: str, site: str) -> Spec:
    """A pair of members at a site by name."""
    return {**journey_cell(cohort, source, target, checkpoint), "site": site}


def drift(run: RunConfig, cohort: str, seed: int, checkpoint: str) -> Spec:
    """The member, and those it is compared with: its own reference and the anchor's twin.

    Raises:
        ValueError: the run has no `drift`.
    """
    if run.drift is None:
        raise ValueError("this run has no drift study")
    config = run.cohorts[cohort]
    # Activations are neither stored nor, without dictionaries, compared with stored ones.
    tried = plan.drift_dictionaries(run, cohort, seed)
    roles = {
        "member": (seed, checkpoint),
        "checkpoint": (seed, run.drift.reference),
        "seed": (config.anchor, checkpoint),
    }
    return {
        "cohort": cohort,
        "kind": config.kind,
        "sites": list(config.sites),
        "dictionaries": [d.name for d in tried],
        "members": {role: run_whole(run, cohort, *member) for role, member in roles.items()},
        "origin": origin(run, cohort, seed, run.drift.reference) if tried else "",
    }
