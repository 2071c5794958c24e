# What all rules share: the validated run, each job's spec and code digest, and paths.
#
# Needs: the configuration. Makes: nothing.


from snakemake.exceptions import WorkflowError

from crossseed import devices, environment, layout, passes, plan, specs
from crossseed.config.load import load_run
from crossseed.errors import UserError
from crossseed.store import canonical_json

try:
    RUN = load_run(config, workflow.configfiles or workflow.overwrite_configfiles)
except UserError as error:
    raise WorkflowError(f"the configuration cannot be run:\n{error}")

DEVICE = devices.resolve(RUN.device)
# On a CPU nothing asks for a GPU, so that --resources gpu=1 makes no job wait its turn.
GPU = 1 if DEVICE == "cuda" else 0

environment.use_this_installation()

# Snakemake 9 never retires the timers of its job rate limit: each finished job leaves one
# behind that wakes the scheduler every second, and a hundred of them fill a core.
if workflow.scheduling_settings is not None:
    workflow.scheduling_settings.max_jobs_per_timespan = None

INTEGERS = {"seed", "source", "target"}


def cell(wildcards):
    """The wildcards of a job as arguments for `crossseed.specs`."""
    return {
        k: int(v) if k in INTEGERS else v for k, v in wildcards.items() if k != "run"
    }


def spec(verb, **fixed):
    """The one parameter through which a rule of this verb depends on the configuration."""
    return lambda wildcards: canonical_json(
        getattr(specs, verb)(RUN, **cell(wildcards), **fixed)
    )


def code(verb, cohort=None, dictionary=None):
    """Digest of the verb's code, for the rule's cohort and dictionary where it has them."""
    return lambda wildcards: specs.code(
        RUN, verb, cohort or wildcards.get("cohort"), dictionary
    )


def anchor_model(wildcards):
    """The anchor's checkpoints where this seed shares tensors with it, else nothing."""
    cohort = RUN.cohorts[wildcards.cohort]
    if not cohort.needs_anchor(int(wildcards.seed)):
        return []
    return layout.MODEL.format(cohort=wildcards.cohort, seed=cohort.anchor)


def passes_of_cohorts():
    """(cohort, sites) of every forward pass that reads some site."""
    return [
        (cohort, sites)
        for cohort in RUN.cohorts
        for sites in passes.planned(
            layout.PASSES.format(cohort=cohort), plan.sites(RUN, cohort)
        )
        if sites
    ]


def activations_of(role):
    """The activation file of a pair's source or target."""
    return lambda wildcards: layout.ACTIVATIONS.format(
        seed=wildcards[role], **wildcards
    )


def weights_of(role, *others):
    """The weight files of a pair's source or target: of all its dictionaries, or of those that
    the other member has too."""

    def paths(wildcards):
        seeds = [int(wildcards[name]) for name in (role, *others)]
        return [
            layout.DICTIONARY_WEIGHTS.format(
                seed=wildcards[role], dictionary=found.name, init=init, **wildcards
            )
            for found in plan.dictionaries_of(RUN, wildcards.cohort, *seeds)
            for init in found.inits
        ]

    return paths


def maps_of(wildcards):
    """The maps of a pair; nothing for a member with itself."""
    return (
        [] if wildcards.source == wildcards.target else layout.MAPS.format(**wildcards)
    )


def cells_of_table(wildcards):
    """The tables of all cells that a table of the run joins."""
    members = [member._asdict() for member in plan.members(RUN)]
    pairs = [pair._asdict() for pair in plan.pairs(RUN)]
    if wildcards.table == "transfer":
        return [layout.TRANSFER.format(**pair) for pair in pairs]
    if wildcards.table == "decoder_cosine":
        return [layout.COSINE.format(**p) for p in pairs if p["source"] != p["target"]]
    if wildcards.table == "dictionaries":
        return [
            layout.DICTIONARY_METRICS.format(**member, site=site, dictionary=found.name)
            for member in members
            for site in plan.sites(RUN, member["cohort"])
            for found in plan.dictionaries_of(RUN, member["cohort"], member["seed"])
        ]
    # One table a seed, whatever the checkpoints.
    paths = [
        layout.MODEL_TABLE.format(**member, table=wildcards.table) for member in members
    ]
    return list(dict.fromkeys(paths))
