"""Frames that were lost or spoilt: found, marked and told of."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from storing import RECORD, first, jpegs, write, write_like_the_reference

from r3d.errors import InputError
from r3d.frames.stores import (
    FrameStore,
    open_store,
)


def spoil(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def age(path: Path, seconds: float) -> None:
    """Make a file that much older."""
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - int(seconds * 1e9)))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "image_00003.jpg is missing"),
        ("empty", "image_00003.jpg is empty"),
        ("cut", "the frames have other lengths than when they were made"),
        ("other bytes", "the frames are not those that were extracted"),
    ],
)
def test_a_look_finds_lost_and_spoilt_frames(tmp_path: Path, damage: str, reason: str) -> None:
    store = open_store(tmp_path, "jpg")
    write(store, "a/v", jpegs(5))
    frame = tmp_path / "a/v/image_00003.jpg"
    data = frame.read_bytes()
    if damage == "missing":
        frame.unlink()
    else:
        time.sleep(0.02)  # file systems count time in steps
        changed = {"empty": b"", "cut": data[:99], "other bytes": data[::-1]}[damage]
        frame.write_bytes(changed)
    record = store.record("a/v")
    assert record is not None
    assert (record.status, record.reason, record.frames) == ("corrupt", reason, 0)


@pytest.mark.parametrize("made_by", ["us", "others"])
def test_damage_that_left_no_trace_is_found_on_demand(store: FrameStore, made_by: str) -> None:
    frames = jpegs(70)
    (write if made_by == "us" else write_like_the_reference)(store, "a/v", frames)
    store.record("a/v")
    path = store.path("a/v")
    if store.file_type == "jpg":
        path /= "image_00067.jpg"
    data = path.read_bytes()
    at = data.index(frames[66]) + len(frames[66]) // 2
    spoil(path, at, b"\xff\xd9" * 20)
    age(path, 100)
    found = store.record("a/v")
    assert found is not None
    assert found.frames == 70  # a look does not read them
    record = store.record("a/v", verify=True)
    assert record is not None
    assert (record.status, record.frames) == ("corrupt", 0)
    if not (store.file_type == "jpg" and made_by == "us"):  # of which there is one checksum
        assert f"frame {first(store) + 66}" in record.reason
    write(store, "a/v", frames)
    assert store.record("a/v", verify=True) == replace(RECORD, frames=70)


def test_a_copy_with_new_times_is_checked_once_and_believed(tmp_path: Path) -> None:
    store = open_store(tmp_path, "jpg")
    write(store, "a/v", jpegs(5))
    record_file = tmp_path / "a/v/.video.json"
    age(record_file, 100)
    assert store.record("a/v") == replace(RECORD, frames=5)
    assert record_file.stat().st_mtime > (tmp_path / "a/v/image_00005.jpg").stat().st_mtime


def test_records_of_before_are_believed(tmp_path: Path) -> None:
    """They say nothing of bytes and checksums."""
    store = open_store(tmp_path, "jpg")
    write(store, "a/v", jpegs(5))
    record_file = tmp_path / "a/v/.video.json"
    stored = json.loads(record_file.read_text())
    del stored["bytes"], stored["crc32"]
    record_file.write_text(json.dumps(stored))
    for verify in (False, True):
        assert store.record("a/v", verify=verify) == replace(RECORD, frames=5)
    (tmp_path / "a/v/image_00002.jpg").write_bytes(b"")
    record = store.record("a/v")
    assert record is not None
    assert record.reason == "image_00002.jpg is empty"


def test_who_meets_damage_marks_it_for_the_next_extraction(store: FrameStore) -> None:
    frames = jpegs(5)
    for key in ("a/v", "a/w", "b/v"):
        write(store, key, frames)
    path = store.path("a/v")
    if store.file_type == "jpg":
        path /= "image_00003.jpg"
        path.unlink()
        path.touch()
    else:
        spoil(path, path.read_bytes().index(frames[2]), bytes(50))
    assert store.marked(["a/v", "a/w", "b/v"]) == []
    assert len(store.read("a/v", [first(store)])) == 1
    with pytest.raises(InputError, match=r"a/v.*; extract the video again$"):
        store.read("a/v", [first(store) + 2])
    assert store.marked(["a/v", "a/w", "b/v"]) == ["a/v"]
    record = store.record("a/v")
    assert record is not None
    assert (record.status, record.frames) == ("corrupt", 0)
    write(store, "a/v", frames)
    assert store.marked(["a/v", "a/w", "b/v"]) == []
    assert store.record("a/v") == replace(RECORD, frames=5)


def test_a_mark_on_frames_that_are_right_is_removed(store: FrameStore) -> None:
    """A disk that did not answer may do so the next day."""
    write(store, "a/v", jpegs(5))
    store.damaged(store.path("a/v"), "frame 2: no answer")
    assert store.marked(["a/v"]) == ["a/v"]
    assert store.record("a/v") == replace(RECORD, frames=5)
    assert store.marked(["a/v"]) == []
    assert ".damaged" not in {path.name for path in store.path("a/v").parent.iterdir()}


def test_where_no_mark_can_be_left_the_error_says_what_helps(store: FrameStore) -> None:
    write(store, "a/v", jpegs(5))
    (store.path("a/v").parent / ".damaged").write_text("a file in the way")
    error = store.damaged(store.path("a/v"), "frame 2: cut")
    assert str(error).endswith("frame 2: cut; extract the video again, with r3d frames --verify")


def test_a_path_that_leads_nowhere_is_not_marked(tmp_path: Path, store: FrameStore) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        store.read("a/v", [1])
    assert not store.folder.exists()
