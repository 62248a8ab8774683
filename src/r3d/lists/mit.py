"""Moments in Time: a categories file and CSV files without header (Monfort et al., 2019)."""

from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.lists.base import (
    SUBSETS,
    ListFormat,
    SplitOptions,
    VideoList,
    distinct_keys,
    name_videos,
    stem,
    unique_ids,
    video_rows,
)
from r3d.lists.reading import need_files, read_lines, read_rows

_CATEGORIES = "moments_categories.txt"
_NEEDED = (_CATEGORIES, "trainingSet.csv", "validationSet.csv")
_TEST = "testingSet.csv"


def _files(folder: Path, split: str) -> list[Path]:
    files = need_files(folder, _NEEDED)
    return [*files, folder / _TEST] if (folder / _TEST).is_file() else files


def _labels(folder: Path) -> list[str]:
    (file,) = need_files(folder, [_CATEGORIES])
    labels = []
    for line, text in read_lines(file):
        label, comma, index = text.rpartition(",")
        if not comma or not index.strip().isdecimal():
            raise InputError(f"{file}, line {line}: {text!r}; expected '<label>,<index>'")
        labels.append(label)
    return labels


def _read_subset(file: Path, subset: str) -> pd.DataFrame:
    expected = "<file>" if subset == "testing" else "<label>/<file>,<label>"
    lines, rows = read_rows(file)
    for line, row in zip(lines, rows, strict=True):
        if row[0].count("/") != expected.count("/") or len(row) <= expected.count(","):
            raise InputError(f"{file}, line {line}: {','.join(row)!r}; expected '{expected}'")
    if subset == "testing":
        paths = [f"test/{row[0]}" for row in rows]
        return video_rows(file, lines, labels="", subsets=subset, paths=paths)
    labels, paths = [row[1] for row in rows], [row[0] for row in rows]
    return video_rows(file, lines, labels=labels, subsets=subset, paths=paths)


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    files = zip(SUBSETS, _files(folder, split)[1:], strict=False)
    rows = pd.concat([_read_subset(file, subset) for subset, file in files], ignore_index=True)
    # File names repeat over class folders, in which the frames lie.
    ids = unique_ids(rows["path"])
    keys = distinct_keys(rows["label"].tolist(), [stem(path) for path in rows["path"]], ids)
    return VideoList(_labels(folder), name_videos(rows, ids, keys))


def _testing_has_labels(folder: Path) -> bool | None:
    return False if (folder / _TEST).is_file() else None


FORMAT = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source=_CATEGORIES,
    labels=_labels,
    testing_has_labels=_testing_has_labels,
)
