"""Tables for people and programs: nothing in them runs, and what is read is what was written."""

from pathlib import Path

import pandas as pd

from r3d.tables import as_meant, read_columns, write_table

FORMULAS = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "'=1", "''-x", "=", "-(1)"]
ORDINARY = ["run", "", "NA", "'s", "''", "a=b", "1-2", "(none)", "v_Run_g01_c01", "Größe", "'"]
KINETICS = ["-3B32lodo2M_000059_000069", "-_FREE_HUGS_-_c1.avi", "--1xYz-_", "-"]


def test_what_is_read_is_what_was_written(tmp_path: Path):
    values = [*FORMULAS, *ORDINARY, *KINETICS]
    table = pd.DataFrame({"id": values, "label": values[::-1]})
    write_table(table, tmp_path / "t.tsv")
    pd.testing.assert_frame_equal(read_columns(tmp_path / "t.tsv", ["id", "label"]), table)


def test_no_cell_begins_like_a_formula_and_others_are_exact(tmp_path: Path):
    values = [*FORMULAS, *ORDINARY, *KINETICS]
    table = pd.DataFrame({"id": values, "=label": values, "n": range(len(values))})
    write_table(table, tmp_path / "t.tsv")
    read = pd.read_csv(tmp_path / "t.tsv", sep="\t", dtype=str, na_filter=False)
    assert list(read.columns) == ["id", "'=label", "n"]
    dangerous = tuple("=+-@\t\r")
    for column in ("id", "'=label"):
        cells = dict(zip(values, read[column], strict=True))
        assert not any(cells[value].startswith(dangerous) for value in FORMULAS)
        assert all(cells[value] == value for value in ORDINARY)
        exact = column == "id"
        assert all((cells[value] == value) == exact for value in KINETICS)
    assert as_meant(read["'=label"]) == values


def test_tables_written_before_are_read_as_they_are(tmp_path: Path):
    (tmp_path / "t.tsv").write_text("id\tlabel\n-abc\t=run\n'x\t'\n")
    table = read_columns(tmp_path / "t.tsv", ["id", "label"])
    assert table.to_numpy().tolist() == [["-abc", "=run"], ["'x", "'"]]
