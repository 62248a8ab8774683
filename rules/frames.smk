"""Videos -> frames, shard by shard, and the ledger of what became of each video."""


rule frames:
    input:
        to_frames(CONFIG.datasets),
    localrule: True


rule extract_shard:
    input:
        shard_table,
    output:
        manifest=MANIFEST,
        digest=MANIFEST_DIGEST,
    log:
        f"{LOGS}/extract_shard/{{dataset}}/{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/extract_shard/{{dataset}}/{{shard}}.tsv"
    conda:
        "../environment.yml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=480,
    params:
        videos=option(dataset_of, "videos"),
        frames=option(dataset_of, "frames"),
        options=lambda wildcards: dataset_of(wildcards).frame_options,
        state=state_of_videos,
        code=code_version("frames.extract"),
        digest_code=code_version("frames.identity"),
    script:
        "../workflow/scripts/extract_shard.py"


# A checkpoint, because only its result tells whether there are other frames than before: if the
# digest is the same, what is made from them is not made again.
checkpoint gather_ledger:
    input:
        manifests=of_shards(MANIFEST),
        digests=of_shards(MANIFEST_DIGEST),
        lists=lambda wildcards: list_tables(wildcards.dataset),
    output:
        ledger=report(
            LEDGER,
            category=category("Data"),
            labels={"data set": "{dataset}", "table": "ledger"},
            caption="../workflow/report/ledger.rst",
        ),
        digest=FRAMES_DIGEST,
    log:
        f"{LOGS}/gather_ledger/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/gather_ledger/{{dataset}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        splits=lambda wildcards: dataset_of(wildcards).all_splits,
        max_failure_rate=option(dataset_of, "max_failure_rate"),
        # Snakemake removes the outputs of a failed job; this copy stays for the person who looks.
        refused=f"{RESULTS}/datasets/{{dataset}}/ledger.refused.tsv",
        code=code_version("frames.ledger"),
    script:
        "../workflow/scripts/gather_ledger.py"
