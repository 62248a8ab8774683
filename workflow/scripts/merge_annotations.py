from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.annotations.merging import merge_annotations

    merge_annotations(
        {
            name: (Path(annotation), Path(frames))
            for annotation, (name, frames) in zip(
                snakemake.input.annotations, snakemake.params.frames.items(), strict=True
            )
        },
        Path(snakemake.output[0]),
        file_type=snakemake.params.file_type,
    )
