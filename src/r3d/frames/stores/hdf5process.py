"""HDF5 files that have no index of ours, read by another process that may be ended.

HDF5 may go round for ever on a damaged file, with the interpreter lock held: no timeout in this
process would end it. So files are opened by a helper (`hdf5child`), started when it is first
needed and kept. It ends itself when a request takes it too long, and when this process ends.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from r3d.errors import reason_of
from r3d.frames.stores import hdf5child

_WAIT_SECONDS = 120  # for a slow disk; what computes for long ends itself much sooner
_PIPE_BYTES = 1 << 18


class Hdf5Error(Exception):
    """A file cannot be read.

    damaged: whether it is likely to be damaged, rather than one that holds other things.
    """

    def __init__(self, reason: str, *, damaged: bool) -> None:
        super().__init__(reason)
        self.damaged = damaged


@dataclass(frozen=True)
class Hdf5Summary:
    """What a file says of its frames.

    record: as our writer leaves it, JSON; the rest is of files without one.
    flow: whether the frames are optical flow.
    """

    record: str | None
    frames: int
    first: bytes
    last: bytes
    flow: bool


def read_elements(path: str | Path, name: str, indices: Sequence[int]) -> list[bytes]:
    """Elements of the vector of JPEGs of this name.

    Raises:
        Hdf5Error: if they cannot be read.
    """
    return _helper.ask({"path": str(path), "read": name, "indices": [int(i) for i in indices]})[1]


def read_summary(path: Path) -> Hdf5Summary:
    """What a file says of itself.

    Raises:
        Hdf5Error: if it cannot be read.
    """
    answer, jpegs = _helper.ask({"path": str(path)})
    first, last = jpegs or (b"", b"")
    flow = bool(answer.get("flow"))
    return Hdf5Summary(answer["record"], answer["frames"], first, last, flow)


class _Helper:
    """A process that answers, one request at a time; another one after it has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._status = 0  # of the last one that ended
        # Files that HDF5 did not come back from, and their state then: it is not asked again.
        self._endless: dict[str, tuple[int, int]] = {}

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """The answer to a request, and the JPEGs with it."""
        path = request["path"]
        try:
            state = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError) as error:
            raise Hdf5Error(reason_of(error), damaged=True) from None
        version = (state.st_size, state.st_mtime_ns)
        with self._lock:
            answer = None
            if self._endless.get(path) != version:
                answer = self._try(request)
                if answer is None and self._status == -signal.SIGKILL:
                    answer = self._try(request)  # someone ended it from outside, or it lay dead
        if answer is None:
            self._endless[path] = version
            raise Hdf5Error("HDF5 comes to no end, or crashes", damaged=True)
        found, jpegs = answer
        if "error" in found:
            raise Hdf5Error(found["error"], damaged=not found["input"])
        return found, jpegs

    def _try(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]] | None:
        """An answer; None if the process ended over it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", hdf5child.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a terminal's interrupt is not for it
            )
            with suppress(AttributeError, OSError):  # Linux only, and not without limit
                # Room for a clip, so that the two take turns once.
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            answers = _Answers(process.stdout.fileno())
            answer = json.loads(answers.line())
            return answer, [answers.take(size) for size in answer.get("sizes", ())]
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                process.send_signal(signal.SIGPROF)  # as the system does after too much work
            self._status = process.wait()
            process.stdin.close()
            process.stdout.close()
            self._process = None
            return None


class _Answers:
    """What comes out of a pipe, waited for up to a limit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._deadline = time.monotonic() + _WAIT_SECONDS
        self._data = bytearray()

    def line(self) -> bytes:
        while (end := self._data.find(b"\n")) < 0:
            self._fill()
        line = self.take(end)
        del self._data[:1]
        return line

    def take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._fill()
        taken = bytes(memoryview(self._data)[:size])
        del self._data[:size]
        return taken

    def _fill(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0 or not self._poll.poll(left * 1000):
            raise TimeoutError
        data = os.read(self._descriptor, _PIPE_BYTES)
        if not data:
            raise EOFError
        self._data += data


_helper = _Helper()


def _forget() -> None:
    """A process that was forked from this one needs a helper of its own."""
    global _helper
    _helper = _Helper()


os.register_at_fork(after_in_child=_forget)
