"""Top-k results -> accuracy, per class and as a table of confusions."""


rule evaluate:
    input:
        to_accuracies(runs(evaluated=True)),
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
