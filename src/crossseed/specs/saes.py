"""Specs of SAEs, and of the comparison of their seeds."""

from __future__ import annotations

import math

from crossseed import plan
from crossseed.config.schema import RunConfig
from crossseed.errors import UserError
from crossseed.sae.config import SELECTION
from crossseed.specs.digests import split_dictionary
from crossseed.specs.maps import cosine
from crossseed.specs.models import Spec, activations, member_cell


def sae(
    run: RunConfig,
    cohort: str,
    seed: int,
    checkpoint: str,
    site: str,
    dictionary: str,
    init: str | None = None,
) -> Spec:
    """Of all inits of a variant, or of one SAE seed.

    Raises:
        UserError: the variant has `lr_latents`, but the cohort's width is not known.
    """
    variant, expansion = split_dictionary(run, dictionary)
    of = run.dictionaries[variant]
    config = of.model_dump(exclude={*SELECTION, "lr_latents"})
    if of.lr_latents is not None:
        width = run.cohorts[cohort].width
        if width is None:
            raise UserError(
                f"dictionaries.{variant}.lr_latents: the width of cohort {cohort} is not known before its models are; say it "
                "in the cohort's model.width, or set lr_latents to null"
            )
        config["lr"] = of.lr * math.sqrt(of.lr_latents / (expansion * width))
    return {
        **_cell(run, cohort, seed, checkpoint, site, dictionary),
        "inits": list(of.inits) if init is None else [init],
        "expansion": expansion,
        "variant": config,
    }


def calibrate(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    """A member's dictionary whose penalty is searched for; ValueError without `stability.matched`."""
    if run.stability is None or run.stability.matched is None:
        raise ValueError("this run calibrates nothing")
    matched = run.stability.matched
    cell = sae(run, cohort, seed, checkpoint, site, dictionary)
    del cell["inits"]
    return {**cell, "wanted_l0": matched.l0, "steps": matched.steps, "runs": matched.runs}


def _cell(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    """A dictionary of a member and site by name, and the activations that it is measured on."""
    return {
        **member_cell(cohort, seed, checkpoint),
        "site": site,
        "dictionary": dictionary,
        "activations": activations(run, cohort, seed, checkpoint, site),
    }


def stability(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    """A member's dictionary and all of its SAE seeds; ValueError without `stability`."""
    if run.stability is None:
        raise ValueError("this run compares no SAE seeds")
    return {
        **_cell(run, cohort, seed, checkpoint, site, dictionary),
        "seeds": plan.sae_seeds(run),
        "shuffled": plan.shuffled_seeds(run),
        "threshold": run.stability.threshold,
    }


def match(
    run: RunConfig,
    cohort: str,
    seed: int,
    checkpoint: str,
    site: str,
    dictionary: str,
    first: str,
    second: str,
) -> Spec:
    """A member's dictionary and two of its SAE seeds; ValueError without `stability`."""
    if run.stability is None:
        raise ValueError("this run compares no SAE seeds")
    cell = _cell(run, cohort, seed, checkpoint, site, dictionary)
    return {**cell, "first": first, "second": second}


def bridge(
    run: RunConfig,
    cohort: str,
    source: int,
    target: int,
    checkpoint: str,
    site: str,
    dictionary: str,
) -> Spec:
    """A pair's dictionary and the SAE seeds of both members; ValueError without `stability.bridge`."""
    if run.stability is None or run.stability.bridge is None:
        raise ValueError("this run compares no SAE seeds of different members")
    return {
        **cosine(run, cohort, source, target, checkpoint, site),
        "dictionary": dictionary,
        "seeds": plan.sae_seeds(run)[: run.stability.bridge.seeds],
        "threshold": run.stability.threshold,
    }


def absorption(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    """A member's dictionary whose latents are asked for first letters; ValueError without `stability.absorption`."""
    if run.stability is None or run.stability.absorption is None:
        raise ValueError("this run looks for no first letters")
    config = run.cohorts[cohort]
    # Neither threshold nor shuffled seeds: what latents share, and nulls of that, decide the table that is read.
    return {
        **_cell(run, cohort, seed, checkpoint, site, dictionary),
        "seeds": plan.sae_seeds(run),
        "kind": config.kind,
        "text": config.text_spec(),
        **run.stability.absorption.model_dump(),
    }


def interpret(
    run: RunConfig, cohort: str, seed: int, checkpoint: str, site: str, dictionary: str
) -> Spec:
    """A member's dictionary whose latents are explained; ValueError without `stability.interpret`."""
    if run.stability is None or run.stability.interpret is None:
        raise ValueError("this run explains no latents")
    config = run.cohorts[cohort]
    return {
        **_cell(run, cohort, seed, checkpoint, site, dictionary),
        "seeds": plan.sae_seeds(run),
        "kind": config.kind,
        "text": config.text_spec(),
        **run.stability.interpret.model_dump(exclude={"dictionaries"}),
    }
