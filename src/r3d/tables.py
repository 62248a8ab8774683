"""Tables on disk: TSV with header, UTF-8, every value a text."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of texts so that equal tables give equal bytes."""
    with atomic_path(path) as partial:
        table.to_csv(partial, sep="\t", index=False, encoding="utf-8", lineterminator="\n")


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a table, in that order, as texts ("NA" and "" too).

    Raises:
        InputError: if the file is no table or lacks a column.
    """
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
