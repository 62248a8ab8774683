from pathlib import Path

from r3d.jobs import job
from r3d.plots import plot_confusion

with job(snakemake.log[0]):
    plot_confusion(Path(snakemake.input[0]), Path(snakemake.output[0]))
