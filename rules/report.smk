"""The accuracy table and the pictures of the report."""


rule report:
    input:
        to_report(),
    localrule: True


rule summarise:
    input:
        accuracies=of_subsets(runs(evaluated=True), "accuracy.json"),
        videos=of_subsets(runs(evaluated=True), "videos.tsv"),
    output:
        report(
            f"{RESULTS}/summary.tsv",
            category=category("Accuracy"),
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


rule make_report:
    input:
        runs=[
            file
            for name, run in runs(evaluated=True)
            for file in files_of_run(name, run).values()
        ],
        ledgers=[LEDGER.format(dataset=name) for name in datasets_of_runs()],
        lists=[
            LISTS.format(dataset=name, split=split)
            for name in datasets_of_runs()
            for split in CONFIG.splits_in_use(name)
        ],
        annotations=annotations_of_runs(),
    output:
        report(
            directory(f"{RESULTS}/report"),
            htmlindex="index.html",
            category=category("Accuracy"),
            labels={"table": "the whole report"},
            caption="../workflow/report/page.rst",
        ),
    log:
        f"{LOGS}/make_report.log",
    benchmark:
        f"{BENCHMARKS}/make_report.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        runs=[
            {
                "experiment": name,
                "split": split_of(run),
                "seed": CONFIG.seed(name, run),
                "subset": CONFIG.experiments[name].inference_subset,
                "model": str(CONFIG.model(name, run)),
                "files": files_of_run(name, run),
            }
            for name, run in runs(evaluated=True)
        ],
        datasets=datasets_of_runs(),
        benchmarks=BENCHMARKS,
        logs=LOGS,
        step_code={
            step: code_version(step)
            for step in (
                "frames.extract",
                "training.train",
                "inference.infer",
                "evaluation.evaluate",
            )
        },
        code=code_version("report.report"),
    script:
        "../workflow/scripts/make_report.py"


rule plot_curves:
    input:
        train_log=f"{EXPERIMENT}/train.log",
        val_log=f"{EXPERIMENT}/val.log",
    output:
        report(
            f"{EXPERIMENT}/curves.svg",
            category=category("Training"),
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
            category=category("Accuracy"),
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
