"""Annotation JSON: what is written, and what is read of it and of the reference's files."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from listfiles import refusal
from oddities import accepts_or_says_why, odd_files

from r3d.annotations.merging import merge_annotations
from r3d.annotations.reading import Annotation, read_annotation
from r3d.annotations.writing import write_activitynet, write_annotation
from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.frames.stores import VideoRecord, open_store, partial_folder
from r3d.lists import COLUMNS, VideoList, save_list

VIDEOS = [  # id, label, subset, status, frames
    ("a", "run", "training", "ok", "16"),
    ("b#é", 'wa"lk', "training", "truncated", "1"),
    ("gone", "run", "training", "missing", "0"),
    ("c", "run", "validation", "ok", "300"),
    ("t", "", "testing", "ok", "20"),
    ("walk_1", "run", "validation", "ok", "9"),
]
PLACES = {"walk_1": "run/1"}  # whose file name another class has, too


def save_ledger(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A ledger of (id, frames, fps)."""
    keys = {name: f"{label or 'test'}/{name}" for name, label, *_ in VIDEOS} | PLACES
    columns = [*("id", "label", "key", "status", "reason"), *("frames", "fps", "width", "height")]
    table = pd.DataFrame(
        [(name, "", keys.get(name, ""), "", "", n, fps, "", "") for name, n, fps in rows],
        columns=columns,
    )
    table.sort_values("id").to_csv(path, sep="\t", index=False)
    return path


def write_all(folder: Path, store: str = "jpg") -> Path:
    rows = [
        (name, label, subset, f"{label or 'test'}/{name}", name, "", "")
        for name, label, subset, _, _ in VIDEOS
    ]
    videos = pd.DataFrame(rows, columns=list(COLUMNS))
    save_list(VideoList(['wa"lk', "run"], videos), folder / "list.tsv", folder / "labels.txt")
    ledger = [(name, n, "25.0" if n != "0" else "") for name, _, _, _, n in VIDEOS]
    save_ledger(folder / "ledger.tsv", [*ledger, ("of another split", "7", "25")])
    inputs = (folder / "list.tsv", folder / "labels.txt", folder / "ledger.tsv")
    output, frames = folder / "annotation.json", Path("my frames")
    write_annotation(*inputs, output, file_type=store, frames=frames)  # type: ignore[arg-type]
    return folder / "annotation.json"


@pytest.mark.parametrize(("store", "first"), [("jpg", 1), ("hdf5", 0)])
def test_written_as_the_reference_does(tmp_path: Path, store: str, first: int) -> None:
    text = write_all(tmp_path, store).read_bytes().decode("ascii")
    assert json.loads(text) == {
        "labels": ['wa"lk', "run"],
        "database": {
            "a": {
                "subset": "training",
                "annotations": {"label": "run", "segment": [first, first + 16]},
            },
            "b#é": {
                "subset": "training",
                "annotations": {"label": 'wa"lk', "segment": [first, first + 1]},
            },
            "gone": {"subset": "training", "annotations": {"label": "run"}},
            "c": {
                "subset": "validation",
                "annotations": {"label": "run", "segment": [first, first + 300]},
            },
            "t": {"subset": "testing", "annotations": {"segment": [first, first + 20]}},
            "walk_1": {
                "subset": "validation",
                "annotations": {"label": "run", "segment": [first, first + 9]},
                "video_path": {"jpg": "my frames/run/1", "hdf5": "my frames/run/1.hdf5"}[store],
            },
        },
    }
    assert list(json.loads(text)["database"]) == [name for name, *_ in VIDEOS]


