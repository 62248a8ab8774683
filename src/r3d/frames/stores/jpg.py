"""Frames as a folder a video.

<store>/<key>/image_00001.jpg ...   numbered from 1
<store>/<key>/.video.json           the record
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from r3d.errors import InputError, reason_of
from r3d.files import atomic_path
from r3d.frames.stores.base import (
    FrameStore,
    FrameWriter,
    VideoRecord,
    unrecorded,
    unusable,
)

_RECORD_FILE = ".video.json"


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
            return unusable(f"its {_RECORD_FILE} is not readable")
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
                return unusable(f"{_file_name(index)} is missing")
        first = _file_name(1)
        return unrecorded(count, (folder / first).read_bytes(), first)

    def writer(self, partial: Path) -> FrameWriter:
        return _JpgWriter(self.folder, partial)

    def _path(self, key: str) -> Path:
        return self.folder / key


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


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a Path each costs time)
            jpeg = file.read()
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise InputError(
            f"{path}: the frame cannot be read ({reason_of(error)}); extract the video again"
        ) from None
    if not jpeg:
        raise InputError(f"{path}: the frame is empty; extract the video again")
    return jpeg


def _file_name(index: int) -> str:
    return f"image_{index:05d}.jpg"
