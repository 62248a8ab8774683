"""A trained model and frames -> top-k results."""


rule infer:
    input:
        to_results(runs()),
    localrule: True


rule features:
    input:
        to_features(runs()),
    localrule: True


rule infer_subset:
    input:
        annotation=ancient(experiment_annotation),
        digest=digest_of_part(),
        model=trained_model,
        class_order=class_order_file,
        behind=ancient(checkpoints_behind),
    output:
        f"{EXPERIMENT}/{{subset}}.json",
    log:
        f"{LOGS}/infer_subset/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/infer_subset/{{experiment}}_{{split}}_{{subset}}.tsv"
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
        experiment=lambda wildcards: experiment_of(wildcards).options(InferenceOptions),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        code=code_version("inference.infer"),
    script:
        "../workflow/scripts/infer_subset.py"


# `snakemake features` makes NumPy's files; for Parquet ask for the file itself.
rule features_subset:
    input:
        annotation=experiment_annotation,
        frames=frames_digests,
        model=trained_model,
    output:
        f"{EXPERIMENT}/{{subset}}.features.{{form}}",
    log:
        f"{LOGS}/features_subset/{{experiment}}_{{split}}_{{subset}}_{{form}}.log",
    benchmark:
        f"{BENCHMARKS}/features_subset/{{experiment}}_{{split}}_{{subset}}_{{form}}.tsv"
    wildcard_constraints:
        form="npz|parquet",
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
        tasks_per_gpu=0,
        slurm_extra=slurm_extra,
    params:
        experiment=lambda wildcards: experiment_of(wildcards).options(InferenceOptions),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        code=code_version("inference.features"),
    script:
        "../workflow/scripts/features_subset.py"


rule make_gallery:
    input:
        annotation=experiment_annotation,
        frames=frames_digests,
        model=trained_model,
        class_order=class_order_file,
        result=f"{EXPERIMENT}/{{subset}}.json",
        videos=f"{EXPERIMENT}/{{subset}}.videos.tsv",
    output:
        directory(f"{EXPERIMENT}/{{subset}}.gallery"),
    log:
        f"{LOGS}/make_gallery/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/make_gallery/{{experiment}}_{{split}}_{{subset}}.tsv"
    conda:
        "../environment.yml"
    threads: cores
    resources:
        gpu=own_gpu,
        mem_mb=asked_memory,
        runtime=60,
    params:
        experiment=lambda wildcards: experiment_of(wildcards).options(InferenceOptions),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        code=code_version("inference.gallery"),
    script:
        "../workflow/scripts/make_gallery.py"
