"""Lists and ledger -> the annotation JSON of the reference."""


rule annotations:
    input:
        to_annotations(
            [
                (name, split)
                for name in [*CONFIG.datasets, *CONFIG.merged]
                for split in CONFIG.dataset(name).all_splits
            ]
        ),
    localrule: True


rule annotate_split:
    input:
        table=LISTS,
        labels=LABELS,
        # The digest tells of each change that counts.
        ledger=ancient(LEDGER),
        digest=frames_digests,
        official=official_json,
    output:
        ANNOTATION,
    log:
        f"{LOGS}/annotate_split/{{dataset}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/annotate_split/{{dataset}}_{{split}}.tsv"
    wildcard_constraints:
        dataset=one_of(CONFIG.datasets),
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        frames=option(dataset_of, "frames"),
        file_type=option(dataset_of, "file_type"),
        code=code_version("annotations.writing"),
    script:
        "../workflow/scripts/annotate_split.py"


rule merge_annotations:
    input:
        annotations=part_annotations,
        digest=frames_digests,
    output:
        ANNOTATION,
    log:
        f"{LOGS}/merge_annotations/{{dataset}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_annotations/{{dataset}}_{{split}}.tsv"
    wildcard_constraints:
        dataset=one_of(CONFIG.merged),
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=30,
    params:
        frames=part_frames,
        file_type=option(dataset_of, "file_type"),
        code=code_version("annotations.merging"),
    script:
        "../workflow/scripts/merge_annotations.py"
