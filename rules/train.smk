"""Annotations and frames -> a trained model."""


rule train:
    input:
        [f"{run}/model.pth" for run in runs(trained=True)],
    localrule: True


rule train_model:
    input:
        annotation=experiment_annotation,
        pretrained=pretrained_model,
    output:
        model=f"{EXPERIMENT}/model.pth",
        train_log=f"{EXPERIMENT}/train.log",
        val_log=f"{EXPERIMENT}/val.log",
    log:
        f"{LOGS}/train_model/{{experiment}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/train_model/{{experiment}}_{{split}}.tsv"
    conda:
        "../environment.yml"
    threads: lambda wildcards: experiment_of(wildcards).n_threads + 1
    resources:
        gpu=lambda wildcards: experiment_of(wildcards).resources.gpus,
        mem_mb=lambda wildcards: experiment_of(wildcards).resources.mem_mb,
        runtime=lambda wildcards: experiment_of(wildcards).resources.runtime,
    params:
        experiment=lambda wildcards: experiment_of(wildcards).options(TrainingOptions),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        # Not declared as an output: it has to outlive a failed attempt, and a change of options.
        checkpoints=f"{RESULTS}/checkpoints/{{experiment}}/{{split}}",
        code=code_version("train"),
    script:
        "../workflow/scripts/train_model.py"
