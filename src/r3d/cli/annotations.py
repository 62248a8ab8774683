"""Lists and ledger -> annotation JSON."""

from pathlib import Path

import click

from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FILE
from r3d.errors import InputError
from r3d.frames.layouts import FileType


@click.command("annotations")
@click.argument("table", type=FOUND)
@click.argument("labels", type=FOUND)
@click.argument("ledger", type=FOUND)
@click.argument("output", type=NEW_FILE)
@click.option("--file-type", type=FILE_TYPE, default="jpg", show_default=True)
@click.option(
    "--frames",
    type=FOUND,
    help="Folder of the frames, needed where file names repeat over class folders.",
)
def annotations_command(
    table: Path, labels: Path, ledger: Path, output: Path, file_type: FileType, frames: Path | None
) -> None:
    """Write the annotation JSON of a split from its TABLE, LABELS and the data set's LEDGER."""
    from r3d.annotations.writing import write_annotation

    write_annotation(table, labels, ledger, output, file_type=file_type, frames=frames)


@click.command("merge")
@click.argument("output", type=NEW_FILE)
@click.option(
    "--part",
    "parts",
    type=(str, FOUND, FOUND),
    multiple=True,
    required=True,
    help="Name of a data set, its annotation JSON and the folder of its frames; in order.",
)
@click.option("--file-type", type=FILE_TYPE, default="jpg", show_default=True)
def merge_command(
    output: Path, parts: tuple[tuple[str, Path, Path], ...], file_type: FileType
) -> None:
    """Write the annotation JSONs of several data sets as one, OUTPUT, with the classes of all."""
    from r3d.annotations.merging import merge_annotations

    by_name = {name: (annotation, frames) for name, annotation, frames in parts}
    if len(by_name) < len(parts):
        raise InputError("--part: each data set needs a name of its own")
    merge_annotations(by_name, output, file_type=file_type)


@click.command("activitynet")
@click.argument("official", type=FOUND)
@click.argument("ledger", type=FOUND)
@click.argument("output", type=NEW_FILE)
@click.option("--file-type", type=FILE_TYPE, default="jpg", show_default=True)
def activitynet_command(official: Path, ledger: Path, output: Path, file_type: FileType) -> None:
    """Add frame rates and ranges from the LEDGER to the OFFICIAL JSON of ActivityNet."""
    from r3d.annotations.writing import write_activitynet

    write_activitynet(official, ledger, output, file_type=file_type)
