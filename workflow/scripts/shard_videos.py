from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.frames.shards import write_shards

    write_shards(
        [Path(table) for table in snakemake.input],
        Path(snakemake.output[0]),
        snakemake.params.n_shards,
    )
