from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.config.loading import load_config
    from r3d.report.report import write_report
    from r3d.report.runs import RunFiles

    given, params = snakemake.input, snakemake.params
    runs = [
        RunFiles(
            run["experiment"],
            run["split"],
            run["subset"],
            seed=run["seed"],
            model=run["model"],
            **{kind: Path(file) for kind, file in run["files"].items()},
        )
        for run in params.runs
    ]
    write_report(
        runs,
        Path(snakemake.output[0]),
        ledgers=dict(zip(params.datasets, map(Path, given.ledgers), strict=True)),
        benchmarks=Path(params.benchmarks),
        logs=Path(params.logs),
        files={
            "list": list(map(Path, given.lists)),
            "annotation": list(map(Path, given.annotations)),
        },
        code=params.step_code,
        # From the config and not the params: how jobs run must not cause it to be made again.
        config=load_config(snakemake.config).model_dump(exclude_defaults=True),
        title=f"Report of {Path(params.benchmarks).parent}",
    )
