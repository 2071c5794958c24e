# What all rules share: the validated run, each job's spec and code digest, and paths.
#
# Needs: the configuration. Makes: nothing.

import functools

from snakemake.exceptions import WorkflowError

from crossseed import devices, environment, estimate, layout, passes, plan, specs
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
        RUN, verb, cohort or wildcards.get("cohort"), dictionary
    )


def memory_of_drift(wildcards):
    """Main memory of a job that compares up to three models, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    seed, checkpoint = int(wildcards.seed), wildcards.checkpoint
    models = {(seed, checkpoint), (seed, REFERENCE), (config.anchor, checkpoint)}
    return estimate.memory_mb(config, len(models), comparisons=2)


def anchor_of(cohort):
    """The anchor's weights where a seed of the cohort shares tensors with it, else nothing."""
    config = RUN.cohorts[cohort]

    def files(wildcards):
        if not config.needs_anchor(int(wildcards.seed)):
            return []
        return expand(config.trained_files, cohort=cohort, seed=config.anchor)

    return files


REFERENCE = RUN.drift.reference if RUN.drift else None


@functools.cache
def checks_of(cohort):
    """The members that each check of a cohort covers; see `crossseed.passes`."""
    config = RUN.cohorts[cohort]
    members = [
        f"seed{seed}/{checkpoint}={config.id_of(seed, checkpoint)}"
        for _, seed, checkpoint in plan.loaded(RUN, cohort)
    ]
    return passes.planned(layout.CHECK_PASSES.format(cohort=cohort), members)


@functools.cache
def check_covering(cohort):
    """By member, the file of the check that covers it."""
    return {
        member.partition("=")[0]: layout.CHECK.format(cohort=cohort, number=number)
        for number, members in enumerate(checks_of(cohort))
        for member in members
    }


def members_of_check(wildcards):
    """The members that a check covers, as one word."""
    return ",".join(checks_of(wildcards.cohort)[int(wildcards.number)])


def model_of(cohort=None, checkpoint=None, anchor=False):
    """What must be there before a member is loaded: its files, or the check that covers it.

    By default the member is that of the job's wildcards.
    """

    def files(wildcards):
        name = cohort or wildcards.cohort
        config = RUN.cohorts[name]
        member = {
            "cohort": name,
            "seed": config.anchor if anchor else wildcards.seed,
            "checkpoint": checkpoint or wildcards.checkpoint,
        }
        if config.checked:
            return check_covering(name)["seed{seed}/{checkpoint}".format(**member)]
        return [path.format(**member) for path in config.member_files]

    return files


# Snakemake compares the parameters of a job only if all its outputs were made before. So where the
# configuration decides how many outputs a job has, whoever needs one of them asks for all, and
# one that is new makes the job run again.


def trained_with(cohort=None, anchor=False):
    """All files that training writes together with those of the job's member, and the anchor's."""

    def files(wildcards):
        name = cohort or wildcards.cohort
        config = RUN.cohorts[name]
        seeds = {int(wildcards.seed), *([config.anchor] if anchor else [])}
        return expand(config.trained_files, cohort=name, seed=sorted(seeds))

    return files


def whole_of_table(wildcards):
    """All files that are written together with the tables that a table of the run joins."""
    if wildcards.table == "dictionaries":
        return [
            layout.DICTIONARY_WEIGHTS.format(
                **member._asdict(), site=site, dictionary=found.name, init=init
            )
            for member in plan.members(RUN)
            for site in plan.sites(RUN, member.cohort)
            for found in plan.dictionaries_of(RUN, member.cohort, member.seed)
            for init in found.inits
        ]
    if wildcards.table in ("quality", "training"):
        return [
            path
            for cohort in plan.trained(RUN)
            for path in expand(
                RUN.cohorts[cohort].trained_files,
                cohort=cohort,
                seed=RUN.cohorts[cohort].seeds,
            )
        ]
    return []


def report_of_run():
    """The page and every figure on it."""
    page = f"results/reports/{RUN.run}/index.html"
    figures = expand(
        "results/reports/{run}/figures/{figure}.{format}",
        run=RUN.run,
        figure=plan.figures(RUN),
        format=("svg", "png"),
    )
    return [page, *figures]


def tokenizer_of(wildcards):
    """What token sets wait for: the cohort's own tokenizer, or a check, which covers that of
    the members; the first one, so that members added later leave the token sets alone.
    """
    config = RUN.cohorts[wildcards.cohort]
    if config.checked:
        return layout.CHECK.format(cohort=wildcards.cohort, number=0)
    return expand(config.tokenizer_files, cohort=wildcards.cohort)


def drift_dictionaries_of(wildcards):
    """Weights of the reference checkpoint's dictionaries that the drift study tries."""
    return [
        layout.DICTIONARY_WEIGHTS.format(
            **{**wildcards, "checkpoint": REFERENCE},
            site=site,
            dictionary=found.name,
            init=init,
        )
        for site in plan.sites(RUN, wildcards.cohort)
        for found in plan.drift_dictionaries(RUN, wildcards.cohort, int(wildcards.seed))
        for init in found.inits
    ]


def drift_of_seed(wildcards):
    """The drift tables of all checkpoints of a seed."""
    return [
        layout.DRIFT.format(checkpoint=checkpoint, **wildcards)
        for checkpoint in RUN.drift.checkpoints
    ]


def passes_of_cohorts():
    """(cohort, sites) of every forward pass that reads some site."""
    return [
        (cohort, sites)
        for cohort in (RUN.cohorts if RUN.dictionaries else ())
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
    if wildcards.table == "drift":
        return [
            layout.DRIFT_SEED.format(cohort=cohort, seed=seed)
            for cohort, config in RUN.cohorts.items()
            for seed in config.seeds
        ]
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
    # One table a trained seed, whatever the checkpoints.
    return [
        layout.MODEL_TABLE.format(cohort=cohort, seed=seed, table=wildcards.table)
        for cohort in plan.trained(RUN)
        for seed in RUN.cohorts[cohort].seeds
    ]
