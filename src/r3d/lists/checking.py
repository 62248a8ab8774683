"""Refusing lists that would go wrong later: unknown classes, duplicates, improper names."""

import difflib
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.lists.base import COLUMNS, ListFormat, VideoList

logger = logging.getLogger(__name__)

MAX_CLASSES = 10_000
"""More than any data set of videos has; 400 times as many would ask for 100 TB."""

# Control characters, line and paragraph separators, and bytes of a file name that is not UTF-8.
_UNPRINTABLE = "\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_NO_NAME = re.compile(rf"[{_UNPRINTABLE}/\\]|^\.{{0,2}}$", re.MULTILINE)
_NO_PATH = re.compile(
    rf"[{_UNPRINTABLE}\\]|^[A-Za-z]:/|(?:^|/)\.{{0,2}}(?:/|$)",
    re.MULTILINE,
)
_NAME_RULE = "a file name without /, \\ or control characters, not empty, . or .."
_PATH_RULE = "a path relative to the videos folder, without \\, control characters, . or .."


def check_list(video_list: VideoList, source: Path, list_format: ListFormat) -> VideoList:
    """The list without reading places, if nothing is wrong with it; see `r3d.lists.read_list`.

    Messages name the folder `source` that it is from.
    """
    labels, videos = video_list.labels, video_list.videos
    _check_labels(videos)
    _check_classes(labels, videos, f"{list_format.class_source} ({source})")
    _check_column(videos, "id", _NO_NAME, _NAME_RULE)
    _check_column(videos, "path", _NO_PATH, _PATH_RULE)
    videos = _without_repeats(videos)
    for subset in list_format.needed_subsets:
        if not (videos["subset"] == subset).any():
            raise InputError(f"{source}: no video of subset {subset}; expected one or more")
    return VideoList(labels, videos[list(COLUMNS)].reset_index(drop=True).astype(str))


def _place(row: pd.Series) -> str:
    return f"{row['file']}, line {int(row['line'])}" if row["line"] else row["file"]


def _first_match(values: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    """The index of the first value that holds a line break or the pattern.

    All values are searched as one text, a line each: a tenth of the time of a search in each.
    """
    text = "\n".join(values)
    if text.count("\n") >= len(values) > 0:
        return next(i for i, value in enumerate(values) if "\n" in value)
    match = pattern.search(text) if values else None
    return text.count("\n", 0, match.start()) if match else None


def _check_labels(videos: pd.DataFrame) -> None:
    nameless = videos[(videos["label"] == "") & (videos["subset"] != "testing")]
    if len(nameless):
        row = nameless.iloc[0]
        raise InputError(
            f"{_place(row)}: video {row['id']!r} of subset {row['subset']} has an empty label; "
            "only testing videos may (subset test)"
        )
    # Not by pandas, which takes texts for equal that are so up to a null byte.
    values = videos["label"].tolist()
    labels = [label for label in dict.fromkeys(values) if label]
    bad = _first_match(labels, _NO_NAME)
    if bad is not None:
        row = videos.iloc[values.index(labels[bad])]
        raise InputError(f"{_place(row)}: label {labels[bad]!r}: accepted is {_NAME_RULE}")


def check_classes(labels: list[str], class_source: str) -> None:
    """Refuse classes that are not distinct, none, or more than any use of them could hold."""
    if not labels:
        raise InputError(f"no classes in {class_source}; expected one or more")
    if len(labels) > MAX_CLASSES:
        raise InputError(
            f"{len(labels)} classes in {class_source}; accepted are {MAX_CLASSES} or fewer, as "
            "the table of confusions has a cell for each pair"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"class {twice!r} occurs twice in {class_source}; expected distinct names")


def _check_classes(labels: list[str], videos: pd.DataFrame, class_source: str) -> None:
    if labels or videos["label"].ne("").any() or videos.empty:  # else all are of unknown class
        check_classes(labels, class_source)
    bad = _first_match(labels, _NO_NAME)
    if bad is not None:
        raise InputError(f"class {labels[bad]!r} in {class_source}: accepted is {_NAME_RULE}")
    unknown = videos[~videos["label"].isin([*labels, ""])]
    if len(unknown):
        row = unknown.iloc[0]
        example = (difflib.get_close_matches(row["label"], labels, n=1) or labels)[0]
        raise InputError(
            f"{_place(row)}: unknown class {row['label']!r}; "
            f"accepted are the {len(labels)} of {class_source}, such as {example!r}"
        )


def _check_column(videos: pd.DataFrame, name: str, pattern: re.Pattern[str], rule: str) -> None:
    values = videos[name].tolist()
    bad = _first_match(values, pattern)
    if bad is not None:
        raise InputError(f"{_place(videos.iloc[bad])}: {name} {values[bad]!r}: accepted is {rule}")


def _without_repeats(videos: pd.DataFrame) -> pd.DataFrame:
    """Drop rows that repeat another in everything; refuse other videos of one id."""
    repeated = videos["id"].duplicated(keep=False)
    if not repeated.any():
        return videos
    suspects = videos[repeated]
    dropped = suspects[suspects.duplicated(list(COLUMNS))]
    rest = suspects.drop(dropped.index)
    clash = rest["id"].duplicated()
    if clash.any():
        second = rest[clash].iloc[0]
        first = rest[rest["id"] == second["id"]].iloc[0]
        raise InputError(
            f"{_place(second)}: video {second['id']!r} ({second['path']}, {second['subset']}, "
            f"label {second['label']!r}) is already in {_place(first)} ({first['path']}, "
            f"{first['subset']}, label {first['label']!r}); an id may occur once"
        )
    place = _place(dropped.iloc[0])
    logger.warning("%d repeated rows left out, the first: %s", len(dropped), place)
    return videos.drop(dropped.index)
