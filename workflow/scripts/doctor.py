from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.config.loading import load_config
    from r3d.doctor.examination import examine

    report = examine(load_config(snakemake.config), threads=snakemake.threads)
    report.save(snakemake.params.report)
    print(report.text(), end="", flush=True)
    report.raise_errors()
