"""Digests of frames: equal for equal frames, other for others."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from r3d.errors import InputError
from r3d.frames.identity import gather_digests, joint_digest, write_shard_digest
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import VideoRecord, open_store, partial_folder
from r3d.tables import write_table


def digest(folder: Path, *, status: str = "missing", frames: int = 3, **made_from: Any) -> str:
    """Of a shard with a video that has frames and one that has none."""
    rows = [
        ("a", "run", "run/a", "ok", "", str(frames), "25", "48", "36"),
        ("b", "run", "run/b", status, f"it is {status}", "0", "", "", ""),
    ]
    write_table(pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)), folder / "manifest.tsv")
    store = open_store(folder / "jpg")
    made = {"size": 1000, "mtime_ns": 1, "short_side": 36, **made_from}
    jpeg = simplejpeg.encode_jpeg(np.zeros((36, 48, 3), np.uint8))
    with partial_folder(folder / "jpg") as partial, store.writer(partial / "0") as writer:
        for _ in range(frames):
            writer.append(jpeg)
        record = VideoRecord("ok", "", frames, 25.0, 48, 36, made)
        writer.commit(store.path("run/a"), record)
    write_shard_digest(folder / "manifest.tsv", folder / "jpg", folder / "digest")
    return joint_digest([folder / "digest"])


@pytest.mark.parametrize("options", [{"mtime_ns": 2}, {"status": "corrupt"}])
def test_what_does_not_change_the_frames(tmp_path: Path, options: dict[str, Any]) -> None:
    assert digest(tmp_path) == digest(tmp_path, **options)


@pytest.mark.parametrize("options", [{"size": 1001}, {"short_side": 32}, {"frames": 4}])
def test_other_frames(tmp_path: Path, options: dict[str, Any]) -> None:
    assert digest(tmp_path) != digest(tmp_path, **options)


def test_the_order_of_shards_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1\n")
    two.write_text("2\n")
    assert joint_digest([one]) == "1"
    assert joint_digest([one, two]) != joint_digest([two, one])
    gather_digests([one, two], tmp_path / "all")
    assert joint_digest([tmp_path / "all"]) == joint_digest([one, two])


def test_a_digest_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: cannot be read as a digest of frames"):
        joint_digest([tmp_path / "gone"])
