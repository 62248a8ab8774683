from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.report.summary import write_summary

    write_summary(
        list(map(Path, snakemake.input.accuracies)),
        Path(snakemake.output[0]),
        videos=list(map(Path, snakemake.input.videos)),
    )
