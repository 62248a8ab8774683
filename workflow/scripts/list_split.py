from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.lists import SplitOptions, read_list, save_list

    videos = read_list(
        snakemake.params.format,
        Path(snakemake.params.folder),
        snakemake.wildcards.split,
        SplitOptions(**snakemake.params.split_options),
        n_classes=snakemake.params.n_classes,
        videos=Path(snakemake.params.videos) if snakemake.params.videos else None,
        trained=snakemake.params.trained,
    )
    save_list(videos, Path(snakemake.output.table), Path(snakemake.output.labels))
