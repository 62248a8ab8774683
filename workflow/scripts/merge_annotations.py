from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.annotations.merging import merge_annotations
    from r3d.annotations.parts import PARTS, merge_part_digests

    names = list(snakemake.params.frames)
    merge_annotations(
        {
            name: (Path(annotation), Path(frames))
            for annotation, (name, frames) in zip(
                snakemake.input.annotations, snakemake.params.frames.items(), strict=True
            )
        },
        Path(snakemake.output.annotation),
        file_type=snakemake.params.file_type,
    )
    merge_part_digests(
        {
            name: {part: Path(snakemake.input[part][i]) for part in PARTS}
            for i, name in enumerate(names)
        },
        {part: Path(snakemake.output[part]) for part in PARTS},
    )
