"""Extraction: the videos of a shard -> frames in a store, and a manifest of what became of each."""

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from stat import S_ISREG
from threading import Event
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from r3d.errors import InputError
from r3d.frames.decoding import Decoded, decode, prepare_thread
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import Colour, FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.probing import VideoError, VideoInfo, probe
from r3d.frames.selection import Plan, Selection, plan
from r3d.frames.spellings import spellings
from r3d.frames.stores import NameRefused, VideoRecord, filling, open_store
from r3d.frames.stores.base import FrameWriter
from r3d.lists.base import VIDEO_EXTENSIONS
from r3d.tables import read_columns, write_table

_log = logging.getLogger(__name__)

_SAME_COLOUR = "same"
"""In a record: the source has the colours of JPEG, whatever `colour` says."""

_KILLED = re.compile(r"ffmpeg ended with status -\d+$")


@dataclass(frozen=True)
class FrameOptions:
    """How frames are made.

    file_type: layout of the store (see `r3d.frames.stores`).
    short_side: of the frames in pixels, after rotation; 0 keeps the size.
    quality: JPEG quantiser, 2 (best) to 31; None for ffmpeg's default.
    fps: frames a second to select; None, or more than the video has, keeps all.
    timeout_seconds: longest time for one video, after which it counts as corrupt.
    colour: `converted` gives BT.709 and BT.2020 sources the colours that JPEG means (BT.601's
        matrix); `as_reference` leaves them as the reference does, whose frames are off by up to 34
        of 255. All other sources are the same either way.
    """

    file_type: FileType = "jpg"
    short_side: int = 240
    quality: int | None = None
    fps: float | None = None
    timeout_seconds: float = 600.0
    colour: Colour = "converted"

    def __post_init__(self) -> None:
        for name, valid, accepted in (
            ("file_type", self.file_type in ("jpg", "hdf5"), "jpg or hdf5"),
            ("short_side", self.short_side >= 0, "pixels, or 0 to keep the size"),
            ("quality", self.quality is None or 2 <= self.quality <= 31, "2 (best) to 31, or none"),
            ("fps", self.fps is None or self.fps > 0, "above 0, or none to keep all frames"),
            ("colour", self.colour in ("converted", "as_reference"), "converted or as_reference"),
            ("timeout_seconds", self.timeout_seconds > 0, "above 0"),
        ):
            if not valid:
                raise InputError(f"{name}: {getattr(self, name)!r} is not accepted: {accepted}")


def extract_shard(
    shard: Path,
    videos: Path,
    frames: Path,
    manifest: Path,
    options: FrameOptions,
    *,
    threads: int,
    verify: bool = False,
    progress: bool = True,
) -> None:
    """Make the frames of all videos of a shard that are not there yet, and write the manifest.

    A video that fails is a row with its reason. Frames are kept where video and options are those
    that they were made from, all are there and of the size that they had, and where the video is
    gone; those of before there was a choice of colour count as made `as_reference`. Frames that
    came from elsewhere, such as
    the reference's, are kept where they are as many and as large as the options ask for. A run that
    was stopped leaves complete videos and nothing else.

    Args:
        shard: a table of videos (see `r3d.frames.shards`).
        videos: the folder that the paths in the shard are relative to.
        frames: the folder of the frame store.
        manifest: the table to write (`r3d.frames.ledger.MANIFEST_COLUMNS`), in the order of the
            shard.
        threads: how many videos are decoded at a time, each by an ffmpeg process with one thread.
        verify: whether to read the frames that are there and make those anew that are damaged.
        progress: whether to show a bar on standard error.

    Raises:
        InputError: if no ffmpeg is found, or the store cannot be written (a full disk, say).
    """
    rows = [
        _Row(*values)
        for values in read_columns(shard, _Row._fields).itertuples(index=False, name=None)
    ]
    cancelled = Event()
    with filling(frames) as partial:
        extractor = _Extractor(videos, frames, partial, options, cancelled, verify)
        with ThreadPoolExecutor(threads, initializer=prepare_thread) as pool:
            try:
                futures = [pool.submit(extractor, row, str(i)) for i, row in enumerate(rows)]
                bar = tqdm(
                    as_completed(futures),
                    desc=shard.stem,
                    total=len(rows),
                    unit="video",
                    disable=not progress,
                    mininterval=0.5 if sys.stderr.isatty() else 30,
                )
                for future in bar:
                    future.result()
            finally:
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
    done = [future.result() for future in futures]
    _write_manifest(done, manifest)
    counts = Counter(record.status for _, record in done)
    summary = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    _log.info("%s: %d videos%s", manifest, len(rows), f": {summary}" if summary else "")
    older = sum(bool(record.made_from and "colour" not in record.made_from) for _, record in done)
    if older and options.colour == "converted":
        _log.info(
            "%s: frames of %d videos were made before there was a choice of colour, as_reference, "
            "and are kept; delete them to have them made anew",
            *(manifest, older),
        )


