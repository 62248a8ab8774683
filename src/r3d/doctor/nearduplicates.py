"""Near-duplicate videos: the same pictures, coded again, in grey, with a logo or a caption.

After PDQ and vPDQ (Meta, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
Algorithm", 2019), in a form of our own: a frame is decoded small, brought to 64 x 64 grey values,
and of its 16 x 16 lowest frequencies those above their median are the bits of its hash, 256 of
them. Frames match at a distance of 31 bits or less, frames of a quality below 50 (flat ones) count
for nothing, and videos match if 80% of the frames of one do: the published thresholds.

Beside the whole picture its halves are hashed, as a logo across one half leaves the other alone.
They say less than the whole and must be nearer: `HALF_DISTANCE`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import simplejpeg

DISTANCE = 31
HALF_DISTANCE = 15
QUALITY = 50
SHARE = 0.8

_PARTS = (  # as rows and columns of eighths
    (slice(0, 8), slice(0, 8)),
    (slice(0, 4), slice(0, 8)),
    (slice(4, 8), slice(0, 8)),
    (slice(0, 8), slice(0, 4)),
    (slice(0, 8), slice(4, 8)),
)
_SIDE = 64
_FREQUENCIES = 16
_LEAST_PIXELS = 24
_BANDS = 16
_LEAST_BUCKET = 100
_PAIRS_AT_A_TIME = 1 << 21


@dataclass(frozen=True, eq=False)
class FrameHashes:
    """The hashes of some frames of one video.

    bits: (frames, parts, 4) of 64 bits each.
    usable: (frames, parts) whether the part shows enough to be compared.
    """

    bits: np.ndarray
    usable: np.ndarray

    def __len__(self) -> int:
        return len(self.bits)


@dataclass(frozen=True)
class Match:
    """Two videos of much the same pictures, by their numbers; `share` of frames that match."""

    first: int
    second: int
    share: float


def hash_frames(jpegs: Sequence[bytes]) -> FrameHashes:
    """The hashes of the frames of a video.

    Raises:
        ValueError: if one is no JPEG.
    """
    bits = np.zeros((len(jpegs), len(_PARTS), 4), np.uint64)
    usable = np.zeros((len(jpegs), len(_PARTS)), bool)
    pictures = [_decoded(jpeg) for jpeg in jpegs]
    cosines = _cosines()
    for shape in {picture.shape for picture in pictures}:
        frames = [i for i, picture in enumerate(pictures) if picture.shape == shape]
        stack = np.stack([pictures[i] for i in frames]).astype(np.float32)
        for part, (rows, columns) in enumerate(_scaling(*shape)):
            small = rows @ stack @ columns
            spectrum = (cosines @ small @ cosines.T).reshape(len(frames), -1)
            above = spectrum > np.median(spectrum, axis=1, keepdims=True)
            bits[frames, part] = np.packbits(above, axis=1).view(np.uint64)
            usable[frames, part] = _quality(small) >= QUALITY
    return FrameHashes(bits, usable)


def _decoded(jpeg: bytes) -> np.ndarray:
    """The grey values of a frame, at an eighth of its size if that leaves enough to be seen."""
    return simplejpeg.decode_jpeg(
        jpeg,
        "GRAY",
        fastdct=True,
        min_height=_LEAST_PIXELS,
        min_width=_LEAST_PIXELS,
        min_factor=8,
        strict=False,
    )[:, :, 0]


def match_videos(first: Sequence[FrameHashes], second: Sequence[FrameHashes]) -> list[Match]:
    """The pairs of videos, one of each side, that are near-duplicates.

    Frames that are compared share 16 of their bits in one of 16 places, so the cost grows with the
    frames that are alike and not with the square of all. Where many more than usual share the same
    16 bits, each of the first side is compared with a hundred of the second.
    """
    if not first or not second:
        return []
    left, right = _Frames(first), _Frames(second)
    hits = [np.empty(0, np.int64)]
    for part in range(len(_PARTS)):
        limit = DISTANCE if part == 0 else HALF_DISTANCE
        hits += _near(left, right, part, limit)
    frames = _distinct(np.concatenate(hits))
    i, j = frames // len(right), frames % len(right)
    pairs = left.video[i] * len(second) + right.video[j]
    # Of each pair of videos: how many frames of one and of the other have a counterpart.
    numbers, left_counts = _counts(_distinct(pairs * len(left) + i) // len(left))
    _, right_counts = _counts(_distinct(pairs * len(right) + j) // len(right))
    found = []
    for number, n_left, n_right in zip(numbers, left_counts, right_counts, strict=True):
        a, b = divmod(int(number), len(second))
        share = max(n_left / left.n_usable[a], n_right / right.n_usable[b])
        if share >= SHARE:
            found.append(Match(a, b, float(min(share, 1.0))))
    return found


def _distinct(values: np.ndarray) -> np.ndarray:
    """The values in order, each once. (NumPy's own is slow where many are near each other.)"""
    values = np.sort(values)
    return values[np.diff(values, prepend=-1) != 0]


def _counts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values among values in order, none below 0, and how often each occurs."""
    (begins,) = np.nonzero(np.diff(values, prepend=-1))
    return values[begins], np.diff(begins, append=len(values))


class _Frames:
    """The frames of many videos in one array, without those that show nothing."""

    def __init__(self, videos: Sequence[FrameHashes]) -> None:
        bits = np.concatenate([video.bits for video in videos])
        usable = np.concatenate([video.usable for video in videos])
        video = np.repeat(np.arange(len(videos)), [len(video) for video in videos])
        # A frame counts if it shows something as a whole.
        shown = usable[:, 0]
        self.bits, self.usable, self.video = bits[shown], usable[shown], video[shown]
        self.n_usable = np.bincount(self.video, minlength=len(videos))

    def __len__(self) -> int:
        return len(self.bits)


def _near(left: _Frames, right: _Frames, part: int, limit: int) -> Iterator[np.ndarray]:
    """The pairs of frames of which a part is no further apart than `limit`, as one number each."""
    (rows,) = np.nonzero(left.usable[:, part])
    (columns,) = np.nonzero(right.usable[:, part])
    ours = np.ascontiguousarray(left.bits[rows, part])
    theirs = np.ascontiguousarray(right.bits[columns, part])
    for band in range(_BANDS):
        keys, other_keys = ours.view(np.uint16)[:, band], theirs.view(np.uint16)[:, band]
        order = np.argsort(other_keys, kind="stable")
        begins = np.searchsorted(other_keys[order], keys, "left")
        ends = np.searchsorted(other_keys[order], keys, "right")
        sizes = np.minimum(ends - begins, max(_LEAST_BUCKET, 4 * len(theirs) >> 16))
        for low, high in _portions(sizes):
            n = sizes[low:high]
            first = np.repeat(np.arange(low, high), n)
            within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            second = order[np.repeat(begins[low:high], n) + within]
            apart = np.bitwise_count(ours[first] ^ theirs[second]).sum(1, dtype=np.int64)
            near = apart <= limit
            yield _distinct(rows[first[near]] * len(right) + columns[second[near]])


def _portions(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose candidates fit into memory together."""
    total = np.cumsum(sizes)
    marks = np.arange(_PAIRS_AT_A_TIME, total[-1] if len(total) else 0, _PAIRS_AT_A_TIME)
    bounds = [0, *(np.searchsorted(total, marks) + 1).tolist(), len(sizes)]
    return ((low, high) for low, high in pairwise(bounds) if low < high)


def _quality(small: np.ndarray) -> np.ndarray:
    """How much pictures (n, 64, 64) show, as PDQ counts it: from 0, flat; 50 is enough."""
    down = np.floor(np.abs(np.diff(small, axis=1)) * (100 / 255)).sum((1, 2))
    across = np.floor(np.abs(np.diff(small, axis=2)) * (100 / 255)).sum((1, 2))
    return np.asarray((down + across) / 90)


@cache
def _cosines() -> np.ndarray:
    """The lowest frequencies (16, 64) but the mean."""
    frequency = np.arange(1, _FREQUENCIES + 1)[:, None]
    place = 2 * np.arange(_SIDE)[None] + 1
    return np.cos(np.pi / 2 / _SIDE * frequency * place).astype(np.float32)


@cache
def _scaling(height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each part, the matrices that cut it out of a picture and bring it to 64 x 64."""
    return [(_resampling(height, rows), _resampling(width, columns).T) for rows, columns in _PARTS]


def _resampling(size: int, part: slice) -> np.ndarray:
    """(64, size) weights: linear interpolation, or a tent as wide as the step where it shrinks."""
    begin, end = size * part.start / 8, size * part.stop / 8
    places = begin + (np.arange(_SIDE) + 0.5) * (end - begin) / _SIDE
    centres = np.clip(np.arange(size) + 0.5, begin, end)
    weights = 1 - np.abs(places[:, None] - centres) / max(1.0, (end - begin) / _SIDE)
    weights = np.clip(weights, 0, None)
    inside = (np.arange(size) + 1 > begin) & (np.arange(size) < end)
    weights[:, ~inside] = 0
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
