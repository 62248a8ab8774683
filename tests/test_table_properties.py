"""Tables of any texts at all: what is read is what was written, and nothing in a file runs."""

import csv
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oddities import accepts_or_says_why

from r3d.tables import read_columns, write_table

# Whatever UTF-8 can hold, and above all what means something to a table or a spreadsheet.
TEXT = st.text(
    st.sampled_from("=+-@'\"\t\r\n\0, a1é\x85\u2028\ufeff") | st.characters(codec="utf-8")
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
# "id" has a rule of its own.
NAMES = st.lists(st.just("id") | TEXT.filter(bool), min_size=1, max_size=4, unique=True)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "table.tsv")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    names = draw(NAMES)
    rows = draw(st.lists(st.tuples(*[TEXT] * len(names)), max_size=6))
    return pd.DataFrame(rows, columns=names, dtype=object)


@given(table=tables())
def test_any_text_is_read_as_it_was_written(path: Path, table: pd.DataFrame):
    write_table(table, path)
    written = path.read_bytes()
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    for name, column in zip(header, zip(*rows, strict=True), strict=False):
        for cell in column:
            is_id = name == "id" and re.fullmatch("[A-Za-z0-9_.-]*", cell)
            assert is_id or not cell.startswith(FORMULAS)
    # Headers are written as harmless as cells, and read by the name that they have in the file.
    assert not any(name.startswith(FORMULAS) for name in header)
    read = read_columns(path, header)
    assert read.to_numpy().tolist() == table.to_numpy().tolist()
    write_table(table, path)
    assert path.read_bytes() == written


@given(content=st.binary() | st.lists(TEXT).map(lambda cells: "id\tx\n" + "\t".join(cells)))
def test_any_file_is_a_table_or_refused_in_a_line(path: Path, content: bytes | str):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = accepts_or_says_why("a table", read_columns, path, ["id", "x"])
    if read is not None:
        assert all(isinstance(cell, str) for row in read.to_numpy().tolist() for cell in row)
