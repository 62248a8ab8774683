from pathlib import Path

from r3d.lists import SplitOptions, read_list, save_list
from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    videos = read_list(
        snakemake.params.format,
        Path(snakemake.params.folder),
        snakemake.wildcards.split,
        SplitOptions(**snakemake.params.split_options),
        n_classes=snakemake.params.n_classes,
        trained=snakemake.params.trained,
    )
    save_list(videos, Path(snakemake.output.table), Path(snakemake.output.labels))
