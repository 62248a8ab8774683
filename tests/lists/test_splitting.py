"""Dividing lists that come undivided into training and validation."""

import random
from collections import Counter
from pathlib import Path

import pytest
from listfiles import refusal, write

from r3d.lists import SplitOptions, read_list


def split(folder: Path, rows: list[tuple[str, str]], **options: object) -> dict[str, str]:
    """The subset of each path."""
    text = "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    file = write(folder, {"list.csv": text}) / "list.csv"
    videos = read_list("csv", file, "all", SplitOptions(**options)).videos  # type: ignore[arg-type]
    return dict(zip(videos["path"], videos["subset"], strict=True))


def test_split_is_stratified_and_depends_on_nothing_but_seed_and_videos(tmp_path: Path) -> None:
    sizes = {"a": 200, "b": 55, "c": 10, "d": 3, "e": 2, "f": 1}
    rows = [(f"{label}/{label}{i}.mp4", label) for label, n in sizes.items() for i in range(n)]
    first = split(tmp_path, rows)
    held_out = Counter(path[0] for path, subset in first.items() if subset == "validation")
    assert held_out == {"a": 40, "b": 11, "c": 2, "d": 1, "e": 1}
    assert split(tmp_path, random.Random(1).sample(rows, len(rows))) == first
    assert split(tmp_path, rows, split_seed=2) != first
    # Drawn once; it may not change from machine to machine or version to version.
    small = [path for path in first if path[0] in "cde" and first[path] == "validation"]
    assert small == ["c/c3.mp4", "c/c4.mp4", "d/d1.mp4", "e/e1.mp4"]


def test_split_keeps_groups_together(tmp_path: Path) -> None:
    generator = random.Random(0)
    rows = [
        (f"{label}/v_{label}_g{group:02d}_c{clip}.avi", label)
        for label in ("Run", "Walk", "Sit")
        for group in range(25)
        for clip in range(generator.randint(1, 7))
    ]
    subsets = split(tmp_path, rows, group_pattern=r"_g(\d+)_", validation_fraction=0.3)
    sides: dict[str, set[str]] = {}
    for path, subset in subsets.items():
        sides.setdefault(path.split("_g")[1][:2], set()).add(subset)
    assert all(len(side) == 1 for side in sides.values())
    for label in ("Run", "Walk", "Sit"):
        own = [subset for path, subset in subsets.items() if path.startswith(label)]
        assert 0.2 < own.count("validation") / len(own) < 0.4


def test_split_keeps_segments_of_a_file_together(tmp_path: Path) -> None:
    rows = "".join(
        f"{name}.mp4,x,{second},{second + 1}\n" for name in "abcdef" for second in range(4)
    )
    write(tmp_path, {"list.csv": "path,label,start,end\n" + rows})
    videos = read_list("csv", tmp_path, "all").videos
    assert videos["id"].is_unique
    assert (videos.groupby("path")["subset"].nunique() == 1).all()
    assert set(videos["subset"]) == {"training", "validation"}


@pytest.mark.parametrize("seed", range(5))
def test_split_never_takes_all_of_a_class(tmp_path: Path, seed: int) -> None:
    # Groups of very different sizes, of one class and of several.
    generator = random.Random(seed)
    rows = []
    for group in range(12):
        labels = generator.sample("uvwxyz", generator.randint(1, 3))
        for i in range(generator.choice([1, 2, 40])):
            label = generator.choice(labels)
            rows.append((f"g{group}_{label}{i}.mp4", label))
    subsets = split(
        tmp_path, rows, group_pattern=r"^g\d+", split_seed=seed, validation_fraction=0.5
    )
    for label in {label for _, label in rows}:
        own = {path: subsets[path] for path, of in rows if of == label}
        if len({path.partition("_")[0] for path in own}) > 1:
            assert "training" in own.values()


def test_split_holds_out_something_of_every_class_of_two_groups(tmp_path: Path) -> None:
    rows = [(f"{label}{group}_{i}", label) for label in "ab" for group in "xy" for i in range(9)]
    subsets = split(tmp_path, rows, group_pattern=r"^..", validation_fraction=0.1)
    assert Counter((path[0], subset) for path, subset in subsets.items()) == {
        (label, subset): 9 for label in "ab" for subset in ("training", "validation")
    }


def test_bad_split_options(tmp_path: Path) -> None:
    assert "1.0" in refusal(lambda: SplitOptions(validation_fraction=1.0))
    assert "'('" in refusal(lambda: SplitOptions(group_pattern="("))
    message = refusal(lambda: split(tmp_path, [("a", "x"), ("b_g1_", "x")], group_pattern="_g"))
    assert "'_g'" in message
    assert "'a'" in message
    assert set(split(tmp_path, [("a", "x")], validation_fraction=0).values()) == {"training"}
