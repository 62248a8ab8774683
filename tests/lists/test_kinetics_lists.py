"""The lists of Kinetics in all their forms, and how bad ones are refused."""

import random
import shutil
from pathlib import Path

import pytest
from listfiles import counts, refusal, row, write

from r3d.lists import (
    FORMATS,
    read_list,
)


def test_official_kinetics(shared: Path, tmp_path: Path) -> None:
    official = shared / "data/lists/kinetics/kinetics-400_val.csv"
    shutil.copy(official, tmp_path)
    labels = sorted(
        {line.split(",")[0].strip('"') for line in official.read_text().split("\n")[1:-1]}
    )
    random.Random(0).shuffle(labels)
    rows = "".join(f"{label},{i:011d},3,13,train,0\n" for i, label in enumerate(labels))
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    write(tmp_path, {"kinetics-400_train.csv": header + rows})
    video_list = read_list("kinetics", tmp_path, "all")
    assert counts(video_list) == {"training": 400, "validation": 19906}
    assert video_list.labels == labels
    assert row(video_list, "0wR5jVB-WPk_000417_000427") == {
        "id": "0wR5jVB-WPk_000417_000427",
        "label": "abseiling",
        "subset": "validation",
        "key": "abseiling/0wR5jVB-WPk_000417_000427",
        "path": "abseiling/0wR5jVB-WPk_000417_000427",
        "start": "",
        "end": "",
    }


HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("kinetics-400_train.csv", "kinetics-400_val.csv", "kinetics-400_test.csv"),
        ("kinetics-600_train.csv", "kinetics-600_val.csv", "kinetics-600_test.csv"),
        ("kinetics-700_train.csv", "kinetics-700_val.csv", "kinetics-700_test.csv"),
        ("kinetics_train.csv", "kinetics_val.csv", "kinetics_test.csv"),
        ("train.csv", "val.csv", "test.csv"),
        ("train.csv", "validate.csv", "test.csv"),
    ],
)
def test_kinetics_names_and_headers(tmp_path: Path, train: str, val: str, test: str) -> None:
    write(
        tmp_path,
        {
            train: HEADER
            + '"zumba, slow",--aaaaaaaaa,5,15,train\r\nabseiling,bbb,100,110,train\r\n',
            val: "split,is_cc,time_end,time_start,youtube_id,label\nval,0,12.0,2.0,ccc,abseiling\n",
            test: "youtube_id,time_start,time_end,split\nddd,1,11,test\n",
            "other.csv": "",
        },
    )
    files = FORMATS["kinetics"].files(tmp_path, "all")
    assert [file.name for file in files] == [train, val, test]
    video_list = read_list("kinetics", tmp_path, "all")
    assert video_list.labels == ["zumba, slow", "abseiling"]
    assert counts(video_list) == {"training": 2, "validation": 1, "testing": 1}
    assert row(video_list, "--aaaaaaaaa_000005_000015")["label"] == "zumba, slow"
    assert row(video_list, "ccc_000002_000012")["subset"] == "validation"
    unlabelled = row(video_list, "ddd_000001_000011")
    assert (unlabelled["label"], unlabelled["key"], unlabelled["path"]) == (
        "",
        "test/ddd_000001_000011",
        "test/ddd_000001_000011",
    )


def test_kinetics_test_list_with_labels(tmp_path: Path) -> None:
    lists = {
        f"{name}.csv": f"{HEADER}run,{name},0,10,{name}\n" for name in ("train", "val", "test")
    }
    video_list = read_list("kinetics", write(tmp_path, lists), "all")
    video = row(video_list, "test_000000_000010")
    assert video["label"] == "run"
    assert video["key"] == video["path"] == "test/test_000000_000010"