class _Row(NamedTuple):
    """The columns of a shard."""

    id: str
    label: str
    key: str
    path: str
    start: str
    end: str


class _Extractor:
    """Makes the frames of one video at a time, in any of the threads."""

    def __init__(
        self,
        videos: Path,
        frames: Path,
        partial: Callable[[], Path],
        options: FrameOptions,
        cancelled: Event,
        verify: bool,
    ) -> None:
        self._videos = videos
        self._partial = partial
        self._store = open_store(frames, options.file_type)
        self._options = options
        self._binary = ffmpeg_binary()
        self._cancelled = cancelled
        self._verify = verify

    def __call__(self, row: _Row, partial: str) -> tuple[_Row, VideoRecord]:
        """The row, with the place where the frames are, and their record."""
        if self._cancelled.is_set():
            raise CancelledError
        row = self._placed(row)
        return row, self._record(row, partial)

    def _placed(self, row: _Row) -> _Row:
        """The row, with the places where its frames and its video are, should they be elsewhere.

        The test videos of Kinetics are in the folder `test`, but some people sort those whose label
        they know. Names with accents may be spelt otherwise on the disk.
        """
        folder, _, name = row.key.rpartition("/")
        places = [row.key]
        if folder == "test" and row.label:
            places.append(f"{row.label}/{name}")
            path = next((place for place in places if _exists(self._videos, place)), row.path)
            row = row._replace(path=path)
        keys = [key for place in places for key in spellings(place)]
        if len(keys) > 1:
            row = row._replace(key=next(filter(self._store.record, keys), row.key))
        return row

    def _record(self, row: _Row, partial: str) -> VideoRecord:
        selection = Selection(
            short_side=self._options.short_side,
            quality=self._options.quality,
            fps=self._options.fps,
            start=float(row.start) if row.start else None,
            end=float(row.end) if row.end else None,
            colour=self._options.colour,
        )
        existing = self._store.record(row.key, verify=self._verify)
        try:
            path, state = _find(self._videos, row.path)
        except VideoError as error:
            return _kept(existing, selection, error) if existing else _failure(error)
        file_state = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
        if existing and _made_so(existing, {**file_state, **asdict(selection)}):
            return existing
        try:
            info = probe(
                path,
                start=selection.start,
                end=selection.end,
                timeout_seconds=self._options.timeout_seconds,
                is_cancelled=self._cancelled.is_set,
            )
            made_from = {**file_state, **asdict(selection)}
            if not info.foreign_matrix:
                made_from["colour"] = _SAME_COLOUR
            chosen = plan(info, selection)
            if existing and existing.made_from is None and _fits(existing, chosen, selection):
                adopted = replace(existing, fps=float(chosen.fps), made_from=made_from)
                self._store.adopt(row.key, adopted)
                return adopted
            return self._extract(
                row.key, path, info, selection, made_from, self._partial() / partial
            )
        except VideoError as error:
            return _failure(error)
        except NameRefused as error:
            return _failure(VideoError("corrupt", str(error)))

    def _extract(
        self,
        key: str,
        path: Path,
        info: VideoInfo,
        selection: Selection,
        made_from: dict[str, Any],
        partial: Path,
    ) -> VideoRecord:
        def commit(writer: FrameWriter, decoded: Decoded) -> VideoRecord:
            record = VideoRecord(
                status=decoded.status,
                reason=decoded.reason,
                frames=writer.frames,
                fps=float(decoded.plan.fps),
                width=writer.width,
                height=writer.height,
                made_from=made_from,
            )
            writer.commit(self._store.path(key), record)
            return record

        return decode(
            path,
            info,
            selection,
            binary=self._binary,
            timeout_seconds=self._options.timeout_seconds,
            is_cancelled=self._cancelled.is_set,
            new_sink=lambda _: self._store.writer(partial),
            finish=commit,
        )


