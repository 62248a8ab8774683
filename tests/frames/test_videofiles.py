"""The state of a shard's videos changes with each file that extraction might take, and no other."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from r3d.frames import videofiles
from r3d.frames.shards import SHARD_COLUMNS
from r3d.frames.videofiles import videos_state
from r3d.tables import write_table

ROWS = (
    ("a", "run", "run/a", "run/a.avi", "", ""),
    ("b", "run", "run/b", "run/b", "", ""),  # with any extension
    ("c", "run", "test/c", "test/c", "", ""),  # under test, or its label
)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "000.tsv"
    write_table(pd.DataFrame(ROWS, columns=list(SHARD_COLUMNS)), path)
    for name in ("run/a.avi", "run/b.mp4", "test/other.mp4"):
        file = tmp_path / "videos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"video")
        os.utime(file, (1, 1))
    return path


def state(shard: Path) -> str:
    """As another process would see it."""
    videofiles._listed.cache_clear()
    videofiles._state_of_all.cache_clear()
    return videos_state(shard, shard.parent / "videos")


def touch(path: Path) -> None:
    os.utime(path, (2, 2))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("run/a.avi", Path.unlink),
        ("run/a.avi", touch),
        ("run/b.mp4", touch),
        ("run/b.mp4", lambda path: path.write_bytes(b"longer video") and os.utime(path, (1, 1))),
        ("run/b.mp4", lambda path: path.rename(path.with_suffix(".webm"))),
        ("run/b.webm", Path.touch),
        ("test/c.mp4", Path.touch),
        ("run/c.mkv", Path.touch),
    ],
)
def test_a_change(shard: Path, name: str, change: Callable[[Path], object]) -> None:
    before = state(shard)
    assert state(shard) == before
    change(shard.parent / "videos" / name)
    assert state(shard) != before


@pytest.mark.parametrize("name", ["run/d.mp4", "run/a.mp4", "test/other.mp4", "run/b.txt"])
def test_files_of_others(shard: Path, name: str) -> None:
    before = state(shard)
    (shard.parent / "videos" / name).touch()
    assert state(shard) == before


def test_a_shard_that_is_written_anew_is_read_anew(shard: Path) -> None:
    before = state(shard)
    write_table(pd.DataFrame(ROWS[1:], columns=list(SHARD_COLUMNS)), shard)
    assert videos_state(shard, shard.parent / "videos") != before


def test_no_folder_at_all(shard: Path) -> None:
    assert videos_state(shard, shard.parent / "nowhere")
