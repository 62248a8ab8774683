"""The table of videos on disk, and the classes beside it."""

import logging
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.lists.base import COLUMNS, VideoList
from r3d.tables import read_columns, write_table

_log = logging.getLogger(__name__)


def save_list(video_list: VideoList, table: Path, labels: Path) -> None:
    """Write the list as a table, and its classes in order as a text file, one a line."""
    write_table(video_list.videos, table)
    with atomic_path(labels) as partial:
        text = "".join(f"{label}\n" for label in video_list.labels)
        partial.write_text(text, encoding="utf-8", newline="\n")
    subsets = video_list.videos["subset"].value_counts(sort=False)
    _log.info(
        "%s: %d videos (%s) of %d classes (%s)",
        *(table, len(video_list.videos), ", ".join(f"{n} {name}" for name, n in subsets.items())),
        *(len(video_list.labels), labels),
    )


def load_list(table: Path) -> pd.DataFrame:
    """The table that `save_list` wrote."""
    return read_columns(table, COLUMNS)


def load_labels(path: Path) -> list[str]:
    """The classes that `save_list` wrote, in order."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of classes: {error}") from None
    return text.removesuffix("\n").split("\n") if text else []