@pytest.mark.parametrize(
    ("train", "val", "parts"),
    [
        ("", "", ["train.csv, line 1", "'missing'", "label, youtube_id, time_start, time_end"]),
        ("youtube_id,time_start\n", "", ["line 1", "'youtube_id,time_start'", "any order"]),
        (HEADER + "a,b\n", "", ["train.csv, line 2", "2 fields", "5"]),
        (HEADER + "a,b,x,3,train\n", HEADER, ["line 2", "time_start 'x'", "seconds"]),
        (HEADER + "a,b,-1,3,train\n", HEADER, ["line 2", "time_start '-1'", "seconds"]),
        (HEADER + "a,b,1,,train\n", HEADER, ["line 2", "time_end ''", "seconds"]),
        (HEADER + '"a,b,1,2,train\n', HEADER, ["train.csv, line 2", "CSV"]),
        (HEADER + '"a\nb",c,1,2,train\n', HEADER, ["line 3", r"'a\nb'", "control characters"]),
        (HEADER + "a/b,c,1,2,train\n", HEADER, ["line 2", "label 'a/b'", "accepted"]),
        (HEADER + "a,c/d,1,2,train\n", HEADER, ["line 2", "id 'c/d_000001_000002'", "accepted"]),
        (HEADER, HEADER, ["no classes", "training list"]),
        (
            HEADER + "a,b,1,2,train\n",
            HEADER + "a,b,1,2,val\n",
            ["val.csv, line 2", "'b_000001_000002'", "train.csv, line 2", "training"],
        ),
        (
            HEADER + "a,b,1,2,train\n",
            HEADER + "A,c,1,2,val\n",
            ["val.csv, line 2", "unknown class 'A'", "1 of the training list"],
        ),
    ],
)
def test_bad_kinetics(tmp_path: Path, train: str, val: str, parts: list[str]) -> None:
    write(tmp_path, {"train.csv": train, "val.csv": val})
    message = refusal(lambda: read_list("kinetics", tmp_path, "all"))
    assert all(part in message for part in parts), message


def test_of_several_kinetics_releases_the_number_of_classes_chooses(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split\n"
    for n in (400, 600):
        for subset in ("train", "val"):
            rows = [f"c{i},{subset}{n}{i:04d},0,10,{subset}\n" for i in range(n)]
            write(tmp_path, {f"kinetics-{n}_{subset}.csv": header + "".join(rows)})
    for n in (400, 600):
        video_list = read_list("kinetics", tmp_path, "all", n_classes=n)
        assert len(video_list.labels) == n
        assert video_list.videos["id"].str.contains(str(n)).all()
    for n_classes in (None, 700, 60):
        message = refusal(lambda n=n_classes: read_list("kinetics", tmp_path, "all", n_classes=n))
        assert "n_classes chooses one of several: 400, 600" in message
    write(tmp_path, {"kinetics-600_2020_train.csv": header, "kinetics-600_2020_val.csv": header})
    message = refusal(lambda: read_list("kinetics", tmp_path, "all", n_classes=600))
    assert message.endswith("; n_classes chooses one of several: 400")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train.csv"], ["kinetics-700_val.csv", "found train.csv"]),
        ([], ["found none"]),
        (["train.csv", "val.csv", "validate.csv"], ["both val.csv and validate.csv"]),
        (
            [f"kinetics-{n}_{name}.csv" for n in (400, 700) for name in ("train", "val")],
            ["one Kinetics release", "kinetics-400_train.csv, kinetics-400_val.csv"],
        ),
    ],
)
def test_kinetics_files_of_no_single_release(
    tmp_path: Path, names: list[str], parts: list[str]
) -> None:
    write(tmp_path, dict.fromkeys(names, HEADER))
    message = refusal(lambda: FORMATS["kinetics"].files(tmp_path, "all"))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    "release", ["kinetics_600_", "kinetics600_", "kinetics700_2020_", "kinetics-700-2020_"]
)
def test_kinetics_under_the_names_of_other_releases(tmp_path: Path, release: str) -> None:
    lists = {f"{release}{name}.csv": f"{HEADER}run,{name},0,10,x\n" for name in ("train", "val")}
    assert len(read_list("kinetics", write(tmp_path, lists), "all").videos) == 2


def test_a_line_is_named_by_a_whole_number(tmp_path: Path) -> None:
    """Whatever an empty list beside it makes of the column of line numbers."""
    lists = {"train.csv": f"{HEADER}a/b,c,1,2,train\n", "val.csv": HEADER}
    message = refusal(lambda: read_list("kinetics", write(tmp_path, lists), "all"))
    assert "train.csv, line 2: label 'a/b'" in message
