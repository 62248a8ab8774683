"""Temporal sampling: which frames of a video make a clip.

A segment of a video is its frames `begin <= i < end`, whatever the first one is called. A clip
has `size` frames, every `t_stride`-th one from a start frame on; if the segment ends before the
clip is full, the clip begins again at its start frame. Where a clip starts is a matter of the
functions `*_start` and `*_starts`; which frames it has from there on, of `frame_indices`.

At `t_stride` 1 the clips are those of Hara et al. (2018), for all but random starts, where every
start is drawn alike. At greater strides the video is taken as its frames begin, begin + t_stride,
...: strides of sliding windows and gaps between even clips count in those frames.

>>> frame_indices(1, 8, size=4, t_stride=2)
[1, 3, 5, 7]
>>> frame_indices(5, 8, size=4, t_stride=2)
[5, 7, 5, 7]
>>> list(sliding_starts(1, 11, size=4, stride=4))
[1, 5, 9]
"""

import numpy as np


def frame_indices(start: int, end: int, *, size: int, t_stride: int = 1) -> list[int]:
    """The `size` frames of the clip from frame `start` on in a segment that ends before `end`."""
    n_frames = _n_strided(start, end, t_stride)
    if n_frames >= size:
        return list(range(start, start + size * t_stride, t_stride))
    return [start + position % n_frames * t_stride for position in range(size)]


def freeze(indices: list[int]) -> list[int]:
    """The clip with its motion removed: its first frame as often as it has frames."""
    return indices[:1] * len(indices)


def random_start(
    begin: int, end: int, *, size: int, rng: np.random.Generator, t_stride: int = 1
) -> int:
    """A start drawn uniformly from all whose clip fits; `begin` if the segment is too short."""
    last = end - ((size - 1) * t_stride + 1)
    return int(rng.integers(begin, max(begin, last) + 1))


def center_start(begin: int, end: int, *, size: int, t_stride: int = 1) -> int:
    """The start of the clip in the middle of the segment."""
    position = _n_strided(begin, end, t_stride) // 2 - size // 2
    return begin + max(0, position) * t_stride


def even_starts(begin: int, end: int, *, size: int, n_samples: int, t_stride: int = 1) -> range:
    """The starts of up to `n_samples` evenly spaced clips; a single one lies in the middle.

    Short segments give fewer clips: none starts after the first one that loops.
    """
    if n_samples == 1:
        start = center_start(begin, end, size=size, t_stride=t_stride)
        return range(start, start + 1)
    n_frames = _n_strided(begin, end, t_stride)
    step = max(1, -((size + 1 - n_frames) // (n_samples - 1)))  # rounded up
    starts = sliding_starts(begin, end, size=size, stride=step, t_stride=t_stride)
    return starts[:n_samples]


def spread_starts(begin: int, end: int, *, size: int, n_clips: int, t_stride: int = 1) -> list[int]:
    """The starts of exactly `n_clips` clips from the first to the last that fits, in even steps.

    This is how results with several clips a video are reported (Wang et al., Non-local Neural
    Networks, 2018); a single clip lies in the middle.
    """
    if n_clips == 1:
        return [center_start(begin, end, size=size, t_stride=t_stride)]
    last = max(0, end - begin - 1 - (size - 1) * t_stride)
    return [begin + round(number * last / (n_clips - 1)) for number in range(n_clips)]


def sliding_starts(begin: int, end: int, *, size: int, stride: int, t_stride: int = 1) -> range:
    """The starts of windows that cover the segment; only the last window can loop.

    The result costs the same for a segment of any length: `len` counts the windows, an index
    picks one.
    """
    n_frames = _n_strided(begin, end, t_stride)
    n_full = max(0, (n_frames - size) // stride + 1)
    n_windows = n_full + (n_full * stride < n_frames)
    step = stride * t_stride
    return range(begin, begin + n_windows * step, step)


def _n_strided(begin: int, end: int, t_stride: int) -> int:
    """How many of the frames begin, begin + t_stride, ... lie before `end`."""
    if begin >= end:
        raise ValueError(
            f"a segment needs at least one frame, begin {begin} and end {end} give none"
        )
    return -((begin - end) // t_stride)