def rows(annotation: Annotation) -> list[tuple[str, str, str, int, int, int]]:
    columns = (
        *(annotation.ids, annotation.keys, annotation.video_paths),
        *(annotation.targets, annotation.begins, annotation.ends),
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_read_back(tmp_path: Path) -> None:
    path = write_all(tmp_path)
    annotation = read_annotation(path, subset="training")
    assert annotation.labels == ['wa"lk', "run"]
    assert rows(annotation) == [
        ("a", "run/a", "", 1, 1, 17),
        ("b#é", 'wa"lk/b#é', "", 0, 1, 2),
    ]
    assert (len(annotation), annotation.n_without_frames) == (2, 1)
    assert rows(read_annotation(path, subset="testing")) == [("t", "test/t", "", -1, 1, 21)]
    copy = pickle.loads(pickle.dumps(annotation))
    assert rows(copy) == rows(annotation)


@pytest.mark.parametrize(
    ("short", "full"), [("train", "training"), ("val", "validation"), ("test", "testing")]
)
def test_short_names_of_subsets(tmp_path: Path, short: str, full: str) -> None:
    path = write_all(tmp_path)
    assert rows(read_annotation(path, subset=short)) == rows(read_annotation(path, subset=full))


@pytest.mark.parametrize(("store", "suffix"), [("jpg", ""), ("hdf5", ".hdf5")])
def test_merged_annotations(tmp_path: Path, store: FileType, suffix: str) -> None:
    """Equal classes and ids of two data sets stay two."""
    first = write_all(tmp_path, store)
    second = tmp_path / "second.json"
    database = {"a": {"subset": "train", "annotations": {"label": "run", "segment": [1, 3]}}}
    second.write_text(json.dumps({"labels": ["jump", "run"], "database": database}))
    parts = {"k": (first, tmp_path / "f"), "m-1": (second, Path("g"))}
    merge_annotations(parts, tmp_path / "merged.json", file_type=store)
    merged = read_annotation(tmp_path / "merged.json", subset="training")
    assert merged.labels == ['k/wa"lk', "k/run", "m-1/jump", "m-1/run"]
    alone = read_annotation(first, subset="training")
    assert merged.begins.tolist() == [*alone.begins, 1]
    assert merged.ids.tolist() == ["k/a", "k/b#é", "m-1/a"]
    assert merged.targets.tolist() == [1, 0, 3]
    assert merged.video_paths.tolist() == [
        f"{tmp_path}/f/run/a{suffix}",
        f'{tmp_path}/f/wa"lk/b#é{suffix}',
        f"g/run/a{suffix}",
    ]
    assert merged.n_without_frames == 1
    elsewhere = read_annotation(tmp_path / "merged.json", subset="validation")
    assert elsewhere.video_paths.tolist()[1] == f"my frames/run/1{suffix}"
    (test,) = rows(read_annotation(tmp_path / "merged.json", subset="test"))
    assert test[2:4] == (f"{tmp_path}/f/test/t{suffix}", -1)


def test_activitynet_is_not_merged(tmp_path: Path) -> None:
    part = (save_activitynet(tmp_path, "jpg"), tmp_path)
    message = refusal(
        lambda: merge_annotations({"a": part}, tmp_path / "merged.json", file_type="jpg")
    )
    assert "ActivityNet" in message


def test_frames_elsewhere_need_the_folder_of_the_store(tmp_path: Path) -> None:
    write_all(tmp_path)
    paths = (tmp_path / "list.tsv", tmp_path / "labels.txt", tmp_path / "ledger.tsv")
    output = tmp_path / "out.json"
    message = refusal(lambda: write_annotation(*paths, output, file_type="jpg", frames=None))
    assert "'walk_1'" in message
    assert "'run/1'" in message


def save_json(folder: Path, data: object) -> Path:
    path = folder / "annotation.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def entry(label: str | None = "run", segment: object = (1, 5), **more: object) -> dict[str, object]:
    annotations = {"label": label, "segment": segment}
    given = {name: value for name, value in annotations.items() if value is not None}
    return {"subset": "training", "annotations": given, **more}


def test_what_files_of_the_reference_hold_besides(tmp_path: Path) -> None:
    database = {
        "elsewhere": entry(video_path="/data/x"),
        "no folder": entry(segment=None),
        "empty folder": entry(segment=[1, 1]),
        "empty hdf5": entry(segment=[0, 0]),
        "part": entry(segment=[11, 31]),
        "other subset": {**entry(), "subset": "validation"},
    }
    path = save_json(tmp_path, {"labels": ["run"], "database": database})
    annotation = read_annotation(path, subset="training")
    assert rows(annotation) == [
        ("elsewhere", "run/elsewhere", "/data/x", 0, 1, 5),
        ("part", "run/part", "", 0, 11, 31),
    ]
    assert annotation.n_without_frames == 3
    assert annotation.begins.dtype == np.int32


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ('{"labels": [],\n', ["line 2", "JSON"]),
        ("[1]", ["'database'"]),
        ({"database": {}}, ["'labels'", "'taxonomy'"]),
        ({"labels": "run", "database": {}}, ["'labels'"]),
        ({"labels": [1], "database": {}}, ["'labels'"]),
        ({"labels": ["run", "run"], "database": {}}, ["'run'", "twice"]),
        ({"labels": ["run"], "database": {}}, ["no video with frames", "training", "0 without"]),
        (
            {"labels": ["run"], "database": {"a": entry(segment=None), "b": entry(segment=[1, 1])}},
            ["no video with frames", "training", "2 without"],
        ),
        ({"labels": ["run"], "database": {"a": entry("walk")}}, ["'a'", "'walk'", "1 that"]),
        ({"labels": ["run"], "database": {"a": {"subset": "all"}}}, ["'a'", "'all'", "testing"]),
        ({"labels": ["run"], "database": {"a": {}}}, ["'a'", "subset", "expected"]),
        ({"labels": ["run"], "database": {"a": {"subset": "train"}}}, ["'a'", "annotations"]),
        ({"labels": ["run"], "database": {"a": entry(segment=[1])}}, ["'a'", "[begin, end]"]),
        ({"labels": ["run"], "database": {"a": entry(segment=[1, 2.5])}}, ["'a'", "float"]),
        ({"labels": ["run"], "database": {"a": entry(segment=[-3, 2])}}, ["'a'", "-3"]),
        (
            {"labels": ["run"], "database": {"a": entry(segment=[1, 10**12])}},
            ["'a'", "[1, 1000000000000]"],
        ),
        ({"labels": ["run"], "database": {"a": 3}}, ["'a'", "expected"]),
        ({"labels": ["run"], "database": {"a": entry(["run"])}}, ["'a'", "label is no text"]),
        ({"taxonomy": 3, "database": {"a": {}}}, ["taxonomy", "nodeId"]),
    ],
)
def test_bad_files(tmp_path: Path, data: object, parts: list[str]) -> None:
    path = save_json(tmp_path, data)
    message = refusal(lambda: read_annotation(path, subset="training"))
    assert "annotation.json" in message
    assert all(part in message for part in parts), message


