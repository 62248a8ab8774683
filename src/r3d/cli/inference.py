"""A trained network and frames -> top-k results."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import (
    FILE_TYPE,
    FOUND,
    NEW_FILE,
    SUBSET,
    Found,
    section_of,
    section_options,
)
from r3d.config.options import InferenceOptions, RunOptions
from r3d.frames.layouts import FileType
from r3d.paths import expanded


@command(
    "infer",
    example="""\
r3d infer --annotation_path motion_01.json --video_path frames --model_path run/model.pth \\
    --result_path run/val.json""",
)
@click.option(
    "--annotation_path", type=Found("annotations"), required=True, help="Annotation JSON."
)
@click.option("--video_path", type=FOUND, required=True, help="Folder of the frames.")
@click.option(
    "--model_path",
    type=expanded,
    metavar="MODEL",
    required=True,
    help="The trained model: a file, the name of one in models/ (r3d released), an experiment of a "
    "config (scratch/01), or torchvision:r3d_18.",
)
@click.option("--configfile", type=FOUND, help="Config whose experiment --model_path may name.")
@click.option("--result_path", type=NEW_FILE, required=True, help="Result JSON to write.")
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
@click.option(
    "--inference_subset",
    type=SUBSET,
    default="val",
    show_default=True,
    help="Which videos of the annotation.",
)
@section_options(InferenceOptions, RunOptions)
def infer_command(
    annotation_path: Path,
    video_path: Path,
    model_path: str,
    configfile: Path | None,
    result_path: Path,
    file_type: FileType,
    inference_subset: str,
    **options: Any,
) -> None:
    """Apply a trained network to the videos of a subset: the top-k classes of each.

    Network, size, length and stride of the clips and normalisation are the model's own, whatever
    the defaults below say: give them only where the file does not state them, or to differ.
    """
    from r3d.inference.infer import infer
    from r3d.modelfiles import find_model

    infer(
        section_of(InferenceOptions, options),
        annotation=annotation_path,
        subset=inference_subset,
        frames=video_path,
        file_type=file_type,
        model=find_model(model_path, configfile=configfile),
        output=result_path,
        run=section_of(RunOptions, options),
    )
