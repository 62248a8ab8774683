"""What extraction will take: disk, inodes and hours, from a few videos that are extracted in memory
with the options of the data set, and timed."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r3d.config.config import Dataset
from r3d.doctor.looking import Place, selection_of, stated
from r3d.frames.decoding import read_jpegs
from r3d.frames.probing import VideoError

SAMPLED_VIDEOS = 12
SAMPLED_SECONDS = 10.0
"""Of a longer video so much is extracted, and the rest taken to be like it."""


@dataclass(frozen=True)
class Forecast:
    """What it takes to extract `videos` videos of a data set.

    sampled: how many of them were extracted to tell.
    bytes, inodes: on the disk of the frames.
    core_hours: of decoding and encoding on one core; writing is not timed.
    """

    videos: int
    sampled: int
    bytes: int
    inodes: int
    core_hours: float

    def text(self, cores: int) -> str:
        hours = self.core_hours / cores
        return (
            f"extracting the {self.videos} videos without frames takes about "
            f"{_bytes(self.bytes)}, {self.inodes:,} files and folders, and {_time(hours)} on "
            f"{cores} cores ({_time(self.core_hours)} on one); from {self.sampled} of them, "
            "extracted in memory with the options of the config, without the time of writing"
        )


@dataclass(frozen=True)
class Room:
    """What is free where the frames go; inodes are None where the file system has no limit."""

    device: int
    folder: Path
    bytes: int
    inodes: int | None


def forecast(dataset: Dataset, places: Sequence[Place], *, n_videos: int) -> Forecast | None:
    """Extrapolate from the videos at `places`; None if none of them can be decoded."""
    block = _block_size(Path(dataset.frames)) if dataset.file_type == "jpg" else 1
    seconds = size = inodes = 0.0
    sampled = 0
    for place in places:
        selection = selection_of(
            place, short_side=dataset.short_side, quality=dataset.quality, fps=dataset.fps
        )
        path = Path(dataset.videos) / place.file
        begun = time.perf_counter()
        try:
            _, length = stated(path, selection)
            part = min(1.0, SAMPLED_SECONDS / length) if length else 1.0
            if part < 1 or length is None:
                selection = replace(selection, end=(selection.start or 0.0) + SAMPLED_SECONDS)
            jpegs = read_jpegs(path, selection, timeout_seconds=60)
        except (VideoError, OSError):
            continue  # the look at videos says so
        sampled += 1
        seconds += (time.perf_counter() - begun) / part
        size += sum(-(-len(jpeg) // block) * block for jpeg in jpegs) / part
        inodes += len(jpegs) / part + 2 if dataset.file_type == "jpg" else 1
    if not sampled:
        return None
    each = n_videos / sampled
    return Forecast(
        n_videos, sampled, round(size * each), round(inodes * each), seconds * each / 3600
    )


def room(folder: Path) -> Room:
    """What is free at a folder that may not exist yet."""
    folder = _existing(folder)
    state = os.statvfs(folder)
    inodes = state.f_favail if state.f_files else None
    return Room(folder.stat().st_dev, folder, state.f_bavail * state.f_frsize, inodes)


def shortage(forecasts: Sequence[Forecast], free: Room) -> list[tuple[str, str]]:
    """What of one file system does not suffice for all of them, each with what to do."""
    size, inodes = sum(f.bytes for f in forecasts), sum(f.inodes for f in forecasts)
    lacking = []
    if size > free.bytes:
        lacking.append(
            (
                f"frames will take about {_bytes(size)}, and {_bytes(free.bytes)} are free at "
                f"{free.folder}",
                "set frames to a folder on a larger disk, or lower short_side or fps, or raise "
                "quality (the JPEG quantiser)",
            )
        )
    if free.inodes is not None and inodes > free.inodes:
        lacking.append(
            (
                f"frames will take about {inodes:,} files and folders, and {free.inodes:,} more "
                f"are possible at {free.folder}",
                "set file_type: hdf5, a file a video, or frames to a folder on another disk",
            )
        )
    return lacking


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _block_size(folder: Path) -> int:
    return os.statvfs(_existing(folder)).f_frsize or 4096


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    return f"{hours * 60:.2g} min" if hours < 1 else f"{hours:.3g} h"
