"""Annotation JSON in the reference's format: made from lists and ledger, read from anywhere.

Most data sets:

    {"labels": [...], "database": {<id>: {"subset": ..., "annotations": {"label": ...,
    "segment": [begin, end]}}}}

with the frames begin <= i < end, numbered as the store numbers them: from 1 for jpg, from 0 for
hdf5. A video without frames has no segment, one of unknown class no label; `video_path` in an entry
says where its frames are, if not at the usual place.

ActivityNet: the official JSON, whose segments are in seconds, with `fps` for each video, and with
`frames`, the [begin, end] of the whole video, which the reference finds out by listing the folder.
"""

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.lists.activitynet import frames_key, leaf_labels
from r3d.lists.base import frame_key, subset_name
from r3d.lists.reading import read_json
from r3d.lists.tables import load_labels, load_list, read_columns
from r3d.options import FileType
from r3d.stores import FrameStore, open_store

FIRST_FRAME = {"jpg": 1, "hdf5": 0}

_ENTRY = '{"subset": ..., "annotations": {"label": ..., "segment": [begin, end]}}'
_ACTIVITYNET_ENTRY = (
    '{"subset": ..., "duration": s, "fps": ..., "annotations": [{"label": ..., "segment": [s, s]}]}'
)


@dataclass(frozen=True, eq=False)
class Annotation:
    """The samples of one subset that have frames, in the order of the file, as parallel arrays.

    A sample is a video, or a segment of one (trimmed ActivityNet; then ids repeat). The arrays hold
    no Python objects, so worker processes share them with their parent instead of copying them.

    labels: the classes in the order of the model's outputs.
    ids, keys, video_paths: texts (numpy's StringDType). The frames are at `video_paths[i]` if that
        is not "", else at `keys[i]` in the frame store.
    targets: class indices, -1 where unknown.
    begins, ends: frames begin <= i < end as the store numbers them.
    n_without_frames: how many more samples the file lists.
    """

    labels: list[str]
    ids: np.ndarray
    keys: np.ndarray
    video_paths: np.ndarray
    targets: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    n_without_frames: int

    def __len__(self) -> int:
        return len(self.targets)


def write_annotation(
    list_table: Path,
    labels: Path,
    ledger: Path,
    output: Path,
    *,
    file_type: FileType,
    frames: Path | None = None,
) -> None:
    """Write the annotation of one split from its list, its classes and the data set's ledger.

    Args:
        frames: the folder of the frame store, for the `video_path` of videos whose frames are not
            at `<label>/<id>`; without it, such a video is an `InputError`.
    """
    classes = load_labels(labels)
    videos = load_list(list_table)
    unknown = videos[~videos["label"].isin([*classes, ""])]
    if len(unknown):
        raise InputError(
            f"{list_table}: unknown class {unknown['label'].iloc[0]!r} of video "
            f"{unknown['id'].iloc[0]!r}; accepted are the {len(classes)} of {labels}"
        )
    known = _ledger_frames(ledger).reindex(videos["id"])
    n_frames = known["frames"]
    if n_frames.isna().any():
        absent = n_frames.index[n_frames.isna()]
        raise InputError(
            f"{ledger}: {len(absent)} videos of {list_table} are absent, the first: {absent[0]!r}; "
            "expected a row for each"
        )
    first = FIRST_FRAME[file_type]
    quoted = {label: json.dumps(label) for label in ["", *classes]}
    columns = (videos["id"], videos["subset"], videos["label"], n_frames.astype(int), known["key"])
    # Line by line: a dictionary of all videos of a large data set would take gigabytes.
    with atomic_path(output) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        file.write(f'{{"labels": {json.dumps(classes)},\n"database": {{')
        separator = "\n"
        for name, subset, label, n, key in zip(*(c.tolist() for c in columns), strict=True):
            fields = [f'"label": {quoted[label]}'] if label else []
            place = ""
            if n > 0:
                fields.append(f'"segment": [{first}, {first + n}]')
                if key != frame_key(label, name):
                    place = f', "video_path": {json.dumps(_place(frames, file_type, name, key))}'
            entry = f'{{"subset": "{subset}", "annotations": {{{", ".join(fields)}}}{place}}}'
            file.write(f"{separator}{json.dumps(name)}: {entry}")
            separator = ",\n"
        file.write("\n}}\n")


