"""From the lists of a data set to one checked table of videos: see `read_list`.

A data set format is one module here and one entry of `FORMATS`.
"""

from dataclasses import replace
from pathlib import Path

from r3d.errors import InputError
from r3d.lists import activitynet, folders, hmdb51, kinetics, mit, own_csv, ucf101
from r3d.lists.base import (
    COLUMNS,
    SUBSETS,
    VIDEO_EXTENSIONS,
    ListFormat,
    SplitOptions,
    VideoList,
    subset_name,
)
from r3d.lists.checking import check_list
from r3d.lists.folds import Fold, all_folds, fold_of, fold_subsets
from r3d.lists.tables import load_labels, load_list, save_list

__all__ = [
    "COLUMNS",
    "FORMATS",
    "SUBSETS",
    "VIDEO_EXTENSIONS",
    "Fold",
    "ListFormat",
    "SplitOptions",
    "VideoList",
    "all_folds",
    "fold_of",
    "list_format",
    "load_labels",
    "load_list",
    "read_list",
    "save_list",
    "splits_there",
    "subset_name",
]

FORMATS: dict[str, ListFormat] = {
    "activitynet": activitynet.FORMAT,
    "csv": own_csv.FORMAT,
    "folders": folders.FORMAT,
    "hmdb51": hmdb51.FORMAT,
    "kinetics": kinetics.FORMAT,
    "mit": mit.FORMAT,
    "ucf101": ucf101.FORMAT,
}


def list_format(
    name: str, n_classes: int | None = None, *, videos: Path | None = None
) -> ListFormat:
    """The format of a name; of several releases in a folder that of so many classes.

    Args:
        videos: the folder of the videos, below which a list may state paths from the root on.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in FORMATS:
        raise InputError(f"unknown list format {name!r}: accepted are {', '.join(FORMATS)}")
    found = FORMATS[name]
    if found.of_videos and videos is not None:
        found = found.of_videos(videos)
    return found.of_size(n_classes) if found.of_size and n_classes else found


def splits_there(name: str, folder: Path) -> list[str]:
    """The official splits of a format of which a folder has a file; all of them if it has none.

    One of which a file is missing is among them: to leave it out would hide that.
    """
    found = list_format(name)
    there = [split for split in found.splits if found.is_there(folder, split)]
    return there or list(found.splits)


_DEFAULT_OPTIONS = SplitOptions()


def read_list(
    format: str,
    folder: Path,
    split: str,
    options: SplitOptions = _DEFAULT_OPTIONS,
    *,
    n_classes: int | None = None,
    videos: Path | None = None,
    trained: bool = False,
    fold: Fold | None = None,
) -> VideoList:
    """Read and check one split of a data set, or of cross-validation over its videos one fold.

    `folder` holds the list files (formats "csv" and "activitynet" also take the file itself; for
    "folders" it is the videos folder). Everything that is wrong with a list is an `InputError` that
    names file, line and value: an unknown class, an id that two videos share, a label, id or path
    that is no proper name, an official list without a training or a validation video, a wrong
    encoding or header. Rows that repeat another in everything are left out with a warning.
    `n_classes` is the number of classes to be expected, and `videos` the folder of the videos: a
    CSV list may state absolute paths below it. With `trained`, there has to be a training video.
    With a `fold`, the training and validation videos of the split are divided anew
    (`r3d.lists.folds.fold_subsets`).
    """
    chosen = list_format(format, n_classes, videos=videos)
    if split not in chosen.splits:
        raise InputError(
            f"unknown split {split!r} of {format}: accepted are {', '.join(chosen.splits)}"
        )
    # What is divided into folds need not be divided before.
    asked = options if fold is None else replace(options, validation_fraction=0)
    checked = check_list(chosen.read(folder, split, asked), folder, chosen)
    if n_classes not in (None, len(checked.labels)):
        raise InputError(
            f"n_classes: {n_classes} does not match the {len(checked.labels)} classes of "
            f"{chosen.class_source} ({folder}); give {len(checked.labels)} or leave it out"
        )
    if fold is not None:
        checked.videos["subset"] = fold_subsets(checked.videos, fold, options, str(folder))
    if trained and not (checked.videos["subset"] == "training").any():
        raise InputError(
            f"{folder}: no video of subset training; expected one or more, or experiments that "
            "only apply a model (no_train: true with pretrain_path or pretrain)"
        )
    return checked
