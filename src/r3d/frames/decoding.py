"""Decoding a video for a selection, again in another way where time stamps or machine mislead."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal, Protocol, TypeVar

from r3d.errors import InputError, reason_of
from r3d.frames.ffmpeg import JpegStream, KilledError, ffmpeg_binary, first_shown, jpeg_command
from r3d.frames.probing import VideoError, VideoInfo, probe
from r3d.frames.selection import Plan, Selection, clearly_fewer, plan

_WAITS_SECONDS = (1.0, 5.0)
"""Before each further try after ffmpeg was killed from outside."""


class Sink(Protocol):
    """Takes the JPEGs of a video in order."""

    def append(self, jpeg: bytes, /) -> object: ...


_Sink = TypeVar("_Sink", bound=Sink)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a video: its frames, by which plan, and what ffmpeg complained of."""

    frames: int
    plan: Plan
    complaint: str

    @property
    def status(self) -> Literal["ok", "truncated"]:
        """As in a manifest."""
        odd = self.complaint or self._too_few or self._too_many
        return "truncated" if odd else "ok"

    @property
    def reason(self) -> str:
        """As in a manifest; also for a good video, where its stated rate was not followed."""
        complaint = self.complaint and f": {self.complaint}"
        most = max((n for n in (self.plan.expected, self.plan.stated) if n is not None), default=0)
        if self._too_few or (complaint and not self._too_many):
            stated = f" of {round(most)}" if most else ""
            return f"{self.frames}{stated} frames{complaint}"
        if self._too_many:
            expected = round(self.plan.expected or 0)
            return f"{self.frames} frames where {expected} were expected{complaint}"
        return self.plan.reason

    @property
    def note(self) -> str:
        """What is odd about it, for whoever asks about the video by itself; "" if nothing is."""
        if self.status == "ok":
            return ""
        # In manifests one word stands for all that is odd, but nothing is cut off here.
        return f"{'truncated' if self._too_few else 'faulty'}: {self.reason}"

    @property
    def _too_few(self) -> bool:
        return any(clearly_fewer(self.frames, n) for n in (self.plan.expected, self.plan.stated))

    @property
    def _too_many(self) -> bool:
        return self.plan.exceeded_by(self.frames)


def decode(
    path: Path,
    info: VideoInfo,
    selection: Selection,
    *,
    binary: str,
    timeout_seconds: float,
    is_cancelled: Callable[[], bool],
    new_sink: Callable[[Plan], AbstractContextManager[_Sink]],
    finish: Callable[[_Sink, Decoded], _Result],
) -> _Result:
    """Decode a video into a sink; return what `finish` makes of it.

    Each try has a sink of its own, made for its plan, and only that of the last one is finished.

    Raises:
        VideoError: if no frame could be decoded, or not in time.
        InputError: if ffmpeg was killed from outside, several times.
        CancelledError: if it was cancelled.
    """
    chosen = plan(info, selection)
    if not info.coded:
        raise VideoError("empty", f"no frame{_where(selection)}")
    zero = None
    if info.counted and not selection.whole:
        zero = first_shown(path, info, binary=binary, timeout_seconds=timeout_seconds)
    from_beginning = info.seek is None
    waits = iter(_WAITS_SECONDS)
    while True:
        command = jpeg_command(
            path,
            info,
            selection,
            chosen,
            binary=binary,
            zero=zero,
            from_beginning=from_beginning,
        )
        try:
            with new_sink(chosen) as sink:
                frames = 0
                with JpegStream(
                    command,
                    timeout_seconds=timeout_seconds,
                    is_cancelled=is_cancelled,
                    run_up=not from_beginning,
                ) as jpegs:
                    for jpeg in jpegs:
                        frames += 1
                        if frames > chosen.bound:
                            break
                        sink.append(jpeg)
                    if is_cancelled():
                        raise CancelledError
                    endless = frames > chosen.bound
                    complaint = "copies without end"
                    if not endless:
                        complaint = info.unread or jpegs.complaint.replace(str(path), path.name)
                decoded = Decoded(frames, chosen, complaint)
                if endless and not chosen.each_once:
                    reason = "each frame once: its time stamps make copies without end"
                    chosen = plan(info, selection, each_once=reason)
                elif not chosen.each_once and chosen.exceeded_by(frames):
                    reason = f"each frame once: at a constant rate {info.coded} become {frames}"
                    chosen = plan(info, selection, each_once=reason)
                elif not from_beginning and clearly_fewer(frames - 2, chosen.expected):
                    from_beginning = True  # the seek landed late
                elif not complaint and not chosen.each_once and _loses(decoded, info):
                    reason = f"each frame once: at a constant rate {frames} of {info.coded} remain"
                    chosen = plan(info, selection, each_once=reason)
                elif not frames and complaint:
                    raise VideoError("corrupt", f"no frame could be decoded: {complaint}")
                elif not frames:
                    raise VideoError("empty", f"no frame{_where(selection)}")
                else:
                    return finish(sink, decoded)
        except KilledError as error:
            wait = next(waits, None)
            if wait is None:
                raise InputError(
                    f"{path}: ffmpeg was killed from outside {len(_WAITS_SECONDS) + 1} times "
                    f"({error}), as systems do that run out of memory; ask for more of it or for "
                    "fewer threads, and run again"
                ) from None
            _sleep(wait, is_cancelled)