def _place(frames: Path | None, file_type: FileType, name: str, key: str) -> str:
    """Where the frames of a key are, as an annotation states it."""
    if frames is None:
        raise InputError(
            f"video {name!r} has its frames at {key!r} and not at its label and id, which only "
            "video_path can tell: give the folder of the frames"
        )
    return str(open_store(frames, file_type).path(key))


def write_activitynet(json_in: Path, ledger: Path, output: Path, *, file_type: FileType) -> None:
    """Add frame rates and frame ranges from the ledger to the official ActivityNet JSON.

    Where the ledger has no rate, as the video is gone, that of the JSON is kept, to which the
    reference has added it.
    """
    data = _load(json_in)
    frames = _ledger_frames(ledger)
    absent = [name for name in data["database"] if name not in frames.index]
    if absent:
        raise InputError(
            f"{ledger}: {len(absent)} videos of {json_in} are absent, the first: {absent[0]!r}; "
            "expected a row for each"
        )
    first = FIRST_FRAME[file_type]
    counts, rates = frames["frames"].to_dict(), frames["fps"].to_dict()
    for name, entry in data["database"].items():
        entry["frames"] = [first, first + counts[name]]
        if rates[name] > 0:
            entry["fps"] = rates[name]
        if counts[name] > 0 and entry["annotations"] and not _is_rate(entry.get("fps")):
            raise InputError(
                f"{ledger}: video {name!r} has frames but no fps, nor has {json_in}, so its "
                "segments cannot be found in them; put its video into the videos folder"
            )
    with atomic_path(output) as partial:
        partial.write_text(json.dumps(data) + "\n", encoding="ascii")


def merge_annotations(
    parts: Mapping[str, tuple[Path, Path]], output: Path, *, file_type: FileType
) -> None:
    """Write the annotations of several data sets as one.

    The classes are those of the data sets, one list after the other, as in the outputs of the
    networks that were released for merged data. What the data sets have the same names for is not
    the same: a class becomes `<data set>/<label>`, an id `<data set>/<id>`, and `video_path` says
    where the frames are.

    Args:
        parts: by the name of each data set its annotation and the folder of its frames.
    """
    labels, databases = [], []
    for name, (annotation, frames) in parts.items():
        data = _load(annotation)
        if "taxonomy" in data:
            raise InputError(
                f"{annotation}: is ActivityNet's, with segments in seconds; accepted are "
                "annotations of whole videos"
            )
        labels += [f"{name}/{label}" for label in _classes(data, annotation)]
        databases.append((name, data["database"], open_store(frames, file_type)))
    with atomic_path(output) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        file.write(f'{{"labels": {json.dumps(labels)},\n"database": {{')
        separator = "\n"
        for name, database, store in databases:
            for video, entry in database.items():
                merged = _merged(name, video, entry, store)
                file.write(f"{separator}{json.dumps(f'{name}/{video}')}: {json.dumps(merged)}")
                separator = ",\n"
        file.write("\n}}\n")


def _merged(name: str, video: str, entry: dict[str, Any], store: FrameStore) -> dict[str, Any]:
    """The entry of a video in the annotation of a merged data set."""
    annotations = dict(entry["annotations"])
    label = annotations.get("label")
    if label:
        annotations["label"] = f"{name}/{label}"
    place = entry.get("video_path") or str(store.path(frame_key(label or "", video)))
    return {"subset": entry["subset"], "annotations": annotations, "video_path": place}


def _ledger_frames(ledger: Path) -> pd.DataFrame:
    """Key, number (0 without) and rate of the frames of each video, indexed by id."""
    table = read_columns(ledger, ("id", "key", "frames", "fps")).set_index("id")
    try:
        frames = table["frames"].replace("", "0").astype(int)
        fps = table["fps"].replace("", "nan").astype(float)
    except ValueError as error:
        raise InputError(f"{ledger}: frames and fps have to be numbers: {error}") from None
    return pd.DataFrame({"key": table["key"], "frames": frames, "fps": fps})


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def read_annotation(
    path: Path, *, subset: str, untrimmed: bool = False, store: FrameStore | None = None
) -> Annotation:
    """Read the samples of one subset: training, validation or testing, or train, val or test.

    An ActivityNet file gives a sample for each annotated segment, with `untrimmed` (for inference)
    and for testing one for each whole video; other files have one kind of sample. Where
    ActivityNet's `frames` is absent, as in a file of the reference, the frames in the `store` are
    counted; without one it is taken for jpg and the length of a video for its duration times fps.
    No frames at all in the subset is an `InputError`.
    """
    subset = subset_name(subset)
    data = _load(path)
    read_entry = _video
    if "taxonomy" in data:
        read_entry = _untrimmed if untrimmed or subset == "testing" else _trimmed
    samples = _Samples(_classes(data, path), store)
    for name, entry in data["database"].items():
        try:
            if subset_name(entry["subset"]) == subset:
                read_entry(name, entry, samples)
        except InputError as error:
            raise InputError(f"{path}: entry {name!r}: {error}") from None
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"{path}: entry {name!r} cannot be read ({type(error).__name__}: {error}); "
                f"expected {_ENTRY if read_entry is _video else _ACTIVITYNET_ENTRY}"
            ) from None
    if not samples.targets:
        raise InputError(
            f"{path}: no video with frames in subset {subset}, "
            f"which lists {samples.n_without_frames} without; expected one or more"
        )
    return samples.annotation()


