"""A trained network and frames -> top-k results."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FILE, SUBSET, section_of, section_options
from r3d.config.options import InferenceOptions, RunOptions
from r3d.frames.layouts import FileType


@click.command("infer")
@click.option("--annotation_path", type=FOUND, required=True, help="Annotation JSON.")
@click.option("--video_path", type=FOUND, required=True, help="Folder of the frames.")
@click.option(
    "--model_path",
    required=True,
    help="The trained model: a file, the name of one in models/ (r3d released), an experiment of a "
    "config (scratch/01), or torchvision:r3d_18.",
)
@click.option("--result_path", type=NEW_FILE, required=True, help="Result JSON to write.")
@click.option("--file_type", type=FILE_TYPE, default="jpg", show_default=True)
@click.option("--inference_subset", type=SUBSET, default="val", show_default=True)
@section_options(InferenceOptions, RunOptions)
def infer_command(
    annotation_path: Path,
    video_path: Path,
    model_path: str,
    result_path: Path,
    file_type: FileType,
    inference_subset: str,
    **options: Any,
) -> None:
    """Apply a trained network to the videos of a subset: the top-k classes of each."""
    from r3d.inference.infer import infer

    infer(
        section_of(InferenceOptions, options),
        annotation=annotation_path,
        subset=inference_subset,
        frames=video_path,
        file_type=file_type,
        model=model_path,
        output=result_path,
        run=section_of(RunOptions, options),
    )
