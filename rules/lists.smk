"""Official lists -> one table a split -> shards of videos."""


rule lists:
    input:
        to_lists(CONFIG.datasets),
    localrule: True


rule render_motion:
    output:
        lists=[f"{{folder}}/{name}" for name in MOTION_LISTS],
    log:
        f"{LOGS}/render_motion/{{folder}}.log",
    benchmark:
        f"{BENCHMARKS}/render_motion/{{folder}}.tsv"
    wildcard_constraints:
        folder=one_of(folder_of_lists(d) for d in CONFIG.datasets.values() if d.render),
    conda:
        "../environment.yml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        videos=lambda wildcards: rendered_dataset(wildcards.folder).videos,
        options=lambda wildcards: rendered_dataset(wildcards.folder).render.model_dump(),
        code=code_version("motion"),
    script:
        "../workflow/scripts/render_motion.py"


rule list_split:
    input:
        lambda wildcards: list_files(dataset_of(wildcards), wildcards.split),
    output:
        table=LISTS,
        labels=LABELS,
    log:
        f"{LOGS}/list_split/{{dataset}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/list_split/{{dataset}}_{{split}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        folder=option(dataset_of, "lists"),
        format=option(dataset_of, "format"),
        n_classes=option(dataset_of, "n_classes"),
        videos=videos_of_paths,
        trained=is_trained_on,
        split_options=lambda wildcards: dataset_of(wildcards).split_options,
        code=code_version("lists"),
    script:
        "../workflow/scripts/list_split.py"


# A checkpoint, because only its result tells which shards a changed list has changed: the others
# keep their content and are not extracted again.
checkpoint shard_videos:
    input:
        lambda wildcards: list_tables(wildcards.dataset),
    output:
        directory(SHARDS),
    log:
        f"{LOGS}/shard_videos/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/shard_videos/{{dataset}}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        n_shards=option(dataset_of, "shards"),
        code=code_version("frames.shards"),
    script:
        "../workflow/scripts/shard_videos.py"