def test_unknown_subset_and_missing_file(tmp_path: Path) -> None:
    path = write_all(tmp_path)
    message = refusal(lambda: read_annotation(path, subset="eval"))
    assert "'eval'" in message
    assert "training (or train), validation (val) and testing (test)" in message
    assert "x.json" in refusal(lambda: read_annotation(tmp_path / "x.json", subset="train"))


def test_lists_and_ledgers_that_do_not_match(tmp_path: Path) -> None:
    write_all(tmp_path)
    output = tmp_path / "out.json"
    paths = (tmp_path / "list.tsv", tmp_path / "labels.txt", tmp_path / "ledger.tsv", output)

    def write() -> None:
        write_annotation(*paths, file_type="jpg", frames=tmp_path)

    (tmp_path / "labels.txt").write_text("run\n")
    message = refusal(write)
    assert "'wa\"lk'" in message
    assert "labels.txt" in message
    (tmp_path / "labels.txt").write_text('run\nwa"lk\n')
    save_ledger(tmp_path / "ledger.tsv", [("a", "3", "25"), ("t", "3", "25")])
    message = refusal(write)
    assert "4 videos" in message
    assert "'b#é'" in message
    save_ledger(tmp_path / "ledger.tsv", [(name, "x", "25") for name, *_ in VIDEOS])
    assert "frames, fps, width and height have to be numbers" in refusal(write)
    (tmp_path / "ledger.tsv").write_text("id\tkey\n")
    assert "no column 'label'" in refusal(write)
    assert not output.exists()


