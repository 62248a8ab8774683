"""Reading list files of any origin: missing files, encodings, line ends, headers, line numbers."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r3d.errors import InputError, shown
from r3d.files import read_text


@dataclass(frozen=True)
class Table:
    """A CSV file by columns: `columns[name][i]` stands on line `lines[i]` of `file`."""

    file: Path
    lines: list[int]
    columns: dict[str, list[str]]
    delimiter: str = ","


def need_folder(folder: Path, expected: str) -> None:
    """Refuse a folder that does not exist; `expected` says what should be in it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder with {expected}")


def need_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The named files of a folder, all of which must exist."""
    expected = ", ".join(names)
    need_folder(folder, expected)
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder}: {name} is missing; expected are {expected}")
    return [folder / name for name in names]


def only_file(folder: Path, extension: str) -> Path:
    """`folder` itself if it is a file, else the only file in it with the extension."""
    if folder.is_file():
        return folder
    need_folder(folder, f"one *{extension} file, or the path of that file")
    found = sorted(file for file in folder.glob(f"*{extension}") if not file.name.startswith("."))
    if len(found) != 1:
        names = ", ".join(shown(file.name) for file in found) or "none"
        raise InputError(
            f"{folder}: expected one *{extension} file, or the path of that file; found {names}"
        )
    return found[0]


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1."""
    lines = io.StringIO(read_text(file), newline=None)
    return [(number, text) for number, line in enumerate(lines, 1) if (text := line.strip())]


def read_rows(file: Path) -> tuple[list[int], list[tuple[str, ...]]]:
    """The rows of a CSV file that are not blank, after their line numbers from 1."""
    return _rows(file, read_text(file), ",")


def _rows(file: Path, text: str, delimiter: str) -> tuple[list[int], list[tuple[str, ...]]]:
    lines: list[int] = []
    rows: list[tuple[str, ...]] = []  # a million lists would keep the garbage collector at work
    reader = csv.reader(io.StringIO(text, newline=None), strict=True, delimiter=delimiter)
    try:
        for row in reader:
            if row:
                lines.append(reader.line_num)
                rows.append(tuple(row))
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: not a CSV row: {error}") from None
    return lines, rows


def need_fields(file: Path, lines: list[int], rows: list[tuple[str, ...]], n_fields: int) -> None:
    """Refuse rows of another number of fields."""
    for line, row in zip(lines, rows, strict=True):
        if len(row) != n_fields:
            raise InputError(f"{file}, line {line}: {len(row)} fields; expected {n_fields}")


def read_table(file: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read a CSV file with a header whose columns may come in any order, among others.

    The header tells whether commas, semicolons or tabs separate the columns, of which spreadsheets
    write each somewhere: the semicolon where the comma is that of decimals. Their first line
    `sep=;` and their rows of empty cells are left out. Column names are compared without regard to
    case. An optional column that is absent is absent from the result; columns that are not asked
    for are ignored.
    """
    text = read_text(file)
    delimiter = _delimiter(text, required)
    lines, rows = _rows(file, text, delimiter)
    if rows and _SEPARATOR_LINE.fullmatch(delimiter.join(rows[0])):
        del lines[0], rows[0]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    wanted = [name for name in (*required, *optional) if name in header]
    if not set(required) <= set(header) or any(header.count(name) > 1 for name in wanted):
        others = f" and optionally {', '.join(optional)}," if optional else ""
        raise InputError(
            f"{file}, line {lines[0] if lines else 1}: the header is "
            f"{delimiter.join(header) or 'missing'!r}; expected the columns {', '.join(required)}"
            f"{others} each once, in any order, between commas, semicolons or tabs"
        )
    del lines[0], rows[0]
    if ("",) * len(header) in rows:
        filled = [i for i, row in enumerate(rows) if any(row)]
        lines, rows = [lines[i] for i in filled], [rows[i] for i in filled]
    need_fields(file, lines, rows, len(header))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    return Table(file, lines, {name: columns[header.index(name)] for name in wanted}, delimiter)


_LONGEST_HEADER = 100_000
_SEPARATOR_LINE = re.compile(r"sep=[,;\t]?", re.I)


def _delimiter(text: str, required: Sequence[str]) -> str:
    """What separates the required columns in the header; a comma if nothing does."""
    lines = (line.strip() for line in io.StringIO(text[:_LONGEST_HEADER], newline=None))
    header = next((line for line in lines if line and not _SEPARATOR_LINE.fullmatch(line)), "")
    for delimiter in ",;\t":
        names = header.replace('"', "").split(delimiter)
        if {*required} <= {name.strip().lower() for name in names}:
            return delimiter
    return ","
