"""A small process that opens videos for another one: a file from strangers may take it down.

Run as a script, it imports PyAV and nothing of the library, so that it starts in a tenth of a
second. Each connection that comes over the socket on its standard input is served by a fork of its
own, bounded in memory and time; whatever that dies of, the next one lives. A request and its
answer are a line of JSON each (`r3d.frames.probing` has the other end).
"""

import json
import os
import re
import resource
import signal
import socket
from array import array
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
from av.stream import Disposition

MEMORY_BYTES = 1 << 30
"""What opening a video may take: ten times what a film of ten hours does."""

# How far before a segment decoding may begin: an index that is off by more is tried again, at last
# from the beginning of the file.
_RUN_UP_SECONDS = (4.0, 16.0, 64.0)
# ffmpeg seeks three frames of film earlier where frames are reordered.
_REORDER_SECONDS = 3 / 23
_MOST_REORDERED = 16
_JUMP_SECONDS = 10.0
_NO_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails


class Refused(Exception):
    """Status and reason, as in a manifest."""


def serve(connections: socket.socket) -> None:
    """Answer each connection in a process of its own until the other end is closed."""
    answering: dict[int, int] = {}

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            connection = answering.pop(pid)
            if os.WIFSIGNALED(status):
                message = json.dumps({"signal": os.WTERMSIG(status)}) + "\n"
                with suppress(OSError):  # perhaps nobody waits for it any more
                    os.write(connection, message.encode())
            os.close(connection)

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connections, 1, 1)
        if not message:
            return
        # The end of a child is to be noticed once its connection is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            try:
                connections.close()
                answer(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)
        answering[pid] = descriptors[0]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def answer(connection: socket.socket) -> None:
    """Say to each request what was found, or why the video is refused."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(ValueError, OSError):  # a lower limit holds already
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with connection.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, request.pop("timeout_seconds"))
            try:
                reply = examine(**request)
            except Refused as error:
                reply = dict(zip(("status", "reason"), error.args, strict=True))
            except (MemoryError, av.error.MemoryError):
                reason = f"opening it takes more than {MEMORY_BYTES >> 30} GiB of memory"
                reply = {"status": "corrupt", "reason": reason}
            except Exception as error:  # no file may end the work on the others
                reason = f"cannot be opened: {type(error).__name__}: {error}"
                reply = {"status": "corrupt", "reason": reason[:200]}
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.sendall(json.dumps(reply).encode() + b"\n")


def examine(
    path: str, begin: float | None, until: float | None, options: dict[str, str]
) -> dict[str, Any]:
    """What the container states of its best video stream, and what its packets show.

    Args:
        begin, until: seconds of the segment; None for the beginning and the end.
        options: those of the demuxer.
    """
    with open_video(path, options) as container:
        stream = best_stream(container)
        zero = Fraction(container.start_time or 0, av.time_base)
        tick = Fraction(stream.time_base or Fraction(1, 90_000))
        segment = begin is not None or until is not None
        counted = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        if segment and counted:
            zero = _first_stamp(container, stream) or zero
        found = {
            "stream": stream.index,
            "alone": len(container.streams) == 1,
            "matrix": int(stream.codec_context.colorspace or 0),
            "zero": [zero.numerator, zero.denominator],
            "tick": [tick.numerator, tick.denominator],
            "counted": counted,
            **_stated(container, stream),
        }
        for run_up in _RUN_UP_SECONDS:
            seek = (begin or 0) - run_up
            if seek <= 0:
                break
            try:
                container.seek(int((seek - _REORDER_SECONDS + float(zero)) * av.time_base))
                packets = Packets(container, stream, tick, zero, begin, until)
            except av.FFmpegError:
                break
            if packets.decodable_from_begin:
                return {**found, "seek": seek, **packets.summary()}
    with open_video(path, options) as container:  # a fresh one is where the file begins
        packets = Packets(container, container.streams[found["stream"]], tick, zero, begin, until)
        return {**found, "seek": None, **packets.summary()}


def open_video(path: str, options: dict[str, str]) -> "av.container.InputContainer":
    """Open a file as a video."""
    try:
        return av.open(f"file:{path}", options=dict(options), metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.FFmpegError as error:
        name = _refused_format(path, options)
        if name:
            reason = f"{name} is no format of a video file, such as MP4, MKV or AVI"
            raise Refused("corrupt", reason) from None
        raise Refused("corrupt", f"cannot be opened: {error.strerror}") from None


def _refused_format(path: str, options: dict[str, str]) -> str | None:
    """The format that a file was refused for, which only the log tells."""
    av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture() as log:
            av.open(f"file:{path}", options=dict(options)).close()
    except av.FFmpegError:
        pass
    av.logging.set_level(None)
    text = "\n".join(line for _, _, line in log)
    if "Format not on whitelist" not in text:
        return None
    probed = re.findall(r"Format (\S+) (?:probed|detected)", text)
    return probed[-1] if probed else "not known"


def best_stream(container: "av.container.InputContainer") -> "av.video.stream.VideoStream":
    """The stream that ffmpeg takes: the largest picture, one marked as default before others."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_PICTURE]
    if not streams:
        raise Refused("empty", "no video stream")

    def score(stream: "av.video.stream.VideoStream") -> int:
        context = stream.codec_context
        default = 5_000_000 * bool(stream.disposition & Disposition.default)
        return context.width * context.height + default

    return max(streams, key=score)  # the first of equals


