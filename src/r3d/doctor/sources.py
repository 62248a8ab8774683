"""What a video was cut from, as far as its name says, and who shares it with whom.

A model that has seen other clips of the same recording is tested on what it knows.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from r3d.config.config import Dataset
from r3d.lists.base import stem

_UCF101 = r"^(v_.+_g\d+)_c\d+$"
# The group and the class: a film gives clips to several classes.
_HMDB51 = r"^(.+)_[fhlu]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+$"
_SITES = r"^((?:flickr|vimeo)-.+)_\d+$"  # Moments in Time
_YOUTUBE = (
    r"^([\w-]{11})_\d{6}_\d{6}$",  # Kinetics
    r"^v_([\w-]{11})$",  # ActivityNet
    r"^yt-([\w-]{11})_\d+$",  # Moments in Time
    r"\[([\w-]{11})\]$",  # yt-dlp
)

KINDS = {"file": "file", "youtube": "YouTube video", "group": "group"}
"""The kinds of sources, in the order in which they are looked at, and what to call them."""


def sources_of(videos: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """The source of each video, a column for each of `KINDS`; "" where the name tells none.

    Equal texts are equal sources, also between data sets.
    """
    names = videos["path"].map(stem)
    group = _first_match(names, _UCF101, _HMDB51, _SITES)
    if dataset.group_pattern:
        group = videos["path"].map(_group_finder(dataset.group_pattern))
    youtube = _first_match(names, *_YOUTUBE)
    youtube = youtube.mask(names.str.match(_UCF101), "")  # `v_Run_g01_c01` is no v_<id>
    if dataset.format == "activitynet":
        youtube = videos["id"]
    # The extension may be left out in one list and stand in another.
    folder = str(Path(dataset.videos).resolve())
    files = folder + "/" + videos["path"].map(_without_extension)
    return pd.DataFrame({"file": files, "youtube": youtube, "group": group}, index=videos.index)


def shared_sources(
    training: pd.DataFrame, held_out: pd.DataFrame
) -> Iterator[tuple[str, pd.Series]]:
    """For each kind, the held-out videos whose source training videos have too, by their index.

    A video is given once, under the first kind that it shares.
    """
    left = held_out
    for kind in KINDS:
        known = training[kind]
        shared = left[kind].isin(known[known != ""])
        if shared.any():
            yield kind, left.loc[shared, kind]
            left = left[~shared]


def _first_match(names: pd.Series, *patterns: str) -> pd.Series:
    """The first group of the first pattern that a name matches, "" without one."""
    result = pd.Series("", index=names.index, dtype=object)
    for pattern in patterns:
        open_ = result == ""
        if not open_.any():
            break
        found = names[open_].str.extract(pattern, expand=False).fillna("")
        result[open_] = found
    return result


def _group_finder(pattern: str) -> Callable[[str], str]:
    """As in splitting: the first group of a pattern, or the whole match if it has none."""
    regex = re.compile(pattern)

    def find(path: str) -> str:
        match = regex.search(path)
        return f"{pattern} {match[min(1, regex.groups)] or ''}" if match else ""

    return find


def _without_extension(path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{stem(path)}"