def test_frames_that_came_without_their_video_need_no_rate(tmp_path: Path) -> None:
    write_all(tmp_path)
    save_ledger(tmp_path / "ledger.tsv", [(name, "3", "") for name, *_ in VIDEOS])
    paths = (tmp_path / "list.tsv", tmp_path / "labels.txt", tmp_path / "ledger.tsv")
    write_annotation(*paths, tmp_path / "out.json", file_type="jpg", frames=tmp_path)
    assert len(read_annotation(tmp_path / "out.json", subset="train")) > 0


def test_activitynet_frames_without_videos_have_the_rate_of_the_reference(tmp_path: Path) -> None:
    data = activitynet()
    data["database"]["a"]["fps"] = 12.5  # type: ignore[index]
    source, ledger = save_json(tmp_path, data), tmp_path / "ledger.tsv"
    save_ledger(ledger, [("a", "120", ""), ("gone", "0", ""), ("v", "119", "30"), ("t", "9", "")])
    write_activitynet(source, ledger, tmp_path / "out.json", file_type="jpg")
    written = json.loads((tmp_path / "out.json").read_text())["database"]
    assert (written["a"]["fps"], written["v"]["fps"]) == (12.5, 30)
    assert written["t"]["frames"] == [1, 10]  # whose segments nobody asks for
    assert rows(read_annotation(tmp_path / "out.json", subset="train"))[1][-2:] == (26, 51)


def test_activitynet_needs_the_rate_of_frames(tmp_path: Path) -> None:
    source = save_json(tmp_path, activitynet())
    ledger = tmp_path / "ledger.tsv"
    save_ledger(ledger, [("a", "3", ""), ("gone", "0", ""), ("v", "3", "25"), ("t", "3", "25")])
    output = tmp_path / "out.json"
    message = refusal(lambda: write_activitynet(source, ledger, output, file_type="jpg"))
    assert "'a' has frames but no fps" in message


# --- ActivityNet


def activitynet() -> dict[str, object]:
    def segments(*pairs: tuple[str, float, float]) -> list[dict[str, object]]:
        return [{"label": label, "segment": [begin, end]} for label, begin, end in pairs]

    taxonomy = [("Root", 0, None), ("Sports", 1, 0), ("Running", 2, 1), ("Ironing", 3, 0)]
    return {
        "taxonomy": [
            {"nodeName": name, "nodeId": i, "parentId": parent} for name, i, parent in taxonomy
        ],
        "version": "VERSION 1.3",
        "database": {
            "a": {
                "subset": "training",
                "duration": 10.0,
                "resolution": "320x240",
                # The third is shorter than a frame, the fourth and fifth go beyond the end.
                "annotations": segments(
                    ("Ironing", 0, 2.0),
                    ("Running", 2.05, 4.0),
                    ("Running", 0.01, 0.02),
                    ("Ironing", 9.0, 12.0),
                    ("Ironing", 11.0, 12.0),
                ),
            },
            "gone": {
                "subset": "training",
                "duration": 5.0,
                "annotations": segments(("Running", 0, 1), ("Running", 1, 2)),
            },
            "v": {
                "subset": "validation",
                "duration": 4.0,
                "annotations": segments(("Running", 1, 2), ("Ironing", 2, 3)),
            },
            "t": {"subset": "testing", "duration": 2.0, "annotations": []},
        },
    }


def save_activitynet(folder: Path, store: str) -> Path:
    source = save_json(folder, activitynet())
    ledger = [("a", "100", "10.0"), ("gone", "0", ""), ("v", "119", "29.97"), ("t", "50", "25")]
    save_ledger(folder / "ledger.tsv", ledger)
    output = folder / "activitynet.json"
    write_activitynet(source, folder / "ledger.tsv", output, file_type=store)  # type: ignore[arg-type]
    return output


