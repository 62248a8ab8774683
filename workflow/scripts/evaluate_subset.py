from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.evaluation.evaluate import evaluate

    evaluation = evaluate(
        Path(snakemake.input.annotation),
        Path(snakemake.input.result),
        subset=snakemake.wildcards.subset,
        ks=snakemake.params.ks,
    )
    evaluation.save(
        Path(snakemake.output.accuracy),
        classes=Path(snakemake.output.classes),
        confusion=Path(snakemake.output.confusion),
        experiment=snakemake.wildcards.experiment,
        split=snakemake.wildcards.split,
    )
