# Inputs of the studies of SAE seeds, and what their jobs take.
#
# Needs: common.smk. Makes: nothing.


def seeds_of_cell(inits):
    """Weights of the SAEs of all these seeds."""
    return lambda wildcards: expand(layout.DICTIONARY_WEIGHTS, **wildcards, init=inits)


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
    expansion = int(wildcards.dictionary.rpartition("-x")[2])
    return estimate.matching_mb(RUN.stability.seeds, config.width, expansion)


def memory_of_absorption(wildcards):
    """Main memory of a job that looks for first letters in SAEs of several seeds, in MB."""
    width = RUN.cohorts[wildcards.cohort].width
    expansion = int(wildcards.dictionary.rpartition("-x")[2])
    return estimate.absorption_mb(RUN, width, expansion)


def memory_of_interpret(wildcards):
    """Main memory of a job that explains latents, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    expansion = int(wildcards.dictionary.rpartition("-x")[2])
    return estimate.interpret_mb(RUN, config.width, expansion)
