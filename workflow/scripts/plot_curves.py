from pathlib import Path

from r3d.jobs import job
from r3d.plots import plot_curves

with job(snakemake.log[0]):
    plot_curves(
        Path(snakemake.input.train_log),
        Path(snakemake.input.val_log),
        Path(snakemake.output[0]),
    )
