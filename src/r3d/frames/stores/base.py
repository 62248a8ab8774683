"""What every frame store is and does, whatever its layout.

Beside the frames stands a record of how they were made (`VideoRecord`). Frames that the reference
made have none.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import simplejpeg

from r3d.errors import InputError, reason_of
from r3d.frames.layouts import FileType

PARTIAL = ".partial"
"""The folder in a store for what is not complete yet."""


@dataclass(frozen=True)
class VideoRecord:
    """The frames of one video: what a manifest says of them, and what they were made from.

    made_from: the state of the video file and the options; None for frames that came without a
        record, whose rate is not known either (None).
    """

    status: str
    reason: str
    frames: int
    fps: float | None
    width: int
    height: int
    made_from: dict[str, Any] | None


class FrameWriter(ABC):
    """Takes the JPEGs of one video in order; nothing is in the store before `commit`.

    Whatever hinders writing, a full disk above all, is an `InputError`.
    """

    def __init__(self, store: Path, partial: Path) -> None:
        self._store = store
        self._partial = partial
        self.frames = 0
        self.width = 0
        self.height = 0
        with writing(store):
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not committed."""
        self._discard()

    def append(self, jpeg: bytes) -> None:
        if not self.frames:
            self.height, self.width = simplejpeg.decode_jpeg_header(jpeg)[:2]
        self.frames += 1
        with writing(self._store):
            self._append(jpeg)

    def commit(self, target: Path, record: VideoRecord) -> None:
        """Put the frames and their record in place, instead of any that are there."""
        with writing(self._store):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._commit(target, json.dumps(asdict(record)))

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _append(self, jpeg: bytes) -> None: ...

    @abstractmethod
    def _commit(self, target: Path, record: str) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


class FrameStore(ABC):
    """A folder of frames; `r3d.frames.stores.open_store` makes the one for a layout."""

    file_type: ClassVar[FileType]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the frames of a video are.

        Raises:
            InputError: if that would be outside the store.
        """
        parts = key.split("/")
        if any(part in ("", ".", "..", PARTIAL) for part in parts) or "\0" in key:
            raise InputError(
                f"{self.folder}: the key {key!r} is no place in the store; "
                "accepted are names joined by '/', such as 'label/video'"
            )
        return self._path(key)

    def read(self, key: str, indices: Sequence[int]) -> list[bytes]:
        """The JPEGs of the frames with these numbers, as the store counts them.

        Raises:
            InputError: naming the frame that is missing or cannot be read.
        """
        return self.read_at(self.path(key), indices)

    @abstractmethod
    def read_at(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        """As `read`, from a folder or file anywhere (`video_path` of an annotation)."""

    @abstractmethod
    def record(self, key: str) -> VideoRecord | None:
        """What is known of the frames of a video; None if there are none.

        Frames without a record are counted, once if the store can be written. Are some missing, the
        record has 0 frames and says which is the first.
        """

    @abstractmethod
    def adopt(self, key: str, record: VideoRecord) -> None:
        """Remember what was found out about frames that came without a record, where possible."""

    @abstractmethod
    def writer(self, partial: Path) -> FrameWriter:
        """A writer that works under the name `partial` in a `partial_folder` of this store."""

    @abstractmethod
    def _path(self, key: str) -> Path: ...


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Make an obstacle to writing the person's business: it is no fault of any video."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"frames cannot be written to {store}: {reason_of(error)}; "
            "make room or rights there, or choose another folder for the frames"
        ) from error


def unrecorded(frames: int, first: bytes, name: str) -> VideoRecord:
    try:
        height, width = simplejpeg.decode_jpeg_header(first)[:2]
    except ValueError:
        return unusable(f"{name} is no JPEG")
    return VideoRecord("ok", "", frames, None, width, height, None)


def unusable(reason: str) -> VideoRecord:
    return VideoRecord("corrupt", reason, 0, None, 0, 0, None)
