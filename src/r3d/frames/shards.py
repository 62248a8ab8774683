"""Dividing the videos of a data set into shards: the units in which frames are extracted.

A data set may have a million videos and several splits of the same ones: a job for each video would
drown the scheduler, and extraction for each split would repeat the work.
"""

import hashlib
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from r3d.errors import InputError
from r3d.lists import COLUMNS, load_list
from r3d.tables import write_table

_log = logging.getLogger(__name__)

SHARD_COLUMNS = tuple(name for name in COLUMNS if name != "subset")


def shard_name(shard: int, n_shards: int) -> str:
    """The number of a shard as it stands in file names.

    >>> shard_name(7, 256)
    '007'
    """
    return f"{shard:0{max(3, len(str(n_shards - 1)))}d}"


def write_shards(tables: Sequence[Path], folder: Path, n_shards: int) -> list[Path]:
    """Divide the videos of all list tables of a data set over `n_shards` files; return their paths.

    A hash of its id alone decides in which shard a video is, and a shard is sorted by id: a file
    changes only if its own videos do. A shard without videos is written too. Videos of one id in
    several tables are one video; if they differ in anything but the subset, or if two videos would
    share frames (one key, or ids that differ only by case), that is an `InputError`.
    """
    if n_shards < 1:
        raise InputError(f"{n_shards} shards: accepted is 1 or more")
    videos = _union(tables)
    _check_distinct(videos)
    videos = videos.sort_values("id", ignore_index=True)
    shards = np.array([_hash(name) % n_shards for name in videos["id"]], dtype=np.int64)
    # One stable sort by shard, then slices: a selection for each shard would scan all videos each.
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], np.arange(n_shards + 1))
    paths = []
    for shard, (begin, end) in enumerate(pairwise(bounds)):
        paths.append(folder / f"{shard_name(shard, n_shards)}.tsv")
        write_table(videos.iloc[order[begin:end]], paths[-1])
    names = paths[0].name if n_shards == 1 else f"{paths[0].name} to {paths[-1].name}"
    _log.info("%s: %d videos in %s", folder, len(videos), names)
    return paths


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _union(tables: Sequence[Path]) -> pd.DataFrame:
    frames = [load_list(table)[list(SHARD_COLUMNS)].assign(table=str(table)) for table in tables]
    videos = pd.concat(frames, ignore_index=True)
    first = videos.drop_duplicates("id")
    repeats = videos[videos["id"].duplicated()].merge(first, on="id", suffixes=("", "_first"))
    for column in SHARD_COLUMNS[1:]:
        differing = repeats[repeats[column] != repeats[f"{column}_first"]]
        if len(differing):
            row = differing.iloc[0]
            raise InputError(
                f"video {row['id']!r} has {column} {row[column]!r} in {row['table']} but "
                f"{row[column + '_first']!r} in {row['table_first']}; expected one for all splits"
            )
    return first[list(SHARD_COLUMNS)]


def _check_distinct(videos: pd.DataFrame) -> None:
    """Refuse videos whose frames would overwrite each other on some file system.

    Some are blind to case, some to how an accent is written.
    """
    for column, clash in (
        ("key", "would share their frames"),
        ("id", "have ids that differ only by case, or by how accents are written"),
    ):
        values = videos[column].str.normalize("NFC").str.casefold()
        repeated = values.duplicated()
        if repeated.any():
            second = videos[repeated].iloc[0]
            first = videos[values == values[repeated].iloc[0]].iloc[0]
            raise InputError(
                f"videos {first['id']!r} ({first['path']}) and {second['id']!r} ({second['path']}) "
                f"{clash}; rename one of them"
            )
