from r3d.models.fetching import fetch
from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    fetch(snakemake.wildcards.network)
