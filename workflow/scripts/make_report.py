from pathlib import Path

from r3d.workflow.jobs import job

with job(snakemake.log[0]):
    from r3d.config.loading import load_config
    from r3d.report.report import write_report
    from r3d.report.runs import RunFiles

    given, params = snakemake.input, snakemake.params
    runs = []
    for place, (experiment, split, subset, trained) in enumerate(params.runs):
        folder = Path(given.accuracies[place]).parent
        runs.append(
            RunFiles(
                experiment,
                split,
                subset,
                accuracy=Path(given.accuracies[place]),
                videos=Path(given.videos[place]),
                result=Path(given.results[place]),
                confusion=Path(given.confusions[place]),
                train_log=folder / "train.log" if trained else None,
                val_log=folder / "val.log" if trained else None,
                speed_log=folder / "speed.log" if trained else None,
                gallery=Path(given.galleries[place]),
            )
        )
    write_report(
        runs,
        Path(snakemake.output[0]),
        ledgers=dict(zip(params.datasets, map(Path, given.ledgers), strict=True)),
        benchmarks=Path(params.benchmarks),
        files={
            "list": list(map(Path, given.lists)),
            "annotation": list(map(Path, given.annotations)),
        },
        code=params.step_code,
        # From the config and not the params: how jobs run must not cause it to be made again.
        config=load_config(snakemake.config).model_dump(exclude_defaults=True),
        title=f"Report of {Path(params.benchmarks).parent}",
    )
