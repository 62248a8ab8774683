from pathlib import Path

from r3d.jobs import job
from r3d.shards import write_shards

with job(snakemake.log[0]):
    write_shards(
        [Path(table) for table in snakemake.input],
        Path(snakemake.output[0]),
        snakemake.params.n_shards,
    )
