"""Top-k results -> accuracy, per class and as a table of confusions."""


rule evaluate:
    input:
        to_evaluations(),
    localrule: True


rule evaluate_subset:
    input:
        annotation=experiment_annotation,
        result=f"{EXPERIMENT}/{{subset}}.json",
    output:
        accuracy=f"{EXPERIMENT}/{{subset}}.accuracy.json",
        classes=f"{EXPERIMENT}/{{subset}}.classes.tsv",
        confusion=f"{EXPERIMENT}/{{subset}}.confusion.tsv",
    log:
        f"{LOGS}/evaluate_subset/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_subset/{{experiment}}_{{split}}_{{subset}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        ks=option(experiment_of, "accuracy_ks"),
        code=code_version("evaluation.evaluate"),
    script:
        "../workflow/scripts/evaluate_subset.py"


rule follow_videos:
    input:
        lists=lambda wildcards: [
            LISTS.format(dataset=name, split=split)
            for name, split in parts_of(wildcards)
        ],
        ledgers=lambda wildcards: [
            LEDGER.format(dataset=name) for name, _ in parts_of(wildcards)
        ],
        annotation=experiment_annotation,
        result=f"{EXPERIMENT}/{{subset}}.json",
    output:
        f"{EXPERIMENT}/{{subset}}.videos.tsv",
    log:
        f"{LOGS}/follow_videos/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/follow_videos/{{experiment}}_{{split}}_{{subset}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        parts=lambda wildcards: CONFIG.merged.get(
            experiment_of(wildcards).dataset, [""]
        ),
        trained=lambda wildcards: not experiment_of(wildcards).no_train,
        group_patterns=group_patterns,
        code=code_version("evaluation.videos"),
    script:
        "../workflow/scripts/follow_videos.py"
