from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.models.fetching import fetch

    fetch(snakemake.wildcards.network)
