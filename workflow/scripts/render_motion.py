from pathlib import Path

from r3d.jobs import job
from r3d.motion import render_motion

with job(snakemake.log[0]):
    render_motion(
        Path(snakemake.params.videos),
        Path(snakemake.wildcards.folder),
        threads=snakemake.threads,
        **snakemake.params.options,
    )