def _load(path: Path) -> dict[str, Any]:
    """A JSON with labels or taxonomy and a database, of which the insides are not checked."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("database"), dict):
        raise InputError(f"{path}: no annotation JSON; expected an object with 'database'")
    return data


def _classes(data: dict[str, Any], path: Path) -> list[str]:
    if "taxonomy" in data:
        return leaf_labels(data, path)
    labels = data.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"{path}: expected 'labels', a list of texts (or ActivityNet's 'taxonomy')"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"{path}: label {twice!r} occurs twice; expected distinct labels")
    return labels


class _Samples:
    """Collects samples in compact form while a file is gone through."""

    def __init__(self, labels: list[str], store: FrameStore | None) -> None:
        self.labels = labels
        self.store = store
        self.class_index = {label: i for i, label in enumerate(labels)}
        self.ids: list[str] = []
        self.keys: list[str] = []
        self.video_paths: list[str] = []
        self.targets, self.begins, self.ends = array("i"), array("i"), array("i")
        self.n_without_frames = 0

    def add(
        self, name: str, entry: dict[str, Any], key: str, label: str | None, segment: Sequence[int]
    ) -> None:
        if label and label not in self.class_index:
            raise InputError(
                f"unknown class {label!r}; "
                f"accepted are the {len(self.class_index)} that the file defines"
            )
        begin, end = segment
        if begin < 0:
            raise InputError(f"segment [{begin}, {end}]; expected 0 <= begin <= end")
        if begin >= end:
            self.n_without_frames += 1
            return
        self.ids.append(name)
        self.keys.append(key)
        self.video_paths.append(entry.get("video_path", ""))
        self.targets.append(self.class_index[label] if label else -1)
        self.begins.append(begin)
        self.ends.append(end)

    def annotation(self) -> Annotation:
        text = np.dtypes.StringDType()
        return Annotation(
            labels=self.labels,
            ids=np.array(self.ids, dtype=text),
            keys=np.array(self.keys, dtype=text),
            video_paths=np.array(self.video_paths, dtype=text),
            targets=np.array(self.targets, dtype=np.int32),
            begins=np.array(self.begins, dtype=np.int32),
            ends=np.array(self.ends, dtype=np.int32),
            n_without_frames=self.n_without_frames,
        )


def _video(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    label = entry["annotations"].get("label")
    segment = entry["annotations"].get("segment", (0, 0))
    samples.add(name, entry, frame_key(label or "", name), label, segment)


def _trimmed(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    first, last = _whole(name, entry, samples.store)
    rate = entry.get("fps", 0)
    if first < last and not _is_rate(rate):
        raise InputError(f"its fps is {rate!r}, so its segments cannot be found in its frames")
    for annotation in entry["annotations"]:
        begin, end = (math.floor(s * rate) for s in annotation["segment"])
        # Some official segments end after the video, some last no longer than a hundredth second.
        segment = (max(first, first + begin), min(last, first + end))
        samples.add(name, entry, frames_key(name), annotation["label"], segment)


def _untrimmed(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    label = entry["annotations"][0]["label"] if entry["annotations"] else None
    whole = _whole(name, entry, samples.store)
    samples.add(name, entry, frames_key(name), label, whole)


def _whole(name: str, entry: dict[str, Any], store: FrameStore | None) -> Sequence[int]:
    """The frames of a whole ActivityNet video; none where neither count nor rate is known."""
    if "frames" in entry:
        return entry["frames"]
    if store is not None and "video_path" not in entry:
        record = store.record(frames_key(name))
        first = FIRST_FRAME[store.file_type]
        return first, first + (record.frames if record else 0)
    return 1, 1 + math.floor(entry["duration"] * entry.get("fps", 0))
