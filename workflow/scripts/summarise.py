from pathlib import Path

from r3d.jobs import job
from r3d.summary import write_summary

with job(snakemake.log[0]):
    write_summary([Path(accuracy) for accuracy in snakemake.input], Path(snakemake.output[0]))
