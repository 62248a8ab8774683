from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.config.loading import load_config
    from r3d.config.options import InferenceOptions
    from r3d.inference.gallery import make_gallery

    # From the config and not the params: how a job runs must not cause it to run again.
    run = load_config(snakemake.config).experiments[snakemake.wildcards.experiment]
    make_gallery(
        InferenceOptions(**snakemake.params.experiment),
        annotation=Path(snakemake.input.annotation),
        subset=snakemake.wildcards.subset,
        frames=Path(snakemake.params.frames),
        file_type=snakemake.params.file_type,
        model=Path(snakemake.input.model),
        result=Path(snakemake.input.result),
        videos=Path(snakemake.input.videos),
        output=Path(snakemake.output[0]),
        run=run,
        n_cores=snakemake.threads,
    )
