"""Clips of videos while they are decoded, in batches that videos share.

Each video is decoded in a thread of its own, a few at a time and ahead of what is asked for, as far
as a bounded queue lets it. Batches take clips in the order of the videos, so that equal inputs give
equal batches, whatever the threads do. Nothing that is kept grows with the length of a video,
except for the frames from which evenly spaced clips are chosen in the end: those lie on the disk.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from tempfile import SpooledTemporaryFile
from threading import Event
from typing import NamedTuple, Self

import torch
from torch import Tensor

from r3d.clips.datasets import Clip, InferenceClipOptions, inference_starts
from r3d.clips.loader import ClipBatch, collate_clips
from r3d.clips.sampling import frame_indices, freeze
from r3d.clips.transforms import FrameError, View, decode_clip, short_side_view
from r3d.errors import InputError
from r3d.frames.decoding import Decoded, decode_file, prepare_thread
from r3d.frames.probing import VideoError
from r3d.frames.selection import Plan, Selection

_AHEAD_BYTES = 96 << 20
"""What clips of all videos together may take that no batch has taken yet."""
_SPOOLED_BYTES = 32 << 20
"""JPEGs of a video that are kept in memory, not on the disk."""
_TIMEOUT_SECONDS, _SECONDS_A_FRAME = 600.0, 0.5
_POLL_SECONDS = 0.2
_MOST_FRAMES = 1e9
"""Which a video is taken to have, whatever it says of itself."""


class Begun(NamedTuple):
    """A video is decoded: from the beginning, be it for a second time.

    Attributes:
        number: of this try, over all videos; the clips have it as their `video`.
        video: place of the video among the given ones.
        rate: its frames a second.
    """

    number: int
    video: int
    rate: float


class Ended(NamedTuple):
    """A video has come to its end.

    Attributes:
        rows: how many rows of batches the last try gave.
        decoded: what came of it; None for a failure.
        error: what is wrong with it; "" if it could be decoded.
    """

    video: int
    rows: int
    decoded: Decoded | None
    error: str


@dataclass(frozen=True)
class _Try:
    """What follows is of a new try at a rate; what came before is void.

    rows: how many rows are to be expected, by what the video says of itself; None if it does not.
    """

    rate: float
    rows: int | None


_Event = _Try | Clip | Decoded | BaseException


class ClipCutter:
    """Cuts clips out of the frames of one video, each as soon as its frames are there.

    They are those of `InferenceClips` on the extracted frames. Of the frames only those are kept
    that later clips need.

    Args:
        emit: takes the views of a clip, and the frames from which it is, begin <= i < end.
    """

    def __init__(
        self,
        options: InferenceClipOptions,
        emit: Callable[[list[Tensor], tuple[int, int]], object],
    ) -> None:
        self._options, self._emit = options, emit
        self._choose_starts = inference_starts(options)
        # Evenly spaced clips are known when the video has ended.
        self._slides = not options.inference_clips
        self._spool = None if self._slides else _Spool()
        self._jpegs: MutableMapping[int, bytes] = {} if self._spool is None else self._spool
        self._rendered: dict[int, list[Tensor]] = {}
        self._n_frames = self._n_clips = self._start = 0

    def append(self, jpeg: bytes) -> None:
        """Take the next frame.

        Raises:
            FrameError: if frames of a clip cannot be used.
        """
        options, frame = self._options, self._n_frames
        self._n_frames += 1
        if not self._slides:
            self._jpegs[frame] = jpeg
            return
        offset = frame - self._start
        if offset < 0 or offset % options.sample_t_stride:
            return  # between clips, or between their frames
        self._jpegs[frame] = jpeg
        if offset == (options.sample_duration - 1) * options.sample_t_stride:
            self._cut(self._start)
            self._start += options.inference_stride * options.sample_t_stride
            for kept in (self._jpegs, self._rendered):
                for passed in [index for index in kept if index < self._start]:
                    del kept[passed]

    def finish(self) -> None:
        """Cut the clips that the end of the video decides on.

        Raises:
            FrameError: if frames of a clip cannot be used.
        """
        options = self._options
        size, t_stride = options.sample_duration, options.sample_t_stride
        starts = self._choose_starts(0, self._n_frames, size=size, t_stride=t_stride)
        for start in starts[self._n_clips :]:
            self._cut(start)
            if not self._slides:
                self._rendered.clear()

    def close(self) -> None:
        """Give back what is on the disk."""
        if self._spool is not None:
            self._spool.close()

    def _cut(self, start: int) -> None:
        options = self._options
        indices = frame_indices(
            start, self._n_frames, size=options.sample_duration, t_stride=options.sample_t_stride
        )
        segment = min(indices), max(indices) + 1
        if options.frozen:
            indices = freeze(indices)
        self._emit(self._views(indices), segment)
        self._n_clips += 1

    def _views(self, indices: list[int]) -> list[Tensor]:
        """The views (t, h, w, c) of some frames, each of which is decoded once."""
        new = [index for index in dict.fromkeys(indices) if index not in self._rendered]
        if new:
            crops = decode_clip([(self._jpegs[index],) for index in new], self._view)
            for position, index in enumerate(new):
                self._rendered[index] = [crop[position] for crop in crops]
        frames = [self._rendered[index] for index in indices]
        shapes = [view.shape for view in frames[0]]
        for index, frame in zip(indices, frames, strict=True):
            if [view.shape for view in frame] != shapes:
                raise FrameError(index, f"has another size than frame {indices[0]}")
        return [torch.stack(views) for views in zip(*frames, strict=True)]

    def _view(self, height: int, width: int) -> View:
        return short_side_view(
            height, width, self._options.sample_size, self._options.inference_crop
        )


class _Spool(MutableMapping[int, bytes]):
    """The JPEGs of a video by number: few of them in memory, many on the disk."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_SPOOLED_BYTES)  # noqa: SIM115
        self._ends = array("Q", [0])

    def close(self) -> None:
        self._file.close()

    def __setitem__(self, index: int, jpeg: bytes) -> None:
        assert index == len(self)
        self._file.write(jpeg)
        self._ends.append(self._ends[-1] + len(jpeg))

    def __getitem__(self, index: int) -> bytes:
        begin, end = self._ends[index : index + 2]
        self._file.seek(begin)
        return self._file.read(end - begin)

    def __delitem__(self, index: int) -> None:
        raise TypeError("JPEGs are only added")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


