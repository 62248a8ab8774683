"""Frames as a file a video.

<store>/<key>.hdf5    dataset "video", one JPEG each, numbered from 0; the record an attribute
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5p, h5s

from r3d.errors import InputError, reason_of
from r3d.frames.stores.base import (
    FrameStore,
    FrameWriter,
    VideoRecord,
    unrecorded,
    unusable,
)
from r3d.frames.stores.frameindex import frame_index, read_indexed

_RECORD_ATTRIBUTE = "record"
_FRAMES_PER_WRITE = 128
_MEMORY_STEP_BYTES = 1 << 20
_JPEGS = h5py.vlen_dtype(np.uint8)
_READING = h5p.create(h5p.FILE_ACCESS)
_READING.set_fclose_degree(h5f.CLOSE_STRONG)  # with the file, all that was opened in it
_READING.set_file_locking(False, True)  # some network file systems refuse locks


class Hdf5Store(FrameStore):
    """One file a video, one element of a vector a frame, numbered from 0.

    A file is opened for each read: worker processes have no open file to share by mistake. The
    frames of our own files are read by the index at their end, without HDF5 (`frameindex`).
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
                    return unusable(f"{path.name}: the last frames are missing")
                return unrecorded(len(frames), frames[0].tobytes(), f"{path.name}: frame 0")
        except FileNotFoundError:
            return None
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            return unusable(f"{path.name} cannot be read: {reason_of(error)}")

    def adopt(self, key: str, record: VideoRecord) -> None:
        """Do nothing: a killed write would spoil the file, and its length is read at once."""

    def writer(self, partial: Path) -> FrameWriter:
        return _Hdf5Writer(self.folder, partial)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.hdf5"


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
            f"{path}: frames of {name} cannot be read ({reason_of(error)}); extract the video again"
        ) from error
    for index, jpeg in zip(indices, jpegs, strict=True):
        if not jpeg.size:
            raise InputError(f"{path}: frame {index} of {name} is empty; extract the video again")
    return [jpeg.tobytes() for jpeg in jpegs]
