"""What a video file is: what its container states, and what the stamps of its packets show."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from r3d.errors import InputError

PROTOCOLS = "file"
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,kux,mpegts,mpeg,mpegvideo,m4v,"
    "h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,vc1test,dirac,mjpeg,mjpeg_2000,ogg,rm,gif,apng,dv,"
    "mxf,nut,gxf,wtv,yuv4mpegpipe,swf,nsv,dhav,nuv"
)
"""Formats whose files hold a video themselves, as ffmpeg calls them: a video is data from
strangers, and playlists, scripts and patterns of pictures make ffmpeg open other files."""

ROUNDING_SECONDS = 1e-3
"""A time stamp that is before a segment's edge by less was rounded, and lies on it."""

_SERVER = Path(__file__).with_name("probe_server.py")

FALLBACK_RATE = Fraction(25)  # what ffmpeg takes where a container states no rate

_FOREIGN_MATRICES = {1: "bt709", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}

_ATTEMPTS = 3
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class VideoError(Exception):
    """A video without usable frames: `status` as in the manifest, `reason` in one line."""

    def __init__(self, status: Literal["missing", "empty", "corrupt"], reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """A video's best stream, as stated by its container and as found; None for what is open.

    rate: frames per second at which ffmpeg decodes it (a constant one, also for variable rates).
    seconds: stated duration of the stream.
    frames: stated number of frames at that rate.
    stream: its number in the file.
    alone: whether it is the only stream of the file.
    matrix: of its colours, as ISO/IEC 23091-4 numbers them (2 for not stated).
    zero: the time stamp in seconds from which `start` and `end` count.
    tick: the unit of time stamps, in seconds.
    counted: whether the stamps count coded frames, of which some are shown late (AVI): those of
        decoded frames are then off by a few, which are the same all over the file.
    seek: seconds from there at which decoding a segment may begin; None for the file's beginning.
    coded: coded frames of the segment, or of the file.
    unstamped: those of them without a time stamp.
    first, last: the earliest and latest of their time stamps, in seconds from zero.
    pause: the longest time between two neighbouring ones, in seconds.
    interval: the mean time between those that follow one another, leaving out jumps.
    numbers: of the first frame of the segment and of the one after it, counted from the beginning
        of the file, where time stamps are lacking or those of other frames; None where they are
        to be trusted.
    unread: what is behind the last frame that is read, and what to do; None for nothing.
    """

    rate: Fraction | None
    seconds: float | None
    frames: int | None
    stream: int = 0
    alone: bool = True
    matrix: int = 2
    zero: Fraction = Fraction(0)
    tick: Fraction = Fraction(1, 90_000)
    counted: bool = False
    seek: float | None = None
    coded: int = 0
    unstamped: int = 0
    first: float | None = None
    last: float | None = None
    pause: float = 0.0
    interval: float | None = None
    numbers: tuple[int, int] | None = None
    unread: str | None = None

    @property
    def foreign_matrix(self) -> str | None:
        """ffmpeg's name of the matrix of the colours where it is not that of JPEG, BT.601's."""
        return _FOREIGN_MATRICES.get(self.matrix)


def probe(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    timeout_seconds: float = 60.0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> VideoInfo:
    """Open a video, in another process, and read the time stamps of a segment of it.

    Args:
        start, end: seconds; None for the beginning and the end.

    Raises:
        VideoError: if it cannot be opened (corrupt), within bounds of time and memory, or has no
            video stream (empty).
        InputError: if the process was killed from outside, several times.
        CancelledError: if it was cancelled.
    """
    request = {
        "path": str(path.absolute()),  # the process may stand elsewhere
        "begin": None if start is None else start - ROUNDING_SECONDS,
        "until": None if end is None else end - ROUNDING_SECONDS,
        "options": {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS},
        "timeout_seconds": timeout_seconds,
    }
    number = 0
    for _ in range(_ATTEMPTS):
        deadline = time.monotonic() + timeout_seconds + _GRACE_SECONDS
        reply = _ask(request, deadline, is_cancelled)
        if "coded" in reply:
            for name in ("rate", "zero", "tick"):
                reply[name] = reply[name] and Fraction(*reply[name])
            return _with_frames(VideoInfo(**reply))
        if "reason" in reply:
            raise VideoError(reply["status"], reply["reason"])
        number = reply.get("signal", 0)
        if number == signal.SIGALRM:
            raise VideoError("corrupt", f"not opened within {timeout_seconds:g} s, the timeout")
        if number in _CRASHES:
            name = signal.Signals(number).name
            raise VideoError("corrupt", f"cannot be opened: the demuxer crashed ({name})")
    raise InputError(
        f"{path}: the process that opens it was killed {_ATTEMPTS} times (signal {number}), as "
        "systems do that run out of memory; ask for more of it or for fewer threads, and run again"
    )


def _with_frames(info: VideoInfo) -> VideoInfo:
    frames = info.frames
    if not frames and info.seconds is not None:
        frames = round(info.seconds * float(info.rate or FALLBACK_RATE))
    return VideoInfo(**{**vars(info), "frames": frames or None})


class _Died(Exception):
    """The process at the other end was ended by a signal, or does not answer."""


class _Server:
    """The process of `probe_server`, started when it is first asked, and again if it is gone.

    It ends with this process, as its socket is closed then.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave it to the process that started it, of which this one is a fork."""
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        self._socket: socket.socket | None = None

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A connection to a process that serves it alone; one that fails is not used again."""
        with self._lock:
            connection = self._take_idle() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            with self._lock:  # whatever ended this one may be about to end the others
                while self._idle:
                    self._idle.pop().close()
            raise
        with self._lock:
            self._idle.append(connection)

    def _take_idle(self) -> socket.socket | None:
        while self._idle:
            connection = self._idle.pop()
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()  # unasked, it has an end to tell of
        return None

    def _connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(_POLL_SECONDS)
        with theirs:
            for _ in range(2):
                if self._socket is None:
                    self._start()
                assert self._socket is not None
                try:
                    socket.send_fds(self._socket, [b"\0"], [theirs.fileno()])
                    return ours
                except OSError:
                    self._socket.close()
                    self._socket = None
        ours.close()
        raise InputError(
            f"the process that opens videos does not start ({sys.executable}); "
            "see that the machine has memory and processes left"
        )

    def _start(self) -> None:
        self._socket, server = socket.socketpair()
        with server:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SERVER)],
                stdin=server.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


_server = _Server()
os.register_at_fork(after_in_child=_server.forget)


def _ask(
    request: dict[str, Any], deadline: float, is_cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """The answer; without any key if there was none."""
    data = b""
    try:
        with _server.connection() as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            while not data.endswith(b"\n"):
                try:
                    chunk = connection.recv(1 << 16)
                except TimeoutError:
                    if is_cancelled():
                        raise CancelledError from None
                    if time.monotonic() > deadline:
                        raise _Died({"signal": signal.SIGALRM}) from None
                    continue
                if not chunk:
                    raise ConnectionResetError
                data += chunk
            reply: dict[str, Any] = json.loads(data)
            if "signal" in reply:
                raise _Died(reply)
            return reply
    except _Died as died:
        return died.args[0]
    except OSError:
        return {}
