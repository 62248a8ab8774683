"""Official lists -> one table of videos a split; the embedded data set."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.parameters import FOUND, NEW_FILE, NEW_FOLDER, LateChoice


def _formats() -> list[str]:
    from r3d.lists import FORMATS

    return list(FORMATS)


@click.command("motion")
@click.argument("videos", type=NEW_FOLDER)
@click.argument("lists", type=NEW_FOLDER)
@click.option("--videos-per-class", default=80, show_default=True, help="Videos of each class.")
@click.option("--n-frames", default=32, show_default=True, help="Frames of each video.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything random.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Videos rendered at a time.",
)
def motion_command(videos: Path, lists: Path, **options: Any) -> None:
    """Render the embedded motion data set into the folders VIDEOS and LISTS."""
    from r3d.motion import render_motion

    render_motion(videos, lists, **options)


@click.command("lists")
@click.argument("format", type=LateChoice(_formats))
@click.argument("folder", type=FOUND)
@click.argument("table", type=NEW_FILE)
@click.argument("labels", type=NEW_FILE)
@click.option("--split", default="all", show_default=True, help="Official split to read.")
@click.option("--n-classes", type=int, help="Number of classes that the lists must have.")
@click.option("--validation-fraction", default=0.2, show_default=True)
@click.option("--split-seed", default=1, show_default=True)
@click.option("--group-pattern", help="Finds in a path what must not be split.")
def lists_command(
    format: str,
    folder: Path,
    table: Path,
    labels: Path,
    split: str,
    n_classes: int | None,
    **options: Any,
) -> None:
    """Read the official lists in FOLDER and write the TABLE of videos and the LABELS in order."""
    from r3d.lists import SplitOptions, read_list, save_list

    videos = read_list(format, folder, split, SplitOptions(**options), n_classes=n_classes)
    save_list(videos, table, labels)
