from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.evaluation.videos import write_videos

    paths = zip(map(Path, snakemake.input.lists), map(Path, snakemake.input.ledgers), strict=True)
    write_videos(
        dict(zip(snakemake.params.parts, paths, strict=True)),
        Path(snakemake.input.annotation),
        Path(snakemake.input.result),
        Path(snakemake.output[0]),
        subset=snakemake.wildcards.subset,
        trained=snakemake.params.trained,
        group_patterns=snakemake.params.group_patterns,
    )