class VideoClips:
    """The batches of the clips of videos, to go through once, in a `with` block that decodes them.

    What becomes of the videos is told by calls between batches, in order: `begun` and `ended` of
    each. A clip that was in a batch before its try began anew is void.

    Args:
        videos: their files.
        selection: which frames of each.
        options: which clips of these frames.
        batch_size: rows of a batch, at most.
        n_threads: videos that are decoded at a time.
    """

    def __init__(
        self,
        videos: Sequence[Path],
        selection: Selection,
        options: InferenceClipOptions,
        *,
        batch_size: int,
        n_threads: int,
        begun: Callable[[Begun], object],
        ended: Callable[[Ended], object],
    ) -> None:
        self._videos, self._selection, self._options = iter(videos), selection, options
        self._n_videos, self._n_threads = len(videos), n_threads
        self._rows_a_video: int | None = None
        self._begun, self._ended = begun, ended
        self._n_views = 3 if options.inference_crop == "three" else 1
        self._clips_a_batch = max(1, batch_size // self._n_views)
        clip_bytes = options.sample_duration * options.sample_size**2 * 3 * self._n_views
        self._n_ahead = max(2, _AHEAD_BYTES // (clip_bytes * n_threads))
        self._cancelled = Event()
        self._under_way: deque[Queue[_Event]] = deque()

    def n_rows(self) -> int | None:
        """How many rows the batches have together, about; None if nobody knows.

        As if all videos were as long as the one that began last.
        """
        return self._rows_a_video and self._rows_a_video * self._n_videos

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._n_threads, "decoding", initializer=prepare_thread)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[ClipBatch]:
        clips: list[Clip] = []
        for clip in self._clips():
            if clips and clip.views[0].shape != clips[0].views[0].shape:
                yield collate_clips(clips)
                clips = []
            clips.append(clip)
            if len(clips) == self._clips_a_batch:
                yield collate_clips(clips)
                clips = []
        if clips:
            yield collate_clips(clips)

    def _clips(self) -> Iterator[Clip]:
        tries = 0
        for video, events in enumerate(self._in_order()):
            rows = 0
            while True:
                event = events.get()
                if isinstance(event, Clip):
                    rows += len(event.views)
                    yield event._replace(video=tries)
                elif isinstance(event, _Try):
                    tries += 1
                    rows = 0
                    self._rows_a_video = event.rows
                    self._begun(Begun(tries, video, event.rate))
                else:
                    break
            if isinstance(event, Decoded):
                self._ended(Ended(video, rows, event, ""))
            elif isinstance(event, VideoError):
                self._ended(Ended(video, rows, None, f"{event.status}: {event.reason}"))
            elif isinstance(event, InputError | FrameError):
                self._ended(Ended(video, rows, None, str(event)))
            else:
                raise event

    def _in_order(self) -> Iterator["Queue[_Event]"]:
        """What happens to each video, the next ones under way."""
        while self._under_way:
            yield self._under_way.popleft()
            self._start()

    def _start(self) -> None:
        """Decode as many videos as may be under way."""
        while len(self._under_way) < self._n_threads and (path := next(self._videos, None)):
            events: Queue[_Event] = Queue(self._n_ahead)
            self._pool.submit(self._decode, path, events)
            self._under_way.append(events)

    def _rows_of(self, plan: Plan) -> int | None:
        if plan.seconds is None:
            return None
        options = self._options
        n_frames = max(1, round(min(plan.seconds * float(plan.fps), _MOST_FRAMES)))
        starts = inference_starts(options)(
            0, n_frames, size=options.sample_duration, t_stride=options.sample_t_stride
        )
        return self._n_views * len(starts)

    def _decode(self, path: Path, events: "Queue[_Event]") -> None:
        def put(event: _Event) -> None:
            while not self._cancelled.is_set():
                try:
                    return events.put(event, timeout=_POLL_SECONDS)
                except Full:
                    continue
            raise CancelledError

        def cutter(plan: Plan) -> AbstractContextManager[ClipCutter]:
            put(_Try(float(plan.fps), self._rows_of(plan)))
            return closing(
                ClipCutter(
                    self._options, lambda views, segment: put(Clip(views, -1, False, 0, segment))
                )
            )

        def finish(clips: ClipCutter, decoded: Decoded) -> Decoded:
            clips.finish()
            return decoded

        try:
            put(
                decode_file(
                    path,
                    self._selection,
                    timeout_seconds=_TIMEOUT_SECONDS,
                    seconds_a_frame=_SECONDS_A_FRAME,
                    is_cancelled=self._cancelled.is_set,
                    new_sink=cutter,
                    finish=finish,
                )
            )
        except CancelledError:
            pass
        except BaseException as error:  # for the thread that takes the clips
            put(error)
