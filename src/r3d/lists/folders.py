"""A folder of class folders: STAIR-Actions (Yoshikawa et al., 2018) and one's own videos."""

import logging
from pathlib import Path

from r3d.errors import InputError, shown
from r3d.lists.base import (
    SUBSETS,
    VIDEO_EXTENSIONS,
    ListFormat,
    SplitOptions,
    VideoList,
    distinct_keys,
    name_videos,
    stem,
    subset_name,
    unique_ids,
    video_rows,
)
from r3d.lists.reading import need_folder
from r3d.lists.splitting import split_subsets

logger = logging.getLogger(__name__)

_EXPECTED = (
    "a folder of videos for each class, named like the class (or train, val and test "
    "with such folders)"
)


def _subfolders(folder: Path) -> list[Path]:
    folders = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in folders if entry.is_dir())


def _by_subset(folder: Path) -> dict[str, list[Path]]:
    """The class folders of each subset; under "" where there are no folders of subsets.

    Only if all folders are named like subsets are they taken for that: "train" can be a class.
    """
    need_folder(folder, _EXPECTED)
    folders = _subfolders(folder)
    try:
        names = [subset_name(entry.name) for entry in folders]
    except InputError:
        return {"": folders}
    if len(set(names)) < len(names):
        raise InputError(
            f"{folder}: two folders of one subset: {', '.join(entry.name for entry in folders)}; "
            "expected one folder each for train, val and test"
        )
    found = dict(zip(names, folders, strict=True))
    return {name: _subfolders(found[name]) for name in SUBSETS if name in found}


def _files(folder: Path, split: str) -> list[Path]:
    """The class folders: the time of a folder changes as videos come and go."""
    classes = [entry for entries in _by_subset(folder).values() for entry in entries]
    if not classes:
        raise InputError(f"{folder}: no class folders; expected {_EXPECTED}")
    return classes


def _labels(folder: Path) -> list[str]:
    # A class is what can be learned: the folders of the first subset, training where it exists.
    by_subset = _by_subset(folder)
    return [entry.name for entry in next(iter(by_subset.values()), [])]


def _videos(class_folder: Path) -> tuple[list[str], list[Path]]:
    """The names of the videos, and the paths of whatever else is there."""
    entries = sorted(entry for entry in class_folder.iterdir() if entry.name[0] != ".")
    videos = [entry.name for entry in entries if entry.suffix.lower() in VIDEO_EXTENSIONS]
    return videos, [entry for entry in entries if entry.suffix.lower() not in VIDEO_EXTENSIONS]


def _beside_folders(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    return [entry for entry in entries if not entry.is_dir()]


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    labels, subsets, paths = [], [], []
    class_folders = _files(folder, split)
    above_classes = {folder, *(class_folder.parent for class_folder in class_folders)}
    ignored = [entry for above in sorted(above_classes) for entry in _beside_folders(above)]
    for class_folder in class_folders:
        videos, others = _videos(class_folder)
        ignored += others
        if not videos:
            raise InputError(
                f"{shown(class_folder)}: no videos; expected {_EXPECTED}; "
                f"a video ends in one of {' '.join(VIDEO_EXTENSIONS)}"
            )
        relative = class_folder.relative_to(folder).as_posix()
        above = relative.rpartition("/")[0]
        paths += [f"{relative}/{name}" for name in videos]
        labels += [class_folder.name] * len(videos)
        subsets += [subset_name(above) if above else ""] * len(videos)
    if ignored:
        logger.warning(
            "%d entries ignored that are no videos (by ending) in a class folder, the first: %s",
            len(ignored),
            shown(ignored[0]),
        )
    if not any(subsets):
        subsets = split_subsets(labels, paths, options, str(folder))
    rows = video_rows(folder, 0, labels=labels, subsets=subsets, paths=paths)
    ids = unique_ids(paths)
    keys = distinct_keys(labels, [stem(path) for path in paths], ids)
    return VideoList(_labels(folder), name_videos(rows, ids, keys))


def _testing_has_labels(folder: Path) -> bool | None:
    return True if _by_subset(folder).get("testing") else None


FORMAT = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source="the class folders (of train, where there are subset folders)",
    labels=_labels,
    testing_has_labels=_testing_has_labels,
    needed_subsets=("training",),
)
