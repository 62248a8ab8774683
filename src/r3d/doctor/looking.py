"""A look at single videos: can they be decoded, how long are they, what do they show.

Where frames are there, they are looked at; else the video is decoded, its first seconds or all of
it. Nothing is written, neither frames nor notes about them.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from r3d.config.config import Dataset
from r3d.doctor.nearduplicates import FrameHashes, hash_frames
from r3d.errors import InputError
from r3d.frames.decoding import read_jpegs
from r3d.frames.layouts import FIRST_FRAME
from r3d.frames.probing import VideoError, probe
from r3d.frames.selection import Selection, plan
from r3d.frames.stores import open_store

LOOKED_SECONDS = 20.0
"""So much of a video is decoded, from its beginning or that of its segment, unless all is."""

_MOST_FRAMES = 10
_FEWEST_FRAMES = 4
_SHORT_SIDE = 240
_TIMEOUT_SECONDS = 60.0


class Place(NamedTuple):
    """A listed video and what is there of it: "" for what is not."""

    id: str
    file: str
    key: str
    start: str
    end: str


@dataclass(frozen=True, eq=False)
class Look:
    """What a look at a video found.

    problem: why it cannot be used, or not as a whole; "" if it can.
    usable: whether there are frames nevertheless.
    frames: how many frames extraction gives, or gave; None where the container does not tell.
    rate: frames a second, None where that is not known.
    hashes: of a few of its frames; None where there are none to compare.
    """

    problem: str
    usable: bool = False
    frames: float | None = None
    rate: float | None = None
    hashes: FrameHashes | None = None


def choose(videos: pd.DataFrame, n: int) -> np.ndarray:
    """The rows of `n` videos, or of all if they are fewer: half of them of training.

    A hash of their ids decides, so that the choice stays as lists grow.
    """
    order = np.argsort(pd.util.hash_pandas_object(videos["id"], index=False).to_numpy())
    training = (videos["subset"] == "training").to_numpy()[order]
    first, rest = order[training], order[~training]
    n_first = max(n // 2, n - len(rest))
    chosen = np.concatenate([first[:n_first], rest[: max(0, n - min(n_first, len(first)))]])
    return np.sort(chosen)


def look_at(
    places: Sequence[Place],
    dataset: Dataset,
    *,
    threads: int,
    whole: bool,
    compare: bool,
) -> list[Look]:
    """Look at videos, several at a time, in their order.

    Args:
        whole: decode videos to their end.
        compare: whether to hash frames.

    Raises:
        InputError: if no ffmpeg is found.
    """
    viewer = _Viewer(dataset, whole=whole, compare=compare)
    pool = ThreadPoolExecutor(threads)
    try:
        bar = tqdm(
            pool.map(viewer, places),
            total=len(places),
            unit="video",
            disable=not sys.stderr.isatty(),
            mininterval=0.5,
        )
        return list(bar)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Viewer:
    def __init__(self, dataset: Dataset, *, whole: bool, compare: bool) -> None:
        self._dataset = dataset
        self._whole = whole
        self._compare = compare
        frames = Path(dataset.frames)
        self._store = open_store(frames, dataset.file_type, lent=True)

    def __call__(self, place: Place) -> Look:
        if place.key:
            look = self._frames(place.key)
            if look is not None:
                return look
        if not place.file:
            return Look("its folder of frames is empty")
        return self._video(place)

    def _frames(self, key: str) -> Look | None:
        try:
            record = self._store.record(key)
            if record is None:
                return None
            if not record.frames:
                return Look(f"frames: {record.reason}")
            look = Look("", usable=True, frames=record.frames, rate=record.fps)
            if not self._compare:
                return look
            seconds = record.frames / (record.fps or 25)
            first = FIRST_FRAME[self._dataset.file_type]
            n = min(record.frames, _n_frames(seconds))
            indices = [first + int((i + 0.5) * record.frames / n) for i in range(n)]
            return replace(look, hashes=hash_frames(self._store.read(key, indices)))
        except (InputError, ValueError) as error:
            return Look(f"frames: {error}")

    def _video(self, place: Place) -> Look:
        path = Path(self._dataset.videos) / place.file
        try:
            if not os.access(path, os.R_OK):
                raise VideoError("corrupt", "this user may not read it")
            if not path.stat().st_size:
                raise VideoError("empty", "the file has no bytes")
            asked = selection_of(place, short_side=_SHORT_SIDE)
            rate, seconds = stated(path, replace(asked, fps=self._dataset.fps))
            if seconds == 0:
                raise VideoError("empty", "no frame in the segment that the list asks for")
            look = self._decoded(path, asked, rate, seconds)
            return replace(look, frames=None if seconds is None else seconds * rate, rate=rate)
        except VideoError as error:
            return Look(f"{error.status}: {error.reason}")
        except (OSError, ValueError) as error:
            return Look(f"corrupt: {error}")

    def _decoded(self, path: Path, asked: Selection, rate: float, seconds: float | None) -> Look:
        """Decode so much of a video as is to be looked at."""
        window = seconds
        if not self._whole and (seconds is None or seconds > LOOKED_SECONDS):
            window = LOOKED_SECONDS
            asked = replace(asked, end=(asked.start or 0.0) + window)
        length = window or LOOKED_SECONDS
        asked = replace(asked, fps=_n_frames(length) / length)
        expected = min(_n_frames(length), length * rate)
        jpegs = read_jpegs(path, asked, timeout_seconds=self._timeout())
        problem = ""
        if seconds is not None and len(jpegs) + 1 < 0.8 * expected:
            share = len(jpegs) / expected
            problem = f"truncated: ends after about {share:.0%} of what its container states"
        hashes = hash_frames(jpegs[: 2 * _MOST_FRAMES]) if self._compare else None
        return Look(problem, usable=True, hashes=hashes)

    def _timeout(self) -> float:
        limit = self._dataset.timeout_seconds
        return limit if self._whole else min(limit, _TIMEOUT_SECONDS)


def selection_of(
    place: Place, *, short_side: int, quality: int | None = None, fps: float | None = None
) -> Selection:
    """The frames of a video, or of its segment."""
    return Selection(
        short_side=short_side,
        quality=quality,
        fps=fps,
        start=float(place.start) if place.start else None,
        end=float(place.end) if place.end else None,
    )


def stated(path: Path, selection: Selection) -> tuple[float, float | None]:
    """Frames a second that extraction gives, and for how many seconds, by container and stamps.

    Raises:
        VideoError: if it cannot be opened.
    """
    info = probe(path, start=selection.start, end=selection.end, timeout_seconds=_TIMEOUT_SECONDS)
    chosen = plan(info, selection)
    return float(chosen.fps), chosen.seconds if info.coded else 0.0


def _n_frames(seconds: float) -> int:
    """How many frames to look at: about one a second."""
    return int(np.clip(round(seconds), _FEWEST_FRAMES, _MOST_FRAMES))
