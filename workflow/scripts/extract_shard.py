from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.frames.extract import FrameOptions, extract_shard
    from r3d.frames.identity import write_shard_digest

    frames, manifest = Path(snakemake.params.frames), Path(snakemake.output.manifest)
    options = FrameOptions(**snakemake.params.options)
    extract_shard(
        Path(snakemake.input[0]),
        Path(snakemake.params.videos),
        frames,
        manifest,
        options,
        threads=snakemake.threads,
    )
    write_shard_digest(manifest, frames, Path(snakemake.output.digest), file_type=options.file_type)
