# Inputs of the studies of SAE seeds, and what their jobs take.
#
# Needs: common.smk. Makes: nothing.


def seeds_of_cell(inits):
    """Weights of the SAEs of all these seeds."""
    return lambda wildcards: expand(layout.DICTIONARY_WEIGHTS, **wildcards, init=inits)


def two_of_cell(wildcards):
    """Weights of the two SAEs of a job; of the first seed, for their shape, where both are of random directions."""
    of_seeds = [
        name
        for name in (wildcards.first, wildcards.second)
        if not name.startswith("random")
    ]
    return expand(
        layout.DICTIONARY_WEIGHTS, **wildcards, init=of_seeds or plan.sae_seeds(RUN)[:1]
    )


def matched_of_cell(wildcards):
    """Of large dictionaries, how each two of a cell's SAEs are matched."""
    pairs = plan.matched_pairs(RUN, wildcards.cohort, wildcards.dictionary)
    return [
        path
        for first, second in pairs
        for path in expand(layout.MATCHED, **wildcards, first=first, second=second)
    ]


def bridged_seeds_of(role):
    """Weights of the SAEs of a pair's source or target that are matched with the other's."""
    seeds = RUN.stability.bridge.seeds if RUN.stability and RUN.stability.bridge else 0
    return lambda wildcards: expand(
        layout.DICTIONARY_WEIGHTS,
        **wildcards,
        seed=wildcards[role],
        init=plan.sae_seeds(RUN)[:seeds],
    )


def latents_of(role):
    """The table of single latents of a pair's source or target."""
    return lambda wildcards: layout.STABILITY_LATENTS.format(
        seed=wildcards[role], **wildcards
    )


def memory_of_matching(wildcards):
    """Main memory of a job that matches SAEs of several seeds, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    expansion = expansion_of(wildcards.dictionary)
    return estimate.matching_mb(RUN.stability.seeds, config.width, expansion)


def memory_of_two(wildcards):
    """Main memory of a job that matches two SAEs, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    expansion = expansion_of(wildcards.dictionary)
    return estimate.matching_mb(2, config.width, expansion)


def memory_of_absorption(wildcards):
    """Main memory of a job that looks for first letters in SAEs of several seeds, in MB."""
    width = RUN.cohorts[wildcards.cohort].width
    expansion = expansion_of(wildcards.dictionary)
    return estimate.absorption_mb(RUN, width, expansion)


def memory_of_interpret(wildcards):
    """Main memory of a job that explains latents, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    expansion = expansion_of(wildcards.dictionary)
    return estimate.interpret_mb(RUN, config.width, expansion)