def _stated(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> dict[str, Any]:
    rate = stream.guessed_rate or None
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif tag := re.fullmatch(
        r"(\d{1,6}):(\d{1,2}):(\d{1,2}(?:\.\d{0,20})?)", stream.metadata.get("DURATION", "")
    ):
        seconds = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])  # Matroska
    # MP4 counts frames that an edit list hides as well; its duration does not.
    frames = stream.frames if "mp4" not in container.format.name else 0
    return {
        "rate": rate and [rate.numerator, rate.denominator],
        "seconds": seconds if seconds and seconds > 0 else None,
        "frames": frames or None,
    }


def _first_stamp(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> Fraction | None:
    """The earliest time stamp of the first frames, in seconds."""
    stamps = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and packet.time_base is not None:
                stamps.append(packet.pts * packet.time_base)
            if len(stamps) == _MOST_REORDERED:
                break
    except av.FFmpegError:
        pass
    return min(stamps, default=None)


class Packets:
    """The time stamps of the coded frames of a segment, from where the container stands on."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        stream: "av.video.stream.VideoStream",
        tick: Fraction,
        zero: Fraction,
        begin: float | None,
        until: float | None,
    ) -> None:
        self.decodable_from_begin = False
        self._tick = tick
        self._zero = zero
        self._stamps = array("q")
        self._unstamped = 0
        self._runs = _Runs(second=int(1 / tick))
        try:
            self._read(container, stream, begin, until)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            pass  # decoding will meet it, too, and says what it is

    def summary(self) -> dict[str, Any]:
        """What `r3d.frames.probing.VideoInfo` tells of packets."""
        stamps = sorted(self._stamps)
        interval = self._runs.interval
        return {
            "coded": len(stamps) + self._unstamped,
            "unstamped": self._unstamped,
            "first": float(stamps[0] * self._tick - self._zero) if stamps else None,
            "last": float(stamps[-1] * self._tick - self._zero) if stamps else None,
            "pause": max(map(int.__sub__, stamps[1:], stamps), default=0) * float(self._tick),
            "interval": interval and interval * float(self._tick),
        }

    def _read(
        self,
        container: "av.container.InputContainer",
        stream: "av.video.stream.VideoStream",
        begin: float | None,
        until: float | None,
    ) -> None:
        first = last = None
        if begin is not None:
            first = (Fraction(begin) + self._zero) / self._tick
        if until is not None:
            last = (Fraction(until) + self._zero) / self._tick
        hides = stream.codec_context.name == "vp8"  # frames for reference only, each a packet
        key_seen = False
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if hides and not memoryview(packet)[0] & 0x10:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                self._unstamped += 1
                continue
            decoded = packet.dts if packet.dts is not None else stamp
            if last is not None and decoded > last + 1 / self._tick:  # a little out of order
                break
            if not key_seen and packet.is_keyframe:
                key_seen = True
                self.decodable_from_begin = first is None or stamp <= first
            if (first is None or stamp >= first) and (last is None or stamp < last):
                self._stamps.append(stamp)
                self._runs.add(stamp)


class _Runs:
    """The mean interval of frames that follow one another: where files were joined, and where time
    stamps jump, another run begins."""

    def __init__(self, *, second: int) -> None:
        self._second = second
        self._ticks = 0
        self._steps = 0
        self._first = self._last = 0
        self._frames = 0

    def add(self, stamp: int) -> None:
        if self._frames:
            forward = stamp - self._last
            reordered = _MOST_REORDERED * (self._last - self._first) // self._frames
            if forward > _JUMP_SECONDS * self._second or -forward > max(self._second, reordered):
                self._end()
        if not self._frames:
            self._first = self._last = stamp
        self._first = min(self._first, stamp)
        self._last = max(self._last, stamp)
        self._frames += 1

    @property
    def interval(self) -> float | None:
        """In ticks; None without two frames at different times."""
        self._end()
        return self._ticks / self._steps if self._ticks else None

    def _end(self) -> None:
        self._ticks += self._last - self._first
        self._steps += max(0, self._frames - 1)
        self._frames = 0
        self._first = self._last = 0


if __name__ == "__main__":
    # Those of a terminal or batch system are for the process that asks; its end closes the socket.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    serve(socket.socket(fileno=os.dup(0)))
