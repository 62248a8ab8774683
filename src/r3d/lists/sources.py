"""What a video was cut from, as far as its name says, and who shares it with whom.

A model that has seen other clips of the same recording is tested on what it knows.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from r3d.lists.base import stem

_GROUPS = re.compile(
    r"(v_.+_g\d+)_c\d+"  # UCF-101
    # HMDB-51: the film and the class, as a film gives clips to several classes.
    r"|(.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+"
    r"|((?:flickr|vimeo)-.+)_\d+"  # Moments in Time
)
_YOUTUBE = re.compile(
    r"([\w-]{11})_\d{6}_\d{6}"  # Kinetics
    r"|v_([\w-]{11})"  # ActivityNet
    r"|yt-([\w-]{11})_\d+"  # Moments in Time
    r"|.*\[([\w-]{11})\]",  # yt-dlp
    re.ASCII,
)

KINDS = {"file": "file", "youtube": "YouTube video", "group": "group"}
"""The kinds of sources, in the order in which they are looked at, and what to call them."""


def sources_of(
    videos: pd.DataFrame,
    *,
    folder: str | os.PathLike[str] = ".",
    group_pattern: str | None = None,
    ids_of_youtube: bool = False,
) -> pd.DataFrame:
    """The source of each video, by id, a column for each of `KINDS`; "" where none is told.

    Equal texts are equal sources, also between data sets.

    Args:
        videos: a list table, or its columns id and path.
        folder: what the paths are relative to.
        group_pattern: finds the group in a path, in place of the patterns known here.
        ids_of_youtube: whether the ids of the videos are YouTube's.
    """
    paths = videos["path"].tolist()
    names = [stem(path) for path in paths]
    groups = [_name_in(_GROUPS, name) for name in names]
    # The name of a group may look like `v_<id>`: v_Run_g01_c01.
    ids = [
        "" if group else _name_in(_YOUTUBE, name) for group, name in zip(groups, names, strict=True)
    ]
    if ids_of_youtube:
        ids = videos["id"].tolist()
    if group_pattern:
        find = _group_finder(group_pattern)
        groups = [find(path) for path in paths]
    # The extension may be left out in one list and stand in another.
    root = Path(folder).resolve()
    files = [
        f"{root}/{path.rpartition('/')[0]}/{name}" for path, name in zip(paths, names, strict=True)
    ]
    columns = {"file": files, "youtube": ids, "group": groups}
    return pd.DataFrame(columns, index=videos["id"], dtype=object)


def recordings(sources: pd.DataFrame) -> pd.Series:
    """The group of each video, else its YouTube id; "" where neither is told."""
    return sources["group"].where(sources["group"] != "", sources["youtube"])


def shared_sources(
    training: pd.DataFrame, held_out: pd.DataFrame
) -> Iterator[tuple[str, pd.Series]]:
    """For each kind, the held-out videos whose source training videos have too, by their ids.

    A video is given once, under the first kind that it shares.
    """
    left = held_out
    for kind in KINDS:
        known = training[kind]
        shared = left[kind].isin(known[known != ""])
        if shared.any():
            yield kind, left.loc[shared, kind]
            left = left[~shared]


def _name_in(pattern: re.Pattern[str], name: str) -> str:
    """What a name says of its source, "" for nothing."""
    match = pattern.fullmatch(name)
    return match[match.lastindex or 0] if match else ""


def _group_finder(pattern: str) -> Callable[[str], str]:
    """As in splitting: the first group of a pattern, or the whole match if it has none."""
    regex = re.compile(pattern)

    def find(path: str) -> str:
        match = regex.search(path)
        return f"{pattern} {match[min(1, regex.groups)] or ''}" if match else ""

    return find
