"""All manifests of a data set in one table, and the limit on failures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from r3d.errors import InputError
from r3d.frames.ledger import MANIFEST_COLUMNS, load_ledger, write_ledger

OK = ("ok", "", "164", "25", "320", "240")
CUT = ("truncated", "90 of 100 frames", "90", "29.97002997", "320", "240")
GONE = ("missing", "no file x.avi", "0", "", "", "")
BAD = ("corrupt", "cannot be opened", "0", "", "", "")


def manifest(path: Path, **videos: tuple[str, ...]) -> Path:
    lines = [MANIFEST_COLUMNS]
    lines += [(name, "NA", f"NA/{name}", *outcome) for name, outcome in videos.items()]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def list_table(path: Path, **subsets: str) -> Path:
    lines = ["id\tlabel\tsubset\tkey\tpath\tstart\tend\n"]
    lines += [f"{name}\tNA\t{s}\tNA/{name}\t{name}.avi\t\t\n" for name, s in subsets.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def gather(folder: Path, max_failure_rate: float = 1.0, **splits: Path) -> None:
    write_ledger(
        sorted(folder.glob("shard*.tsv")),
        splits,
        folder / "ledger.tsv",
        max_failure_rate=max_failure_rate,
        refused=folder / "refused/ledger.tsv",
    )


def test_one_split(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv", b=OK, a=GONE)
    manifest(tmp_path / "shard1.tsv")
    manifest(tmp_path / "shard2.tsv", null=CUT)
    gather(
        tmp_path, all=list_table(tmp_path / "all.tsv", a="training", b="testing", null="training")
    )
    assert (tmp_path / "ledger.tsv").read_text() == (
        "id\tlabel\tkey\tstatus\treason\tframes\tfps\twidth\theight\tsubset\n"
        "a\tNA\tNA/a\tmissing\tno file x.avi\t0\t\t\t\ttraining\n"
        "b\tNA\tNA/b\tok\t\t164\t25\t320\t240\ttesting\n"
        "null\tNA\tNA/null\ttruncated\t90 of 100 frames\t90\t29.97002997\t320\t240\ttraining\n"
    )


def test_a_column_for_each_of_several_splits(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv", a=OK, b=OK)
    gather(
        tmp_path,
        **{
            "01": list_table(tmp_path / "01.tsv", a="training", b="validation"),
            "02": list_table(tmp_path / "02.tsv", b="training"),
        },
    )
    ledger = load_ledger(tmp_path / "ledger.tsv")
    assert list(ledger.columns) == [*MANIFEST_COLUMNS, "subset_01", "subset_02"]
    assert ledger["subset_01"].tolist() == ["training", "validation"]
    assert ledger["subset_02"].tolist() == ["", "training"]


def test_numbers_are_loaded_as_numbers(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv", a=GONE, b=CUT)
    gather(tmp_path, all=list_table(tmp_path / "all.tsv", a="training", b="training"))
    ledger = load_ledger(tmp_path / "ledger.tsv")
    assert ledger["frames"].tolist() == [0, 90]
    assert ledger["width"].tolist() == [0, 320]
    assert np.array_equal(ledger["fps"], [np.nan, 29.97002997], equal_nan=True)
    assert ledger["label"].tolist() == ["NA", "NA"]


@pytest.mark.parametrize(
    ("limit", "refused"), [(0.0, True), (0.49, True), (0.5, False), (1, False)]
)
def test_the_limit(tmp_path: Path, limit: float, refused: bool) -> None:
    manifest(tmp_path / "shard0.tsv", a=GONE, b=OK, c=BAD, d=CUT)
    table = list_table(tmp_path / "all.tsv", a="training", b="training", c="training", d="testing")
    if refused:
        with pytest.raises(InputError) as caught:
            gather(tmp_path, limit, all=table)
        message = str(caught.value)
        assert "\n" not in message
        for part in (
            "2 of 4 videos have no frames (1 missing, 1 corrupt)",
            "a share of 0.5",
            f"max_failure_rate is {limit:g}",
            "a: no file x.avi; c: cannot be opened",
            str(tmp_path / "refused/ledger.tsv"),
        ):
            assert part in message
    else:
        gather(tmp_path, limit, all=table)
    written = tmp_path / ("refused/ledger.tsv" if refused else "ledger.tsv")
    assert load_ledger(written)["status"].tolist() == ["missing", "ok", "corrupt", "truncated"]
    assert (tmp_path / "ledger.tsv").exists() is not refused
    gather(tmp_path, 1.0, all=table)
    assert not (tmp_path / "refused/ledger.tsv").exists()


def test_no_videos(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv")
    gather(tmp_path, 0.0, all=list_table(tmp_path / "all.tsv"))
    assert len(load_ledger(tmp_path / "ledger.tsv")) == 0


def test_a_listed_video_in_no_manifest(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv", a=OK)
    table = list_table(tmp_path / "all.tsv", a="training", b="training")
    with pytest.raises(InputError, match=r"1 videos of .*all\.tsv are absent, the first: 'b'"):
        gather(tmp_path, all=table)


def test_a_video_in_two_manifests(tmp_path: Path) -> None:
    manifest(tmp_path / "shard0.tsv", a=OK)
    manifest(tmp_path / "shard1.tsv", a=OK)
    with pytest.raises(InputError, match="video 'a' is in two"):
        gather(tmp_path, all=list_table(tmp_path / "all.tsv", a="training"))


def test_what_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        load_ledger(tmp_path / "gone.tsv")
    path = tmp_path / "ledger.tsv"
    path.write_text("id\tframes\na\t3\n")
    with pytest.raises(InputError, match="no column 'label'"):
        load_ledger(path)
    manifest(path, a=("ok", "", "many", "25", "320", "240"))
    with pytest.raises(InputError, match="have to be numbers"):
        load_ledger(path)


@pytest.mark.parametrize("name", ["a b", "'quoted'", '"quoted"', "#;%$", "é😀"])
def test_any_name(tmp_path: Path, name: str) -> None:
    row = pd.DataFrame([(name, name, name, *OK)], columns=list(MANIFEST_COLUMNS))
    row.to_csv(tmp_path / "shard0.tsv", sep="\t", index=False)
    table = pd.DataFrame(
        [(name, name, "training", name, name, "", "")],
        columns=["id", "label", "subset", "key", "path", "start", "end"],
    )
    table.to_csv(tmp_path / "all.tsv", sep="\t", index=False)
    gather(tmp_path, all=tmp_path / "all.tsv")
    assert load_ledger(tmp_path / "ledger.tsv")["id"].tolist() == [name]
