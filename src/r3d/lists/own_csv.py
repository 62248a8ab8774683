"""One's own list: a CSV file with path, label and, as far as wanted, subset, start and end.

Commas, semicolons or tabs separate its columns. Where commas do not, they may be decimal ones.
"""

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from r3d.errors import InputError
from r3d.lists.base import (
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
from r3d.lists.reading import Table, only_file, read_table
from r3d.lists.splitting import split_subsets

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


def _files(folder: Path, split: str) -> list[Path]:
    return [only_file(folder, ".csv")]


def _subsets(table: Table) -> list[str]:
    names = [text.strip().lower() for text in table.columns["subset"]]
    full = {}
    for name, line in zip(names, table.lines, strict=True):
        if name not in full:
            try:
                full[name] = subset_name(name)
            except InputError as error:
                raise InputError(f"{table.file}, line {line}: {error}") from None
    return [full[name] for name in names]


def _segments(table: Table) -> list[tuple[str, str, str]]:
    """Start and end in seconds as plain decimals, and both in milliseconds as an end of the id.

    Milliseconds keep dots out of ids, which are file names to which an extension is added. Without
    a start it is 0, without an end that of the file.
    """
    blank = [""] * len(table.lines)
    starts, ends = (table.columns.get(name, blank) for name in ("start", "end"))
    return [
        _segment(_number(start, table), _number(end, table), f"{table.file}, line {line}")
        for start, end, line in zip(starts, ends, table.lines, strict=True)
    ]


def _number(text: str, table: Table) -> str:
    """A number with a point, whatever a spreadsheet of the country writes."""
    text = text.strip()
    if table.delimiter != "," and _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    return text


def _segment(start: str, end: str, where: str) -> tuple[str, str, str]:
    if not start and not end:
        return "", "", ""
    try:
        begin_ms = round(float(start or 0) * 1000)
        end_ms = round(float(end) * 1000) if end else None
    except (ValueError, OverflowError):
        begin_ms, end_ms = -1, None
    if begin_ms < 0 or (end_ms is not None and begin_ms >= end_ms):
        raise InputError(
            f"{where}: start {start!r} and end {end!r}; "
            "expected seconds with 0 <= start < end, such as 2.5, or empty for those of the file"
        )
    if end_ms is None:
        return _seconds(begin_ms), "", f"_{begin_ms:07d}_end"
    return _seconds(begin_ms), _seconds(end_ms), f"_{begin_ms:07d}_{end_ms:07d}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


class _Relative:
    """Takes paths that begin at the root for those below the folder of the videos."""

    def __init__(self, videos: Path | None) -> None:
        self._videos = videos
        # The folder as it is called, and as it is called without links.
        names = [] if videos is None else [os.path.abspath(videos), os.path.realpath(videos)]  # noqa: PTH100
        self._starts = tuple(f"{name.rstrip('/')}/" for name in names)

    def __call__(self, path: str, where: str) -> str:
        if not path.startswith("/"):
            return path.removeprefix("./")  # as `find .` gives them
        for start in self._starts:
            if path.startswith(start):
                return path.removeprefix(start)
        if self._videos is None:
            raise InputError(
                f"{where}: path {path!r} begins at the root; give the folder of the videos, which "
                "it has to lie below (--videos), or write it relative to that"
            )
        raise InputError(
            f"{where}: path {path!r} does not lie below the folder of the videos, "
            f"{self._starts[0]}; no path may lead out of it: move or link the video there, or set "
            "videos to a folder that is above all videos"
        )


def _read(folder: Path, split: str, options: SplitOptions, videos: Path | None = None) -> VideoList:
    (file,) = _files(folder, split)
    table = read_table(file, ("path", "label"), ("subset", "start", "end"))
    paths, labels = ([text.strip() for text in table.columns[name]] for name in ("path", "label"))
    relative = _Relative(videos)
    paths = [
        relative(path, f"{file}, line {line}")
        for path, line in zip(paths, table.lines, strict=True)
    ]
    segments = _segments(table)
    if "subset" in table.columns:
        subsets = _subsets(table)
    else:
        subsets = split_subsets(labels, paths, options, str(file))
    learned = {label for label, subset in zip(labels, subsets, strict=True) if subset == "training"}
    # Without training videos it is a list to apply a model to: a label is what is known of a video.
    classes = sorted({*(learned or labels)} - {""})
    starts, ends, suffixes = zip(*segments, strict=True) if segments else ((), (), ())
    rows = video_rows(
        file, table.lines, labels=labels, subsets=subsets, paths=paths, starts=starts, ends=ends
    )
    ids = [name + suffix for name, suffix in zip(unique_ids(paths), suffixes, strict=True)]
    names = [stem(path) + suffix for path, suffix in zip(paths, suffixes, strict=True)]
    return VideoList(classes, name_videos(rows, ids, distinct_keys(labels, names, ids)))


def _testing_has_labels(folder: Path) -> bool | None:
    (file,) = _files(folder, "all")
    table = read_table(file, ("label",), ("subset",))
    subsets = _subsets(table) if "subset" in table.columns else []
    labels = zip(table.columns["label"], subsets, strict=False)
    testing = [label.strip() for label, subset in labels if subset == "testing"]
    return any(testing) if testing else None


FORMAT: ListFormat = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source="the labels of the training videos",
    testing_has_labels=_testing_has_labels,
    needed_subsets=(),
    of_videos=lambda videos: replace(FORMAT, read=partial(_read, videos=videos)),
)
