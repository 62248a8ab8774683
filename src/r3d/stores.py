"""The frame stores: where the frames of videos lie as JPEGs, and how they get there whole.

Two layouts, those of the reference:

    jpg     <store>/<key>/image_00001.jpg ...   numbered from 1
    hdf5    <store>/<key>.hdf5                  dataset "video", one JPEG each, numbered from 0

Beside the frames stands a record of how they were made (`VideoRecord`): the hidden file .video.json
in the folder, or an attribute of the hdf5 file. Frames that the reference made have none.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import h5py
import numpy as np
import simplejpeg
from h5py import h5d, h5f, h5g, h5p, h5s

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frameindex import frame_index, read_indexed

FileType = Literal["jpg", "hdf5"]

_PARTIAL = ".partial"
_RECORD_FILE = ".video.json"
_RECORD_ATTRIBUTE = "record"
_DAYS_UNTIL_ABANDONED = 7
_FRAMES_PER_WRITE = 128
_MEMORY_STEP_BYTES = 1 << 20
_JPEGS = h5py.vlen_dtype(np.uint8)
_READING = h5p.create(h5p.FILE_ACCESS)
_READING.set_fclose_degree(h5f.CLOSE_STRONG)  # with the file, all that was opened in it
_READING.set_file_locking(False, True)  # some network file systems refuse locks


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
        with _writing(store):
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
        with _writing(self._store):
            self._append(jpeg)

    def commit(self, target: Path, record: VideoRecord) -> None:
        """Put the frames and their record in place, instead of any that are there."""
        with _writing(self._store):
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
    """A folder of frames; `open_store` makes the one for a layout."""

    file_type: ClassVar[FileType]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the frames of a video are.

        Raises:
            InputError: if that would be outside the store.
        """
        parts = key.split("/")
        if any(part in ("", ".", "..", _PARTIAL) for part in parts) or "\0" in key:
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


