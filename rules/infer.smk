"""A trained model and frames -> top-k results."""


rule infer:
    input:
        [f"{run}/{subset}.json" for run, subset in runs_and_subsets()],
    localrule: True


rule infer_subset:
    input:
        annotation=experiment_annotation,
        model=trained_model,
    output:
        f"{EXPERIMENT}/{{subset}}.json",
    log:
        f"{LOGS}/infer_subset/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/infer_subset/{{experiment}}_{{split}}_{{subset}}.tsv"
    conda:
        "../environment.yml"
    threads: lambda wildcards: experiment_of(wildcards).n_threads + 1
    resources:
        gpu=lambda wildcards: min(1, experiment_of(wildcards).resources.gpus),
        mem_mb=lambda wildcards: experiment_of(wildcards).resources.mem_mb,
        runtime=lambda wildcards: experiment_of(wildcards).resources.runtime,
    params:
        experiment=lambda wildcards: experiment_of(wildcards).options(InferenceOptions),
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        code=code_version("infer"),
    script:
        "../workflow/scripts/infer_subset.py"