def test_activitynet_is_the_official_file_with_rates_and_counts(tmp_path: Path) -> None:
    data = json.loads(save_activitynet(tmp_path, "jpg").read_text())
    more = {name: (e.pop("fps", None), e.pop("frames")) for name, e in data["database"].items()}
    assert data == activitynet()
    assert more == {
        "a": (10.0, [1, 101]),
        "gone": (None, [1, 1]),
        "v": (29.97, [1, 120]),
        "t": (25.0, [1, 51]),
    }


@pytest.mark.parametrize(("store", "first"), [("jpg", 1), ("hdf5", 0)])
def test_activitynet_trimmed(tmp_path: Path, store: str, first: int) -> None:
    path = save_activitynet(tmp_path, store)
    annotation = read_annotation(path, subset="training")
    assert annotation.labels == ["Running", "Ironing"]
    assert rows(annotation) == [
        ("a", "v_a", "", 1, first, first + 20),
        ("a", "v_a", "", 0, first + 20, first + 40),
        ("a", "v_a", "", 1, first + 90, first + 100),
    ]
    assert annotation.n_without_frames == 4
    assert rows(read_annotation(path, subset="val")) == [
        ("v", "v_v", "", 0, first + 29, first + 59),
        ("v", "v_v", "", 1, first + 59, first + 89),
    ]


@pytest.mark.parametrize(("store", "first"), [("jpg", 1), ("hdf5", 0)])
def test_activitynet_untrimmed(tmp_path: Path, store: str, first: int) -> None:
    path = save_activitynet(tmp_path, store)
    annotation = read_annotation(path, subset="training", untrimmed=True)
    assert rows(annotation) == [("a", "v_a", "", 1, first, first + 100)]
    assert annotation.n_without_frames == 1
    annotation = read_annotation(path, subset="validation", untrimmed=True)
    assert rows(annotation) == [("v", "v_v", "", 0, first, first + 119)]
    assert rows(read_annotation(path, subset="testing")) == [
        ("t", "v_t", "", -1, first, first + 50)
    ]


def test_activitynet_file_of_the_reference(tmp_path: Path) -> None:
    data = activitynet()
    data["database"]["a"]["fps"] = 25  # type: ignore[index]
    path = save_json(tmp_path, data)
    annotation = read_annotation(path, subset="training", untrimmed=True)
    assert rows(annotation) == [("a", "v_a", "", 1, 1, 251)]
    assert annotation.n_without_frames == 1
    assert rows(read_annotation(path, subset="training"))[1] == ("a", "v_a", "", 0, 52, 101)


@pytest.mark.parametrize(("store", "first"), [("jpg", 1), ("hdf5", 0)])
def test_activitynet_file_of_the_reference_beside_its_frames(
    tmp_path: Path, store: FileType, first: int
) -> None:
    """Of which there are fewer than duration and rate make believe."""
    frames = open_store(tmp_path / "frames", store)
    jpeg = simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8))
    with partial_folder(frames.folder) as partial, frames.writer(partial / "a") as writer:
        for _ in range(240):
            writer.append(jpeg)
        writer.commit(frames.path("v_a"), VideoRecord("ok", "", 240, None, 32, 24, None))
    data = activitynet()
    data["database"]["a"]["fps"] = 25  # type: ignore[index]
    path = save_json(tmp_path, data)
    whole = read_annotation(path, subset="training", untrimmed=True, store=frames)
    assert rows(whole) == [("a", "v_a", "", 1, first, first + 240)]
    assert whole.n_without_frames == 1
    trimmed = read_annotation(path, subset="training", store=frames)
    assert max(trimmed.ends) == first + 240
    del data["database"]["a"]["fps"]  # type: ignore[index]
    path = save_json(tmp_path, data)
    assert len(read_annotation(path, subset="train", untrimmed=True, store=frames)) == 1
    message = refusal(lambda: read_annotation(path, subset="train", store=frames))
    assert "'a'" in message
    assert "fps" in message