class JpgStore(FrameStore):
    """One folder a video, one file a frame, numbered from 1."""

    file_type = "jpg"

    def read_at(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        frames: dict[int, bytes] = {}
        for index in indices:
            if index not in frames:
                frames[index] = _read_file(f"{path}/{_file_name(index)}")
        return [frames[index] for index in indices]

    def record(self, key: str) -> VideoRecord | None:
        folder = self.path(key)
        try:
            return VideoRecord(**json.loads((folder / _RECORD_FILE).read_bytes()))
        except FileNotFoundError:
            record = self._count(folder)
        except (ValueError, TypeError):
            return _unusable(f"its {_RECORD_FILE} is not readable")
        except OSError as error:
            raise InputError(
                f"{folder}: the frames cannot be read ({error.strerror}); expected a folder that "
                "this user may read"
            ) from None
        if record and record.frames:
            self.adopt(key, record)
        return record

    def adopt(self, key: str, record: VideoRecord) -> None:
        # A store that others lend may be read-only: then its frames are counted again next time.
        with suppress(OSError), atomic_path(self.path(key) / _RECORD_FILE) as partial:
            partial.write_text(json.dumps(asdict(record)), encoding="utf-8")

    def _count(self, folder: Path) -> VideoRecord | None:
        try:
            names = {entry.name for entry in os.scandir(folder)}
        except FileNotFoundError:
            return None
        count = sum(1 for name in names if re.fullmatch(r"image_\d{5,}\.jpg", name))
        if not count:
            return None
        for index in range(1, count + 1):
            if _file_name(index) not in names:
                return _unusable(f"{_file_name(index)} is missing")
        first = _file_name(1)
        return _unrecorded(count, (folder / first).read_bytes(), first)

    def writer(self, partial: Path) -> FrameWriter:
        return _JpgWriter(self.folder, partial)

    def _path(self, key: str) -> Path:
        return self.folder / key


class Hdf5Store(FrameStore):
    """One file a video, one element of a vector a frame, numbered from 0.

    A file is opened for each read: worker processes have no open file to share by mistake. The
    frames of our own files are read by the index at their end, without HDF5 (`r3d.frameindex`).
    """

    file_type = "hdf5"

    def read_at(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        if not indices:
            return []
        with suppress(OSError, ValueError):  # HDF5 is to say what is wrong
            if (jpegs := read_indexed(path, indices)) is not None:
                return jpegs
        return _read_elements(str(path), "video", indices)

    def read_flow(self, key: str, indices: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Horizontal (u) and vertical (v) optical flow as greyscale JPEGs, as `read`."""
        return self.read_flow_at(self.path(key), indices)

    def read_flow_at(
        self, path: str | Path, indices: Sequence[int]
    ) -> tuple[list[bytes], list[bytes]]:
        """As `read_flow`, from a file anywhere."""
        u = _read_elements(str(path), "video_u", indices)
        v = _read_elements(str(path), "video_v", indices)
        return u, v

    def record(self, key: str) -> VideoRecord | None:
        path = self.path(key)
        try:
            with h5py.File(path, "r", locking=False) as file:
                if _RECORD_ATTRIBUTE in file.attrs:
                    return VideoRecord(**json.loads(file.attrs[_RECORD_ATTRIBUTE]))
                frames = file["video" if "video" in file else "video_u"]
                # Half a file of the reference has its full length, with empty frames at the end.
                if not len(frames) or not frames[-1].size:
                    return _unusable(f"{path.name}: the last frames are missing")
                return _unrecorded(len(frames), frames[0].tobytes(), f"{path.name}: frame 0")
        except FileNotFoundError:
            return None
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            return _unusable(f"{path.name} cannot be read: {_one_line(error)}")

    def adopt(self, key: str, record: VideoRecord) -> None:
        """Do nothing: a killed write would spoil the file, and its length is read at once."""

    def writer(self, partial: Path) -> FrameWriter:
        return _Hdf5Writer(self.folder, partial)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.hdf5"


_STORES: dict[FileType, type[FrameStore]] = {"jpg": JpgStore, "hdf5": Hdf5Store}


def open_store(folder: Path, file_type: FileType) -> FrameStore:
    """The store in a folder, of the layout "jpg" or "hdf5"."""
    return _STORES[file_type](folder)


@contextmanager
def partial_folder(store: Path) -> Iterator[Path]:
    """A folder in .partial inside the store for what is not complete yet, removed at the end.

    Those that dead processes left behind are removed too. A process holds a lock on a file beside
    its folder, which the system releases however it ends.
    """
    root = store / _PARTIAL
    with _writing(store):
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        folder = root / f"{os.getpid()}-{secrets.token_hex(4)}@{socket.gethostname()}"
        # The lock is taken before it has the name by which others find it.
        unlocked = folder.with_name(f"{folder.name}.new")
        descriptor = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        with _writing(store):
            _lock(descriptor)
            unlocked.rename(_lock_file(folder))
            folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in (unlocked, _lock_file(folder)):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    for lock in root.glob("*.lock"):
        with suppress(OSError):  # a live process holds it, or another has just removed it
            # Not every network file system passes locks on to other machines.
            ours = lock.stem.partition("@")[2] == socket.gethostname()
            age_days = (time.time() - lock.stat().st_mtime) / 86_400
            if not ours and age_days < _DAYS_UNTIL_ABANDONED:
                continue
            descriptor = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    with suppress(OSError):  # no locks on this file system: then nobody removes what is left
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


class _JpgWriter(FrameWriter):
    def _open(self) -> None:
        self._partial.mkdir()

    def _append(self, jpeg: bytes) -> None:
        with open(f"{self._partial}/{_file_name(self.frames)}", "wb") as file:  # noqa: PTH123
            file.write(jpeg)

    def _commit(self, target: Path, record: str) -> None:
        (self._partial / _RECORD_FILE).write_text(record, encoding="utf-8")
        former = self._partial.with_name(f"{self._partial.name}.former")
        with suppress(FileNotFoundError):
            target.rename(former)
        self._partial.rename(target)
        shutil.rmtree(former, ignore_errors=True)

    def _discard(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


class _Hdf5Writer(FrameWriter):
    """Builds the file in memory: after a failure to write, HDF5 may crash the process."""

    def _open(self) -> None:
        self._file = h5py.File(
            self._partial, "w", driver="core", backing_store=False, block_size=_MEMORY_STEP_BYTES
        )
        self._frames = self._file.create_dataset(
            "video", (0,), maxshape=(None,), chunks=(_FRAMES_PER_WRITE,), dtype=_JPEGS
        )
        self._pending: list[np.ndarray] = []

    def _append(self, jpeg: bytes) -> None:
        self._pending.append(np.frombuffer(jpeg, np.uint8))
        if len(self._pending) == _FRAMES_PER_WRITE:
            self._flush()

    def _commit(self, target: Path, record: str) -> None:
        self._flush()
        self._file.attrs[_RECORD_ATTRIBUTE] = record
        self._file.flush()
        image = self._file.id.get_file_image()
        with self._partial.open("wb") as file:
            file.write(image)
            file.write(frame_index(image, self._frames))
        _refuse_flow(target)
        self._partial.replace(target)

    def _discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        # Assignment would take frames of equal length for a matrix.
        frames = np.empty(len(self._pending), dtype=_JPEGS)
        for i, jpeg in enumerate(self._pending):
            frames[i] = jpeg
        begin = len(self._frames)
        self._frames.resize((begin + len(frames),))
        self._frames.write_direct(frames, dest_sel=np.s_[begin:])
        self._pending = []


def _refuse_flow(path: Path) -> None:
    with suppress(OSError), h5py.File(path, "r", locking=False) as file:
        if "video_u" in file:
            raise InputError(
                f"{path}: its frames are to be made anew, but it holds optical flow, which cannot "
                "be; give another folder for the frames, or the options that it was made with"
            )


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    """Make an obstacle to writing the person's business: it is no fault of any video."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"frames cannot be written to {store}: {_one_line(error)}; "
            "make room or rights there, or choose another folder for the frames"
        ) from error


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a Path each costs time)
            jpeg = file.read()
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise InputError(
            f"{path}: the frame cannot be read ({_one_line(error)}); extract the video again"
        ) from None
    if not jpeg:
        raise InputError(f"{path}: the frame is empty; extract the video again")
    return jpeg


def _read_elements(path: str, name: str, indices: Sequence[int]) -> list[bytes]:
    """Read elements of a vector of JPEGs in any order, in one call."""
    if not indices:
        return []
    jpegs = np.empty(len(indices), dtype=_JPEGS)
    try:
        file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _READING)
        try:
            if name.encode() not in h5g.open(file, b"/"):
                raise InputError(
                    f"{path}: has no {name}; frames in colour are video, those of optical flow "
                    "(input_type: flow), which r3d frames does not make, video_u and video_v"
                )
            dataset = h5d.open(file, name.encode())
            space = dataset.get_space()
            for index in indices:
                if not 0 <= index < space.shape[0]:
                    raise InputError(
                        f"{path}: no frame {index} in {name}; "
                        f"accepted are 0 to {space.shape[0] - 1}"
                    )
            space.select_elements([(index,) for index in indices])
            dataset.read(h5s.create_simple(jpegs.shape), space, jpegs)
        finally:
            file.close()
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: frames of {name} cannot be read ({_one_line(error)}); extract the video again"
        ) from error
    for index, jpeg in zip(indices, jpegs, strict=True):
        if not jpeg.size:
            raise InputError(f"{path}: frame {index} of {name} is empty; extract the video again")
    return [jpeg.tobytes() for jpeg in jpegs]


def _file_name(index: int) -> str:
    return f"image_{index:05d}.jpg"


def _unrecorded(frames: int, first: bytes, name: str) -> VideoRecord:
    try:
        height, width = simplejpeg.decode_jpeg_header(first)[:2]
    except ValueError:
        return _unusable(f"{name} is no JPEG")
    return VideoRecord("ok", "", frames, None, width, height, None)


def _unusable(reason: str) -> VideoRecord:
    return VideoRecord("corrupt", reason, 0, None, 0, 0, None)


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
