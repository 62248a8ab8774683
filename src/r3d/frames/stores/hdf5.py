"""Frames as a file a video.

<store>/<key>.hdf5    dataset "video", one JPEG each, numbered from 0; the record an attribute;
                      behind its end our index (see `frameindex`)
"""

import io
import json
import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np

from r3d.errors import InputError, reason_of
from r3d.frames.stores.base import (
    NAME_ERRORS,
    DamagedFrames,
    Found,
    FrameStore,
    FrameWriter,
    VideoRecord,
    parse_record,
    unrecorded,
    unusable,
)
from r3d.frames.stores.frameindex import (
    DamagedFrame,
    frame_index,
    has_spoilt_index,
    read_indexed,
    read_record,
)
from r3d.frames.stores.hdf5child import RECORD_ATTRIBUTE
from r3d.frames.stores.hdf5process import Hdf5Error, read_elements, read_summary

_FRAMES_PER_WRITE = 128
_BYTES_PER_WRITE = 4 << 20
_JPEGS = h5py.vlen_dtype(np.uint8)


class Hdf5Store(FrameStore):
    """One file a video, one element of a vector a frame, numbered from 0.

    A file is opened for each read: worker processes have no open file to share by mistake. Our own
    files are read by the index at their end, without HDF5 (`frameindex`), others by another process
    (`hdf5process`).
    """

    file_type = "hdf5"
    _extension = ".hdf5"

    def read_flow(self, key: str, indices: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Horizontal (u) and vertical (v) optical flow as greyscale JPEGs, as `read`."""
        return self.read_flow_at(self.path(key), indices)

    def read_flow_at(
        self, path: str | Path, indices: Sequence[int]
    ) -> tuple[list[bytes], list[bytes]]:
        """As `read_flow`, from a file anywhere."""
        try:
            u, v = (_read_elements(path, name, indices) for name in ("video_u", "video_v"))
        except DamagedFrames as error:
            raise self.damaged(path, error.what) from None
        return u, v

    def adopt(self, key: str, record: VideoRecord) -> None:
        """Do nothing: a killed write would spoil the file, and its length is known at once."""

    def writer(self, partial: Path) -> FrameWriter:
        return _Hdf5Writer(self.folder, partial)

    def _read(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        if not indices:
            return []
        try:
            if (jpegs := read_indexed(path, indices)) is not None:
                return jpegs
        except DamagedFrame as error:
            raise DamagedFrames(path, str(error)) from None
        except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
            raise DamagedFrames(
                path, f"frames of video cannot be read ({reason_of(error)})"
            ) from None
        return _read_elements(path, "video", indices)

    def _trust(self, path: Path) -> None:
        """Do nothing: only checksums tell that frames were changed."""

    def _find(self, path: Path) -> Found | None:
        try:
            if (text := read_record(path)) is not None:
                return Found(parse_record(json.loads(text)))
            summary = read_summary(path)
            if summary.record is not None:
                if has_spoilt_index(path):
                    return Found(unusable(f"{path.name}: the index of its frames is damaged"))
                return Found(parse_record(json.loads(summary.record)))
        except FileNotFoundError:
            return None
        except (OSError, Hdf5Error, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NAME_ERRORS:
                return None  # no frames are there, nor can they get there
            return Found(unusable(f"{path.name} cannot be read: {reason_of(error)}"))
        # Half a file of the reference has its full length, with empty frames at the end.
        if not summary.last:
            return Found(unusable(f"{path.name}: the last frames are missing"))
        return Found(unrecorded(summary.frames, summary.first, f"{path.name}: frame 0"))


class _Hdf5Writer(FrameWriter):
    def _open(self) -> None:
        self._target = _PatientFile(self._partial)
        self._file = h5py.File(self._target, "w")
        self._frames = self._file.create_dataset(
            "video", (0,), maxshape=(None,), chunks=(_FRAMES_PER_WRITE,), dtype=_JPEGS
        )
        self._pending: list[np.ndarray] = []
        self._pending_bytes = 0
        self._checksums = array("L")

    def _append(self, jpeg: bytes) -> None:
        self._pending.append(np.frombuffer(jpeg, np.uint8))
        self._pending_bytes += len(jpeg)
        self._checksums.append(crc32(jpeg))
        if len(self._pending) == _FRAMES_PER_WRITE or self._pending_bytes > _BYTES_PER_WRITE:
            self._flush()

    def _commit(self, target: Path, record: dict[str, Any]) -> None:
        text = json.dumps(record)
        self._flush()
        self._file.attrs[RECORD_ATTRIBUTE] = text
        self._file.flush()
        self._target.check()
        descriptor = self._target.fileno()
        index = frame_index(descriptor, self._frames, self._checksums, text)
        self._file.close()
        self._target.check()
        with self._partial.open("ab") as file:
            file.write(index)
            file.flush()
            os.fsync(file.fileno())
        _refuse_flow(target)
        self._partial.replace(target)

    def _discard(self) -> None:
        self._file.close()
        self._target.close()
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
        self._pending, self._pending_bytes = [], 0
        self._target.check()


class _PatientFile(io.RawIOBase):
    """The file that HDF5 writes to, which to it never fails.

    After a failure to write, a full disk say, HDF5 may crash the process. So a failure is kept for
    us, and what HDF5 still writes then, until it has closed the file, is kept in memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []
        self._at = 0

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error:
            raise self._error

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += os.fstat(self.fileno()).st_size
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        view = memoryview(data)
        done = 0
        try:
            while not self._error and done < len(view):
                done += os.pwrite(self.fileno(), view[done:], self._at + done)
        except OSError as error:
            self._error = error
        if done < len(view):
            self._kept.append((self._at + done, bytes(view[done:])))
        self._at += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        begin, end = self._at, self._at + len(view)
        found = os.pread(self.fileno(), len(view), begin)
        view[:] = found + bytes(len(view) - len(found))
        for at, data in self._kept:
            first, last = max(at, begin), min(at + len(data), end)
            if first < last:
                view[first - begin : last - begin] = data[first - at : last - at]
        self._at = end
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        try:
            if not self._error:
                os.ftruncate(self.fileno(), size)
        except OSError as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Do nothing: what is written goes to the system at once."""

    def close(self) -> None:
        self._file.close()
        super().close()


def _refuse_flow(path: Path) -> None:
    flow = False
    if path.exists():
        with suppress(Hdf5Error):
            flow = read_summary(path).flow
    if flow:
        raise InputError(
            f"{path}: its frames are to be made anew, but it holds optical flow, which cannot "
            "be; give another folder for the frames, or the options that it was made with"
        )


def _read_elements(path: str | Path, name: str, indices: Sequence[int]) -> list[bytes]:
    if not indices:
        return []
    try:
        jpegs = read_elements(path, name, indices)
    except Hdf5Error as error:
        if not error.damaged:
            raise InputError(f"{path}: {error}") from None
        raise DamagedFrames(path, f"frames of {name} cannot be read ({error})") from None
    for index, jpeg in zip(indices, jpegs, strict=True):
        if not jpeg:
            raise DamagedFrames(path, f"frame {index} of {name} is empty")
    return jpegs
