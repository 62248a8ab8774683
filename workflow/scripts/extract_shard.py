from pathlib import Path

from r3d.frames.extract import FrameOptions, extract_shard
from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    extract_shard(
        Path(snakemake.input[0]),
        Path(snakemake.params.videos),
        Path(snakemake.params.frames),
        Path(snakemake.output[0]),
        FrameOptions(**snakemake.params.options),
        threads=snakemake.threads,
    )
