"""Shards: every video once, in the same place whatever happens to the others."""

from pathlib import Path

import pandas as pd
import pytest

from r3d.errors import InputError
from r3d.frames.shards import SHARD_COLUMNS, shard_name, write_shards
from r3d.lists import COLUMNS, VideoList, read_list, save_list


def save(table: Path, rows: list[dict[str, str]]) -> Path:
    columns = {name: [row.get(name, "") for row in rows] for name in COLUMNS}
    save_list(VideoList([], pd.DataFrame(columns)), table, table.with_suffix(".txt"))
    return table


def video(name: str, label: str = "run", subset: str = "training") -> dict[str, str]:
    path = f"{label}/{name}.mp4"
    return {
        "id": name,
        "label": label,
        "subset": subset,
        "key": f"{label}/{name}",
        "path": path,
    }


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("shard", "n_shards", "name"),
    [(0, 1, "000"), (7, 256, "007"), (999, 1000, "999"), (0, 1001, "0000"), (1000, 1001, "1000")],
)
def test_shard_names(shard: int, n_shards: int, name: str) -> None:
    assert shard_name(shard, n_shards) == name


def test_shards_of_three_official_splits(shared: Path, tmp_path: Path) -> None:
    tables = []
    for split in ("01", "02", "03"):
        tables.append(tmp_path / f"{split}.tsv")
        video_list = read_list("ucf101", shared / "data/lists/ucf101", split)
        save_list(video_list, tables[-1], tmp_path / "labels.txt")
    paths = write_shards(tables, tmp_path / "shards", 8)
    assert [path.name for path in paths] == [f"00{i}.tsv" for i in range(8)]
    shards = [read(path) for path in paths]
    assert sum(len(shard) for shard in shards) == 13320
    assert all(abs(len(shard) - 13320 / 8) < 0.1 * 13320 / 8 for shard in shards)
    ids = pd.concat(shards)["id"]
    assert ids.is_unique
    assert all(shard["id"].is_monotonic_increasing for shard in shards)
    assert tuple(shards[0].columns) == SHARD_COLUMNS


def test_a_new_video_changes_its_own_shard_only(tmp_path: Path) -> None:
    rows = [video(f"v{i}") for i in range(50)]
    old = write_shards([save(tmp_path / "a.tsv", rows)], tmp_path / "old", 16)
    assert any(len(read(path)) == 0 for path in old)  # empty shards are files too
    moved = [{**row, "subset": "validation"} for row in reversed(rows)]
    new = write_shards([save(tmp_path / "b.tsv", [video("new"), *moved])], tmp_path / "new", 16)
    changed = [i for i in range(16) if old[i].read_bytes() != new[i].read_bytes()]
    assert len(changed) == 1
    assert set(read(new[changed[0]])["id"]) - set(read(old[changed[0]])["id"]) == {"new"}


def test_a_video_never_changes_its_shard(tmp_path: Path) -> None:
    # The assignment is drawn once; another would extract everything again.
    paths = write_shards([save(tmp_path / "a.tsv", [video(n) for n in "abcdef"])], tmp_path, 4)
    assert [read(path)["id"].tolist() for path in paths] == [
        [],
        ["b"],
        [],
        ["a", "c", "d", "e", "f"],
    ]


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ([video("a")], [video("a", "walk")], ["'a'", "label 'walk'", "'run'", "b.tsv", "a.tsv"]),
        ([video("a")], [{**video("a"), "path": "x"}], ["'a'", "path 'x'", "'run/a.mp4'"]),
        ([video("a")], [{**video("a"), "start": "1"}], ["'a'", "start '1'", "''"]),
        ([video("a")], [video("A", "walk")], ["'a'", "'A'", "only by case", "walk/A.mp4"]),
        ([video("a")], [{**video("b"), "key": "run/a"}], ["'a'", "'b'", "share their frames"]),
    ],
)
def test_conflicts(
    tmp_path: Path, first: list[dict[str, str]], second: list[dict[str, str]], parts: list[str]
) -> None:
    tables = [save(tmp_path / "a.tsv", first), save(tmp_path / "b.tsv", second)]
    with pytest.raises(InputError) as caught:
        write_shards(tables, tmp_path / "shards", 4)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message
    assert not (tmp_path / "shards").exists()


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 shards: accepted is 1 or more"):
        write_shards([save(tmp_path / "a.tsv", [video("a")])], tmp_path, 0)
