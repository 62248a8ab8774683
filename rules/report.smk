"""The accuracy table and the pictures of the report."""


rule report:
    input:
        f"{RESULTS}/summary.tsv",
        [f"{run}/curves.svg" for run in runs(trained=True)],
        [
            f"{run}/{subset}.confusion.svg"
            for run, subset in runs_and_subsets(evaluated=True)
        ],
        # Without labels the results are all there is, and what became of each video.
        rules.infer.input,
        rules.evaluate.input,
    localrule: True


rule summarise:
    input:
        [
            f"{run}/{subset}.accuracy.json"
            for run, subset in runs_and_subsets(evaluated=True)
        ],
    output:
        report(
            f"{RESULTS}/summary.tsv",
            category="Accuracy",
            labels={"table": "summary"},
            caption="../workflow/report/summary.rst",
        ),
    log:
        f"{LOGS}/summarise.log",
    benchmark:
        f"{BENCHMARKS}/summarise.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code_version("report.summary"),
    script:
        "../workflow/scripts/summarise.py"


rule plot_curves:
    input:
        train_log=f"{EXPERIMENT}/train.log",
        val_log=f"{EXPERIMENT}/val.log",
    output:
        report(
            f"{EXPERIMENT}/curves.svg",
            category="Training",
            labels={
                "experiment": "{experiment}",
                "split": "{split}",
                "figure": "training curves",
            },
            caption="../workflow/report/curves.rst",
        ),
    log:
        f"{LOGS}/plot_curves/{{experiment}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_curves/{{experiment}}_{{split}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code_version("report.plots"),
    script:
        "../workflow/scripts/plot_curves.py"


rule plot_confusion:
    input:
        f"{EXPERIMENT}/{{subset}}.confusion.tsv",
    output:
        report(
            f"{EXPERIMENT}/{{subset}}.confusion.svg",
            category="Accuracy",
            labels={
                "experiment": "{experiment}",
                "split": "{split}",
                "figure": "confusion matrix",
            },
            caption="../workflow/report/confusion.rst",
        ),
    log:
        f"{LOGS}/plot_confusion/{{experiment}}_{{split}}_{{subset}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_confusion/{{experiment}}_{{split}}_{{subset}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code_version("report.plots"),
    script:
        "../workflow/scripts/plot_confusion.py"
