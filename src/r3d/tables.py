"""Tables on disk: TSV with header, UTF-8, every value a text.

People open them in spreadsheets, which run what begins like a formula. Labels and names of videos
come from anywhere, so such a text has an apostrophe before it in the file, which `read_columns`
takes off again. The ids of Kinetics begin with "-" now and then: in a column `id`, "-" and letters,
digits, "_", "-" and "." after it stay as they are, which is no formula that does anything.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path

_SUSPECTS = frozenset("=+-@\t\r'")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_WRITTEN_FORMULA = re.compile(r"'+[=+\-@\t\r]")
_HARMLESS_ID = re.compile(r"-[\w.-]*", re.ASCII)


def write_table(table: pd.DataFrame, path: Path, *, durable: bool = False) -> None:
    """Write a table of texts so that equal tables give equal bytes.

    Args:
        durable: see `r3d.files.atomic_path`.
    """
    table = table.copy(deep=False)
    names = without_formulas(map(str, table.columns))
    needs_quotes = _has_return(names)
    for i, name in enumerate(table.columns):
        if table.dtypes.iloc[i].kind not in "biuf":
            texts = table.iloc[:, i].tolist()
            harmless = without_formulas(texts, is_id=name == "id")
            if harmless != texts:
                table.isetitem(i, harmless)
            needs_quotes = needs_quotes or _has_return(texts)
    table.columns = pd.Index(names)
    with atomic_path(path, durable=durable) as partial:
        table.to_csv(
            partial,
            sep="\t",
            index=False,
            encoding="utf-8",
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if needs_quotes else csv.QUOTE_MINIMAL,
        )


def _has_return(texts: Iterable[str]) -> bool:
    """Whether one holds a "\r", which ends a row for pandas, and which not every Python quotes."""
    return "\r" in "".join(texts)


def read_columns(path: Path, columns: Sequence[str], *, growing: bool = False) -> pd.DataFrame:
    """The named columns of a table, in that order, as texts ("NA" and "" too).

    Args:
        growing: leave out a last row without a line end, as it is being written.

    Raises:
        InputError: if the file is no table or lacks a column.
    """
    try:
        content = path.read_bytes()
        if growing:
            content = content[: content.rfind(b"\n") + 1]
        table = pd.read_csv(
            BytesIO(content) if growing else path,
            sep="\t",
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            encoding="utf-8",
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
    table = table[list(columns)]
    if b"'" in content:
        for i in range(len(columns)):
            table.isetitem(i, as_meant(table.iloc[:, i]))
    return table


def as_meant(texts: Iterable[str]) -> list[str]:
    """Texts of a table as they were before they were written."""
    return [
        text[1:] if text[:1] == "'" and _WRITTEN_FORMULA.match(text) else text for text in texts
    ]


def without_formulas(texts: Iterable[str], *, is_id: bool = False) -> list[str]:
    """Texts as they go into a table: an apostrophe before each that begins like a formula."""
    return [
        f"'{text}"
        if text[:1] in _SUSPECTS
        and _FORMULA.match(text)
        and not (is_id and _HARMLESS_ID.fullmatch(text))
        else text
        for text in texts
    ]
