"""Reading HDF5 files in a process of its own, which may be ended: see `hdf5process`.

It answers requests, each a line of JSON, with a line of JSON and the bytes that the line announces.
It stands by itself, as this file is the program. On a damaged file HDF5 may go round for ever, hold
the interpreter lock while it does so, crash, or ask for all memory.

    {"path": ..., "read": "video", "indices": [...]}   ->  {"sizes": [...]}
    {"path": ...}                                      ->  {"record": ..., "frames": ..., "sizes"...
                                                            ...: of the first and the last frame}
    either                                             ->  {"error": ..., "input": whether that is
                                                            no damage but another file than meant}
"""

import json
import os
import resource
import signal
import sys
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5l, h5p, h5s

RECORD_ATTRIBUTE = "record"
CPU_SECONDS = 2  # for a request; a thousandth more for each frame
_MEMORY_BYTES = 2 << 30
_JPEGS = h5py.vlen_dtype(np.uint8)
_READING = h5p.create(h5p.FILE_ACCESS)
_READING.set_fclose_degree(h5f.CLOSE_STRONG)  # with the file, all that was opened in it
_READING.set_file_locking(False, True)  # some network file systems refuse locks


class OtherFile(Exception):
    """A file that does not hold what is asked for, and is not damaged."""


def main() -> None:
    """Answer the requests on standard input until it ends, as it does with the one who asks."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_time(CPU_SECONDS + len(request.get("indices", ())) // 1000)
        answer, jpegs = _answer(request)
        # In one piece: each would wake the one who waits.
        sys.stdout.buffer.write(b"".join((json.dumps(answer).encode(), b"\n", *jpegs)))
        sys.stdout.buffer.flush()


def _limit_memory() -> None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY_BYTES,) * 2)
    except (OSError, ValueError):  # a system without that file, or with a lower limit
        pass


def _limit_time(seconds: int) -> None:
    """Have the system end this process when it computes for longer, whoever still waits for it.

    Counted from now: RLIMIT_CPU is of all that the process has computed by a clock that no program
    can read, which on a busy machine may be seconds ahead of the ones that it can.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    path = request["path"]
    try:
        file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _READING)
        try:
            if "indices" in request:
                jpegs = _read(file, request["read"], request["indices"])
                answer: dict[str, Any] = {}
            else:
                answer, jpegs = _summary(file)
        finally:
            file.close()
    except OtherFile as error:
        return {"error": str(error), "input": True}, []
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return {"error": text, "input": False}, []
    return {**answer, "sizes": [len(jpeg) for jpeg in jpegs]}, jpegs


def _summary(file: h5f.FileID) -> tuple[dict[str, Any], list[bytes]]:
    """The record, if there is one, else the number of frames, and the first and the last."""
    root = h5g.open(file, b"/")
    attributes = h5py.AttributeManager(h5py.Group(root))
    if RECORD_ATTRIBUTE in attributes:
        return {"record": str(attributes[RECORD_ATTRIBUTE]), "frames": 0}, []
    flow = b"video" not in root and b"video_u" in root
    name = "video_u" if flow else "video"
    n = _dataset(file, name).get_space().shape[0]
    jpegs = _read(file, name, [0, n - 1]) if n else []
    return {"record": None, "frames": n, "flow": flow}, jpegs


def _read(file: h5f.FileID, name: str, indices: list[int]) -> list[bytes]:
    """Elements of a vector of JPEGs in any order, in one call."""
    dataset = _dataset(file, name)
    space = dataset.get_space()
    for index in indices:
        if not 0 <= index < space.shape[0]:
            raise OtherFile(f"no frame {index} in {name}; accepted are 0 to {space.shape[0] - 1}")
    jpegs = np.empty(len(indices), dtype=_JPEGS)
    space.select_elements([(index,) for index in indices])
    dataset.read(h5s.create_simple(jpegs.shape), space, jpegs)
    return [jpeg.tobytes() for jpeg in jpegs]


def _dataset(file: h5f.FileID, name: str) -> h5d.DatasetID:
    """A vector of JPEGs in the file itself: a file from elsewhere may point to any other."""
    root = h5g.open(file, b"/")
    if name.encode() not in root:
        raise OtherFile(
            f"has no {name}; frames in colour are video, those of optical flow "
            "(input_type: flow), which r3d frames does not make, video_u and video_v"
        )
    if root.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise OtherFile(f"{name} is a link; accepted are frames in the file itself")
    dataset = h5d.open(root, name.encode())
    creation = dataset.get_create_plist()
    if creation.get_layout() == h5d.VIRTUAL or creation.get_external_count():
        raise OtherFile(f"{name} is kept in other files; accepted are frames in the file itself")
    base = h5py.check_vlen_dtype(dataset.dtype)
    if base != np.uint8 or len(dataset.shape) != 1:
        raise OtherFile(f"frames of {name} cannot be read: expected a vector of JPEGs")
    return dataset


if __name__ == "__main__":
    main()
