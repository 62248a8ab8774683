from snakemake.utils import min_version

from r3d.workflow.jobs import raise_interrupts

min_version("9.5")


# A config file on the command line replaces the embedded default instead of being merged into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/doctor.smk"
include: "rules/lists.smk"
include: "rules/frames.smk"
include: "rules/annotations.smk"
include: "rules/training.smk"
include: "rules/inference.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


onstart:
    raise_interrupts(on_sigterm=workflow.local_exec)
    check_gpus()
    globals()["FOLDER_LOCKS"] = hold_filled_folders()
    bring_back_preempted_jobs(workflow.workdir_init)


onsuccess:
    say_results()


rule all:
    default_target: True
    input:
        rules.report.input,
    localrule: True
