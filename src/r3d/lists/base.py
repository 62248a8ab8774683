"""What every list format shares: the list table, subset names and the rule that names a video."""

import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from r3d.errors import InputError, shown

COLUMNS = ("id", "label", "subset", "key", "path", "start", "end")
SUBSETS = ("training", "validation", "testing")
VIDEO_EXTENSIONS = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".ogv", ".3gp", ".ts", ".mts", ".m2ts", ".vob", ".asf"),
)

_SHORT_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class SplitOptions:
    """How to divide a data set that comes without official subsets.

    `group_pattern` is a regular expression searched in each path: its first group (the whole match
    if it has none) names what the video was cut from, and videos of one name stay in one subset.
    Without a pattern every file is its own group.

    >>> SplitOptions(group_pattern=r"_g(\\d+)_")  # v_Archery_g07_c01.avi is of group "07"
    """

    validation_fraction: float = 0.2
    split_seed: int = 1
    group_pattern: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise InputError(
                f"validation_fraction {self.validation_fraction}: accepted is 0 <= fraction < 1"
            )
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise InputError(
                f"group_pattern {self.group_pattern!r} is not a regular expression: {error}"
            ) from None


@dataclass(frozen=True)
class VideoList:
    """The videos of one split of a data set, and its classes in the order of the model's outputs.

    `videos` has the text columns `COLUMNS`: id (unique), label ("" where unknown), subset, key
    (where the frames live in the frame store, without extension), path (relative to the videos
    folder), start and end (seconds; "" for the whole file). A format's reader adds the columns
    `file` and `line`, where the row was read (line 0: no line to name), which go after the checks.
    """

    labels: list[str]
    videos: pd.DataFrame


def _the_only_one(folder: Path, split: str) -> bool:
    return True


def _not_cheap(folder: Path) -> None:
    return None


def _no_testing(folder: Path) -> None:
    return None


@dataclass(frozen=True)
class ListFormat:
    """One way in which a data set states its videos and classes.

    splits: names of the official splits; ("all",) where there is only one.
    files: (folder, split) -> the files a split is read from; opens none of them.
    read: (folder, split, options) -> the list, not yet checked (`r3d.lists.read_list` does both).
    class_source: what defines the classes, for messages.
    is_there: (folder, split) -> whether any file that is of this split alone is there.
    labels: folder -> classes in order where that is cheap, else None.
    testing_has_labels: folder -> whether any testing video has a label, None if there are none.
    needed_subsets: those without which a list is not whole, whatever it is for.
    of_size: number of classes -> the format for that release, where a folder may hold several.
    of_videos: folder of the videos -> the format for lists that may state absolute paths below it.
    """

    splits: tuple[str, ...]
    files: Callable[[Path, str], list[Path]]
    read: Callable[[Path, str, SplitOptions], VideoList]
    class_source: str
    is_there: Callable[[Path, str], bool] = _the_only_one
    labels: Callable[[Path], list[str] | None] = _not_cheap
    testing_has_labels: Callable[[Path], bool | None] = _no_testing
    needed_subsets: tuple[str, ...] = ("training", "validation")
    of_size: "Callable[[int], ListFormat] | None" = None
    of_videos: "Callable[[Path], ListFormat] | None" = None


def subset_name(name: str) -> str:
    """The full name of a subset, from that or from the short form (train, val, test)."""
    full = _SHORT_SUBSETS.get(name, name)
    if full not in SUBSETS:
        raise InputError(
            f"unknown subset {reprlib.repr(name)}: "
            "accepted are training (or train), validation (val) and testing (test)"
        )
    return full


def video_rows(
    file: Path,
    lines: Sequence[int] | int,
    *,
    labels: Sequence[str] | str,
    subsets: Sequence[str] | str,
    paths: Sequence[str],
    starts: Sequence[str] | str = "",
    ends: Sequence[str] | str = "",
) -> pd.DataFrame:
    """What one list file says, a row a video, still nameless; one value stands for all rows."""
    columns = {"label": labels, "subset": subsets, "path": paths, "start": starts, "end": ends}
    # As objects: where pyarrow is installed, texts of pandas cannot hold names that are not UTF-8.
    rows = pd.DataFrame(columns, index=range(len(paths)), dtype=object)
    return rows.assign(file=pd.Series(shown(file), rows.index, object), line=lines)


def name_videos(
    rows: pd.DataFrame, ids: Sequence[str], keys: Sequence[str] | None = None
) -> pd.DataFrame:
    """Complete `video_rows` by ids and keys; a key is `<label>/<id>` unless `keys` says another."""
    if keys is None:
        labels = rows["label"].tolist()
        keys = [frame_key(label, name) for label, name in zip(labels, ids, strict=True)]
    named = {
        name: pd.Series(list(texts), rows.index, object)
        for name, texts in (("id", ids), ("key", keys))
    }
    return rows.assign(**named)[[*COLUMNS, "file", "line"]]


def frame_key(label: str, name: str) -> str:
    """Where the reference keeps frames: `<label>/<name>`, without a label `test/<name>`."""
    return f"{label or 'test'}/{name}"


def distinct_keys(labels: Sequence[str], names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The keys of labels and names as far as they are distinct, else those of labels and ids.

    As in `unique_ids`, case does not make a difference.

    >>> distinct_keys(["run", "run", "walk"], ["1", "1", "1"], ["a_1", "b_1", "walk_1"])
    ['run/a_1', 'run/b_1', 'walk/1']
    """
    keys = [frame_key(label, name) for label, name in zip(labels, names, strict=True)]
    uses = Counter(key.casefold() for key in keys)
    return [
        key if uses[key.casefold()] == 1 else frame_key(label, video_id)
        for key, label, video_id in zip(keys, labels, ids, strict=True)
    ]


def stem(path: str) -> str:
    """The file name without its folder and its video extension; other dots belong to the name."""
    name = path.rpartition("/")[2]
    root, dot, extension = name.rpartition(".")
    return root if root and dot + extension.lower() in VIDEO_EXTENSIONS else name


def unique_ids(paths: Iterable[str]) -> list[str]:
    """Name videos by their file names, and by their whole paths where names repeat.

    Names that differ only by case count as repeated, as some file systems take them for the same.

    >>> unique_ids(["run/a.mp4", "run/001.mp4", "walk/001.mp4", "jump/walk_001.mp4"])
    ['a', 'run_001', 'walk_001', 'jump_walk_001']
    """
    paths = list(paths)
    names = {path: stem(path) for path in paths}
    while True:
        uses = Counter(name.casefold() for name in names.values())
        longer = {
            path: name if uses[name.casefold()] == 1 else _whole(path)
            for path, name in names.items()
        }
        if longer == names:
            return [names[path] for path in paths]
        names = longer  # a whole path may be the name of another file


def _whole(path: str) -> str:
    return "_".join([*path.split("/")[:-1], stem(path)])
