# What all rules share: the validated run, what wildcards may be, each
# job's spec and code digest, and paths.
#
# Needs: the configuration. Makes: nothing.

import functools
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import get_flag_value

from crossseed import (
    batches,
    devices,
    environment,
    estimate,
    layout,
    passes,
    plan,
    specs,
    watch,
)
from crossseed.cohorts.text import prompts
from crossseed.config.load import load_run
from crossseed.dictionary_names import expansion_of, variant_of
from crossseed.errors import UserError
from crossseed.haar.sizes import sizes as haar_sizes
from crossseed.store import canonical_json

try:
    RUN = load_run(config, workflow.configfiles or workflow.overwrite_configfiles)
except UserError as error:
    raise WorkflowError(f"the configuration cannot be run:\n{error}")

DEVICE = devices.resolve(RUN.device)
# On a CPU nothing asks for a GPU, so that --resources gpu=1 makes no job wait its turn.
GPU = 1 if DEVICE == "cuda" else 0

environment.use_this_installation()
environment.share_gpus(RUN.slots_per_gpu)
batches.in_one_job(workflow)


onstart:
    environment.nothing_from_the_future(workflow)
    environment.without_rate_limit(workflow)
    environment.mark_what_is_made_again(workflow)
    watch.begin(workflow, estimate.seconds_of(RUN, DEVICE))


onsuccess:
    watch.end(workflow)


onerror:
    watch.end(workflow)


wildcard_constraints:
    **layout.WILDCARDS,


INTEGERS = {"seed", "source", "target"}
REFERENCE = RUN.drift.reference if RUN.drift else None


def resource(name):
    """A file of resources/ where it lies, so that a job's command line can be run by hand; a copy
    that Snakemake keeps where the workflow itself is not on this disk."""
    copy = workflow.source_path(f"../../resources/{name}")
    original = Path(get_flag_value(copy, "sourcecache_entry"))
    return str(original.resolve()) if original.exists() else copy


def kept(paths):
    """Activation files, deleted after their last reader unless the run keeps them."""
    return paths if RUN.keep_activations else temp(paths)


def cell(wildcards):
    """The wildcards of a job as arguments for `crossseed.specs`."""
    return {
        k: int(v) if k in INTEGERS else v for k, v in wildcards.items() if k != "run"
    }


def spec(verb, **fixed):
    """The one parameter through which a rule of this verb depends on the configuration."""

    def canonical(wildcards):
        named = {} if "table" in fixed else cell(wildcards)
        return canonical_json(getattr(specs, verb)(RUN, **named, **fixed))

    return canonical


def code(verb, cohort=None, dictionary=None):
    """Digest of the verb's code, for the rule's cohort and dictionary where it has them."""
    return lambda wildcards: specs.code(
        RUN,
        verb,
        cohort or wildcards.get("cohort"),
        dictionary or wildcards.get("dictionary"),
    )


def memory_of_drift(wildcards):
    """Main memory of a job that compares up to three models, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    seed, checkpoint = int(wildcards.seed), wildcards.checkpoint
    models = {(seed, checkpoint), (seed, REFERENCE), (config.anchor, checkpoint)}
    return estimate.memory_mb(config, len(models), comparisons=2)


def memory_of_splice(wildcards):
    """Main memory of a job that runs one whole model and carries activations to it, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    held = estimate.memory_mb(config, models=2) + estimate.matrices_mb(config)
    return held + estimate.predictions_mb(config)
