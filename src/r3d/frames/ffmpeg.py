"""Decoding: the frames of a video as JPEGs, by an ffmpeg process."""

import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Self

import ffmpeg
import imageio_ffmpeg

from r3d.errors import InputError
from r3d.frames.probing import (
    FORMATS,
    PROTOCOLS,
    ROUNDING_SECONDS,
    VideoError,
    VideoInfo,
)
from r3d.frames.selection import Plan, Selection

BINARY_VARIABLE = "R3D_FFMPEG"

MEMORY_BYTES = 4 << 30
"""What an ffmpeg may take: the reference frames of an 8k video of 10 bits have room."""

_VIDEO = "file:video"  # stands for the video, whose name ffmpeg-python may be unable to take

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 20
_KEPT_COMPLAINT_BYTES = 10_000

# Signals by which a process ends of its own; any other comes from outside.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def ffmpeg_binary() -> str:
    """The ffmpeg to run: $R3D_FFMPEG, else the one on PATH, else the one of imageio-ffmpeg."""
    chosen = os.environ.get(BINARY_VARIABLE)
    found = shutil.which(chosen or "ffmpeg")
    if found:
        return found
    if chosen:
        raise InputError(f"{BINARY_VARIABLE}: {chosen!r} is no program; give the path of ffmpeg")
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise InputError(
            "no ffmpeg found; install it (apt install ffmpeg, conda install ffmpeg, or "
            f"pip install imageio-ffmpeg), or give its path in ${BINARY_VARIABLE}"
        ) from None


def jpeg_command(
    path: Path,
    info: VideoInfo,
    selection: Selection,
    plan: Plan,
    *,
    binary: str,
    zero: Fraction | None = None,
    from_beginning: bool = False,
) -> list[str]:
    """The ffmpeg command that writes the frames of a selection to its output as JPEGs.

    They come upright and scaled bicubically.

    Args:
        zero: the time stamp from which a segment counts, where ffmpeg shows another than the file.
        from_beginning: whether to decode all that stands before a segment, too.
    """
    options: dict[str, str | int] = {}
    if selection.quality is not None:
        options["q:v"] = selection.quality
    filters = []
    before: dict[str, str | None] = {}
    if not selection.whole:
        # Time stamps as they are in the file: where a seek lands is not for sure.
        before["copyts"] = None
        if info.seek is not None and not from_beginning:
            before |= {"noaccurate_seek": None, "ss": f"{info.seek:.6f}"}
        filters += _cut(info, selection, info.zero if zero is None else zero)
    if plan.each_once:
        filters += [f"settb=expr={1 / plan.rate}", "setpts=expr=N"]
    if plan.thins and plan.expected is not None and plan.expected < 0.5:
        options["frames:v"] = 1  # the filter below would round to none
    elif plan.thins or plan.each_once:  # it also forgets durations, which count at the output
        filters.append(f"fps=fps={plan.fps}")
    filters += _scaled(info, selection)
    if filters:
        # A simple graph: a complex one does not know the rate of its input, and ffmpeg then
        # repeats the first frame of a video that starts late.
        options["vf"] = ",".join(filters)
    source = _input({"loglevel": "repeat+error", **before})
    output = source[str(info.stream)].output(
        "pipe:1", format="image2pipe", vcodec="mjpeg", threads=1, **options
    )
    return _compiled(output, binary, path)


