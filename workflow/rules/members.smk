# Inputs that are members: their files, or the check that covers them.
#
# Needs: common.smk. Makes: nothing.


def anchor_of(cohort):
    """The anchor's weights where a seed of the cohort shares tensors with it, else nothing."""
    config = RUN.cohorts[cohort]

    def files(wildcards):
        if not config.needs_anchor(int(wildcards.seed)):
            return []
        return expand(config.trained_files, cohort=cohort, seed=config.anchor)

    return files


# By name below resources/, the files that cohorts are made from.
RESOURCES = {
    name: resource(f"{name}")
    for config in RUN.cohorts.values()
    for name in config.resource_files
}


def data_of(wildcards):
    """The files of resources/ that a cohort is made from."""
    return [RESOURCES[name] for name in RUN.cohorts[wildcards.cohort].resource_files]


@functools.cache
def checks_of(cohort):
    """The members that each check of a cohort covers; see `crossseed.passes`."""
    config = RUN.cohorts[cohort]
    members = [
        f"seed{seed}/{checkpoint}={config.id_of(seed, checkpoint)}"
        for _, seed, checkpoint in plan.loaded(RUN, cohort)
    ]
    record = layout.CHECK_PASSES.format(cohort=cohort)
    return passes.planned(record, members, passes.MOST_MEMBERS)


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


def model_of(cohort=None, checkpoint=None, anchor=False, role="seed"):
    """What must be there before a member is loaded: its files, or the check that covers it.

    By default the member is that of the job's wildcards; `role` names the one with its seed.
    """

    def files(wildcards):
        name = cohort or wildcards.cohort
        config = RUN.cohorts[name]
        member = {
            "cohort": name,
            "seed": config.anchor if anchor else wildcards[role],
            "checkpoint": checkpoint or wildcards.checkpoint,
        }
        if config.checked:
            return check_covering(name)["seed{seed}/{checkpoint}".format(**member)]
        return [path.format(**member) for path in config.member_files]

    return files


# Snakemake compares the parameters of a job only if all its outputs were made before. So where the
# configuration decides how many outputs a job has, whoever needs one of them asks for all, and
# one that is new makes the job run again.


def trained_with(cohort=None, anchor=False, role="seed"):
    """All files that training writes together with those of the job's member, and the anchor's."""

    def files(wildcards):
        name = cohort or wildcards.cohort
        config = RUN.cohorts[name]
        seeds = {int(wildcards[role]), *([config.anchor] if anchor else [])}
        return expand(config.trained_files, cohort=name, seed=sorted(seeds))

    return files


def tokenizer_of(wildcards):
    """What token sets wait for: the cohort's own tokenizer, or a check, which covers that of
    the members; the first one, so that members added later leave the token sets alone.
    """
    config = RUN.cohorts[wildcards.cohort]
    if config.checked:
        return layout.CHECK.format(cohort=wildcards.cohort, number=0)
    return expand(config.tokenizer_files, cohort=wildcards.cohort)
