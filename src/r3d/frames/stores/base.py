"""What every frame store is and does, whatever its layout.

Beside the frames stands a record of how they were made (`VideoRecord`). Frames that the reference
made have none.
"""

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self
from zlib import crc32

import simplejpeg

from r3d.errors import InputError, reason_of
from r3d.frames.jpegs import check_jpeg, frame_size
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.stores.marks import DAMAGED, is_marked, mark, marked_names, unmark

PARTIAL = ".partial"
"""The folder in a store for what is not complete yet."""

_MAX_NAME_BYTES = 255
_DIGEST_CHARACTERS = 16
_FRAMES_PER_CHECK = 64
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""What systems say of a name that they do not take."""


class NameRefused(InputError):
    """The file system takes no file of this name: a matter of one video."""


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


class DamagedFrames(Exception):
    """Frames of a video cannot be read: `what` is wrong with a `file`."""

    def __init__(self, file: str | Path, what: str) -> None:
        super().__init__(file, what)
        self.file = str(file)
        self.what = what


class Found(NamedTuple):
    """The record of a video as it lies in the store.

    crc32: of all frames, one after the other, as they were written; None where nothing says it, or
        the store checks frames as it reads them.
    suspect: whether the frames look as if someone had changed them since.
    """

    record: VideoRecord
    crc32: int | None = None
    suspect: bool = False


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
        """Put the frames and their record in place, instead of any that are there.

        Another process may do the same at the same moment: then those of one of them stay.

        Raises:
            NameRefused: if the file system takes no such name.
        """
        with writing(self._store):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._commit(target, asdict(record))
            except OSError as error:
                if error.errno not in NAME_ERRORS:
                    raise
                raise NameRefused(
                    f"no frames can be kept under the name {target.name!r}: {reason_of(error)}; "
                    "rename the video"
                ) from error
        unmark(target)

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _append(self, jpeg: bytes) -> None: ...

    @abstractmethod
    def _commit(self, target: Path, record: dict[str, Any]) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


class FrameStore(ABC):
    """A folder of frames; `r3d.frames.stores.open_store` makes the one for a layout."""

    file_type: ClassVar[FileType]
    _extension: ClassVar[str] = ""  # of what is at the path of a video

    def __init__(self, folder: Path, *, lent: bool = False) -> None:
        self.folder = folder
        self._lent = lent

    def path(self, key: str) -> Path:
        """Where the frames of a video are.

        Raises:
            InputError: if that would be outside the store.
        """
        parts = key.split("/")
        if any(part in ("", ".", "..", PARTIAL, DAMAGED) for part in parts) or "\0" in key:
            raise InputError(
                f"{self.folder}: the key {key!r} is no place in the store; "
                "accepted are names joined by '/', such as 'label/video'"
            )
        name = parts[-1] + self._extension
        if len(key) + len(self._extension) > _MAX_NAME_BYTES // 4:  # bytes of a character
            name = _fitting(parts[-1], self._extension)
            parts = [_fitting(part) for part in parts]
        return self.folder.joinpath(*parts[:-1], name)

    def read(self, key: str, indices: Sequence[int]) -> list[bytes]:
        """The JPEGs of the frames with these numbers, as the store counts them.

        Raises:
            InputError: naming the frame that is missing or cannot be read.
        """
        return self.read_at(self.path(key), indices)

    def read_at(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        """As `read`, from a folder or file anywhere (`video_path` of an annotation)."""
        try:
            return self._read(path, indices)
        except DamagedFrames as error:
            raise self.damaged(path, error.what, file=error.file) from None

    def record(self, key: str, *, verify: bool = False) -> VideoRecord | None:
        """What is known of the frames of a video; None if there are none.

        Whether all frames are there, and of the size that they had, is looked at each time, and
        with `verify`, or where they were met damaged or changed, whether they are what was written,
        or decode where nothing says that. Else the record has 0 frames and says what is wrong.
        Frames without a record are counted, once if the store can be written.
        """
        path = self.path(key)
        found = self._find(path)
        if found is None or not found.record.frames:
            return found and found.record
        if verify or found.suspect or is_marked(path):
            damage = self._damage(path, found)
            if damage:
                self._mark(path, damage)
                return unusable(damage)
            if not self._lent:
                unmark(path)
                if found.suspect:
                    self._trust(path)
        return found.record

    def record_at(self, path: str | Path) -> VideoRecord | None:
        """What is noted of frames anywhere, which are not verified; None if there are none."""
        found = self._find(Path(path))
        return found.record if found and found.record.frames else None

    def marked(self, keys: Iterable[str]) -> list[str]:
        """Those of the videos whose frames were met damaged since they were last made or checked.

        It takes one look into each folder of the store, not one for each video.
        """
        names: dict[Path, set[str]] = {}
        marked = []
        for key in keys:
            path = self.path(key)
            if path.parent not in names:
                names[path.parent] = marked_names(path.parent)
            if path.name in names[path.parent]:
                marked.append(key)
        return marked

    def damaged(self, path: str | Path, what: str, *, file: str = "") -> InputError:
        """The error that says what is wrong with the frames at a path, which are marked.

        What the error advises then helps: the next extraction finds the mark.

        Args:
            file: the one that is meant, if that is not the path.
        """
        path = Path(path)
        remedy = "extract the video again"
        # A path that leads nowhere may be a mistake of a person: nothing is written there.
        known = os.path.lexists(path) or (self.folder / PARTIAL).is_dir()
        if "\0" in str(path) or not known or not self._mark(path, what):
            remedy += ", with r3d frames --verify"
        return InputError(f"{file or path}: {what}; {remedy}")

    def _mark(self, path: Path, what: str) -> bool:
        """Have the next extraction look at frames; whether it will."""
        return not self._lent and mark(path, what)

    @abstractmethod
    def adopt(self, key: str, record: VideoRecord) -> None:
        """Remember what was found out about frames that came without a record, where possible."""

    @abstractmethod
    def writer(self, partial: Path) -> FrameWriter:
        """A writer that works under the name `partial` in a `partial_folder` of this store."""

    @abstractmethod
    def _read(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        """As `read_at`.

        Raises:
            DamagedFrames: if a frame cannot be read.
            InputError: if the frames are of another kind.
        """

    @abstractmethod
    def _find(self, path: Path) -> Found | None:
        """What a look at the frames of a video tells, without reading them all."""

    @abstractmethod
    def _trust(self, path: Path) -> None:
        """Remember that frames that looked changed are right, where possible."""

    def _damage(self, path: Path, found: Found) -> str:
        """What is wrong with the frames of a video, "" if nothing is: reads all of them."""
        record, first = found.record, FIRST_FRAME[self.file_type]
        checksum = 0
        for begin in range(first, first + record.frames, _FRAMES_PER_CHECK):
            indices = range(begin, min(begin + _FRAMES_PER_CHECK, first + record.frames))
            try:
                jpegs = self._read(path, indices)
            except DamagedFrames as error:
                return f"{Path(error.file).name}: {error.what}"
            for index, jpeg in zip(indices, jpegs, strict=True):
                checksum = crc32(jpeg, checksum)
                if found.crc32 is None:
                    try:
                        height, width = check_jpeg(jpeg)
                    except ValueError as error:
                        return f"frame {index}: {reason_of(error)}"
                    if (width, height) != (record.width, record.height):
                        return f"frame {index} is of another size than the first"
        if found.crc32 not in (None, checksum):
            return "the frames are not those that were extracted"
        return ""


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


def parse_record(stored: Any) -> VideoRecord:
    """A record as it lies in a store.

    Raises:
        ValueError: if it is none.
    """
    try:
        record = VideoRecord(**stored)
    except TypeError:
        raise ValueError("is no record of a video") from None
    numbers = (record.frames, record.width, record.height)
    if (
        not all(isinstance(text, str) for text in (record.status, record.reason))
        or not all(type(number) is int and number > 0 for number in numbers)
        or type(record.fps) not in (type(None), int, float)
        or not isinstance(record.made_from, dict | None)
    ):
        raise ValueError("is no record of a video")
    return record


def unrecorded(frames: int, first: bytes, name: str) -> VideoRecord:
    try:
        height, width = frame_size(first)
    except ValueError as error:
        return unusable(f"{name} is no JPEG that can be used: {reason_of(error)}")
    return VideoRecord("ok", "", frames, None, width, height, None)


def unusable(reason: str) -> VideoRecord:
    return VideoRecord("corrupt", reason, 0, None, 0, 0, None)


def _fitting(name: str, extension: str = "") -> str:
    """A name with its extension, shortened if file systems take no name as long.

    What is left ends in a digest, so that no two names become one.
    """
    room = _MAX_NAME_BYTES - len(extension)
    encoded = name.encode(errors="backslashreplace")
    if len(encoded) <= room:
        return name + extension
    digest = hashlib.sha256(encoded).hexdigest()[:_DIGEST_CHARACTERS]
    head = encoded[: room - _DIGEST_CHARACTERS - 1].decode(errors="ignore")
    return f"{head}~{digest}{extension}"
