from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.report.summary import write_summary

    write_summary([Path(accuracy) for accuracy in snakemake.input], Path(snakemake.output[0]))
