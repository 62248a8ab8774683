"""Annotations: the reference's scripts and ours on the same lists and frames."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
from checkout import Reference
from deviations import DEVIATIONS
from samples import FILE_TYPES, DataSet, annotate

from r3d.annotations.reading import Annotation, read_annotation
from r3d.annotations.writing import write_activitynet
from r3d.frames.layouts import FileType
from r3d.frames.ledger import MANIFEST_COLUMNS

pytestmark = pytest.mark.differential


class NoVideos:
    """In place of the miniatures' videos: the frames are made from the lists."""

    def put(self, path: Path, **_: Any) -> None: ...

    def put_all(self, folder: Path, names: list[str], **_: Any) -> None: ...

    def put_frames(self, folder: Path, **_: Any) -> None: ...


def make_lists(make: Callable[..., dict[str, Any]], folder: Path) -> Path:
    return Path(make(folder, NoVideos())["lists"])


def assert_equal(ours: Path, theirs: Path) -> None:
    """The same content in the same order, and the same samples when read."""
    found, expected = json.loads(ours.read_text()), json.loads(theirs.read_text())
    assert found == expected
    assert list(found["database"]) == list(expected["database"])
    subsets = {entry["subset"] for entry in expected["database"].values()}
    assert {"training", "validation"} <= subsets
    for subset in subsets:
        a, b = (read_annotation(path, subset=subset) for path in (ours, theirs))
        for name in Annotation.__dataclass_fields__:
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_kinetics(
    reference: Reference, data_set: DataSet, tmp_path: Path, file_type: FileType
) -> None:
    output = tmp_path / "kinetics.json"
    frames = data_set.frames[file_type]
    reference.run("util_scripts.kinetics_json", data_set.lists, 700, frames, file_type, output)
    assert_equal(data_set.annotation[file_type], output)
    entries = json.loads(output.read_text())["database"].values()
    assert sum("segment" not in entry["annotations"] for entry in entries) == 1


def test_ucf101(reference: Reference, tmp_path: Path) -> None:
    lists = make_lists(miniatures.ucf101, tmp_path)
    for name in ("train", "test"):
        shutil.copyfile(lists / f"{name}list02.txt", lists / f"{name}list03.txt")
    splits = ("01", "02", "03")
    ours = [annotate("ucf101", lists, split, tmp_path / "jpg", "jpg") for split in splits]
    reference.run("util_scripts.ucf101_json", lists, tmp_path / "jpg", tmp_path)
    for split, path in zip(splits, ours, strict=True):
        assert_equal(path, tmp_path / f"ucf101_{split}.json")


def test_hmdb51(reference: Reference, tmp_path: Path) -> None:
    lists = make_lists(miniatures.hmdb51, tmp_path)
    ours = annotate("hmdb51", lists, "1", tmp_path / "jpg", "jpg")
    reference.run("util_scripts.hmdb51_json", lists, tmp_path / "jpg", tmp_path)
    theirs = tmp_path / "hmdb51_1.json"
    # The reference takes the files of a folder as the system lists them.
    data = json.loads(theirs.read_text())
    order = json.loads(ours.read_text())["database"]
    data["database"] = {name: data["database"][name] for name in order} | data["database"]
    theirs.write_text(json.dumps(data))
    assert_equal(ours, theirs)


def test_mit(reference: Reference, tmp_path: Path) -> None:
    lists = make_lists(miniatures.mit, tmp_path)
    ours = annotate("mit", lists, "all", tmp_path / "jpg", "jpg")
    reference.run("util_scripts.mit_json", lists, tmp_path / "jpg", tmp_path / "mit.json")
    assert_equal(ours, tmp_path / "mit.json")


def test_absent_folder(reference: Reference, tmp_path: Path) -> None:
    lists = make_lists(miniatures.ucf101, tmp_path)
    absent = "v_YoYo_g03_c01"
    ours = annotate("ucf101", lists, "01", tmp_path / "jpg", "jpg", absent=(absent,))
    entry = json.loads(ours.read_text())["database"][absent]
    assert entry["annotations"] == {"label": "YoYo"}, DEVIATIONS["absent folder"]
    with pytest.raises(FileNotFoundError):
        reference.run("util_scripts.ucf101_json", lists, tmp_path / "jpg", tmp_path)


def test_activitynet(reference: Reference, tmp_path: Path) -> None:
    """Classes and frames of each segment, from our annotation; clips the reference cannot give."""
    n_frames = 38
    path = make_lists(miniatures.activitynet, tmp_path)
    data = json.loads(path.read_text())
    more = [{"segment": segment, "label": "Archery"} for segment in ([2.5, 9.0], [0.0, 0.5])]
    next(iter(data["database"].values()))["annotations"] += more
    path.write_text(json.dumps(data))
    rows = [f"{name}\t\tv_{name}\tok\t\t{n_frames}\t10.0\t8\t8" for name in data["database"]]
    ledger = ["\t".join(MANIFEST_COLUMNS), *rows]
    (tmp_path / "ledger.tsv").write_text("\n".join(ledger) + "\n")
    for name in data["database"]:
        (tmp_path / f"v_{name}").mkdir()
        for frame in range(1, n_frames + 1):
            (tmp_path / f"v_{name}" / f"image_{frame:05d}.jpg").touch()
    annotation = tmp_path / "annotation.json"
    write_activitynet(path, tmp_path / "ledger.tsv", annotation, file_type="jpg")

    data_set = reference.module("datasets.activitynet").ActivityNet
    theirs = data_set(tmp_path, annotation, "training")
    ours = read_annotation(annotation, subset="training")
    assert [theirs.class_names[i] for i in range(len(ours.labels))] == ours.labels
    columns = (ours.ids, ours.targets, ours.begins, ours.ends)
    samples = list(zip(*(column.tolist() for column in columns), strict=True))
    assert samples[2][2:] == (26, 39), DEVIATIONS["last frame"]
    samples[2] = (*samples[2][:3], 38)
    assert samples.pop(3)[2:] == (1, 6), DEVIATIONS["short segment"]
    assert samples == [(s["video_id"], s["label"], *s["segment"]) for s in theirs.data]
    with pytest.raises(AttributeError, match="target_type"):
        theirs[0]
    assert DEVIATIONS["ActivityNet"]

    theirs = data_set(tmp_path, annotation, "validation", is_untrimmed_setting=True)
    ours = read_annotation(annotation, subset="validation", untrimmed=True)
    segments = list(zip(ours.begins.tolist(), ours.ends.tolist(), strict=True))
    assert [sample["segment"] for sample in theirs.data] == segments
    assert [sample["video_id"] for sample in theirs.data] == ours.ids.tolist()
