"""Digests of the parts of an annotation: what changes them, and what does not."""

import json
from pathlib import Path

import pandas as pd
import pytest

from r3d.annotations.parts import PARTS, merge_part_digests, write_part_digests
from r3d.lists.base import COLUMNS
from r3d.tables import write_table

ROWS = [
    ("a", "run", "training", "run/a", "run/a.mp4", "", ""),
    ("b", "walk", "training", "walk/b", "walk/b.mp4", "1", "2"),
    ("c", "run", "validation", "run/c", "run/c.mp4", "", ""),
    ("d", "", "testing", "test/d", "d.mp4", "", ""),
    ("e", "run", "training", "run/e", "run/e.mp4", "", ""),
]
"""Of all but the last there are frames."""


class Split:
    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.classes = folder, [list(row) for row in ROWS], ["run", "walk"]
        self.frames = {name: f"{name}1" for name in "abcd"}
        self.official: dict | None = None

    def digests(self, outputs: str = "own") -> dict[str, str]:
        folder = self.folder
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        write_table(table, folder / "list.tsv")
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in self.classes))
        counts = ["3" if name in self.frames else "0" for name in table["id"]]
        write_table(table[["id"]].assign(frames=counts), folder / "ledger.tsv")
        lines = [f"{name}\t{digest}" for name, digest in self.frames.items()]
        for number, part in enumerate((lines[:2], lines[2:])):
            (folder / f"{number}.sha256").write_text("\n".join([f"shard{number}", *part, ""]))
        official = None
        if self.official is not None:
            official = folder / "official.json"
            official.write_text(json.dumps({"database": self.official}))
        files = {part: folder / f"{outputs}.{part}" for part in PARTS}
        write_part_digests(
            folder / "list.tsv",
            folder / "labels.txt",
            folder / "ledger.tsv",
            [folder / "0.sha256", folder / "1.sha256"],
            files,
            official=official,
        )
        return {part: file.read_text() for part, file in files.items()}


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return Split(tmp_path)


def changed(split: Split, before: dict[str, str]) -> set[str]:
    return {part for part, digest in split.digests().items() if digest != before[part]}


TRAINED = {"trainval", "train"}


@pytest.mark.parametrize(
    ("row", "column", "value", "parts"),
    [
        (3, "path", "e.mp4", {"test"}),
        (3, "label", "run", {"test"}),
        (2, "label", "walk", {"trainval", "val"}),
        (0, "label", "walk", TRAINED),
        (1, "end", "3", TRAINED),
        (0, "path", "run/z.mp4", TRAINED),
        (0, "key", "run/z", set()),
        (4, "label", "walk", set()),
    ],
)
def test_what_the_list_says(
    split: Split, row: int, column: str, value: str, parts: set[str]
) -> None:
    before = split.digests()
    split.rows[row][COLUMNS.index(column)] = value
    assert changed(split, before) == parts


def test_a_video_of_another_subset(split: Split) -> None:
    before = split.digests()
    split.rows[0][COLUMNS.index("subset")] = "validation"
    assert changed(split, before) == {"trainval", "train", "val"}


def test_new_videos(split: Split) -> None:
    before = split.digests()
    split.rows.append(["f", "", "testing", "test/f", "f.mp4", "", ""])
    assert changed(split, before) == set(), "it has no frames"
    split.frames["f"] = "f1"
    assert changed(split, before) == {"test"}
    split.frames["e"] = "e1"
    assert changed(split, before) == {"test", *TRAINED}


def test_a_training_video_that_another_name_is_found_for(split: Split) -> None:
    """Its scores stand under its id, so where it is applied to, that counts."""
    before = split.digests()
    split.rows[0][0] = "run_a"
    split.frames["run_a"] = split.frames.pop("a")
    assert changed(split, before) == {"train"}


@pytest.mark.parametrize(
    ("video", "parts"),
    [("a", TRAINED), ("c", {"trainval", "val"}), ("d", {"test"})],
)
def test_other_frames(split: Split, video: str, parts: set[str]) -> None:
    before = split.digests()
    split.frames[video] += "x"
    assert changed(split, before) == parts


def test_other_classes_change_all(split: Split) -> None:
    before = split.digests()
    split.classes.reverse()
    assert changed(split, before) == set(PARTS)


def test_the_order_of_training_videos_counts(split: Split) -> None:
    before = split.digests()
    split.rows[0], split.rows[1] = split.rows[1], split.rows[0]
    assert changed(split, before) == TRAINED


def test_segments_of_activitynet(split: Split) -> None:
    split.official = {name: {"annotations": [{"segment": [0, 1]}]} for name in "abcde"}
    before = split.digests()
    split.official["c"]["annotations"][0]["segment"] = [0, 2]
    assert changed(split, before) == {"trainval", "val"}


def test_digests_of_shards_as_an_earlier_version_wrote_them(split: Split) -> None:
    """They say nothing of single videos: then all frames count for each."""
    files = [split.folder / f"{number}.sha256" for number in (0, 1)]

    def of_shards(*shards: str) -> dict[str, str]:
        split.digests()
        for file, shard in zip(files, shards, strict=True):
            file.write_text(f"{shard}\n")
        outputs = {part: split.folder / part for part in PARTS}
        tables = [split.folder / name for name in ("list.tsv", "labels.txt", "ledger.tsv")]
        write_part_digests(*tables, files, outputs)
        return {part: file.read_text() for part, file in outputs.items()}

    before = of_shards("one", "two")
    assert of_shards("one", "two") == before
    assert all(digest != before[part] for part, digest in of_shards("one", "three").items())


def test_a_merged_annotation_changes_with_its_parts(split: Split) -> None:
    def merged() -> dict[str, str]:
        sources = {
            name: {part: split.folder / f"{name}.{part}" for part in PARTS}
            for name in ("own", "other")
        }
        outputs = {part: split.folder / f"merged.{part}" for part in PARTS}
        merge_part_digests(sources, outputs)
        return {part: file.read_text() for part, file in outputs.items()}

    split.digests("own")
    split.digests("other")
    before = merged()
    split.rows[3][COLUMNS.index("path")] = "z.mp4"
    split.digests("other")
    assert {part for part, digest in merged().items() if digest != before[part]} == {"test"}
