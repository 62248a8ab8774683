from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.config.loading import load_config
    from r3d.lists import SplitOptions, fold_of, read_list, save_list

    # From the config and not the params: a fold is one of the split that its data set has.
    dataset = load_config(snakemake.config).datasets[snakemake.wildcards.dataset]
    videos = read_list(
        snakemake.params.format,
        Path(snakemake.params.folder),
        dataset.listed_split(snakemake.wildcards.split),
        SplitOptions(**snakemake.params.split_options),
        n_classes=snakemake.params.n_classes,
        videos=Path(snakemake.params.videos) if snakemake.params.videos else None,
        trained=snakemake.params.trained,
        fold=fold_of(snakemake.wildcards.split),
    )
    save_list(videos, Path(snakemake.output.table), Path(snakemake.output.labels))
