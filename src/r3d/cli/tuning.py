"""The fastest settings, by measurement."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FILE, Found, section_of, section_options
from r3d.config.options import InferOptions, RunOptions, TrainingOptions
from r3d.errors import InputError
from r3d.frames.layouts import FileType


@command("tune", example="r3d tune --configfile config/config.yaml --experiment scratch")
@click.option("--configfile", type=FOUND, help="Config of the workflow.")
@click.option("--experiment", help="Experiment of the config to tune; needed if it has several.")
@click.option("--split", help="Split whose videos are read.  [default: the first]")
@click.option(
    "--annotation_path", type=Found("annotations"), help="Without a config: annotation JSON."
)
@click.option("--video_path", type=FOUND, help="Without a config: folder of the frames.")
@click.option("--file_type", type=FILE_TYPE, help="Without a config: kind of the frames.")
@click.option(
    "--output",
    type=NEW_FILE,
    default="tuned.yaml",
    show_default=True,
    help="Config file to write.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="How long to measure, about.",
)
@section_options(TrainingOptions, InferOptions, RunOptions)
def tune_command(
    configfile: Path | None,
    experiment: str | None,
    split: str | None,
    annotation_path: Path | None,
    video_path: Path | None,
    file_type: FileType | None,
    output: Path,
    seconds: float,
    **options: Any,
) -> None:
    """Measure which settings are the fastest on this machine, and write them with the figures.

    Give the config of a workflow and the name of an experiment, or the options of `r3d train`.
    Frames and annotation must be there: what is measured is loading them, training and inference.
    The output is a config file that goes after the other one: snakemake --configfile config.yaml
    tuned.yaml. It holds the settings that clearly gained over the present ones, nothing else.
    """
    from r3d.config.config import Experiment
    from r3d.tuning.task import task_by_hand, task_of_config

    if configfile is not None:
        by_hand = {
            "annotation_path": annotation_path,
            "video_path": video_path,
            "file_type": file_type,
            **options,
        }
        given = [name for name, value in by_hand.items() if value not in (None, False)]
        if given:
            raise InputError(f"--{given[0]} goes without --configfile only, which says it")
        task = task_of_config(configfile, experiment=experiment, split=split, output=output)
    elif annotation_path is None or video_path is None:
        raise InputError(
            "give --configfile and --experiment, or --annotation_path and --video_path"
        )
    else:
        task = task_by_hand(
            section_of(Experiment, {"dataset": "by hand", **options}),
            annotation=annotation_path,
            frames=video_path,
            file_type=file_type or "jpg",
        )

    from r3d.tuning.tune import tune  # torch, which a refusal need not wait for

    tuned = tune(
        task.options,
        annotation=task.annotation,
        frames=task.frames,
        file_type=task.file_type,
        seconds=seconds,
        in_workflow=task.in_workflow,
    )
    tuned.save(output, task.section, task.title)
    click.echo(output.read_text(encoding="utf-8"), nl=False)
