"""The official lists of every data set: what they say, and how bad ones are refused."""

import json
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from listfiles import counts, refusal, row, write
from oddities import accepts_or_says_why, odd_files

from r3d.errors import InputError
from r3d.lists import (
    COLUMNS,
    FORMATS,
    load_labels,
    load_list,
    read_list,
    subset_name,
)

# --- UCF-101


@pytest.mark.parametrize(
    ("split", "n_training", "n_validation"),
    [("01", 9537, 3783), ("02", 9586, 3734), ("03", 9624, 3696)],
)
def test_official_ucf101(shared: Path, split: str, n_training: int, n_validation: int) -> None:
    video_list = read_list("ucf101", shared / "data/lists/ucf101", split)
    assert counts(video_list) == {"training": n_training, "validation": n_validation}
    assert len(video_list.labels) == 101
    assert video_list.labels[:2] == ["ApplyEyeMakeup", "ApplyLipstick"]
    # The videos of this class spell it with a capital S.
    assert row(video_list, "v_HandStandPushups_g01_c01") == {
        "id": "v_HandStandPushups_g01_c01",
        "label": "HandstandPushups",
        "subset": "validation" if split == "01" else "training",
        "key": "HandstandPushups/v_HandStandPushups_g01_c01",
        "path": "HandstandPushups/v_HandStandPushups_g01_c01.avi",
        "start": "",
        "end": "",
    }


def ucf101(folder: Path, **changes: str | bytes) -> Path:
    files: dict[str, str | bytes] = {
        "classInd": "1 Run\r\n2 Walk\r\n",
        "trainlist01": "Run/v_Run_g01.avi 1\r\nWalk/v_Walk_g01.avi 2\r\n",
        "testlist01": "Run/v_Run_g02.avi\r\n",
    }
    return write(folder, {f"{name}.txt": text for name, text in {**files, **changes}.items()})


def test_ucf101_files_and_labels(tmp_path: Path) -> None:
    names = [file.name for file in FORMATS["ucf101"].files(ucf101(tmp_path), "01")]
    assert names == ["classInd.txt", "trainlist01.txt", "testlist01.txt"]
    assert FORMATS["ucf101"].labels(tmp_path) == ["Run", "Walk"]


def test_byte_order_mark_blank_lines_and_missing_end_of_line(tmp_path: Path) -> None:
    ucf101(tmp_path, trainlist01=b"\xef\xbb\xbfRun/a b.avi 1\r\n\r\nWalk/-w.avi 2")
    videos = read_list("ucf101", tmp_path, "01").videos
    assert videos["id"].tolist() == ["a b", "-w", "v_Run_g02"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"trainlist01": "Rum/a.avi\n"}, ["trainlist01.txt, line 1", "'Rum'", "2 of", "'Run'"]),
        (
            {"testlist01": "\nRun/v_Run_g01.avi\n"},
            ["testlist01.txt, line 2", "'v_Run_g01'", "trainlist01.txt, line 1", "training"],
        ),
        (
            {"trainlist01": "Run/a.avi 1\nWalk/a.avi 2\n"},
            ["line 2", "'a'", "'Walk'", "line 1", "'Run'", "may occur once"],
        ),
        ({"trainlist01": "Run/a.avi 2\n"}, ["line 1", "index 2", "'Run'", "is 1"]),
        ({"trainlist01": "Run/x/a.avi 1\n"}, ["line 1", "'Run/x/a.avi 1'", "<class>/<video file>"]),
        ({"trainlist01": "../a.avi 1\n"}, ["line 1", "'..'", "accepted"]),
        ({"trainlist01": "Run/...avi 1\n"}, ["line 1", "'..'", "accepted"]),
        ({"trainlist01": "/a.avi 1\n"}, ["line 1", "empty label"]),
        ({"trainlist01": "Run/\x07.avi 1\n"}, ["line 1", r"\x07", "control characters"]),
        ({"trainlist01": "Run/a\\b.avi 1\n"}, ["line 1", r"a\\b", "accepted"]),
        ({"trainlist01": "\r\n"}, ["test_bad_ucf101", "no video of subset training"]),
        ({"trainlist01": "", "testlist01": ""}, ["no video of subset training"]),
        ({"testlist01": "\r\n"}, ["test_bad_ucf101", "no video of subset validation"]),
        (
            {"trainlist01": b"Run/ok.avi 1\nRun/caf\xe9.avi 1\n"},
            ["trainlist01.txt, line 2", "0xe9", "position 20", "UTF-8"],
        ),
        ({"classInd": b"\xff\xfe1\0"}, ["classInd.txt, line 1", "0xff", "position 0", "UTF-8"]),
        ({"classInd": "1 Run\n3 Walk\n"}, ["line 2", "'3 Walk'", "'2 <class name>'"]),
        ({"classInd": "1 Run\n2 Run\n"}, ["line 2", "'2 Run'", "each class once"]),
        ({"classInd": ""}, ["no classes", "classInd.txt"]),
        ({"classInd": "1 Run\n2 Walk\n3 a/b\n"}, ["'a/b'", "classInd.txt", "accepted"]),
    ],
)
def test_bad_ucf101(tmp_path: Path, changes: dict[str, str | bytes], parts: list[str]) -> None:
    folder = ucf101(tmp_path, **changes)
    message = refusal(lambda: read_list("ucf101", folder, "01"))
    assert all(part in message for part in parts), message


