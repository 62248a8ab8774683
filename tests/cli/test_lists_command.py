"""`r3d lists`: the splits of a data set, one by one or all at once, and lists of one's own."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from listfiles import write

from r3d.cli import cli
from r3d.errors import InputError
from r3d.lists import load_labels, load_list

SUBSETS = {"01": ("1", "2"), "02": ("2", "3"), "03": ("3", "1")}
"""The groups that each split trains on and tests."""


@pytest.fixture
def ucf101(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {"lists/classInd.txt": "1 run\n2 walk\n"}
    for split, (train, test) in SUBSETS.items():
        for kind, group in (("train", train), ("test", test)):
            lines = [f"{name}/v_{name}_g0{group}_c01.avi\n" for name in ("run", "walk")]
            files[f"lists/{kind}list{split}.txt"] = "".join(lines)
    monkeypatch.chdir(write(tmp_path, files))
    return tmp_path


def lists(*words: str) -> Result:
    return CliRunner().invoke(cli, ["lists", *words])


def training_groups(table: str) -> set[str]:
    videos = load_list(Path(table))
    return set(videos.loc[videos["subset"] == "training", "id"].str[-5])


def test_without_split_all_are_read(ucf101: Path) -> None:
    for options in ([], ["--split", "all"]):
        done = lists("ucf101", "lists", "out/list.tsv", "out/labels.txt", *options)
        assert done.exit_code == 0, done.output
        assert sorted(path.name for path in Path("out").iterdir()) == [
            *("labels.txt", "list_01.tsv", "list_02.tsv", "list_03.tsv")
        ]
        for split, (train, _) in SUBSETS.items():
            assert training_groups(f"out/list_{split}.tsv") == {train}
        assert load_labels(Path("out/labels.txt")) == ["run", "walk"]


def test_the_tables_of_all_splits_go_with_the_steps_after(ucf101: Path) -> None:
    assert lists("ucf101", "lists", "list.tsv", "labels.txt").exit_code == 0
    tables = [f"list_{split}.tsv" for split in SUBSETS]
    done = CliRunner().invoke(cli, ["shards", *tables, "shards", "--n_shards", "1"])
    assert done.exit_code == 0, done.output
    assert len(Path("shards/000.tsv").read_text().splitlines()) == 7  # each video once


def test_one_split_or_some(ucf101: Path) -> None:
    assert lists("ucf101", "lists", "one.tsv", "labels.txt", "--split", "02").exit_code == 0
    assert training_groups("one.tsv") == {"2"}
    options = ["--split", "01", "--split", "03"]
    assert lists("ucf101", "lists", "two.tsv", "labels.txt", *options).exit_code == 0
    assert sorted(path.name for path in ucf101.glob("two*")) == ["two_01.tsv", "two_03.tsv"]


def test_splits_of_which_nothing_is_there_are_left_out(
    ucf101: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of own lists in an official form; it is said."""
    caplog.set_level("INFO")
    for kind in ("train", "test"):
        Path(f"lists/{kind}list03.txt").unlink()
    assert lists("ucf101", "lists", "list.tsv", "labels.txt").exit_code == 0
    assert sorted(path.name for path in ucf101.glob("*.tsv")) == ["list_01.tsv", "list_02.tsv"]
    assert caplog.messages[0] == "lists: no file of split 03, which is left out"
    for kind in ("train", "test"):
        Path(f"lists/{kind}list02.txt").unlink()
    assert lists("ucf101", "lists", "only.tsv", "labels.txt").exit_code == 0
    assert training_groups("only.tsv") == {"1"}
    for kind in ("train", "test"):
        Path(f"lists/{kind}list01.txt").unlink()
    done = lists("ucf101", "lists", "none.tsv", "labels.txt")
    assert "trainlist01.txt is missing" in str(done.exception)


def test_splits_that_are_not_whole_are_named_with_what_to_do(ucf101: Path) -> None:
    """None of them is left out in silence, and what is proposed works."""
    Path("lists/testlist03.txt").unlink()
    done = lists("ucf101", "lists", "list.tsv", "labels.txt")
    assert isinstance(done.exception, InputError)
    message = str(done.exception)
    assert "testlist03.txt is missing" in message
    proposed = message.partition("those that are whole: ")[2]
    assert proposed == "--split 01 --split 02"
    assert not list(ucf101.glob("list*.tsv"))
    done = lists("ucf101", "lists", "list.tsv", "labels.txt", *proposed.split())
    assert done.exit_code == 0, done.output
    done = lists("ucf101", "lists", "list.tsv", "labels.txt", "--split", "4")
    assert "accepted are 01, 02, 03" in str(done.exception)


def test_hmdb51_has_its_splits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"run_test_split{split}.txt": "a.avi 1\nb.avi 2\n" for split in (1, 2, 3)}
    monkeypatch.chdir(write(tmp_path, files))
    assert lists("hmdb51", ".", "list.tsv", "labels.txt").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("list*.tsv")) == [
        *("list_1.tsv", "list_2.tsv", "list_3.tsv")
    ]
    Path("run_test_split2.txt").unlink()
    assert lists("hmdb51", ".", "some.tsv", "labels.txt").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("some*")) == ["some_1.tsv", "some_3.tsv"]


def test_a_list_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, {"videos/a.mp4": "", "videos/b.mp4": ""}))
    Path("own.csv").write_text(f"path;label\n{tmp_path}/videos/a.mp4;x\nb.mp4;x\n")
    done = lists("csv", "own.csv", "list.tsv", "labels.txt")
    assert "(--videos)" in str(done.exception)
    done = lists("csv", "own.csv", "list.tsv", "labels.txt", "--videos", "videos")
    assert done.exit_code == 0, done.output
    assert load_list(Path("list.tsv"))["path"].tolist() == ["a.mp4", "b.mp4"]