def _find(videos: Path, listed: str) -> tuple[Path, os.stat_result]:
    """The file of a video, if need be with one of the usual extensions, and its state."""
    endings = ("",) if listed.lower().endswith(VIDEO_EXTENSIONS) else ("", *VIDEO_EXTENSIONS)
    for name in (f"{way}{ending}" for way in spellings(listed) for ending in endings):
        path = videos / name
        try:
            state = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise VideoError("corrupt", f"cannot be read: {error.strerror}") from None
        if not S_ISREG(state.st_mode):
            continue
        if not state.st_size:
            raise VideoError("empty", "the file has no bytes")
        return path, state
    also = ", nor with a usual extension" if len(endings) > 1 else ""
    raise VideoError("missing", f"no file {listed}{also}")


def _exists(videos: Path, listed: str) -> bool:
    try:
        _find(videos, listed)
    except VideoError as error:
        return error.status != "missing"
    return True


def _failure(error: VideoError) -> VideoRecord:
    return VideoRecord(error.status, error.reason, 0, None, 0, 0, None)


def _kept(existing: VideoRecord, selection: Selection, error: VideoError) -> VideoRecord:
    """The record of frames that cannot be made again, as the video cannot be had."""
    if not existing.frames:
        return replace(existing, reason=f"{existing.reason}; the video: {error.reason}")
    if existing.made_from and not _made_so(existing, asdict(selection)):
        reason = f"made with other options, and cannot be made anew: {error.reason}"
        return replace(existing, reason=reason)
    return existing


def _made_so(existing: VideoRecord, asked: dict[str, Any]) -> bool:
    """Whether frames were made from what is asked for.

    Those made before there was a choice of colour have no word on it, and are kept whatever is
    chosen: most sources are the same either way, and to make a whole store anew is for a person to
    decide. Those of an ffmpeg that was killed may be a part of the video.
    """
    made = existing.made_from
    if made is None or _KILLED.search(existing.reason):
        return False
    return all(
        made.get(name, _SAME_COLOUR) in (value, _SAME_COLOUR)
        if name == "colour"
        else name in made and made[name] == value
        for name, value in asked.items()
    )


def _fits(existing: VideoRecord, chosen: Plan, selection: Selection) -> bool:
    """Whether frames without a record are what the options ask for, as far as one can tell."""
    if selection.short_side not in (0, min(existing.width, existing.height)):
        return False
    return existing.frames > 0 and chosen.fits(existing.frames)


def _write_manifest(done: Sequence[tuple[_Row, VideoRecord]], path: Path) -> None:
    table = [
        (
            *(row.id, row.label, row.key, record.status, " ".join(record.reason.split())),
            str(record.frames),
            "" if record.fps is None else f"{record.fps:.10g}",
            *((str(record.width), str(record.height)) if record.frames else ("", "")),
        )
        for row, record in done
    ]
    write_table(pd.DataFrame(table, columns=list(MANIFEST_COLUMNS)), path)
