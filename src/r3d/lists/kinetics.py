"""Kinetics-400, -600 and -700: the CSV files of all releases (Kay et al., 2017 and later)."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from r3d.errors import InputError
from r3d.lists.base import (
    SUBSETS,
    ListFormat,
    SplitOptions,
    VideoList,
    name_videos,
    subset_name,
    video_rows,
)
from r3d.lists.reading import Table, need_folder, read_table

_FILE = re.compile(
    r"(?P<release>(?:kinetics(?:[-_]?[467]00(?:[-_]2020)?)?_)?)"
    r"(?P<subset>train|val|validate|test)\.csv"
)
_EXPECTED = (
    "the training and validation lists of one Kinetics release: kinetics-700_train.csv and "
    "kinetics-700_val.csv (or -400, -600), kinetics_train.csv and kinetics_val.csv, or train.csv "
    "and val.csv (or validate.csv)"
)


def _files(folder: Path, split: str, *, n_classes: int | None) -> list[Path]:
    need_folder(folder, _EXPECTED)
    releases: dict[str, dict[str, Path]] = {}
    found = sorted(file for file in folder.iterdir() if _FILE.fullmatch(file.name))
    for file in found:
        match = _FILE.fullmatch(file.name)
        assert match
        subset = subset_name("val" if match["subset"] == "validate" else match["subset"])
        release = releases.setdefault(match["release"], {})
        if subset in release:
            raise InputError(
                f"{folder}: both {release[subset].name} and {file.name}; expected one of them"
            )
        release[subset] = file
    needed = {"training", "validation"}
    complete = [release for release in releases.values() if needed <= set(release)]
    several = complete if len(complete) > 1 else []
    if several:
        complete = [release for release in complete if _size(release["training"]) == n_classes]
    if len(complete) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{folder}: expected {_EXPECTED}; found {names}{_choice(several)}")
    (release,) = complete
    return [release[name] for name in SUBSETS if name in release]


def _size(file: Path) -> int | None:
    """The number of classes of the release that a file is from, if its name tells."""
    found = re.search("[467]00", file.name)
    return int(found[0]) if found else None


def _choice(complete: Iterable[Mapping[str, Path]]) -> str:
    """What chooses one of several releases, if anything does."""
    sizes = Counter(_size(release["training"]) for release in complete)
    names = [str(size) for size, n in sorted(sizes.items(), key=str) if size and n == 1]
    return f"; n_classes chooses one of several: {', '.join(names)}" if names else ""


def _seconds(table: Table, column: str) -> np.ndarray:
    values = table.columns[column]
    seconds = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(float)
    (bad,) = np.nonzero(~((seconds >= 0) & (seconds < 1e6)))
    if bad.size:
        raise InputError(
            f"{table.file}, line {table.lines[bad[0]]}: {column} {values[bad[0]]!r}; "
            "expected seconds from 0 to 999999"
        )
    return seconds.astype(int)


def _read_subset(file: Path, subset: str) -> pd.DataFrame:
    times = ("youtube_id", "time_start", "time_end")
    if subset == "testing":
        table = read_table(file, times, ("label", "split", "is_cc"))
    else:
        table = read_table(file, ("label", *times), ("split", "is_cc"))
    names = table.columns["youtube_id"]
    starts, ends = (_seconds(table, column).tolist() for column in times[1:])
    labels = table.columns.get("label", [""] * len(names))
    # The videos and frames of the test list are in one folder, even where it tells their labels.
    folders = ["test"] * len(names) if subset == "testing" else labels
    paths = [
        f"{folder}/{name}_{start:06d}_{end:06d}"
        for folder, name, start, end in zip(folders, names, starts, ends, strict=True)
    ]
    return video_rows(file, table.lines, labels=labels, subsets=subset, paths=paths)


def _read(folder: Path, split: str, options: SplitOptions, *, n_classes: int | None) -> VideoList:
    files = zip(SUBSETS, _files(folder, split, n_classes=n_classes), strict=False)
    subsets = [_read_subset(file, subset) for subset, file in files]
    # The released weights number the classes by their first appearance in the training list.
    labels = [label for label in subsets[0]["label"].unique().tolist() if label]
    rows = pd.concat(subsets, ignore_index=True)
    folders = rows["label"].mask(rows["subset"] == "testing", "test").tolist()
    paths = rows["path"].tolist()
    ids = [path[len(folder) + 1 :] for folder, path in zip(folders, paths, strict=True)]
    return VideoList(labels, name_videos(rows, ids, paths))


def _testing_has_labels(folder: Path, *, n_classes: int | None) -> bool | None:
    files = _files(folder, "all", n_classes=n_classes)
    if len(files) < len(SUBSETS):
        return None
    # Some releases tell the labels of the test videos, most do not.
    return bool((_read_subset(files[-1], "testing")["label"] != "").any())


def _format(n_classes: int | None) -> ListFormat:
    return ListFormat(
        splits=("all",),
        files=partial(_files, n_classes=n_classes),
        read=partial(_read, n_classes=n_classes),
        class_source="the training list",
        testing_has_labels=partial(_testing_has_labels, n_classes=n_classes),
        of_size=_format,
    )


FORMAT = _format(None)