def test_rows_repeated_in_everything_are_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ucf101(tmp_path, trainlist01="Run/a.avi 1\nRun/b.avi 1\nRun/a.avi 1\n")
    with caplog.at_level(logging.WARNING):
        videos = read_list("ucf101", tmp_path, "01").videos
    assert videos["id"].tolist() == ["a", "b", "v_Run_g02"]
    assert "1 repeated rows" in caplog.text
    assert "trainlist01.txt, line 3" in caplog.text


# --- HMDB-51


@pytest.mark.parametrize("split", FORMATS["hmdb51"].splits)
def test_official_hmdb51(shared: Path, split: str) -> None:
    folder = shared / "data/lists/hmdb51"
    video_list = read_list("hmdb51", folder, split)
    assert len(video_list.labels) == 51
    assert video_list.labels == sorted(video_list.labels) == FORMATS["hmdb51"].labels(folder)
    sizes = Counter(zip(video_list.videos["label"], video_list.videos["subset"], strict=True))
    for label in video_list.labels:
        assert (sizes[label, "training"], sizes[label, "validation"]) == (70, 30)


def test_official_hmdb51_names(shared: Path) -> None:
    folder = shared / "data/lists/hmdb51"
    splits = [read_list("hmdb51", folder, split) for split in FORMATS["hmdb51"].splits]
    ids = {name for video_list in splits for name in video_list.videos["id"]}
    assert set("!#&()+;@[]~") <= set("".join(ids))
    assert not any(name.endswith(".avi") for name in ids)


def test_hmdb51_codes(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "draw_sword_test_split2.txt": "a#1.avi 1 \nb(2).avi 2 \nc.avi 0 \n",
            "sword_test_split2.txt": "d.avi 1 \n",
            "sword_test_split1.txt": "d.avi 2 \n",
            "readme.txt": "",
        },
    )
    video_list = read_list("hmdb51", tmp_path, "2")
    assert video_list.labels == ["draw_sword", "sword"]
    assert video_list.videos["id"].tolist() == ["a#1", "b(2)", "d"]
    assert row(video_list, "b(2)")["subset"] == "validation"
    assert row(video_list, "b(2)")["path"] == "draw_sword/b(2).avi"
    message = refusal(lambda: FORMATS["hmdb51"].files(tmp_path, "1"))
    assert "draw_sword_test_split1.txt is missing" in message
    assert "2 classes" in message


def test_bad_hmdb51(tmp_path: Path) -> None:
    message = refusal(lambda: FORMATS["hmdb51"].files(tmp_path, "1"))
    assert "<label>_test_split1.txt" in message
    write(tmp_path, {"run_test_split1.txt": "a.avi 1\nb.avi 3\n"})
    message = refusal(lambda: read_list("hmdb51", tmp_path, "1"))
    assert "run_test_split1.txt, line 2: 'b.avi 3'" in message
    assert "0, 1 or 2" in message


# --- Moments in Time


def mit(folder: Path, **changes: str) -> Path:
    files = {
        "moments_categories.txt": "walking,0\nadult+male+singing,1\nbending,2\n",
        "trainingSet.csv": "bending/a-1.mp4,bending,3,0\nwalking/b.mp4,walking,2,1\n",
        "validationSet.csv": "bending/b.mp4,bending,3,0\n",
    }
    return write(folder, {**files, **changes})


