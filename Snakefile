# crossseed: does what was found in one model hold in its siblings, and through which map?
# snakemake --cores 8 --resources gpu=1, and for another run than the default --configfile config/toy-full.yaml

from snakemake.utils import min_version

min_version("9.27")

# A --configfile stands for itself: it is not laid over the default run.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/members.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/carried.smk"
include: "workflow/rules/seeds.smk"
include: "workflow/rules/joint_inputs.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/parts.smk"


# Targets


rule all:
    """The report of the configured run."""
    default_target: True
    input:
        report_of_run(),


# Stages, in the order in which data flow


include: "workflow/rules/cohorts.smk"
include: "workflow/rules/activations.smk"
include: "workflow/rules/dictionaries.smk"
include: "workflow/rules/stability.smk"
include: "workflow/rules/absorption.smk"
include: "workflow/rules/interpret.smk"
include: "workflow/rules/maps.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/interventions.smk"
include: "workflow/rules/effects.smk"
include: "workflow/rules/constructive.smk"
include: "workflow/rules/lenses.smk"
include: "workflow/rules/joint.smk"
include: "workflow/rules/joint_saes.smk"
include: "workflow/rules/joint_tables.smk"
include: "workflow/rules/haar.smk"
include: "workflow/rules/across.smk"
include: "workflow/rules/drift.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"


batches.ask_for_more_when_tried_again(workflow)
