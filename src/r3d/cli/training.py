"""Annotation and frames -> a trained network."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FOLDER, Found, section_of, section_options
from r3d.config.options import RunOptions, TrainingOptions
from r3d.frames.layouts import FileType


@command(
    "train",
    example="""\
r3d train --annotation_path motion_01.json --video_path frames --result_path run \\
    --model_depth 10 --resnet_widen_factor 0.25 --sample_size 64 --train_crop center --no_hflip \\
    --batch_size 16 --learning_rate 0.02 --n_epochs 2""",
)
@click.option(
    "--annotation_path", type=Found("annotations"), required=True, help="Annotation JSON."
)
@click.option("--video_path", type=FOUND, required=True, help="Folder of the frames.")
@click.option("--result_path", type=NEW_FOLDER, required=True, help="Folder of the results.")
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
@click.option("--configfile", type=FOUND, help="Config whose experiment --pretrain_path may name.")
@section_options(TrainingOptions, RunOptions)
def train_command(
    annotation_path: Path,
    video_path: Path,
    result_path: Path,
    file_type: FileType,
    configfile: Path | None,
    **options: Any,
) -> None:
    """Train a network, or go on training it; the option names are those of the config."""
    from r3d.modelfiles import find_model
    from r3d.training.train import train

    training: TrainingOptions = section_of(TrainingOptions, options)
    train(
        training,
        annotation=annotation_path,
        frames=video_path,
        file_type=file_type,
        pretrained=training.pretrain_path
        and find_model(training.pretrain_path, configfile=configfile),
        checkpoints=result_path / "checkpoints",
        model=result_path / "model.pth",
        train_log=result_path / "train.log",
        val_log=result_path / "val.log",
        speed_log=result_path / "speed.log",
        run=section_of(RunOptions, options),
    )
