"""Cross-validation: how videos are divided into folds, and what cannot be."""

import random
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from listfiles import refusal, write

from r3d.lists import Fold, SplitOptions, all_folds, fold_of, read_list

Rows = list[tuple[str, ...]]


def folds_of(folder: Path, rows: Rows, k: int, **options: object) -> dict[str, int]:
    """The fold of each path, checked to be the validation set of that one alone."""
    header = ("path", "label", "subset", "start", "end")[: len(rows[0])]
    text = "".join(",".join(row) + "\n" for row in [header, *rows])
    file = write(folder, {"list.csv": text}) / "list.csv"
    found: dict[str, int] = {}
    for fold in all_folds(k):
        split = SplitOptions(**options)  # type: ignore[arg-type]
        videos = read_list("csv", file, "all", split, fold=fold).videos
        videos = videos[videos["subset"] != "testing"]
        inside = videos.loc[videos["subset"] == "validation", "path"].unique()
        assert not set(inside) & found.keys()
        found |= dict.fromkeys(inside, fold.number)
        assert set(videos["path"]) - set(inside) == set(
            videos.loc[videos["subset"] == "training", "path"]
        )
    assert set(found) == set(videos["path"])
    return found


def test_classes_are_divided_evenly_whatever_the_order(tmp_path: Path) -> None:
    sizes = {"a": 52, "b": 23, "c": 10, "d": 5}
    rows = [(f"{label}/{label}{i}.mp4", label) for label, n in sizes.items() for i in range(n)]
    found = folds_of(tmp_path, rows, 5)
    for label, n in sizes.items():
        counts = Counter(fold for path, fold in found.items() if path[0] == label)
        assert set(counts.values()) <= {n // 5, -(-n // 5)}
        assert len(counts) == 5
    assert folds_of(tmp_path, random.Random(1).sample(rows, len(rows)), 5) == found
    assert folds_of(tmp_path, rows, 5, split_seed=2) != found
    # They may not change from machine to machine or version to version.
    assert [found[f"d/d{i}.mp4"] for i in range(5)] == [2, 1, 4, 5, 3]


@pytest.mark.parametrize("sizes", [(10, 1, 1, 1, 1), (6, 6, 1, 1, 1, 1), (9, 3, 3, 2, 1, 1, 1)])
def test_no_fold_is_without_a_class_of_enough_groups(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    rows = [
        (f"{label}/{label}film{film}_{clip}.mp4", label)
        for label in ("rare", "b")
        for film, n in enumerate(sizes if label == "rare" else [3] * 12)
        for clip in range(n)
    ]
    for seed in range(8):
        for some in (rows, [row for row in rows if row[1] == "rare"]):
            found = folds_of(tmp_path, some, 5, split_seed=seed, group_pattern=r"(\w+film\d+)_")
            assert {fold for path, fold in found.items() if path.startswith("rare")} == {
                *range(1, 6)
            }


def test_another_video_moves_few_others(tmp_path: Path) -> None:
    rows = [(f"{label}/{label}{i}.mp4", label) for label in "abc" for i in range(40)]
    before = folds_of(tmp_path, rows, 5)
    for label in "abc":
        after = folds_of(tmp_path, [*rows, (f"{label}/new.mp4", label)], 5)
        moved = {path for path, fold in before.items() if after[path] != fold}
        assert len(moved) <= 4
        assert all(path.startswith(label) for path in moved)


def test_groups_stay_together(tmp_path: Path) -> None:
    generator = random.Random(0)
    rows = [
        (f"{label}/film{film:02d}_{clip}.avi", label)
        for film in range(20)
        for label in generator.sample(["run", "walk", "sit"], 2)
        for clip in range(generator.randint(1, 5))
    ]
    found = folds_of(tmp_path, rows, 4, group_pattern=r"(film\d+)_")
    sides: dict[str, set[int]] = {}
    for path, fold in found.items():
        sides.setdefault(path.split("/")[1][:6], set()).add(fold)
    assert all(len(side) == 1 for side in sides.values())
    for label in ("run", "walk", "sit"):
        counts = Counter(fold for path, fold in found.items() if path.startswith(label))
        assert max(counts.values()) < 1.5 * sum(counts.values()) / 4
        assert len(counts) == 4


def test_without_a_pattern_names_tell_recordings_and_segments_their_file(tmp_path: Path) -> None:
    rows = [
        (f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi", label)
        for label in ("Run", "Sit")
        for group in range(6)
        for clip in range(3)
    ]
    found = folds_of(tmp_path, rows, 3)
    assert len({(path.rpartition("_c")[0], fold) for path, fold in found.items()}) == 12
    segments = [(f"{n}.mp4", "x", "", str(s), str(s + 1)) for n in "abcdef" for s in range(4)]
    segments = [(path, label, "training", *rest) for path, label, _, *rest in segments]
    assert set(Counter(folds_of(tmp_path, segments, 3).values()).values()) == {2}


def test_subsets_of_the_list_are_pooled_but_for_testing(tmp_path: Path) -> None:
    subsets = ["training", "validation", "testing"]
    rows = [(f"{label}{i}.mp4", label, subsets[i % 3]) for label in "ab" for i in range(18)]
    assert len(folds_of(tmp_path, rows, 2)) == 24
    videos = read_list("csv", tmp_path, "all", fold=Fold(1, 2)).videos
    own = read_list("csv", tmp_path, "all").videos
    assert videos["subset"].eq("testing").tolist() == own["subset"].eq("testing").tolist()
    pd.testing.assert_frame_equal(videos.drop(columns="subset"), own.drop(columns="subset"))


def test_official_lists_are_divided_by_their_groups(tmp_path: Path) -> None:
    clips = [f"Run/v_Run_g{group:02d}_c{clip:02d}.avi" for group in (1, 2, 3) for clip in (1, 2)]
    write(
        tmp_path,
        {
            "classInd.txt": "1 Run\n",
            "trainlist01.txt": "".join(f"{clip} 1\n" for clip in clips[:4]),
            "testlist01.txt": "".join(f"{clip}\n" for clip in clips[4:]),
        },
    )
    held_out = [
        read_list("ucf101", tmp_path, "01", fold=fold).videos.query("subset == 'validation'")
        for fold in all_folds(3)
    ]
    assert sorted(part["id"].str[:9].unique().tolist() for part in held_out) == [
        ["v_Run_g01"],
        ["v_Run_g02"],
        ["v_Run_g03"],
    ]


@pytest.mark.parametrize(("n_rare", "works"), [(3, 3), (2, 2), (1, None)])
def test_rare_classes_are_refused_with_what_works(
    tmp_path: Path, n_rare: int, works: int | None
) -> None:
    rows: Rows = [(f"a{i}.mp4", "a") for i in range(9)]
    rows += [(f"b{i}.mp4", "b") for i in range(n_rare)]
    message = refusal(lambda: folds_of(tmp_path, rows, 5))
    assert "folds: 5" in message
    assert f"class 'b' has them in {n_rare}" in message
    stated = re.search(r"set folds to (\d)", message)
    assert (stated and int(stated[1])) == works
    if stated:
        folds_of(tmp_path, rows, int(stated[1]))
    else:
        folds_of(tmp_path, [row for row in rows if row[1] != "b"], 5)  # out of the list, as it says


def test_groups_of_many_classes_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    # Two films of all classes and one of one class: three folds need that one alone.
    rows = [(f"film{film}_{label}.mp4", label) for film in (1, 2) for label in "ab"]
    message = refusal(lambda: folds_of(tmp_path, rows, 3, group_pattern=r"(film\d)"))
    assert "set folds to 2," in message
    found = folds_of(tmp_path, rows, 2, group_pattern=r"(film\d)")
    assert Counter(found.values()) == {1: 2, 2: 2}
    assert "group_pattern" in refusal(lambda: folds_of(tmp_path, rows, 2, group_pattern="clip"))


def test_names_of_folds() -> None:
    assert [fold.name for fold in all_folds(3)] == ["fold1of3", "fold2of3", "fold3of3"]
    assert fold_of("fold2of3") == Fold(2, 3)
    assert fold_of("01") is fold_of("all") is fold_of("fold0of3") is fold_of("fold7of5") is None
