from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.annotations.writing import write_activitynet, write_annotation

    ledger, output = Path(snakemake.input.ledger), Path(snakemake.output[0])
    file_type = snakemake.params.file_type
    if snakemake.input.official:
        write_activitynet(Path(snakemake.input.official), ledger, output, file_type=file_type)
    else:
        write_annotation(
            Path(snakemake.input.table),
            Path(snakemake.input.labels),
            ledger,
            output,
            file_type=file_type,
            frames=Path(snakemake.params.frames),
        )
