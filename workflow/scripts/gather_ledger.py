from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.frames.identity import gather_digests
    from r3d.frames.ledger import write_ledger

    write_ledger(
        [Path(manifest) for manifest in snakemake.input.manifests],
        dict(zip(snakemake.params.splits, map(Path, snakemake.input.lists), strict=True)),
        Path(snakemake.output.ledger),
        max_failure_rate=snakemake.params.max_failure_rate,
        refused=Path(snakemake.params.refused),
    )
    gather_digests(list(map(Path, snakemake.input.digests)), Path(snakemake.output.digest))
