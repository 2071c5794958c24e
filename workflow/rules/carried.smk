# Inputs of interventions, bars, claims and drift: dictionaries that are carried or compared, prompts, rotations of other
# pairs, weights.
#
# Needs: common.smk. Makes: nothing.

# By name, the files of contrastive prompts; read now, since no job that takes long should wait for a mistake in them.
try:
    PROMPTS = {
        name: resource(f"prompts/{name}.yaml")
        for name in (RUN.steering.prompts if RUN.steering else [])
    }
    for path in PROMPTS.values():
        prompts.read(path)
except FileNotFoundError as error:
    raise WorkflowError(
        f"steering.prompts: {error.filename} does not exist; write it, or name others of resources/prompts/"
    )
except UserError as error:
    raise WorkflowError(f"steering.prompts:\n{error}")

# Of the scorers of latents only language models on this machine compute on a GPU.
SCORER_GPU = GPU if plan.scores_locally(RUN) else 0


def own_of_target(wildcards):
    """The target's dictionary of the same recipe, where it has one."""
    seed = int(wildcards.target)
    names = {found.name for found in plan.dictionaries_of(RUN, wildcards.cohort, seed)}
    if wildcards.dictionary not in names:
        return []
    return layout.DICTIONARY_WEIGHTS.format(seed=seed, **wildcards)


def studied_dictionary_of(role):
    """The dictionary whose single latents are studied, of a pair's source or target if it has one."""

    def path(wildcards):
        seed = int(wildcards[role])
        return [
            layout.DICTIONARY_WEIGHTS.format(
                seed=seed, dictionary=found.name, init=found.inits[-1], **wildcards
            )
            for found in plan.dictionaries_of(RUN, wildcards.cohort, seed)
            if found.name == RUN.features.dictionary
        ]

    return path


def prompts_of(wildcards):
    """Files of contrastive prompts, for members that read text."""
    return list(PROMPTS.values()) if RUN.cohorts[wildcards.cohort].reads_text else []


def mismatched_of(wildcards):
    """Moments of the source with another target, whose rotation is of no use here: the first, or of
    that one the second, so that targets added later change nothing; nothing where there is one.
    """
    place = plan.Place(wildcards.cohort, wildcards.checkpoint, wildcards.site)
    others = [
        pair
        for pair in plan.from_source(RUN, place, int(wildcards.source))
        if pair.target != int(wildcards.target)
    ]
    return [layout.MAPS.format(**pair._asdict()) for pair in others[:1]]


def device_map_of(wildcards):
    """How a member is spread over devices."""
    return RUN.cohorts[wildcards.cohort].device_map or "none"


def memory_of_interventions(wildcards):
    """Main memory of a job that runs two whole models and predicts at every position, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    # Loaded in float32, twice what half precision takes.
    return estimate.memory_mb(config, models=4) + estimate.predictions_mb(config)


def memory_of_port(wildcards):
    """Main memory of a job that tries a dictionary in eight ways, and runs one whole model, in MB."""
    config = RUN.cohorts[wildcards.cohort]
    alone = estimate.transfer_mb(RUN, wildcards.cohort)
    return alone + memory_of_interventions(wildcards)


def judged_weights(template):
    """What the alignment of a pair wrote; nothing for a member held against itself."""

    def files(wildcards):
        if wildcards.source == wildcards.target:
            return []
        return template.format(**wildcards)

    return files


def claimed():
    """Cohorts that stand for published ones."""
    return set(RUN.claims.cohorts.values())


def published_dictionaries(wildcards):
    """The source's dictionaries that follow the published recipe, of every expansion."""
    variant, seed = variant_of(RUN.claims.dictionary), wildcards.source
    return [
        layout.DICTIONARY_WEIGHTS.format(
            seed=seed, dictionary=found.name, init=init, **wildcards
        )
        for found in plan.dictionaries_of(RUN, wildcards.cohort, int(seed))
        if found.variant == variant
        for init in found.inits
    ]


def drift_of_seed(wildcards):
    """The drift tables of all checkpoints of a seed."""
    return [
        layout.DRIFT.format(checkpoint=checkpoint, **wildcards)
        for checkpoint in RUN.drift.checkpoints
    ]
