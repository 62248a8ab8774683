from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.motion import render_motion

    render_motion(
        Path(snakemake.params.videos),
        Path(snakemake.wildcards.folder),
        threads=snakemake.threads,
        **snakemake.params.options,
    )
