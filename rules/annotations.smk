"""Lists and ledger -> the annotation JSON of the reference."""


rule annotations:
    input:
        to_annotations(
            [
                (name, split)
                for name in [*CONFIG.datasets, *CONFIG.merged]
                for split in CONFIG.splits_in_use(name)
            ]
        ),
    localrule: True


# Checkpoints, because only their results tell which parts of an annotation have changed: what
# depends on the others is not made again.
checkpoint annotate_split:
    input:
        table=LISTS,
        labels=LABELS,
        # The digest tells of each change that counts.
        ledger=ancient(LEDGER),
        frames=ancient(of_shards(MANIFEST_DIGEST)),
        digest=frames_digests,
        official=official_json,
    output:
        **PART_DIGESTS,
        annotation=ANNOTATION,
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
        parts_code=code_version("annotations.parts"),
    script:
        "../workflow/scripts/annotate_split.py"


checkpoint merge_annotations:
    input:
        **{part: of_merged(digest) for part, digest in PART_DIGESTS.items()},
        annotations=of_merged(ANNOTATION),
        digest=frames_digests,
    output:
        **PART_DIGESTS,
        annotation=ANNOTATION,
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
        parts_code=code_version("annotations.parts"),
    script:
        "../workflow/scripts/merge_annotations.py"
