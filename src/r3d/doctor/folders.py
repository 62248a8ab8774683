"""Which of the listed videos are there, which have frames, and what is there beside them.

Only names are read: no file is opened, and a folder is listed once.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from r3d.config.config import Dataset
from r3d.doctor.findings import Report
from r3d.lists import VIDEO_EXTENSIONS


class Present(NamedTuple):
    """What is there of each listed video, in their order.

    files: path relative to the videos folder, "" if there is none.
    keys: where its frames are in the store, "" if there are none.
    """

    files: np.ndarray
    keys: np.ndarray


def look_for(name: str, dataset: Dataset, videos: pd.DataFrame, report: Report) -> Present:
    """Find files and frames of the videos of a data set, and say what is missing."""
    folder = Path(dataset.videos)
    files = _video_files(folder, videos["path"], skip=Path(dataset.frames))
    found = _files_of(videos, files)
    keys = _keys_of(videos, dataset)
    gone = (found == "") & (keys == "")
    if gone.any():
        unused = set(files) - set(found)
        _report_missing(name, dataset, videos[gone], len(videos), unused, report)
    kept = (found == "") & (keys != "")
    if kept.any():
        report.add(
            "note",
            "missing",
            name,
            f"{kept.sum()} of {len(videos)} videos are gone, but their frames are there",
        )
    extra = sorted(set(files) - set(found))
    if extra:
        report.add(
            "note",
            "extra",
            name,
            f"{len(extra)} video files in {dataset.videos} are in no list in use",
            examples=extra,
        )
    return Present(found, keys)


def _video_files(folder: Path, listed: pd.Series, *, skip: Path) -> list[str]:
    """The files below a folder that are videos by their names or by a list, relative to it."""
    named = set(listed)
    return [
        path
        for path in _walk(str(folder), os.path.realpath(skip))
        if path.lower().endswith(VIDEO_EXTENSIONS) or path in named
    ]


def _walk(root: str, skip: str) -> Iterator[str]:
    """The files below a folder, through links too, each folder once; hidden ones left out."""
    seen = {skip}
    pending = [""]
    while pending:
        relative = pending.pop()
        place = os.path.realpath(f"{root}/{relative}")
        if place in seen:
            continue
        seen.add(place)
        try:
            entries = list(os.scandir(place))
        except OSError:
            continue  # what cannot be read is missing
        for entry in entries:
            if not entry.is_dir():
                yield f"{relative}{entry.name}"
            elif not entry.name.startswith("."):
                pending.append(f"{relative}{entry.name}/")


def _files_of(videos: pd.DataFrame, files: list[str]) -> np.ndarray:
    """The file of each video, "" for none; as in extraction, a usual extension may be missing."""
    there = set(files)
    by_root: dict[str, str] = {}
    for extension in reversed(VIDEO_EXTENSIONS):  # the first of them is to win
        by_root |= {path[: -len(extension)]: path for path in files if path.endswith(extension)}

    def find(path: str) -> str:
        if path in there:
            return path
        return "" if path.lower().endswith(VIDEO_EXTENSIONS) else by_root.get(path, "")

    found = np.array([find(path) for path in videos["path"].tolist()], dtype=object)
    for i, other in _elsewhere(videos, "path", found):
        found[i] = find(other)
    return found


def _keys_of(videos: pd.DataFrame, dataset: Dataset) -> np.ndarray:
    """The key under which frames are there for each video, "" for none."""
    extension = ".hdf5" if dataset.file_type == "hdf5" else ""
    if not Path(dataset.frames).is_dir():
        return np.full(len(videos), "", dtype=object)
    listings: dict[str, set[str]] = {}

    def find(key: str) -> str:
        folder, _, name = key.rpartition("/")
        if folder not in listings:
            listings[folder] = _names(Path(dataset.frames) / folder)
        return key if f"{name}{extension}" in listings[folder] else ""

    found = np.array([find(key) for key in videos["key"].tolist()], dtype=object)
    for i, other in _elsewhere(videos, "key", found):
        found[i] = find(other)
    return found


def _elsewhere(videos: pd.DataFrame, column: str, found: np.ndarray) -> Iterator[tuple[int, str]]:
    """Places under the label of what is not in the folder `test`: some sort test videos so."""
    lacking = (found == "") & videos[column].str.startswith("test/") & (videos["label"] != "")
    for i in np.flatnonzero(lacking):
        row = videos.iloc[i]
        yield int(i), f"{row['label']}/{row[column].removeprefix('test/')}"


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208  (a Path each costs time)
    except OSError:
        return set()


def _report_missing(
    name: str,
    dataset: Dataset,
    missing: pd.DataFrame,
    n_listed: int,
    unused: set[str],
    report: Report,
) -> None:
    folder = Path(dataset.videos)
    stops = len(missing) > dataset.max_failure_rate * n_listed
    text = f"{len(missing)} of {n_listed} videos have neither a file in {dataset.videos} nor frames"
    if stops:
        text += f", more than max_failure_rate ({dataset.max_failure_rate:g}) lets pass"
    if not folder.is_dir():
        text = f"{text}: there is no folder {dataset.videos}"
        remedy = "set videos to the folder of the videos, or download them into it"
    elif not os.access(folder, os.R_OK | os.X_OK):
        remedy = f"this user may not read {folder}: give it the right to"
    else:
        remedy = _hint(dataset, missing["path"].tolist(), unused) or (
            "get the videos, or take them out of the list"
            + (", or raise max_failure_rate" if stops else "")
        )
    report.add("error" if stops else "warning", "missing", name, text, remedy, missing["path"])


def _hint(dataset: Dataset, missing: list[str], unused: set[str]) -> str:
    """Where the missing files seem to be instead; "" if nowhere."""
    by_path = {_plain(path): path for path in unused}
    respelt = [(path, by_path[_plain(path)]) for path in missing if _plain(path) in by_path]
    if respelt:
        listed, there = respelt[0]
        return (
            f"{len(respelt)} of them are there under names that differ by case, Unicode form or "
            f"extension: rename {there!r} to what the list says, {listed!r}"
        )
    by_name: dict[str, str] = {}
    for path in unused:
        by_name.setdefault(_plain(path.rpartition("/")[2]), path)
    moved = [
        (path, by_name[name])
        for path in missing
        if (name := _plain(path.rpartition("/")[2])) in by_name
    ]
    if not moved:
        return ""
    listed, there = moved[0]
    above = {_above(*pair) for pair in moved}
    if len(above) == 1 and (folder := above.pop()):
        return f"set videos to {dataset.videos.rstrip('/')}/{folder}, which holds {len(moved)}"
    return (
        f"{len(moved)} files of these names are in other folders: move {there!r} to where the "
        f"list has it, {listed!r}"
    )


def _above(listed: str, there: str) -> str:
    """The folder in which a file lies as the list says; "" if it does not."""
    listed, there = _plain(listed), there[: len(_plain(there))]
    return there.removesuffix(listed).rstrip("/") if there.endswith(f"/{listed}") else ""


def _plain(path: str) -> str:
    """A path without what names are often changed in: case, Unicode form and extension."""
    root, dot, extension = path.rpartition(".")
    path = root if dot and f".{extension.lower()}" in VIDEO_EXTENSIONS else path
    return unicodedata.normalize("NFC", path).casefold()
