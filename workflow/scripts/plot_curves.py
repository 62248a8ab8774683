from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.report.plots import plot_curves

    plot_curves(
        Path(snakemake.input.train_log),
        Path(snakemake.input.val_log),
        Path(snakemake.output[0]),
    )
