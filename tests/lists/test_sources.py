"""What a video was cut from, by its name."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from r3d.lists import read_list
from r3d.lists.sources import recordings, shared_sources, sources_of


def sources(*paths: str, **options: Any) -> pd.DataFrame:
    videos = pd.DataFrame({"id": paths, "path": paths})
    return sources_of(videos, **options)


@pytest.mark.parametrize(
    ("path", "youtube", "group"),
    [
        ("abseiling/-a_B4567890_000012_000022", "-a_B4567890", ""),
        ("abseiling/-a_B4567890_000012_000022.mp4", "-a_B4567890", ""),
        ("v_-a_B4567890.mkv", "-a_B4567890", ""),
        ("Some title [-a_B4567890].webm", "-a_B4567890", ""),
        ("clapping/yt--a_B4567890_17.mp4", "-a_B4567890", ""),
        ("clapping/vimeo-31_7.mp4", "", "vimeo-31"),
        ("YoYo/v_YoYo_g07_c03.avi", "", "v_YoYo_g07"),
        ("Run/v_Run_g07_c03.avi", "", "v_Run_g07"),  # as long as an id of YouTube
        ("wave/A_b_wave_u_cm_np1_fr_goo_12.avi", "", "A_b_wave"),
        ("wave/A_c_wave_u_cm_np1_fr_goo_12.avi", "", "A_c_wave"),
        ("a/brush_teeth_1_2.mp4", "", ""),
        ("a/001.mp4", "", ""),
    ],
)
def test_names_of_the_data_sets(path: str, youtube: str, group: str) -> None:
    (row,) = sources(path).itertuples()
    assert (row.youtube, row.group) == (youtube, group)


def test_a_pattern_of_ones_own_says_the_group() -> None:
    found = sources("cam1/a_s01.mp4", "cam2/b_s01.mp4", "c.mp4", group_pattern=r"_s(\d+)")
    assert found["group"].iloc[0] == found["group"].iloc[1] != ""
    assert found["group"].iloc[2] == ""
    whole = sources("a_s01.mp4", "b_s01.mp4", group_pattern=r"[ab]_s\d+")
    assert whole["group"].nunique() == 2


def test_a_file_is_the_same_with_and_without_extension() -> None:
    one, other = sources("a/1.mp4"), sources("a/1")
    assert one["file"].tolist() == other["file"].tolist()
    assert sources("a/1", folder="elsewhere")["file"].tolist() != other["file"].tolist()


def test_a_video_is_given_once_under_the_first_kind_that_it_shares() -> None:
    training = sources("x/ABCDEFGHIJK_000001_000011.mp4", "v_Run_g01_c01.avi")
    held_out = sources(
        "x/ABCDEFGHIJK_000001_000011.mp4", "y/ABCDEFGHIJK_000031_000041", "v_Run_g01_c02", "z.mp4"
    )
    assert recordings(held_out).tolist() == ["ABCDEFGHIJK", "ABCDEFGHIJK", "v_Run_g01", ""]
    found = {kind: list(shared.index) for kind, shared in shared_sources(training, held_out)}
    assert found == {
        "file": ["x/ABCDEFGHIJK_000001_000011.mp4"],
        "youtube": ["y/ABCDEFGHIJK_000031_000041"],
        "group": ["v_Run_g01_c02"],
    }


@pytest.mark.parametrize(
    ("name", "split", "n_shared"),
    [("ucf101", "01", 0), ("ucf101", "02", 0), ("hmdb51", "1", 0), ("hmdb51", "3", 0)],
)
def test_official_lists_keep_groups_apart(
    shared: Path, name: str, split: str, n_shared: int
) -> None:
    folder = shared / "data/lists" / name
    videos = read_list(name, folder, split).videos
    found = sources_of(videos)
    assert (found["group"] != "").all()
    training, rest = (found[(videos["subset"] == s).to_numpy()] for s in ("training", "validation"))
    assert sum(len(each) for _, each in shared_sources(training, rest)) == n_shared
    # Were they not, it would be seen.
    mixed = pd.concat([training, rest.iloc[:1]])
    assert next(len(each) for _, each in shared_sources(mixed, rest)) == 1