def test_moments_in_time(tmp_path: Path) -> None:
    mit(tmp_path, **{"testingSet.csv": "c.mp4\r\n"})
    assert FORMATS["mit"].labels(tmp_path) == ["walking", "adult+male+singing", "bending"]
    files = FORMATS["mit"].files(tmp_path, "all")
    assert [file.name for file in files] == [
        "moments_categories.txt",
        "trainingSet.csv",
        "validationSet.csv",
        "testingSet.csv",
    ]
    video_list = read_list("mit", tmp_path, "all")
    assert video_list.labels == ["walking", "adult+male+singing", "bending"]
    # Two videos are named b.mp4, so their folders become part of their ids, not of their frames'.
    assert video_list.videos["id"].tolist() == ["a-1", "walking_b", "bending_b", "c"]
    assert row(video_list, "bending_b")["key"] == "bending/b"
    assert row(video_list, "bending_b")["path"] == "bending/b.mp4"
    assert row(video_list, "c")["key"] == "test/c"
    assert row(video_list, "c")["path"] == "test/c.mp4"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"trainingSet.csv": "a.mp4,bending\n"}, ["line 1", "'a.mp4,bending'", "<label>/<file>"]),
        ({"trainingSet.csv": "bending/a.mp4\n"}, ["line 1", "'bending/a.mp4'", "<label>/<file>"]),
        ({"testingSet.csv": "x/a.mp4\n"}, ["testingSet.csv, line 1", "'<file>'"]),
        ({"validationSet.csv": "b/a.mp4,eating\n"}, ["line 1", "'eating'", "categories.txt"]),
        (
            {"validationSet.csv": "bending/a-1.mp4,bending\n"},
            ["validationSet.csv, line 1", "'a-1'", "trainingSet.csv, line 1"],
        ),
        ({"moments_categories.txt": "walking\n"}, ["line 1", "'walking'", "<label>,<index>"]),
        ({"moments_categories.txt": "bending,0\nbending,1\n"}, ["'bending'", "twice"]),
        ({"trainingSet.csv": ""}, ["no video of subset training"]),
    ],
)
def test_bad_moments_in_time(tmp_path: Path, changes: dict[str, str], parts: list[str]) -> None:
    message = refusal(lambda: read_list("mit", mit(tmp_path, **changes), "all"))
    assert all(part in message for part in parts), message


# --- ActivityNet


def activitynet(**database: object) -> dict[str, object]:
    nodes = [("Root", 0, None), ("Sports", 1, 0), ("Running", 2, 1), ("Ironing", 3, 0)]
    return {
        "version": "VERSION 1.3",
        "taxonomy": [
            {"nodeName": name, "nodeId": i, "parentId": parent} for name, i, parent in nodes
        ],
        "database": database,
    }


def annotated(subset: str, *labels: str) -> dict[str, object]:
    segments = [{"label": label, "segment": [1.5, 3.25]} for label in labels]
    return {"subset": subset, "duration": 9.5, "url": "", "annotations": segments}


def test_activitynet(tmp_path: Path) -> None:
    data = activitynet(
        **{
            "-a_1": annotated("training", "Ironing", "Running"),
            "b": annotated("validation", "Running"),
            "c": annotated("testing"),
        }
    )
    write(tmp_path, {"activity_net.v1-3.min.json": json.dumps(data)})
    video_list = read_list("activitynet", tmp_path, "all")
    assert video_list.labels == ["Running", "Ironing"]
    assert FORMATS["activitynet"].labels(tmp_path) is None
    assert video_list.videos["label"].tolist() == ["Ironing", "Running", ""]
    assert row(video_list, "-a_1")["key"] == "v_-a_1"
    assert row(video_list, "-a_1")["path"] == "v_-a_1"
    # The path of the file does as well as that of its folder.
    file = tmp_path / "activity_net.v1-3.min.json"
    assert FORMATS["activitynet"].files(file, "all") == [file]
    write(tmp_path, {"other.json": "{}"})
    message = refusal(lambda: FORMATS["activitynet"].files(tmp_path, "all"))
    assert "activity_net.v1-3.min.json, other.json" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["a.json, line 1", "JSON"]),
        ("[]", ["a.json", "no database"]),
        ('{"database": {}}', ["taxonomy", "nodeId"]),
        (json.dumps(activitynet()), ["subset training"]),
        (json.dumps(activitynet(a=annotated("train", "Eating"))), ["'Eating'", "'Running'"]),
        (json.dumps(activitynet(a=annotated("trial"))), ["'a'", "'trial'", "training"]),
        (json.dumps(activitynet(a=annotated("training"))), ["'a'", "empty label"]),
        (json.dumps(activitynet(a={"subset": "training"})), ["'a'", "annotations"]),
        ('{"database": {"a": {}, "b": {}, "a": {}}}', ["'a'", "twice"]),
        (json.dumps(activitynet(**{"a/b": annotated("training", "Running")})), ["'a/b'"]),
    ],
)
def test_bad_activitynet(tmp_path: Path, text: str, parts: list[str]) -> None:
    folder = write(tmp_path, {"a.json": text})
    message = refusal(lambda: read_list("activitynet", folder, "all"))
    assert all(part in message for part in parts), message


