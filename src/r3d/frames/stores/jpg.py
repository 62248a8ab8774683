"""Frames as a folder a video.

<store>/<key>/image_00001.jpg ...   numbered from 1
<store>/<key>/.video.json           the record; also the bytes of all frames and their CRC-32
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

from r3d.errors import InputError, reason_of
from r3d.files import atomic_path
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

_RECORD_FILE = ".video.json"
_FRAME = re.compile(r"image_\d{5,}\.jpg")
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_TURNS = 1000  # of those who put frames into the same place


class JpgStore(FrameStore):
    """One folder a video, one file a frame, numbered from 1."""

    file_type = "jpg"

    def adopt(self, key: str, record: VideoRecord) -> None:
        path = self.path(key)
        with suppress(OSError, KeyError):
            states = _frames_in(path)
            self._note(path, record, sum(states[name].st_size for name in _names(record.frames)))

    def writer(self, partial: Path) -> FrameWriter:
        return _JpgWriter(self.folder, partial)

    def _read(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        frames: dict[int, bytes] = {}
        for index in indices:
            if index not in frames:
                frames[index] = _read_file(f"{path}/{_file_name(index)}")
        return [frames[index] for index in indices]

    def _find(self, path: Path) -> Found | None:
        try:
            states = _frames_in(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in NAME_ERRORS:  # no frames are there, nor can they get there
                return None
            raise InputError(
                f"{path}: the frames cannot be read ({error.strerror}); expected a folder that "
                "this user may read"
            ) from None
        try:
            stored = json.loads((path / _RECORD_FILE).read_bytes())
            written_ns = (path / _RECORD_FILE).stat().st_mtime_ns
            n_bytes, checksum = stored.pop("bytes", None), stored.pop("crc32", None)
            record = parse_record(stored)
        except FileNotFoundError:
            return self._count(path, states)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return Found(unusable(f"its {_RECORD_FILE} is not readable"))
        names = _names(min(record.frames, len(states) + 1))  # with the first that is missing
        if gap := _gap(states, names):
            return Found(unusable(gap))
        found = [states[name] for name in names]
        if n_bytes not in (None, sum(state.st_size for state in found)):
            return Found(unusable("the frames have other lengths than when they were made"))
        # A copy may have given all files the time when they were copied, in any order.
        changed = max(state.st_mtime_ns for state in found) > written_ns
        return Found(record, checksum, suspect=changed)

    def _count(self, path: Path, states: dict[str, os.stat_result]) -> Found | None:
        """What frames without a record are; they get one where possible."""
        if not states:
            return None
        names = _names(len(states))
        if gap := _gap(states, names):
            return Found(unusable(gap))
        record = unrecorded(len(names), (path / names[0]).read_bytes(), names[0])
        if record.frames:
            self._note(path, record, sum(state.st_size for state in states.values()))
        return Found(record)

    def _note(self, path: Path, record: VideoRecord, n_bytes: int) -> None:
        if self._lent:
            return
        # Another one may be read-only, too: then its frames are counted again next time.
        with (
            suppress(OSError),
            atomic_path(path / _RECORD_FILE) as partial,
            partial.open("w") as file,
        ):
            json.dump({**asdict(record), "bytes": n_bytes}, file)
            file.flush()
            os.fsync(file.fileno())

    def _trust(self, path: Path) -> None:
        with suppress(OSError):
            os.utime(path / _RECORD_FILE)


class _JpgWriter(FrameWriter):
    def _open(self) -> None:
        self._former = self._partial.with_name(f"{self._partial.name}.former")
        self._partial.mkdir()
        self._bytes = self._crc32 = 0

    def _append(self, jpeg: bytes) -> None:
        self._bytes += len(jpeg)
        self._crc32 = crc32(jpeg, self._crc32)
        with open(f"{self._partial}/{_file_name(self.frames)}", "wb") as file:  # noqa: PTH123
            file.write(jpeg)

    def _commit(self, target: Path, record: dict[str, Any]) -> None:
        stored = {**record, "bytes": self._bytes, "crc32": self._crc32}
        (self._partial / _RECORD_FILE).write_text(json.dumps(stored), encoding="utf-8")
        for turn in range(_TURNS):
            try:
                self._partial.rename(target)
                break
            except OSError as error:
                # There are frames, perhaps since a moment, as others make them too.
                if error.errno not in _TAKEN or turn + 1 == _TURNS:
                    raise
            self._former.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                target.rename(self._former / str(turn))
        shutil.rmtree(self._former, ignore_errors=True)

    def _discard(self) -> None:
        for folder in (self._partial, self._former):
            shutil.rmtree(folder, ignore_errors=True)


def _frames_in(path: Path) -> dict[str, os.stat_result]:
    """The state of all frames in a folder, by their names."""
    # By the folder's descriptor, the system need not find the folder for each frame anew.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            return {entry.name: entry.stat() for entry in entries if _is_frame(entry)}
    finally:
        os.close(descriptor)


def _is_frame(entry: os.DirEntry[str]) -> bool:
    return _FRAME.fullmatch(entry.name) is not None and entry.is_file()


def _names(n: int) -> list[str]:
    return [_file_name(index) for index in range(1, n + 1)]


def _gap(states: dict[str, os.stat_result], names: Sequence[str]) -> str:
    """Which of the frames is missing or empty, "" if none is."""
    for name in names:
        state = states.get(name)
        if state is None:
            return f"{name} is missing"
        if not state.st_size:
            return f"{name} is empty"
    return ""


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a Path each costs time)
            jpeg = file.read()
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise DamagedFrames(path, f"the frame cannot be read ({reason_of(error)})") from None
    if not jpeg:
        raise DamagedFrames(path, "the frame is empty")
    return jpeg


def _file_name(index: int) -> str:
    return f"image_{index:05d}.jpg"
