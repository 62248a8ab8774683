"""Lists of every format: what a right one says is read, and any other is refused in a line.

The lists are made up from small models of what they say, or are right but for a piece that is not.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from listmodels import LABELS, SPLITS, SUBSETS, VIDEOS, WRITERS, Files, Video, assert_inside
from oddities import accepts_or_says_why

from r3d.frames.shards import write_shards
from r3d.lists import FORMATS, SplitOptions, VideoList, load_labels, load_list, read_list, save_list
from r3d.tables import read_columns

# Names that every format can state: no separators, no spaces at an end. "0" to "9" end lines of
# UCF-101 and HMDB-51 as numbers, "." begins extensions, "," and '"' have a meaning in CSV.
LETTERS = "aB9. _-é,\"'=+@#%&;{}()[]日\u0301\U0001f600"
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and name.strip(".") and name[0] != "."
)


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[str], list[Video]]:
    """Classes in some order, and videos of distinct names, of each class some for training."""
    labels = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.casefold))
    names = draw(st.lists(NAMES, min_size=6, max_size=8, unique_by=str.casefold))
    videos = []
    for number, name in enumerate(names):
        label = labels[number] if number < len(labels) else draw(st.sampled_from(labels))
        subset = SUBSETS[number == len(labels)]
        if number > len(labels):
            subset = draw(st.sampled_from(SUBSETS))
        videos.append(Video(name, label, subset))
    return labels, draw(st.permutations(videos))


def test_every_format_is_tried():
    assert WRITERS.keys() == FORMATS.keys()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def put(place: Path, files: Files) -> Path:
    """The files in a folder of their own, and nothing else."""
    folder = place / "lists"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(format: str, folder: Path) -> VideoList:
    return read_list(format, folder, SPLITS.get(format, "all"))


def saved_and_loaded(video_list: VideoList, place: Path) -> None:
    """Check that the tables on the disk say what the list says."""
    table, labels = place / "list.tsv", place / "labels.txt"
    save_list(video_list, table, labels)
    assert load_labels(labels) == video_list.labels
    loaded = load_list(table)
    assert list(loaded.columns) == list(video_list.videos.columns)
    assert loaded.to_numpy().tolist() == video_list.videos.to_numpy().tolist()


@pytest.mark.parametrize("format", WRITERS)
@given(data=data_sets())
@settings(max_examples=25)
def test_what_a_right_list_says_is_read(place: Path, format: str, data: Any) -> None:
    labels, videos = data
    found = read(format, put(place, WRITERS[format](labels, videos)))
    said = {(v.name, v.label, v.subset) for v in videos}
    names = [
        video_id[: -len("_000000_000010")] if format == "kinetics" else video_id
        for video_id in found.videos["id"]
    ]
    rest = zip(found.videos["label"], found.videos["subset"], strict=True)
    assert {(name, *row) for name, row in zip(names, rest, strict=True)} == said
    match format:
        case "activitynet" | "mit" | "ucf101":
            assert found.labels == labels
        case "hmdb51" | "csv" | "folders":
            assert found.labels == sorted(labels)
        case "kinetics":
            first = dict.fromkeys(video.label for video in videos if video.subset == "training")
            assert found.labels == list(first)
    assert_inside(found)
    saved_and_loaded(found, place)
    shards = write_shards([place / "list.tsv"], place / "shards", 3)
    sharded = [name for shard in shards for name in read_columns(shard, ["id"])["id"]]
    assert sorted(sharded) == sorted(found.videos["id"])


@given(data=data_sets(), shuffled=st.randoms(use_true_random=False), n_shards=st.integers(1, 5))
@settings(max_examples=25)
def test_the_order_of_a_list_changes_no_shard(
    place: Path, data: Any, shuffled: random.Random, n_shards: int
) -> None:
    labels, videos = data
    written = []
    for _ in range(2):
        found = read("csv", put(place, WRITERS["csv"](labels, videos)))
        save_list(found, place / "list.tsv", place / "labels.txt")
        shards = write_shards([place / "list.tsv"], place / "shards", n_shards)
        written.append([path.read_bytes() for path in shards])
        videos = shuffled.sample(videos, len(videos))
    assert written[0] == written[1]


PIECES = (
    *("run", "walk", "a", "b.avi", "training", "val", "path", "label", "subset", "start", "end"),
    *("youtube_id", "time_start", "time_end", "/", "..", "./", "//", "\\", ",", '"', "\n", "\r"),
    *("\r\n", " ", "\t", "0", "1", "-1", "1e9", "1e400", "nan", "9" * 40, "\0", "\x1a", "\x85"),
    *("\ufeff", "\u2028", "\u0301", "é", ".mp4", ".avi", "test", "[", "{", "}", "]", ":", "null"),
    *("\\ud800", '{"database": {}}', '"nodeId"', "C:/", "=1", "a" * 40),
)
ODD_TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with something else in the place of a part of it, or of all."""
    part = draw(ODD_TEXTS.map(lambda text: text.encode(errors="replace")) | st.binary(max_size=20))
    begin = draw(st.integers(0, len(content)))
    end = draw(st.integers(begin, min(len(content), begin + 20)) | st.just(len(content)))
    return content[:begin] + part + content[end:]


@pytest.mark.parametrize("format", [name for name in WRITERS if name != "folders"])
@given(data=st.data())
def test_any_other_list_gives_videos_or_a_line(place: Path, format: str, data: Any) -> None:
    files = WRITERS[format](LABELS, VIDEOS)
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    assert isinstance(content, str)
    for _ in range(data.draw(st.integers(1, 2))):
        content = data.draw(damaged(content if isinstance(content, bytes) else content.encode()))
    read_or_refused(format, put(place, {**files, name: content}), place)


def read_or_refused(format: str, folder: Path, place: Path) -> None:
    for options in (SplitOptions(), SplitOptions(validation_fraction=0.5, group_pattern=".")):
        arguments = (format, folder, SPLITS.get(format, "all"), options)
        found = accepts_or_says_why("a list", read_list, *arguments)
        if found is not None:
            assert_inside(found)
            saved_and_loaded(found, place)
    accepts_or_says_why("its test videos", FORMATS[format].testing_has_labels, folder)


# A file name: bytes but "/" and null, not all of them UTF-8.
FILE_NAMES = (
    st.binary(min_size=1, max_size=12)
    .map(lambda name: os.fsdecode(name.replace(b"/", b"-").replace(b"\0", b"0")))
    .filter(lambda name: name not in (".", ".."))
)


@given(
    names=st.lists(
        st.tuples(FILE_NAMES, FILE_NAMES | NAMES.map(lambda name: f"{name}.mp4")), max_size=4
    )
)
@example(names=[(os.fsdecode(b"caf\xe9"), "a.mp4"), ("b", "b.mp4")])
@example(names=[("a", os.fsdecode(b"caf\xe9.mp4")), ("b", "b.mp4")])
def test_any_folders_give_videos_or_a_line(place: Path, names: list[tuple[str, str]]) -> None:
    files = {f"{folder}/{name}": b"" for folder, name in names}
    read_or_refused("folders", put(place, files), place)


@given(name=FILE_NAMES)
@example(name=os.fsdecode(b"caf\xe9"))
def test_split_files_of_any_name_give_videos_or_a_line(place: Path, name: str) -> None:
    text = "a.avi 1\nb.avi 2\n"
    read_or_refused("hmdb51", put(place, {f"{name}_test_split1.txt": text}), place)