# --- all formats


@pytest.mark.parametrize("name", FORMATS)
def test_missing_folder_and_missing_files(tmp_path: Path, name: str) -> None:
    list_format = FORMATS[name]
    missing = tmp_path / "nowhere"
    for read in (
        lambda: list_format.files(missing, list_format.splits[0]),
        lambda: read_list(name, missing, list_format.splits[0]),
    ):
        message = refusal(read)
        assert "nowhere: no such folder" in message
        assert "expected" in message
    assert "expected" in refusal(lambda: list_format.files(tmp_path, list_format.splits[0]))


def test_missing_list_file(tmp_path: Path) -> None:
    (ucf101(tmp_path) / "testlist01.txt").unlink()
    message = refusal(lambda: FORMATS["ucf101"].files(tmp_path, "01"))
    assert "testlist01.txt is missing" in message
    assert "classInd.txt, trainlist01.txt" in message


def test_unknown_format_split_and_subset(tmp_path: Path) -> None:
    assert "'ucf', accepted" in refusal(lambda: read_list("ucf", tmp_path, "01")).replace(":", ",")
    message = refusal(lambda: read_list("ucf101", tmp_path, "1"))
    assert "'1'" in message
    assert "01, 02, 03" in message
    assert [subset_name(name) for name in ("train", "val", "test", "training")] == [
        *("training", "validation", "testing", "training")
    ]
    assert "'eval'" in refusal(lambda: subset_name("eval"))


def test_tables_that_are_none(tmp_path: Path) -> None:
    table = write(tmp_path, {"a.tsv": "id\tlabel\nx\ty\n"}) / "a.tsv"
    message = refusal(lambda: load_list(table))
    assert "'subset'" in message
    assert ", ".join(COLUMNS) in message
    assert "b.tsv" in refusal(lambda: load_list(tmp_path / "b.tsv"))
    assert "b.txt" in refusal(lambda: load_labels(tmp_path / "b.txt"))


# --- labels of testing videos, numbers of classes

KINETICS = "label,youtube_id,time_start,time_end,split\nrun,a,0,10,x\n"
OWN = "path,label,subset\na.mp4,run,train\n"


@pytest.mark.parametrize(
    ("format", "files", "expected"),
    [
        ("kinetics", {"train.csv": KINETICS, "val.csv": KINETICS}, None),
        (
            "kinetics",
            {
                "train.csv": KINETICS,
                "val.csv": KINETICS,
                "test.csv": "youtube_id,time_start,time_end\na,0,10\n",
            },
            False,
        ),
        ("kinetics", {"train.csv": KINETICS, "val.csv": KINETICS, "test.csv": KINETICS}, True),
        ("mit", {}, None),
        ("mit", {"testingSet.csv": "a.mp4\n"}, False),
        ("activitynet", {}, False),
        ("ucf101", {}, None),
        ("hmdb51", {}, None),
        ("folders", {"run/a.mp4": ""}, None),
        ("folders", {"train/run/a.mp4": "", "val/run/b.mp4": ""}, None),
        ("folders", {"train/run/a.mp4": "", "test/run/b.mp4": ""}, True),
        ("csv", {"list.csv": "path,label\na.mp4,run\n"}, None),
        ("csv", {"list.csv": OWN}, None),
        ("csv", {"list.csv": f"{OWN}b.mp4,run,test\n"}, True),
        ("csv", {"list.csv": f"{OWN}b.mp4,run,test\nc.mp4,,test\n"}, True),
        ("csv", {"list.csv": f"{OWN}c.mp4,,test\n"}, False),
        ("folders", {"train/run/a.mp4": "", "test/b.mp4": ""}, False),
        ("folders", {"train/run/a.mp4": "", "test/notes.txt": ""}, None),
        ("folders", {"a.mp4": ""}, False),
    ],
)
def test_whether_testing_videos_have_labels(
    tmp_path: Path, format: str, files: dict[str, str | bytes], expected: bool | None
) -> None:
    write(tmp_path, files)
    assert FORMATS[format].testing_has_labels(tmp_path) is expected


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"train.csv": KINETICS, "val.csv": KINETICS.replace("a,0", "b,0")})
    assert read_list("kinetics", tmp_path, "all", n_classes=1).labels == ["run"]
    message = refusal(lambda: read_list("kinetics", tmp_path, "all", n_classes=400))
    assert "n_classes: 400" in message
    assert "1 classes of the training list" in message


