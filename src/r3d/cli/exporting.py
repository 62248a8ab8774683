"""A trained model -> a file for other programs."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FOUND, section_options
from r3d.config.options import InferenceOptions
from r3d.paths import expanded

_OF_MODEL = (
    *("sample_size", "sample_duration", "sample_t_stride", "class_order"),
    *("mean_dataset", "no_mean_norm", "no_std_norm", "value_scale"),
    *("conv1_t_stride", "no_max_pool"),
)


class _Output(click.ParamType):
    """What to export to, refused at once if it could not be written in the end."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from r3d.exporting.outputs import need_output

        output = expanded(value)
        need_output(output)
        return output


@command("export", example="r3d export run/model.pth --output exported")
@click.argument("model", type=expanded, metavar="MODEL")
@click.option(
    "--output",
    type=_Output(),
    required=True,
    metavar="NAME.pt2|NAME.onnx|FOLDER",
    help="What to write: for torch.export.load, ONNX, or model.safetensors and config.json.",
)
@click.option(
    "--video",
    "videos",
    type=FOUND,
    multiple=True,
    help="Compare on clips of this video, and of more if given again; else on videos of the data "
    "set if MODEL is of an experiment, or on rendered clips.",
)
@click.option(
    "--pixels",
    type=click.Choice(["uint8", "float32"]),
    default="uint8",
    show_default=True,
    help="Type of the pixels that a .pt2 or .onnx takes.",
)
@click.option("--configfile", type=FOUND, help="Config whose experiment MODEL may name.")
@section_options(InferenceOptions, only=_OF_MODEL, has_defaults=False)
def export_command(
    model: str,
    output: str,
    videos: tuple[Path, ...],
    pixels: Any,
    configfile: Path | None,
    **options: Any,
) -> None:
    """Write a MODEL for other programs.

    A .pt2 or .onnx takes pixels (b, t, h, w, c) from 0 to 255 and normalises them itself; a folder
    follows timm's convention. What is written is compared with the checkpoint before it is handed
    over. Options say what a file of the reference does not.
    """
    from r3d.config.modelnames import folders_of_videos
    from r3d.exporting.checking import decodable
    from r3d.exporting.export import export
    from r3d.exporting.outputs import output_format
    from r3d.inference.sources import videos_below
    from r3d.inference.trained import load_model
    from r3d.modelfiles import find_model
    from r3d.models.checkpoint import read_checkpoint

    kind = output_format(output)
    given = {name: value for name, value in options.items() if value not in (None, False)}
    trained = load_model(model, configfile=configfile, **given)
    checkpoint = (
        read_checkpoint(find_model(model, configfile=configfile)) if kind == "folder" else None
    )
    if not videos:
        folders = folders_of_videos(model, configfile=configfile)
        videos = decodable(trained, (file for folder in folders for file in videos_below(folder)))
    click.echo(export(trained, output, videos=videos, pixels=pixels, checkpoint=checkpoint))
