"""Official lists -> one table of videos a split; the embedded data set."""

import logging
from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FOUND, NEW_FILE, NEW_FOLDER
from r3d.errors import InputError

_log = logging.getLogger(__name__)

# The keys of `r3d.lists.FORMATS`, which take pandas to import.
_FORMATS = ("activitynet", "csv", "folders", "hmdb51", "kinetics", "mit", "ucf101")


@command("motion", example="r3d motion motion/videos motion/lists --videos_per_class 4")
@click.argument("videos", type=NEW_FOLDER)
@click.argument("lists", type=NEW_FOLDER)
@click.option("--videos_per_class", default=80, show_default=True, help="Videos of each class.")
@click.option("--n_frames", default=32, show_default=True, help="Frames of each video.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything random.")
@click.option(
    "--n_classes",
    type=click.Choice([8, 16]),
    default=8,
    show_default=True,
    help="Classes: turns, shifts and zooms; or shifts along two axes and spirals, too.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Noise of each pixel: its standard deviation, as a share of the whole range.",
)
@click.option(
    "--clutter",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Pieces of texture in front, with motions of their own.",
)
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


@command("lists", example="r3d lists ucf101 motion/lists list.tsv labels.txt --split 01")
@click.argument("format", type=click.Choice(_FORMATS), metavar="FORMAT")
@click.argument("folder", type=FOUND)
@click.argument("table", type=NEW_FILE)
@click.argument("labels", type=NEW_FILE)
@click.option(
    "--split",
    "splits",
    multiple=True,
    default=("all",),
    help="Official split to read; may be given several times. Of several splits each has a table "
    "of its own, list_01.tsv for TABLE list.tsv.  [default: all that are there]",
)
@click.option("--n_classes", type=int, help="Number of classes that the lists must have.")
@click.option(
    "--videos", type=FOUND, help="Folder of the videos, if a csv list has absolute paths below it."
)
@click.option(
    "--validation_fraction",
    default=0.2,
    show_default=True,
    help="Share of the videos for validation where the lists do not split them.",
)
@click.option("--split_seed", default=1, show_default=True, help="Seed of that split.")
@click.option(
    "--group_pattern", help="Regular expression that finds in a path what must not be split."
)
def lists_command(
    format: str,
    folder: Path,
    table: Path,
    labels: Path,
    splits: tuple[str, ...],
    n_classes: int | None,
    videos: Path | None,
    **options: Any,
) -> None:
    """Read the lists in FOLDER and write the TABLE of videos and the LABELS in order.

    FORMAT is activitynet, csv, folders, hmdb51, kinetics, mit or ucf101.
    """
    from r3d.lists import SplitOptions, read_list, save_list

    chosen = _splits(format, folder, splits)
    lists = {
        split: read_list(
            format, folder, split, SplitOptions(**options), n_classes=n_classes, videos=videos
        )
        for split in chosen
    }
    if len({tuple(video_list.labels) for video_list in lists.values()}) > 1:
        raise InputError(
            f"{folder}: the splits {', '.join(lists)} differ in their classes; read each by itself "
            "(--split), with a LABELS of its own"
        )
    for split, video_list in lists.items():
        place = table.with_stem(f"{table.stem}_{split}") if len(lists) > 1 else table
        save_list(video_list, place, labels)


def _splits(format: str, folder: Path, asked: tuple[str, ...]) -> list[str]:
    """The splits to read, each once: without a choice those of which a file is there."""
    from r3d.lists import list_format, splits_there

    official = list_format(format).splits
    if "all" not in asked or len(official) == 1:
        return list(dict.fromkeys(asked))
    chosen = splits_there(format, folder)
    faults: dict[str, InputError] = {}
    for split in chosen:
        try:
            list_format(format).files(folder, split)
        except InputError as error:
            faults[split] = error
    if faults:
        first = next(iter(faults.values()))
        whole = " ".join(f"--split {split}" for split in chosen if split not in faults)
        raise InputError(f"{first}; to read those that are whole: {whole}" if whole else str(first))
    if absent := [split for split in official if split not in chosen]:
        _log.info("%s: no file of split %s, which is left out", folder, " and ".join(absent))
    return chosen
