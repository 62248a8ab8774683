"""UCF-101: `classInd.txt`, `trainlist0*.txt` and `testlist0*.txt` (Soomro et al., 2012)."""

import re
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.lists.base import ListFormat, SplitOptions, VideoList, name_videos, stem, video_rows
from r3d.lists.reading import need_files, read_lines

# Train lists end each line with the class index, test lists do not.
_VIDEO = re.compile(r"(?P<label>[^/]*)/(?P<name>[^/]*?)(?:\s+(?P<index>\d+))?")


def _files(folder: Path, split: str) -> list[Path]:
    return need_files(folder, ["classInd.txt", f"trainlist{split}.txt", f"testlist{split}.txt"])


def _is_there(folder: Path, split: str) -> bool:
    return any((folder / f"{kind}list{split}.txt").exists() for kind in ("train", "test"))


def _labels(folder: Path) -> list[str]:
    (file,) = need_files(folder, ["classInd.txt"])
    labels: list[str] = []
    for line, text in read_lines(file):
        index, _, label = text.partition(" ")
        label = label.strip()
        if index != str(len(labels) + 1) or not label or label in labels:
            raise InputError(
                f"{file}, line {line}: {text!r}; "
                f"expected '{len(labels) + 1} <class name>', each class once"
            )
        labels.append(label)
    return labels


def _read_subset(file: Path, subset: str, class_index: dict[str, str]) -> pd.DataFrame:
    lines, labels, paths = [], [], []
    for line, text in read_lines(file):
        match = _VIDEO.fullmatch(text)
        if match is None:
            raise InputError(f"{file}, line {line}: {text!r}; expected '<class>/<video file>'")
        label, index = match["label"], match["index"]
        if index and index != class_index.get(label, index):
            raise InputError(
                f"{file}, line {line}: class index {index} for {label!r}, "
                f"which is {class_index[label]} in classInd.txt"
            )
        lines.append(line)
        labels.append(label)
        paths.append(f"{label}/{match['name']}")
    return video_rows(file, lines, labels=labels, subsets=subset, paths=paths)


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    _, train, test = _files(folder, split)
    labels = _labels(folder)
    class_index = {label: str(i) for i, label in enumerate(labels, 1)}
    subsets = [
        _read_subset(train, "training", class_index),
        _read_subset(test, "validation", class_index),
    ]
    rows = pd.concat(subsets, ignore_index=True)
    return VideoList(labels, name_videos(rows, [stem(path) for path in rows["path"]]))


FORMAT = ListFormat(
    splits=("01", "02", "03"),
    files=_files,
    read=_read,
    class_source="classInd.txt",
    is_there=_is_there,
    labels=_labels,
)