def test_bad_activitynet(tmp_path: Path) -> None:
    path = save_activitynet(tmp_path, "jpg")
    save_ledger(tmp_path / "ledger.tsv", [("a", "100", "10")])
    source, ledger = tmp_path / "annotation.json", tmp_path / "ledger.tsv"
    message = refusal(
        lambda: write_activitynet(source, ledger, tmp_path / "x.json", file_type="jpg")
    )
    assert "3 videos" in message
    assert "'gone'" in message
    data = json.loads(path.read_text())
    data["database"]["a"]["annotations"][1]["label"] = "Eating"
    path = save_json(tmp_path, data)
    message = refusal(lambda: read_annotation(path, subset="training"))
    assert "'Eating'" in message
    assert "2 that" in message
    data["database"]["a"]["annotations"] = [{"label": "Running"}]
    path = save_json(tmp_path, data)
    assert "'segment'" in refusal(lambda: read_annotation(path, subset="training"))


ORDINARY = {
    "labels": ["run", "walk"],
    "database": {
        "a": {
            "subset": "training",
            "annotations": {"label": "run", "segment": [1, 17]},
            "video_path": "elsewhere/a",
        },
        "b": {"subset": "validation", "annotations": {"label": "walk", "segment": [1, 17]}},
    },
}
OFFICIAL = {
    "taxonomy": [
        {"nodeId": 0, "nodeName": "Root", "parentId": None},
        {"nodeId": 1, "nodeName": "run", "parentId": 0},
    ],
    "database": {
        "a": {
            "subset": "training",
            "duration": 4.0,
            "fps": 10,
            "annotations": [{"label": "run", "segment": [0.5, 2.5]}],
        },
        "b": {"subset": "testing", "duration": 4.0, "fps": 10, "annotations": []},
    },
}


@pytest.mark.parametrize("data", [ORDINARY, OFFICIAL], ids=["ordinary", "activitynet"])
def test_an_annotation_with_anything_odd_in_it_is_read_or_refused_in_a_line(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    for what, path in odd_files(tmp_path, data):
        for subset in ("training", "testing"):
            accepts_or_says_why(what, read_annotation, path, subset=subset)


def test_annotations_with_anything_odd_in_them_are_merged_or_refused_in_a_line(
    tmp_path: Path,
) -> None:
    for what, path in odd_files(tmp_path, ORDINARY):
        parts, output = {"x": (path, tmp_path)}, tmp_path / "merged.json"
        accepts_or_says_why(what, merge_annotations, parts, output, file_type="jpg")


def test_an_official_json_with_anything_odd_in_it_is_completed_or_refused_in_a_line(
    tmp_path: Path,
) -> None:
    ledger = save_ledger(tmp_path / "ledger.tsv", [("a", "40", "10"), ("b", "0", "")])
    for what, path in odd_files(tmp_path, OFFICIAL):
        output = tmp_path / "complete.json"
        accepts_or_says_why(what, write_activitynet, path, ledger, output, file_type="jpg")


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "9" * 30, "9" * 5000, "nan"])
def test_a_ledger_with_odd_numbers_is_used_or_refused_in_a_line(tmp_path: Path, value: str) -> None:
    path = write_all(tmp_path)
    path.unlink()
    rows = [(name, n, "25.0") for name, _, _, _, n in VIDEOS]
    save_ledger(tmp_path / "ledger.tsv", [(rows[0][0], value, value), *rows[1:]])
    inputs = (tmp_path / "list.tsv", tmp_path / "labels.txt", tmp_path / "ledger.tsv")
    accepts_or_says_why(value, write_annotation, *inputs, path, file_type="jpg", frames=tmp_path)
    save_ledger(tmp_path / "ledger.tsv", [*rows, rows[0]])
    with pytest.raises(InputError, match=f"video {rows[0][0]!r} has two rows"):
        write_annotation(*inputs, path, file_type="jpg", frames=tmp_path)


def test_millions_of_classes_are_refused_at_once(tmp_path: Path) -> None:
    data = {"labels": [*map(str, range(2_000_000)), "0"], "database": ORDINARY["database"]}
    path = save_json(tmp_path, data)
    message = refusal(lambda: read_annotation(path, subset="training"))
    assert f"2000001 classes in {path}; accepted are 10000 or fewer" in message
