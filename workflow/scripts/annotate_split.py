from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.annotations.parts import PARTS, write_part_digests
    from r3d.annotations.writing import write_activitynet, write_annotation

    table, labels = Path(snakemake.input.table), Path(snakemake.input.labels)
    ledger, output = Path(snakemake.input.ledger), Path(snakemake.output.annotation)
    official = Path(snakemake.input.official) if snakemake.input.official else None
    file_type = snakemake.params.file_type
    if official:
        write_activitynet(official, ledger, output, file_type=file_type)
    else:
        write_annotation(
            table,
            labels,
            ledger,
            output,
            file_type=file_type,
            frames=Path(snakemake.params.frames),
        )
    write_part_digests(
        table,
        labels,
        ledger,
        list(map(Path, snakemake.input.frames)),
        {part: Path(snakemake.output[part]) for part in PARTS},
        official=official,
    )
