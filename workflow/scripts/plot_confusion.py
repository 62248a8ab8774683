from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.report.plots import plot_confusion

    plot_confusion(Path(snakemake.input[0]), Path(snakemake.output[0]))