def test_an_official_json_with_anything_odd_in_it_is_read_or_refused_in_a_line(
    tmp_path: Path,
) -> None:
    data = activitynet(a=annotated("training", "Running"), b=annotated("validation", "Ironing"))
    for what, path in odd_files(tmp_path, data):
        accepts_or_says_why(what, read_list, "activitynet", path, "all")


# --- all formats


def lists_with(bad: str) -> list[tuple[str, str, dict[str, str | bytes]]]:
    """Small lists, each with that text in one place: format, split and files."""
    header = "label,youtube_id,time_start,time_end,split\n"
    train, val = f"{header}run,ok1,0,10,train\n", f"{header}run,ok2,0,10,val\n"
    categories, rows = "run,0\n", "run/a.mp4,run,3,0\n"
    csv = "path,label,subset\na.mp4,run,training\n"
    hmdb = "a.avi 1\nb.avi 2\n"
    nodes = [
        {"nodeId": 0, "nodeName": "Root", "parentId": None},
        {"nodeId": 1, "nodeName": "run", "parentId": 0},
        {"nodeId": 2, "nodeName": bad, "parentId": 0},
    ]
    database = {"a": annotated("training", "run"), "b": annotated("validation", "run")}
    by_id = {**database, bad: annotated("training", "run")}
    by_label = {**database, "c": annotated("training", bad)}
    moments = {"moments_categories.txt": categories, "validationSet.csv": "run/b.mp4,run,3,0\n"}
    ucf = {"testlist01.txt": "run/b.avi\n"}
    return [
        ("kinetics", "all", {"train.csv": f"{train}run,{bad},0,10,train\n", "val.csv": val}),
        ("kinetics", "all", {"train.csv": f"{train}{bad},ok3,0,10,train\n", "val.csv": val}),
        ("mit", "all", {**moments, "trainingSet.csv": f"{rows}{bad},run,3,0\n"}),
        (
            "mit",
            "all",
            {
                **moments,
                "moments_categories.txt": f"{categories}{bad},1\n",
                "trainingSet.csv": f"{rows}run/c.mp4,{bad},3,0\n",
            },
        ),
        ("csv", "all", {"list.csv": f"{csv}{bad},run,training\n"}),
        ("csv", "all", {"list.csv": f"{csv}b.mp4,{bad},training\n"}),
        (
            "ucf101",
            "01",
            {
                **ucf,
                "classInd.txt": "1 run\n",
                "trainlist01.txt": f"run/a.avi 1\nrun/{bad}.avi 1\n",
            },
        ),
        (
            "ucf101",
            "01",
            {
                **ucf,
                "classInd.txt": f"1 run\n2 {bad}\n",
                "trainlist01.txt": f"run/a.avi 1\n{bad}/c.avi 2\n",
            },
        ),
        ("hmdb51", "1", {"run_test_split1.txt": f"{hmdb}{bad} 1\n"}),
        ("activitynet", "all", {"a.json": json.dumps({"taxonomy": nodes[:2], "database": by_id})}),
        ("activitynet", "all", {"a.json": json.dumps({"taxonomy": nodes, "database": by_label})}),
    ]


@pytest.mark.parametrize(
    "bad",
    ["../x", "/etc/x", "a/../../x", "..", "a/./../b", "x/..", "..\\x", "C:/x", "\\\\host\\x", "\0"],
)
def test_no_list_leads_out_of_the_folders(tmp_path: Path, bad: str) -> None:
    for number, (name, split, files) in enumerate(lists_with(bad)):
        folder = write(tmp_path / str(number), files)
        try:
            videos = read_list(name, folder, split).videos
        except InputError:
            continue
        for place in [*videos["key"], *videos["path"]]:
            inside = os.path.normpath(os.path.join("/store", place))  # noqa: PTH118
            assert inside == f"/store/{place}", (name, place)
            assert "\0" not in place
            assert "\\" not in place
