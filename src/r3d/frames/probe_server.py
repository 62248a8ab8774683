"""A small process that opens videos for another one: a file from strangers may take it down.

Run as a script, it imports PyAV and nothing of the library, so that it starts in a tenth of a
second. Each connection that comes over the socket on its standard input is served by a fork of its
own, bounded in memory and time; whatever that dies of, the next one lives. A request and its
answer are a line of JSON each (`r3d.frames.probing` has the other end).
"""

import json
import mmap
import os
import re
import resource
import signal
import socket
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any, BinaryIO

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
# How files of the formats begin whose demuxer ends where another one was joined to it.
_BEGINNINGS = {
    "flv": b"FLV\x01",
    "asf": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
    "apng": b"\x89PNG\r\n\x1a\n",
    "wtv": b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d",
    "yuv4mpegpipe": b"YUV4MPEG2 ",
}
_MOST_BOXES = 100_000
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: ffmpeg then gives stamps itself
_NO_STAMP = -(1 << 63)
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
                reason = (
                    f"opening it takes more than {MEMORY_BYTES >> 30} GiB of memory, as damaged "
                    "files do; fetch it again"
                )
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
        stamped = not container.format.flags & _NO_TIMESTAMPS
        if segment and (counted or (stamped and container.start_time is None)):
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
        sought = None
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
                sought = {**found, "seek": seek, **packets.summary()}
            if packets.guessed:
                break
            if sought:
                return sought
    with open_video(path, options) as container:  # a fresh one is where the file begins
        packets = Packets(container, container.streams[found["stream"]], tick, zero, begin, until)
        if numbered := packets.by_number(found["rate"]):
            return {**found, "seek": None, **numbered}
        return sought or {**found, "seek": None, **packets.summary()}


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
        elif isinstance(error, av.error.PermissionError):
            reason = f"cannot be opened: {error.strerror}"
        else:
            reason = f"cannot be opened: {_what_it_is(path)}"
        raise Refused("corrupt", reason) from None


def _what_it_is(path: str) -> str:
    """What a person would see in a file in which ffmpeg sees no video."""
    with open(path, "rb") as file:  # noqa: PTH123
        head = file.read(4096)
        boxes = {kind for kind, _ in _boxes(file)} if head[4:8] == b"ftyp" else set()
    if not head.strip(b"\0"):
        return "it begins with zeros, as downloads do that were not finished"
    if boxes:
        lacking = "damaged" if b"moov" in boxes else "lacking"
        return f"its index (moov) is {lacking}, as in a file that was cut; fetch it again"
    text = head.decode(errors="replace")
    if all(c.isprintable() or c.isspace() for c in text[:-1]) and "\ufffd" not in text[:-1]:
        return f"it is a text that begins with {' '.join(text.split())[:40]!r}"
    return "damaged, or of no format that ffmpeg knows; fetch it again, or convert it"


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
    return probed[-1].removesuffix("_pipe") if probed else "its own"


