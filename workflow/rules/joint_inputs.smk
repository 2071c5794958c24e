# Inputs of joint SAEs: which of a pair's files a job reads, and what it takes.
#
# Needs: common.smk. Makes: nothing.

from crossseed.counterfactuals import grammar_of
from crossseed.joint.conditions import MAPS as MAPS_TRAINED_WITH


def cut_of(role):
    """All that is clean of a pair's source or target."""
    return lambda wildcards: layout.JOINT_CACHE.format(
        seed=wildcards[role], **wildcards
    )


def map_of_training(wildcards):
    """The pair's maps, for SAEs that are trained with one."""
    told = plan.joint_trainings(RUN)[wildcards.training]
    if MAPS_TRAINED_WITH.get(told.condition.condition) is None:
        return []
    return layout.JOINT_MAPS.format(**wildcards)


def map_of_condition(wildcards):
    """The pair's maps, for conditions that carry activations over afterwards."""
    if plan.conditions(RUN)[wildcards.condition].map == "identity":
        return []
    return layout.JOINT_MAPS.format(**wildcards)


def saes_of_condition(wildcards):
    """The SAEs that a condition is measured on."""
    trainings = plan.conditions(RUN)[wildcards.condition].trainings
    return expand(layout.JOINT_SAE, training=trainings, **wildcards)


def independent_of(wildcards):
    """SAEs of each model alone, with whose accuracy others are compared."""
    reference = RUN.joint.reference
    trainings = reference.trainings if reference else []
    return expand(layout.JOINT_SAE, training=trainings, **wildcards)


def edited_sae(wildcards):
    """The SAE whose latents are tried on edited sentences."""
    trainings = plan.edited_condition(RUN).trainings
    return expand(layout.JOINT_SAE, training=trainings, **wildcards)


def tested_sae(wildcards):
    """Model A's own SAE."""
    return expand(layout.JOINT_SAE, training=plan.tested_saes(RUN), **wildcards)


def retrained_of(wildcards):
    """Retrainings of a pair with other maps."""
    return expand(layout.JOINT_NULL, null=list(plan.joint_nulls(RUN)), **wildcards)


# By cohort, the file of edits and the grammar that it names.
EDITS = {
    cohort: resource(f"counterfactuals/{name}.yaml")
    for cohort, name in (
        RUN.joint.counterfactuals.files.items()
        if RUN.joint and RUN.joint.counterfactuals
        else ()
    )
}
GRAMMARS = {
    cohort: resource(f"grammars/{grammar_of(path)}.yaml")
    for cohort, path in EDITS.items()
}


def memory_of_cache(wildcards):
    """Main memory of a job that runs one whole model, in MB."""
    return estimate.joint_mb(RUN, wildcards.cohort, models=1)


def memory_of_joint(wildcards):
    """Main memory of a job that trains or measures SAEs through two models, in MB."""
    return estimate.joint_mb(RUN, wildcards.cohort, models=2)


def tables_of_joint():
    """By table, templates of the files it joins, each with the cells it is filled for."""
    pairs = [pair._asdict() for pair in plan.joint_pairs(RUN)]
    tested = [pair._asdict() for pair in plan.tested_pairs(RUN)]
    edited = [pair._asdict() for pair in plan.edited_pairs(RUN)]
    # Rows of latents are many: those of the first pair of a cohort.
    shown = list({pair["cohort"]: pair for pair in reversed(pairs)}.values())

    def each(cells, wildcard, names):
        return [{**cell, wildcard: name} for cell in cells for name in names]

    conditions = plan.conditions(RUN)
    return {
        "joint_conditions": [
            (layout.JOINT_CONDITION, each(pairs, "condition", conditions))
        ],
        "joint_latents": [(layout.JOINT_LATENTS, each(shown, "condition", conditions))],
        "joint_training": [
            (layout.JOINT_HISTORY, each(pairs, "training", plan.joint_trainings(RUN)))
        ],
        "joint_fits": [(layout.JOINT_FITS, pairs)],
        "joint_nulls": [
            (layout.JOINT_NULL, each(tested, "null", plan.joint_nulls(RUN)))
        ],
        "joint_tests": [(layout.JOINT_TESTS, tested)],
        "joint_sizes": [(layout.JOINT_SIZES, pairs)],
        "joint_halves": [(layout.JOINT_HALVES, pairs)],
        "joint_counterfactuals": [(layout.JOINT_COUNTERFACTUALS, edited)],
        "joint_contexts": [(layout.JOINT_CONTEXTS, edited)],
    }
