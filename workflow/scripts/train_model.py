from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.compute.launch import launch
    from r3d.config.loading import load_config
    from r3d.config.options import TrainingOptions
    from r3d.files import read_text
    from r3d.frames.identity import joint_digest
    from r3d.training.train import train
    from r3d.workflow.trainingstates import folder_of_states

    # From the config and not the params: how a job runs must not cause it to run again.
    run = load_config(snakemake.config).experiments[snakemake.wildcards.experiment]
    states = folder_of_states(
        Path(snakemake.params.checkpoints),
        read_text(Path(snakemake.input.digest)).strip(),
        earlier=joint_digest([Path(digest) for digest in snakemake.input.frames]),
    )
    launch(
        train,
        resources=run.resources,
        log=snakemake.log[0],
        n_cores=snakemake.threads,
        options=TrainingOptions(**snakemake.params.experiment),
        annotation=Path(snakemake.input.annotation),
        frames=Path(snakemake.params.frames),
        file_type=snakemake.params.file_type,
        pretrained=Path(snakemake.input.pretrained) if snakemake.input.pretrained else None,
        checkpoints=states,
        model=Path(snakemake.output.model),
        train_log=Path(snakemake.output.train_log),
        val_log=Path(snakemake.output.val_log),
        speed_log=Path(snakemake.output.speed_log),
        run=run,
    )
