"""ActivityNet: the official JSON of untrimmed videos with segments (Caba Heilbron et al., 2015)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r3d.errors import InputError
from r3d.files import read_json
from r3d.lists.base import (
    ListFormat,
    SplitOptions,
    VideoList,
    name_videos,
    subset_name,
    video_rows,
)
from r3d.lists.reading import only_file


def leaf_labels(data: Mapping[str, Any], file: Path) -> list[str]:
    """The classes of an ActivityNet JSON: the leaves of its taxonomy in file order."""
    try:
        nodes = data["taxonomy"]
        parents = {node["parentId"] for node in nodes}
        labels = [node["nodeName"] for node in nodes if node["nodeId"] not in parents]
        if not all(isinstance(label, str) for label in labels):
            raise TypeError
        return labels
    except (KeyError, TypeError):
        raise InputError(
            f"{file}: no taxonomy; expected a list of nodes with nodeId, nodeName and parentId"
        ) from None


def frames_key(video_id: str) -> str:
    """Where the frames of a video live: the name that the official crawler gives its file."""
    return f"v_{video_id}"


def _files(folder: Path, split: str) -> list[Path]:
    return [only_file(folder, ".json")]


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    (file,) = _files(folder, split)
    data = read_json(file, unique_keys=True)
    if not isinstance(data, dict) or not isinstance(data.get("database"), dict):
        raise InputError(f"{file}: no database; expected the official ActivityNet JSON")
    labels, subsets = [], []
    for video_id, entry in data["database"].items():
        try:
            subset, annotations = subset_name(entry["subset"]), entry["annotations"]
            label = annotations[0]["label"] if annotations else ""
            if not isinstance(label, str):
                raise TypeError
        except InputError as error:
            raise InputError(f"{file}: entry {video_id!r}: {error}") from None
        except (LookupError, TypeError):
            raise InputError(
                f"{file}: entry {video_id!r} has no subset or no list of labelled annotations"
            ) from None
        subsets.append(subset)
        labels.append("" if subset == "testing" else label)
    ids = list(data["database"])
    keys = [frames_key(video_id) for video_id in ids]
    rows = video_rows(file, 0, labels=labels, subsets=subsets, paths=keys)
    return VideoList(leaf_labels(data, file), name_videos(rows, ids, keys))


def _testing_has_labels(folder: Path) -> bool:
    return False  # the challenge keeps them to itself


FORMAT = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source="the leaves of the taxonomy",
    testing_has_labels=_testing_has_labels,
)
