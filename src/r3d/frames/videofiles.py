"""The state of the video files of a shard, by which the next run notices that some have changed."""

import csv
import os
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

from r3d.lists.base import VIDEO_EXTENSIONS


def videos_state(shard: Path, videos: Path) -> str:
    """Digits that change when a file that may be a video of the shard comes, goes or is replaced.

    Size and time of change decide, as they do in extraction. In a process each folder is listed
    once, so that all shards of a large data set take seconds.

    Args:
        shard: a table of videos (see `r3d.frames.shards`).
        videos: the folder that the paths in the shard are relative to.
    """
    written = shard.stat()
    return _state_of_all(shard, videos, written.st_size, written.st_mtime_ns)


@cache  # Snakemake asks for it more than once
def _state_of_all(shard: Path, videos: Path, size: int, mtime_ns: int) -> str:
    """The same, of a shard that was written as the last two arguments say."""
    states = []
    with shard.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t")
        columns = next(rows, [])
        label, key, path = map(columns.index, ("label", "key", "path"))
        for row in rows:
            for place in _places(row[label], row[key], row[path]):
                folder, _, name = place.rpartition("/")
                parent = f"{videos}/{folder}"
                for file in _listed(parent).get(name, ()):
                    states.append(f"{folder}/{file}\t{_state(f'{parent}/{file}')}\n")
    return blake2b("".join(states).encode(), digest_size=8).hexdigest()


def _places(label: str, key: str, path: str) -> Sequence[str]:
    """Where the video of a row may be: test videos also under `test` or their label."""
    folder, _, name = key.rpartition("/")
    return (path, key, f"{label}/{name}") if folder == "test" and label else (path,)


@cache
def _listed(folder: str) -> dict[str, tuple[str, ...]]:
    """The files of a folder by the names that lists may give them: with and without extension."""
    files: dict[str, tuple[str, ...]] = {}
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:  # no folder, or none that can be read: extraction says so
        return files
    for name in names:
        files[name] = (*files.get(name, ()), name)
        stem, dot, extension = name.rpartition(".")
        if f"{dot}{extension}" in VIDEO_EXTENSIONS:
            files[stem] = (*files.get(stem, ()), name)
    return files


def _state(path: str) -> str:
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return str(error.errno)
    return f"{state.st_size} {state.st_mtime_ns}" if S_ISREG(state.st_mode) else ""
