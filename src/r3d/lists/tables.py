"""The tables of videos on disk: TSV with header, UTF-8, every value a text."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.lists.base import COLUMNS, VideoList


def save_list(video_list: VideoList, table: Path, labels: Path) -> None:
    """Write the list as a table, and its classes in order as a text file, one a line."""
    write_table(video_list.videos, table)
    with atomic_path(labels) as partial:
        text = "".join(f"{label}\n" for label in video_list.labels)
        partial.write_text(text, encoding="utf-8", newline="\n")


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


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of texts so that equal tables give equal bytes."""
    with atomic_path(path) as partial:
        table.to_csv(partial, sep="\t", index=False, encoding="utf-8", lineterminator="\n")


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a table, in that order, as texts ("NA" and "" too)."""
    try:
        table = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8"
        )
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as a table: {reason}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r} among {', '.join(table.columns)}; "
            f"expected {', '.join(columns)}"
        )
    return table[list(columns)]
