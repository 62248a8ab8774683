"""Lists and ledger -> annotation JSON."""

from pathlib import Path

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FILE, Found
from r3d.errors import InputError
from r3d.frames.layouts import FileType


@command("annotations", example="r3d annotations list.tsv labels.txt ledger.tsv motion_01.json")
@click.argument("table", type=Found("lists"))
@click.argument("labels", type=Found("lists"))
@click.argument("ledger", type=Found("ledger"))
@click.argument("output", type=NEW_FILE)
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
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


@command(
    "merge",
    example="""\
r3d merge km.json --part kinetics kinetics.json kinetics_jpg --part mit mit.json mit_jpg""",
)
@click.argument("output", type=NEW_FILE)
@click.option(
    "--part",
    "parts",
    type=(str, Found("annotations"), FOUND),
    metavar="NAME ANNOTATION FRAMES",
    multiple=True,
    required=True,
    help="Name of a data set, its annotation JSON and the folder of its frames; in order.",
)
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
def merge_command(
    output: Path, parts: tuple[tuple[str, Path, Path], ...], file_type: FileType
) -> None:
    """Write the annotation JSONs of several data sets as one, OUTPUT, with the classes of all."""
    from r3d.annotations.merging import merge_annotations

    by_name = {name: (annotation, frames) for name, annotation, frames in parts}
    if len(by_name) < len(parts):
        raise InputError("--part: each data set needs a name of its own")
    merge_annotations(by_name, output, file_type=file_type)


@command(
    "activitynet",
    example="r3d activitynet activity_net.v1-3.min.json activitynet.tsv activitynet.json",
)
@click.argument("official", type=FOUND)
@click.argument("ledger", type=Found("ledger"))
@click.argument("output", type=NEW_FILE)
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
def activitynet_command(official: Path, ledger: Path, output: Path, file_type: FileType) -> None:
    """Add frame rates and ranges from the LEDGER to the OFFICIAL JSON of ActivityNet."""
    from r3d.annotations.writing import write_activitynet

    write_activitynet(official, ledger, output, file_type=file_type)
