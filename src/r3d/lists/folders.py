"""A folder of class folders: STAIR-Actions (Yoshikawa et al., 2018) and one's own videos.

Videos of unknown class, to which a model is applied, lie in the folder `test` itself, or in one
without any class folders.
"""

import logging
import os
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
    "with such folders; videos without a label lie in test itself)"
)


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:  # which need not look at each of many videos
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
    return [folder / name for name in sorted(names)]


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


def _unlabelled(folder: Path) -> Path | None:
    """The folder whose own videos are of unknown class: that of testing, or one without others."""
    folders = _subfolders(folder)
    if not folders:
        return folder
    if set(_by_subset(folder)) == {""}:
        return None
    return next((entry for entry in folders if subset_name(entry.name) == "testing"), None)


def _files(folder: Path, split: str) -> list[Path]:
    """The folders with videos: the time of a folder changes as videos come and go."""
    folders = [entry for entries in _by_subset(folder).values() for entry in entries]
    unlabelled = _unlabelled(folder)
    if unlabelled is not None:
        folders.append(unlabelled)
    if not folders or (unlabelled == folder and not _has_videos(folder)):
        raise InputError(f"{folder}: no class folders, nor videos; expected {_EXPECTED}")
    return folders


def _labels(folder: Path) -> list[str]:
    # A class is what can be learned: the folders of the first subset, training where it exists.
    by_subset = _by_subset(folder)
    return [entry.name for entry in next(iter(by_subset.values()), [])]


def _has_videos(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if entry.name[0] != ".")
        return any(name.lower().endswith(VIDEO_EXTENSIONS) for name in names)


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
    folders, unlabelled = _files(folder, split), _unlabelled(folder)
    above = {folder, *(entry.parent for entry in folders if entry != folder)} - {unlabelled}
    ignored = [entry for parent in sorted(above) for entry in _beside_folders(parent)]
    for class_folder in folders:
        videos, others = _videos(class_folder)
        if class_folder == unlabelled:
            relative = "" if class_folder == folder else f"{class_folder.name}/"
            paths += [f"{relative}{name}" for name in videos]
            labels += [""] * len(videos)
            subsets += ["testing"] * len(videos)
            ignored += [entry for entry in others if not entry.is_dir()]
            continue
        ignored += others
        if not videos:
            raise InputError(
                f"{shown(class_folder)}: no videos; expected {_EXPECTED}; "
                f"a video ends in one of {' '.join(VIDEO_EXTENSIONS)}"
            )
        relative = class_folder.relative_to(folder).as_posix()
        subset = relative.rpartition("/")[0]
        paths += [f"{relative}/{name}" for name in videos]
        labels += [class_folder.name] * len(videos)
        subsets += [subset_name(subset) if subset else ""] * len(videos)
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
    if _by_subset(folder).get("testing"):
        return True
    unlabelled = _unlabelled(folder)
    return None if unlabelled is None or not _has_videos(unlabelled) else False


FORMAT = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source="the class folders (of train, where there are subset folders)",
    labels=_labels,
    testing_has_labels=_testing_has_labels,
    needed_subsets=(),
)
