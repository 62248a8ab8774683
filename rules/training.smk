"""Annotations and frames -> a trained model."""


rule train:
    input:
        to_trainings(runs()),
    localrule: True


# A local rule: the machines that train may have no network.
rule fetch_torchvision:
    output:
        f"{MODELS_FOLDER}/torchvision_{{network}}.pth",
    log:
        f"{LOGS}/fetch_torchvision/{{network}}.log",
    wildcard_constraints:
        network=one_of(NETWORKS),
    localrule: True
    conda:
        "../environment.yml"
    script:
        "../workflow/scripts/fetch_torchvision.py"


rule train_model:
    input:
        annotation=ancient(experiment_annotation),
        digest=digest_of_part(TRAINING),
        # What told one training from another before there was a digest of the part.
        frames=ancient(frames_digests),
        pretrained=pretrained_model,
        behind=ancient(checkpoints_behind),
    output:
        model=f"{EXPERIMENT}/model.pth",
        train_log=f"{EXPERIMENT}/train.log",
        val_log=f"{EXPERIMENT}/val.log",
        speed_log=f"{EXPERIMENT}/speed.log",
    log:
        f"{LOGS}/train_model/{{experiment}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/train_model/{{experiment}}_{{split}}.tsv"
    conda:
        "../environment.yml"
    threads: cores
    resources:
        nodes=asked("nodes"),
        gpu=asked_gpus,
        mem_mb=asked_memory,
        runtime=asked("runtime"),
        mpi=slurm_mpi,
        tasks=slurm_tasks,
        tasks_per_gpu=0,  # else the plugin asks for `tasks` on each GPU
        slurm_extra=slurm_extra,
    params:
        experiment=lambda wildcards: CONFIG.training_options(
            wildcards.experiment, wildcards.split
        ),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        # Not declared as an output: it has to outlive a failed attempt, and a change of options.
        checkpoints=f"{RESULTS}/checkpoints/{{experiment}}/{{split}}",
        code=code_version("training.train"),
    script:
        "../workflow/scripts/train_model.py"