def decode_file(
    path: str | os.PathLike[str],
    selection: Selection,
    *,
    timeout_seconds: float,
    seconds_a_frame: float = 0.0,
    is_cancelled: Callable[[], bool] = lambda: False,
    new_sink: Callable[[Plan], AbstractContextManager[_Sink]],
    finish: Callable[[_Sink, Decoded], _Result],
) -> _Result:
    """Look at a video and decode it into a sink, as `decode` does.

    Args:
        timeout_seconds: for opening it, and again for decoding it.
        seconds_a_frame: what decoding may take on top of that, for each coded frame.

    Raises:
        VideoError, InputError, CancelledError: as `probe` and `decode` do.
    """
    path = Path(path)
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise VideoError("missing", "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError("missing", f"cannot be read: {reason_of(error)}") from None
    if not S_ISREG(state.st_mode):
        raise VideoError("missing", "no ordinary file")
    if not state.st_size:
        raise VideoError("empty", "the file has no bytes")
    info = probe(
        path,
        start=selection.start,
        end=selection.end,
        timeout_seconds=timeout_seconds,
        is_cancelled=is_cancelled,
    )
    return decode(
        path,
        info,
        selection,
        binary=ffmpeg_binary(),
        timeout_seconds=timeout_seconds + seconds_a_frame * info.coded,
        is_cancelled=is_cancelled,
        new_sink=new_sink,
        finish=finish,
    )


def read_jpegs(
    path: str | os.PathLike[str], selection: Selection, *, timeout_seconds: float = 600.0
) -> list[bytes]:
    """The frames of a video in memory, as extraction makes them.

    Raises:
        VideoError: if there are none.
    """

    def new_list(_: Plan) -> AbstractContextManager[list[bytes]]:
        return nullcontext([])

    return decode_file(
        path,
        selection,
        timeout_seconds=timeout_seconds,
        new_sink=new_list,
        finish=lambda jpegs, _: jpegs,
    )


def prepare_thread() -> None:
    """Set up a thread that decodes and so, by inheritance, the ffmpeg processes that it starts.

    Signals are left to the main thread: an ffmpeg that is interrupted ends as if the video ended
    there, and a terminal sends its interrupt to all processes, as do batch systems.

    As batch work, threads are not interrupted by those that they wake: those of an ffmpeg, and this
    one, would else take turns for each frame, which costs 7% of the time.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # not every container lets us
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _loses(decoded: Decoded, info: VideoInfo) -> bool:
    """Whether a constant rate left out frames that stamps had made one expect."""
    share = float(decoded.plan.fps / decoded.plan.rate)
    return clearly_fewer(decoded.frames, min(info.coded * share, decoded.plan.expected or 0))


def _where(selection: Selection) -> str:
    if selection.whole:
        return " in the file"
    end = "the end" if selection.end is None else f"{selection.end:g} s"
    return f" from {selection.start or 0:g} s to {end}"


def _sleep(seconds: float, is_cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_cancelled():
        time.sleep(0.1)