def first_shown(path: Path, info: VideoInfo, *, binary: str, timeout_seconds: float) -> Fraction:
    """The time stamp, in seconds, that ffmpeg gives the first frame of a video.

    Raises:
        VideoError: if none is shown in time.
    """
    source = _input({"loglevel": "info", "copyts": None})
    filters = f"settb=expr={info.tick},showinfo"
    output = source[str(info.stream)].output("pipe:1", format="null", vf=filters, **{"frames:v": 1})
    try:
        done = subprocess.run(
            _compiled(output, binary, path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired:
        raise VideoError(
            "corrupt", f"not decoded within {timeout_seconds:g} s, the timeout"
        ) from None
    found = re.search(rb"\] n: *0 pts: *(-?\d+)", done.stderr)
    if not found:
        raise VideoError("corrupt", "no frame could be decoded")
    return int(found[1]) * info.tick


def _compiled(output: ffmpeg.Stream, binary: str, path: Path) -> list[str]:
    command = output.compile(cmd=binary)
    return [f"file:{path}" if part == _VIDEO else part for part in command]


def _input(options: dict[str, str | None]) -> ffmpeg.Stream:
    # One thread for each stage: the videos of a shard run beside each other.
    return ffmpeg.input(
        _VIDEO,
        nostdin=None,
        protocol_whitelist=PROTOCOLS,
        format_whitelist=FORMATS,
        an=None,
        sn=None,
        dn=None,
        threads=1,
        filter_threads=1,
        **options,
    )


def _cut(info: VideoInfo, selection: Selection, zero: Fraction) -> list[str]:
    """Filters that let the frames of a segment pass, the first one at time 0."""
    edges = [
        f"{name}_pts={ceil((zero + Fraction(value - ROUNDING_SECONDS)) / info.tick)}"
        for name, value in (("start", selection.start), ("end", selection.end))
        if value is not None
    ]
    first = "STARTPTS" if info.first is None else round((zero + Fraction(info.first)) / info.tick)
    return [f"settb=expr={info.tick}", f"trim={':'.join(edges)}", f"setpts=expr=PTS-{first}"]


def _scaled(info: VideoInfo, selection: Selection) -> list[str]:
    arguments = []
    if side := selection.short_side:
        arguments += [f"w=if(gt(iw\\,ih)\\,-1\\,{side})", f"h=if(gt(iw\\,ih)\\,{side}\\,-1)"]
    if matrix := selection.matrix(info):
        arguments += [f"in_color_matrix={matrix}", "out_color_matrix=bt601"]
    return [f"scale={':'.join(arguments)}"] if arguments else []


class KilledError(Exception):
    """An ffmpeg was killed by something else than this program: no property of the video."""


class JpegStream:
    """The JPEGs that an ffmpeg process writes, while it runs.

    >>> with JpegStream(command, timeout_seconds=600, is_cancelled=lambda: False) as jpegs:
    ...     for jpeg in jpegs:
    ...         ...
    >>> jpegs.complaint
    '[h264] Invalid NAL unit size (-1 > 551).'

    A process that is waited for longer than the timeout is killed, which is a `VideoError`; so it
    is, without an error, when `is_cancelled` says so. One that something else killed is a
    `KilledError`. If this program dies, ffmpeg ends at its next frame.

    Args:
        run_up: whether decoding begins before the frames that are wanted, in the middle of the
            file: complaints before the first frame are then of no meaning.
    """

    def __init__(
        self,
        command: list[str],
        *,
        timeout_seconds: float,
        is_cancelled: Callable[[], bool],
        run_up: bool = False,
    ) -> None:
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._is_cancelled = is_cancelled
        self._run_up = run_up
        self._complaints = b""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        if hasattr(resource, "prlimit"):  # code between fork and exec is slow, and bad for threads
            try:
                limits = (MEMORY_BYTES, MEMORY_BYTES)
                resource.prlimit(self._process.pid, resource.RLIMIT_DATA, limits)
            except (OSError, ValueError):  # it has ended, or has a lower one
                pass
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # does nothing to one that has ended
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def __iter__(self) -> Iterator[bytes]:
        data = b""
        for chunk in self._chunks():
            data += chunk
            begin = 0
            while (end := _jpeg_end(data, begin)) >= 0:
                yield data[begin:end]
                begin = end
            data = data[begin:]
        if not self._is_cancelled():
            number = _signal(self._process.wait())
            if number and number not in _CRASHES:
                raise KilledError(f"signal {number}")

    @property
    def complaint(self) -> str:
        """The first error that ffmpeg reported in one line, "" if it had none."""
        status = self._process.wait()
        for line in self._complaints.decode(errors="replace").splitlines():
            # Addresses in memory differ from run to run.
            text = " ".join(re.sub(r" @ 0x[0-9a-f]+", "", line).split())
            if text:
                return text[:200]
        if status < 0:
            return f"ffmpeg crashed ({signal.Signals(-status).name})"
        return f"ffmpeg ended with status {status}" if status else ""

    def _chunks(self) -> Iterator[bytes]:
        """Read both pipes as data comes: an unread one would block ffmpeg."""
        deadline = time.monotonic() + self._timeout_seconds
        stdout = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            selector.register(self._process.stderr, selectors.EVENT_READ)  # type: ignore[arg-type]
            while selector.get_map() and not self._is_cancelled():
                if time.monotonic() > deadline:
                    raise VideoError(
                        "corrupt", f"not decoded within {self._timeout_seconds:g} s, the timeout"
                    )
                ready = selector.select(_POLL_SECONDS)
                # What was complained of before a frame is read before it.
                for key, _ in sorted(ready, key=lambda item: item[0].fileobj is stdout):
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is stdout:
                        if self._run_up:
                            self._run_up = False
                            self._complaints = b""
                        given = time.monotonic()
                        yield chunk
                        deadline += time.monotonic() - given  # what is done with it takes its time
                    elif len(self._complaints) < _KEPT_COMPLAINT_BYTES:
                        self._complaints += chunk


def _signal(status: int) -> int:
    """The signal that ended a process or, where a shell script runs ffmpeg, its child; or 0."""
    if status < 0:
        return -status
    return status - 128 if status in (128 + signal.SIGKILL, 128 + signal.SIGTERM) else 0


def _jpeg_end(data: bytes, begin: int) -> int:
    """Where the JPEG that begins at `begin` ends, or -1 if that is not in `data` yet.

    Header segments are stepped over by their lengths, as they may hold the bytes of an end marker.
    The scan cannot: in it 0xFF stands before 0x00 or a restart marker only.
    """
    at = begin + 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA:  # start of scan
            end = data.find(b"\xff\xd9", at)
            return end + 2 if end >= 0 else -1
    return -1
