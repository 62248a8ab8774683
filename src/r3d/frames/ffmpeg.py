"""Decoding videos: what a container states (PyAV), and all frames as JPEGs (an ffmpeg process)."""

import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Literal, Self

import av
import ffmpeg
import imageio_ffmpeg
from av.stream import Disposition

from r3d.errors import InputError

BINARY_VARIABLE = "R3D_FFMPEG"
FALLBACK_RATE = Fraction(25)  # what ffmpeg takes where a container states no rate

# A video is data from strangers: a playlist in disguise must not make ffmpeg open other things.
_PROTOCOLS = "file"
_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 20
_KEPT_COMPLAINT_BYTES = 10_000


class VideoError(Exception):
    """A video without usable frames: `status` as in the manifest, `reason` in one line."""

    def __init__(self, status: Literal["missing", "empty", "corrupt"], reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """What a container states about its first video stream; None for what it leaves open.

    rate: frames per second at which ffmpeg decodes it (a constant one, also for variable rates).
    seconds: duration of the stream.
    frames: number of frames at that rate.
    """

    rate: Fraction | None
    seconds: float | None
    frames: int | None


@dataclass(frozen=True)
class Selection:
    """Which frames of a video are extracted, and how.

    short_side: of the frames in pixels, 0 to keep the size; smaller videos are enlarged.
    quality: JPEG quantiser, 2 (best) to 31; None for ffmpeg's default.
    fps: rate to thin out to by dropping frames; at or above the rate of the video all are kept.
    start, end: seconds; None for the beginning and the end of the video.
    """

    short_side: int
    quality: int | None
    fps: float | None
    start: float | None
    end: float | None

    def rate(self, info: VideoInfo) -> Fraction:
        """Frames per second that come out."""
        rate = info.rate or FALLBACK_RATE
        return min(rate, Fraction(self.fps).limit_denominator(10**6)) if self.fps else rate

    def frames(self, info: VideoInfo) -> float | None:
        """How many frames come out by what the container states; None where it does not."""
        rate = self.rate(info)
        if self.start is None and self.end is None and info.frames is not None:
            return float(info.frames * rate / (info.rate or FALLBACK_RATE))
        if info.seconds is None:
            return None
        end = info.seconds if self.end is None else min(self.end, info.seconds)
        return max(0.0, end - (self.start or 0.0)) * float(rate)


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


def probe(path: Path, *, timeout_seconds: float = 60.0) -> VideoInfo:
    """What the container of a video states.

    Raises:
        VideoError: if it cannot be opened (corrupt) or has no video stream (empty).
    """
    try:
        with av.open(
            f"file:{path}",
            options={"protocol_whitelist": _PROTOCOLS},
            metadata_errors="replace",
            timeout=timeout_seconds,
        ) as container:
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & Disposition.attached_pic
            ]
            if not streams:
                raise VideoError("empty", "no video stream")
            return _stated(container, streams[0])
    except av.FFmpegError as error:
        raise VideoError("corrupt", f"cannot be opened: {error.strerror}") from None


def _stated(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> VideoInfo:
    rate = stream.guessed_rate or None
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif tag := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        seconds = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])  # Matroska
    # MP4 counts frames that an edit list hides as well; its duration does not.
    frames = stream.frames if "mp4" not in container.format.name else 0
    if not frames and seconds is not None:
        frames = round(seconds * float(rate or FALLBACK_RATE))
    return VideoInfo(rate, seconds or None, frames or None)


def jpeg_command(path: Path, info: VideoInfo, selection: Selection, *, binary: str) -> list[str]:
    """The ffmpeg command that writes the frames of the first video stream to its output as JPEGs.

    The frames come at the constant rate of the video, upright, scaled bicubically.
    """
    trim = {
        name: value
        for name, value in (("ss", selection.start), ("to", selection.end))
        if value is not None
    }
    # One thread for each stage: the videos of a shard run beside each other.
    source = ffmpeg.input(
        f"file:{path}",
        loglevel="error",
        nostdin=None,
        protocol_whitelist=_PROTOCOLS,
        an=None,
        sn=None,
        dn=None,
        threads=1,
        filter_complex_threads=1,
        **trim,
    )
    video = source["V:0"]  # capital V: a cover picture is no video
    options: dict[str, int] = {} if selection.quality is None else {"q:v": selection.quality}
    if selection.fps and not (info.rate and selection.fps >= info.rate):
        frames = selection.frames(info)
        if frames is not None and frames < 0.5:  # the filter would round to none
            options["frames:v"] = 1
        else:
            video = video.filter("fps", fps=selection.fps)
    if selection.short_side:
        video = video.filter(
            "scale",
            w=f"if(gt(iw,ih),-1,{selection.short_side})",
            h=f"if(gt(iw,ih),{selection.short_side},-1)",
        )
    output = video.output("pipe:1", format="image2pipe", vcodec="mjpeg", threads=1, **options)
    return output.compile(cmd=binary)


class JpegStream:
    """The JPEGs that an ffmpeg process writes, while it runs.

    >>> with JpegStream(command, timeout_seconds=600, cancelled=Event()) as jpegs:
    ...     for jpeg in jpegs:
    ...         ...
    >>> jpegs.complaint
    '[h264] Invalid NAL unit size (-1 > 551).'

    A process that does not end within the timeout is killed, which is a `VideoError`; so it is,
    without an error, when `cancelled` is set. If this program dies, ffmpeg ends at its next frame.
    """

    def __init__(self, command: list[str], *, timeout_seconds: float, cancelled: Event) -> None:
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._cancelled = cancelled
        self._complaints = b""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
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

    @property
    def complaint(self) -> str:
        """The first error that ffmpeg reported in one line, "" if it had none."""
        status = self._process.wait()
        for line in self._complaints.decode(errors="replace").splitlines():
            # Addresses in memory differ from run to run.
            text = " ".join(re.sub(r" @ 0x[0-9a-f]+", "", line).split())
            if text:
                return text[:200]
        return f"ffmpeg ended with status {status}" if status else ""

    def _chunks(self) -> Iterator[bytes]:
        """Read both pipes as data comes: an unread one would block ffmpeg."""
        deadline = time.monotonic() + self._timeout_seconds
        stdout = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            selector.register(self._process.stderr, selectors.EVENT_READ)  # type: ignore[arg-type]
            while selector.get_map() and not self._cancelled.is_set():
                if time.monotonic() > deadline:
                    raise VideoError(
                        "corrupt", f"not decoded within {self._timeout_seconds:g} s, the timeout"
                    )
                for key, _ in selector.select(_POLL_SECONDS):
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is stdout:
                        yield chunk
                    elif len(self._complaints) < _KEPT_COMPLAINT_BYTES:
                        self._complaints += chunk


def read_jpegs(
    path: str | os.PathLike[str], selection: Selection, *, timeout_seconds: float = 600.0
) -> list[bytes]:
    """The frames of a video in memory, as extraction makes them.

    Raises:
        VideoError: if there are none.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError("missing", "no such file")
    info = probe(path, timeout_seconds=timeout_seconds)
    command = jpeg_command(path, info, selection, binary=ffmpeg_binary())
    with JpegStream(command, timeout_seconds=timeout_seconds, cancelled=Event()) as stream:
        jpegs = list(stream)
        if not jpegs:
            complaint = stream.complaint.replace(str(path), path.name) or "the video has none"
            raise VideoError("corrupt", f"no frame could be decoded: {complaint}")
    return jpegs


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
