"""Annotation JSON -> the samples of one subset that have frames."""

import hashlib
import json
import math
import reprlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r3d.annotations.format import (
    UNREADABLE,
    classes_of,
    is_number,
    is_rate,
    label_of,
    load_annotation,
)
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.layouts import FIRST_FRAME
from r3d.frames.stores import FrameStore
from r3d.lists.activitynet import frames_key
from r3d.lists.base import frame_key, subset_name

_LAST_FRAME = 2**31 - 1  # that the arrays hold: at 25 a second the frames of two years and more
_ENTRY = '{"subset": ..., "annotations": {"label": ..., "segment": [begin, end]}}'
_ACTIVITYNET_ENTRY = (
    '{"subset": ..., "duration": s, "fps": ..., "annotations": [{"label": ..., "segment": [s, s]}]}'
)


class NoVideosError(InputError):
    """An annotation has no video with frames in the subset that is asked for."""


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
    rates: frames a second, NaN where the file does not say it; None if it never does.

    >>> import r3d
    >>> len(r3d.read_annotation("annotation.json", subset="training"))
    4
    """

    labels: list[str]
    ids: np.ndarray
    keys: np.ndarray
    video_paths: np.ndarray
    targets: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    n_without_frames: int
    rates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def digest(self, store: FrameStore) -> bytes:
        """What tells these samples from others: classes, and of each its target, frames and place.

        Neither ids count nor whether a place in the `store` is stated or follows from the label.
        """
        folder, ending = f"{store.folder}/", f".{store.file_type}"
        places = [
            place.removeprefix(folder).removesuffix(ending) or key
            for place, key in zip(self.video_paths.tolist(), self.keys.tolist(), strict=True)
        ]
        digest = hashlib.sha256(json.dumps([self.labels, places]).encode())
        for numbers in (self.targets, self.begins, self.ends):
            digest.update(numbers.astype("<i4").tobytes())
        return digest.digest()

    def places(self, store: FrameStore, n: int) -> list[str | Path]:
        """Where the frames of at most n samples are, evenly spaced over all."""
        step = -(-len(self) // n)
        return [
            str(self.video_paths[i]) or store.path(str(self.keys[i]))
            for i in range(0, len(self), step)
        ]


def read_annotation(
    path: AnyPath, *, subset: str, untrimmed: bool = False, store: FrameStore | None = None
) -> Annotation:
    """Read the samples of one subset: training, validation or testing, or train, val or test.

    An ActivityNet file gives a sample for each annotated segment, with `untrimmed` (for inference)
    and for testing one for each whole video; other files have one kind of sample. Where
    ActivityNet's `frames` is absent, as in a file of the reference, the frames in the `store` are
    counted; without one it is taken for jpg and the length of a video for its duration times fps.
    No frames at all in the subset is a `NoVideosError`, an `InputError`.

    >>> import r3d
    >>> samples = r3d.read_annotation("annotation.json", subset="validation")
    >>> samples.labels
    ['left', 'right']
    >>> str(samples.ids[0]), int(samples.targets[0]), int(samples.begins[0]), int(samples.ends[0])
    ('v_left_g01_c01', 0, 1, 33)
    """
    path, subset = Path(path), subset_name(subset)
    data = load_annotation(path)
    read_entry = _video
    if "taxonomy" in data:
        read_entry = _untrimmed if untrimmed or subset == "testing" else _trimmed
    samples = _Samples(classes_of(data, path), store)
    for name, entry in data["database"].items():
        try:
            if subset_name(entry["subset"]) == subset:
                read_entry(name, entry, samples)
        except InputError as error:
            raise InputError(f"{path}: entry {name!r}: {error}") from None
        except UNREADABLE as error:
            raise InputError(
                f"{path}: entry {name!r} cannot be read ({type(error).__name__}: {error}); "
                f"expected {_ENTRY if read_entry is _video else _ACTIVITYNET_ENTRY}"
            ) from None
    if not samples.targets:
        raise NoVideosError(
            f"{path}: no video with frames in subset {subset}, "
            f"which lists {samples.n_without_frames} without; expected one or more"
        )
    return samples.annotation()


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
        self.rates = array("d")
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
        if not 0 <= begin <= _LAST_FRAME or not end <= _LAST_FRAME:
            shown = reprlib.repr([begin, end])
            raise InputError(f"segment {shown}; expected 0 <= begin <= end, numbers of frames")
        if begin >= end:
            self.n_without_frames += 1
            return
        place = entry.get("video_path", "")
        if not isinstance(place, str):
            raise InputError("its video_path is no text; expected where its frames are")
        self.ids.append(name)
        self.keys.append(key)
        self.video_paths.append(place)
        self.targets.append(self.class_index[label] if label else -1)
        self.begins.append(begin)
        self.ends.append(end)
        rate: Any = entry.get("fps")
        self.rates.append(float(rate) if is_rate(rate) else math.nan)

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
            rates=None if all(map(math.isnan, self.rates)) else np.array(self.rates),
        )


def _video(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    label = label_of(entry["annotations"])
    segment = entry["annotations"].get("segment", (0, 0))
    samples.add(name, entry, frame_key(label or "", name), label, segment)


def _trimmed(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    first, last = _whole(name, entry, samples.store)
    rate = entry.get("fps", 0)
    if first < last and not is_rate(rate):
        raise InputError(f"its fps is {rate!r}, so its segments cannot be found in its frames")
    for annotation in entry["annotations"]:
        if not all(map(is_number, annotation["segment"])):
            shown = reprlib.repr(annotation["segment"])
            raise InputError(f"segment {shown}; expected [begin, end] in seconds")
        begin, end = (math.floor(s * rate) for s in annotation["segment"])
        # Some official segments end after the video, some last no longer than a hundredth second.
        segment = (max(first, first + begin), min(last, first + end))
        samples.add(name, entry, frames_key(name), label_of(annotation), segment)


def _untrimmed(name: str, entry: dict[str, Any], samples: _Samples) -> None:
    label = label_of(entry["annotations"][0]) if entry["annotations"] else None
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
    duration, rate = entry["duration"], entry.get("fps", 0)
    if not (is_number(duration) and is_number(rate)):
        raise InputError("its duration or fps is no number")
    return 1, 1 + math.floor(duration * rate)
