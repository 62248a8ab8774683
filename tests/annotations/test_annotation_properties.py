"""Annotations of any data set: what is read is what was written, and any JSON is one or refused."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oddities import accepts_or_says_why

from r3d.annotations.merging import merge_annotations
from r3d.annotations.reading import Annotation, read_annotation
from r3d.annotations.writing import write_activitynet, write_annotation
from r3d.errors import InputError
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import open_store
from r3d.lists import COLUMNS, SUBSETS, VideoList, save_list
from r3d.tables import write_table

NAMES = st.text(st.sampled_from("ab9._- é,'\"=+@#%{}日\U0001f600"), min_size=1, max_size=6).filter(
    lambda name: name.strip(".")
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str, str, int, bool]]]:
    """Classes, and videos: id, label, subset, number of frames, whether at the usual place."""
    labels = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    ids = draw(st.lists(NAMES, max_size=8, unique=True))
    videos = []
    for name in ids:
        subset = draw(st.sampled_from(SUBSETS))
        label = draw(st.sampled_from([*labels, ""] if subset == "testing" else labels))
        frames = draw(st.integers(0, 3) | st.integers(0, 10**6))
        videos.append((name, label, subset, frames, draw(st.booleans())))
    return labels, videos


def key_of(name: str, label: str, usual: bool) -> str:
    return f"{label or 'test'}/{name}" if usual else f"elsewhere/{name}"


def write(place: Path, data: Any, file_type: FileType) -> Path:
    """List, classes and ledger of a data set, and the annotation that is made of them."""
    labels, videos = data
    listed = [(n, la, s, key_of(n, la, u), f"{n}.mp4", "", "") for n, la, s, _, u in videos]
    table = pd.DataFrame(listed, columns=list(COLUMNS), dtype=object)
    save_list(VideoList(labels, table), place / "list.tsv", place / "labels.txt")
    rows = [
        (*(n, la, key_of(n, la, u), "ok" if frames else "missing", "", str(frames)), "25", "", "")
        for n, la, _, frames, u in sorted(videos)
    ]
    write_table(pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)), place / "ledger.tsv")
    inputs = (place / "list.tsv", place / "labels.txt", place / "ledger.tsv")
    write_annotation(
        *inputs, place / "annotation.json", file_type=file_type, frames=place / "frames"
    )
    return place / "annotation.json"


@given(data=data_sets(), file_type=st.sampled_from(["jpg", "hdf5"]))
def test_what_is_read_is_what_was_written(place: Path, data: Any, file_type: FileType):
    labels, videos = data
    path = write(place, data, file_type)
    written = path.read_bytes()
    first, store = FIRST_FRAME[file_type], open_store(place / "frames", file_type)
    for subset in SUBSETS:
        own = [video for video in videos if video[2] == subset]
        framed = [video for video in own if video[3]]
        if not framed:
            with pytest.raises(InputError, match="no video with frames"):
                read_annotation(path, subset=subset)
            continue
        read = read_annotation(path, subset=subset)
        assert read.labels == labels
        assert read.ids.tolist() == [name for name, *_ in framed]
        assert read.n_without_frames == len(own) - len(framed)
        for i, (name, label, _, n_frames, usual) in enumerate(framed):
            assert int(read.targets[i]) == (labels.index(label) if label else -1)
            assert (int(read.begins[i]), int(read.ends[i])) == (first, first + n_frames)
            where = read.video_paths[i] or str(store.path(read.keys[i]))
            assert where == str(store.path(key_of(name, label, usual)))
    write(place, data, file_type)
    assert path.read_bytes() == written


@given(one=data_sets(), other=data_sets())
def test_merged_data_sets_keep_what_each_says(place: Path, one: Any, other: Any):
    parts = {}
    for name, data in (("k", one), ("m-1", other)):
        folder = place / name
        folder.mkdir(exist_ok=True)
        parts[name] = (write(folder, data, "jpg"), folder / "frames")
    merge_annotations(parts, place / "merged.json", file_type="jpg")
    for subset in SUBSETS:
        alone: dict[str, Annotation] = {}
        for name, (path, _) in parts.items():
            read = accepts_or_says_why("a part", read_annotation, path, subset=subset)
            if read is not None:
                alone[name] = read
        if not alone:
            continue
        merged = read_annotation(place / "merged.json", subset=subset)
        assert merged.labels == [f"k/{x}" for x in one[0]] + [f"m-1/{x}" for x in other[0]]
        assert merged.ids.tolist() == [f"{k}/{x}" for k, read in alone.items() for x in read.ids]
        names = [merged.labels[i] if i >= 0 else "" for i in merged.targets.tolist()]
        assert names == [
            f"{k}/{read.labels[i]}" if i >= 0 else ""
            for k, read in alone.items()
            for i in read.targets.tolist()
        ]
        ends = [end for read in alone.values() for end in read.ends.tolist()]
        assert merged.ends.tolist() == ends
        for k, read in alone.items():
            store = open_store(parts[k][1], "jpg")
            for video_id, key, path in zip(read.ids, read.keys, read.video_paths, strict=True):
                (i,) = [j for j, x in enumerate(merged.ids) if x == f"{k}/{video_id}"]
                assert merged.video_paths[i] == (path or str(store.path(key)))


# --- any JSON

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "run", "walk", "training", "val", "test", "../x", "\0"])
    | st.text(max_size=5)
)
KEYS = st.sampled_from(
    [
        *("labels", "taxonomy", "database", "subset", "annotations", "label", "segment", "fps"),
        *("frames", "duration", "video_path", "nodeId", "nodeName", "parentId", "v1"),
    ]
) | st.text(max_size=3)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
# Nearly right: what is expected at each place, or anything.
LABEL = st.sampled_from(["run", "walk"]) | ANYTHING
SEGMENT = st.tuples(st.integers(0, 9), st.integers(0, 40)).map(list) | ANYTHING
ANNOTATIONS = st.fixed_dictionaries({}, optional={"label": LABEL, "segment": SEGMENT})
ENTRY = st.fixed_dictionaries(
    {"subset": st.sampled_from(["training", "validation", "val"]) | ANYTHING},
    optional={
        "annotations": ANNOTATIONS | st.lists(ANNOTATIONS, max_size=2) | ANYTHING,
        "video_path": st.text(max_size=4) | ANYTHING,
        "frames": SEGMENT,
        "fps": st.floats() | ANYTHING,
        "duration": st.floats() | ANYTHING,
    },
)
NODES = st.lists(
    st.fixed_dictionaries({"nodeId": LEAVES, "nodeName": LABEL, "parentId": LEAVES}), max_size=4
)
FILE = st.fixed_dictionaries(
    {"database": st.dictionaries(st.text(max_size=4), ENTRY | ANYTHING, max_size=4)},
    optional={"labels": st.lists(LABEL, max_size=3) | ANYTHING, "taxonomy": NODES | ANYTHING},
)


@given(content=FILE | ANYTHING)
def test_any_json_is_an_annotation_or_refused_in_a_line(place: Path, content: Any):
    path = place / "any.json"
    path.write_text(json.dumps(content))
    ledger = place / "any.tsv"
    names = list(content.get("database") or ()) if isinstance(content, dict) else []
    rows = [(n, "", f"a/{n}", "ok", "", "7", "25", "", "") for n in names if isinstance(n, str)]
    write_table(pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS), dtype=object), ledger)
    for subset, untrimmed in (("train", False), ("val", False), ("val", True), ("test", False)):
        read = accepts_or_says_why(
            "any JSON", read_annotation, path, subset=subset, untrimmed=untrimmed
        )
        if read is not None:
            assert len(read) > 0
            assert (read.begins >= 0).all()
            assert (read.begins < read.ends).all()
            assert (read.targets < len(read.labels)).all()
    accepts_or_says_why(
        "any JSON", merge_annotations, {"a": (path, place)}, place / "m.json", file_type="jpg"
    )
    accepts_or_says_why(
        "any JSON", write_activitynet, path, ledger, place / "a.json", file_type="jpg"
    )


@given(content=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_an_annotation_or_refused_in_a_line(place: Path, content: bytes):
    path = place / "bytes.json"
    path.write_bytes(content)
    accepts_or_says_why("any bytes", read_annotation, path, subset="train")
