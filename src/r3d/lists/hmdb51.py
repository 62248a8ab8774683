"""HMDB-51: `<label>_test_split{1,2,3}.txt`, a file a class (Kuehne et al., 2011)."""

import re
from pathlib import Path

import pandas as pd

from r3d.errors import InputError, shown
from r3d.lists.base import ListFormat, SplitOptions, VideoList, name_videos, stem, video_rows
from r3d.lists.reading import need_folder, read_lines

_FILE = re.compile(r"(?P<label>[^.].*)_test_split(?P<split>[123])\.txt")
_VIDEO = re.compile(r"(?P<name>.+?)\s+(?P<use>[012])")
# 70 and 30 videos of each class are used; the official splits leave the others (0) out.
_SUBSETS = {"1": "training", "2": "validation"}


def _label(file: Path) -> str:
    match = _FILE.fullmatch(file.name)
    assert match
    return match["label"]


def _labels(folder: Path) -> list[str]:
    need_folder(folder, "<label>_test_split{1,2,3}.txt for every class")
    matches = (_FILE.fullmatch(file.name) for file in folder.iterdir())
    return sorted({match["label"] for match in matches if match})


def _is_there(folder: Path, split: str) -> bool:
    return any(folder.glob(f"*_test_split{split}.txt"))


def _files(folder: Path, split: str) -> list[Path]:
    files = [folder / f"{label}_test_split{split}.txt" for label in _labels(folder)]
    if not files:
        raise InputError(f"{folder}: no <label>_test_split{split}.txt; expected one for each class")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{folder}: {shown(missing[0])} is missing; "
            f"expected <label>_test_split{split}.txt for each of {len(files)} classes"
        )
    return files


def _read_class(file: Path) -> pd.DataFrame:
    lines, paths, subsets = [], [], []
    label = _label(file)
    for line, text in read_lines(file):
        match = _VIDEO.fullmatch(text)
        if match is None:
            raise InputError(
                f"{shown(file)}, line {line}: {text!r}; expected '<video file> <0, 1 or 2>'"
            )
        if match["use"] in _SUBSETS:
            lines.append(line)
            paths.append(f"{label}/{match['name']}")
            subsets.append(_SUBSETS[match["use"]])
    return video_rows(file, lines, labels=label, subsets=subsets, paths=paths)


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    rows = pd.concat([_read_class(file) for file in _files(folder, split)], ignore_index=True)
    ids = [stem(path) for path in rows["path"]]
    return VideoList(_labels(folder), name_videos(rows, ids))


FORMAT = ListFormat(
    splits=("1", "2", "3"),
    files=_files,
    read=_read,
    class_source="the names of the split files",
    is_there=_is_there,
    labels=_labels,
)