def best_stream(container: "av.container.InputContainer") -> "av.video.stream.VideoStream":
    """The stream that ffmpeg takes: the largest picture, one marked as default before others."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_PICTURE]
    if not streams:
        raise Refused("empty", "no video stream")
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise Refused("corrupt", "its video is coded in a way that ffmpeg does not know")

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
        # Matroska; ffmpeg writes the time at which it ends.
        seconds = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
        begin = (container.start_time or 0) / av.time_base
        seconds -= begin if begin < seconds else 0.0
    elif container.format.name == "flv" and container.duration and _is_cut_flv(container):
        seconds = (container.duration - (container.start_time or 0)) / av.time_base
    # MP4 counts frames that an edit list hides as well; its duration does not.
    frames = stream.frames if "mp4" not in container.format.name else 0
    return {
        "rate": rate and [rate.numerator, rate.denominator],
        "seconds": seconds if seconds and seconds > 0 else None,
        "frames": frames or None,
    }


def _is_cut_flv(container: "av.container.InputContainer") -> bool:
    """Whether an FLV has fewer bytes than it states."""
    with open(container.name.removeprefix("file:"), "rb") as file:  # noqa: PTH123
        found = re.search(rb"\x00\x08filesize\x00(.{8})", file.read(4096), re.DOTALL)
        size = os.fstat(file.fileno()).st_size
    return found is not None and struct.unpack(">d", found[1])[0] > size


def _what_follows(path: str, format_name: str, end: int) -> str | None:
    """What a demuxer leaves unread behind the last frame, for which there was more.

    Args:
        end: the byte behind that frame.
    """
    with open(path, "rb") as file:  # noqa: PTH123
        if end >= os.fstat(file.fileno()).st_size:
            return None
        at = -1
        if is_mp4 := format_name.startswith("mov"):
            _, *more = [at for kind, at in _boxes(file) if kind == b"ftyp"] or [0]
            at = more[0] if more and more[0] >= end else -1
        elif beginning := _BEGINNINGS.get(format_name):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                at = data.find(beginning, end)
        if at >= 0:
            apart = f"head -c {at} and tail -c +{at + 1}"
            return f"another video follows from byte {at} on; part them with {apart}"
        if is_mp4:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                at = data.find(b"moof", end)
            if at >= 0:
                return f"what follows byte {end} is not read, as the file is damaged there"
    return None


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The outermost boxes of an MP4: their kind, and where each begins."""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4])
        if length == 1:  # of more than 4 GB
            length = int.from_bytes(header[8:])
        if len(header) < 8 or 0 < length < 8:
            return
        yield header[4:8], at
        if not length:  # to the end of the file
            return
        at += length


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
        self._second = int(1 / tick)
        # In ticks, of the first one in and of the first one after the segment.
        self._begin = None if begin is None else ceil((Fraction(begin) + zero) / tick)
        self._until = None if until is None else ceil((Fraction(until) + zero) / tick)
        self._stamps = array("q")  # in the order of coding, also of those around the segment
        # Containers of these kinds have stamps for some frames only, or tell nothing of reordering.
        self._computed = container.format.name == "mpeg"
        self._reordered = container.format.name != "avi" and stream.codec_context.has_b_frames
        self._end_byte = 0
        self._path = container.name.removeprefix("file:")
        self._format = container.format.name
        try:
            self._read(container, stream)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            pass  # decoding will meet it, too, and says what it is

    @property
    def guessed(self) -> bool:
        """Whether stamps are lacking, or cannot be those of their frames."""
        lacking = self._stamps.count(_NO_STAMP)
        if lacking:
            return 0.1 * len(self._stamps) < lacking < len(self._stamps)
        if self._in_order_of_coding:
            return True
        near = sorted(filter(self._is_near, self._stamps)) if self._computed else []
        middle = (near[-1] - near[0]) / (len(near) - 1) if len(near) > 1 else 0.0
        return any(abs(b - a - middle) > middle / 2 for a, b in pairwise(near))

    def by_number(self, rate: list[int] | None) -> dict[str, Any] | None:
        """As `summary`, where frames go by their number as stamps cannot be trusted.

        Args:
            rate: the stated one, if any; where the stamps agree with it, it is exact.

        Returns:
            None where they can be, and where frames do not follow one another at one interval.
        """
        if not self.guessed:
            return None
        total = len(self._stamps)
        places = [n for n, stamp in enumerate(self._stamps) if stamp != _NO_STAMP]
        if len(places) < 2:
            return None
        stamps = [self._stamps[n] for n in places]
        if len(places) < total:
            shown, off = stamps, float(_MOST_REORDERED)
        elif self._in_order_of_coding:
            shown, off = stamps, 0.5
        else:
            shown, off = sorted(stamps), 2.5
        intervals = [(shown[-1] - shown[0]) / (places[-1] - places[0])]
        if rate:
            intervals.insert(0, float(rate[1] / (rate[0] * self._tick)))
        for interval in intervals:
            zeroth = shown[0] - places[0] * interval
            if _follow(places, shown, zeroth, interval, off) and _follow(
                places, stamps, zeroth, interval, _MOST_REORDERED
            ):
                break
        else:
            return None

        def number(stamp: int) -> int:
            return min(total, max(0, ceil((stamp - zeroth) / interval - 1e-6)))

        def seconds(number: int) -> float:
            return float((zeroth + number * interval) * self._tick - self._zero)

        begin = 0 if self._begin is None else number(self._begin)
        until = total if self._until is None else number(self._until)
        some = until > begin
        return {
            **self._unread(),
            "numbers": [begin, until],
            "coded": max(0, until - begin),
            "unstamped": 0,
            "first": seconds(begin) if some else None,
            "last": seconds(until - 1) if some else None,
            "pause": float(interval * self._tick),
            "interval": float(interval * self._tick) or None,
        }

    def summary(self) -> dict[str, Any]:
        """What `r3d.frames.probing.VideoInfo` tells of packets."""
        runs = _Runs(second=self._second)
        stamps = []
        for stamp in self._stamps:
            if stamp != _NO_STAMP and self._is_inside(stamp):
                stamps.append(stamp)
                runs.add(stamp)
        stamps.sort()
        unstamped = self._stamps.count(_NO_STAMP)
        interval = runs.interval
        return {
            **self._unread(),
            "coded": len(stamps) + unstamped,
            "unstamped": unstamped,
            "first": float(stamps[0] * self._tick - self._zero) if stamps else None,
            "last": float(stamps[-1] * self._tick - self._zero) if stamps else None,
            "pause": max(map(int.__sub__, stamps[1:], stamps), default=0) * float(self._tick),
            "interval": interval and interval * float(self._tick),
        }

    def _read(
        self, container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
    ) -> None:
        hides = stream.codec_context.name == "vp8"  # frames for reference only, each a packet
        key_seen = False
        for packet in container.demux(stream):
            if not packet.size:
                continue
            self._end_byte = max(self._end_byte, (packet.pos or 0) + packet.size)
            if packet.is_discard:
                continue
            if hides and not memoryview(packet)[0] & 0x10:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                self._stamps.append(_NO_STAMP)
                continue
            decoded = packet.dts if packet.dts is not None else stamp
            if self._until is not None and decoded > self._until + self._second:
                self._stamps.append(stamp)  # between two stamps, others can be guessed
                break  # a little out of order
            if not key_seen and packet.is_keyframe:
                key_seen = True
                self.decodable_from_begin = self._begin is None or stamp <= self._begin
            self._stamps.append(stamp)

    def _unread(self) -> dict[str, Any]:
        if self._until is not None or not self._end_byte:
            return {}
        return {"unread": _what_follows(self._path, self._format, self._end_byte)}

    def _is_inside(self, stamp: int) -> bool:
        return (self._begin is None or stamp >= self._begin) and (
            self._until is None or stamp < self._until
        )

    def _is_near(self, stamp: int) -> bool:
        return (self._begin is None or stamp >= self._begin - self._second) and (
            self._until is None or stamp < self._until + self._second
        )

    @property
    def _in_order_of_coding(self) -> bool:
        """Whether frames are shown in another order than that of their stamps."""
        return self._reordered and all(a < b for a, b in pairwise(self._stamps))


def _follow(
    numbers: list[int], stamps: list[int], zeroth: float, interval: float, off: float
) -> bool:
    """Whether stamps are those of frames at one interval, but for so many intervals at most."""
    return all(
        abs(stamp - zeroth - number * interval) <= off * interval
        for number, stamp in zip(numbers, stamps, strict=True)
    )


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
