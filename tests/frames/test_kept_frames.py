"""Frames that are there already: kept, adopted, mended or made anew."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shardbench import Bench, make_like_the_reference, rewrite_record
from storing import LAYOUTS

from r3d.errors import InputError
from r3d.frames.extract import FrameOptions
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import FileType
from r3d.frames.stores import open_store


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_run_only_reads(
    bench: Bench, clips: Path, layout: FileType, no_ffmpeg: Callable[[], None]
) -> None:
    for name in ("a", "b"):
        bench.add_video(name, clips / "clip.mp4")
    options = FrameOptions(file_type=layout)
    first = bench.run(options)
    manifest, contents = bench.manifest.read_bytes(), bench.contents()
    no_ffmpeg()
    assert bench.run(options).equals(first)
    assert bench.manifest.read_bytes() == manifest
    assert bench.contents() == contents


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_changed_video_is_extracted_anew(bench: Bench, clips: Path, layout: FileType) -> None:
    bench.add_video("a", clips / "long.mp4")
    bench.add_video("b", clips / "clip.mp4")
    options = FrameOptions(file_type=layout, short_side=0)
    assert bench.run(options)["frames"].tolist() == ["300", "20"]
    before = bench.contents()
    shutil.copy(clips / "clip.mp4", bench.videos / "a.mp4")
    assert bench.run(options)["frames"].tolist() == ["20", "20"]
    after = bench.contents()
    if layout == "jpg":
        assert len(list((bench.frames / "a b/a").glob("image_*.jpg"))) == 20
    unchanged = [name for name in after if name.startswith("a b/b")]
    assert all(before[name] == after[name] for name in unchanged)


def test_changed_options_extract_anew(bench: Bench, clips: Path) -> None:
    bench.add_video("a", clips / "clip.mp4")
    assert bench.run(FrameOptions(short_side=24)).loc["a", "width"] == "32"
    assert bench.run(FrameOptions(short_side=12)).loc["a", "width"] == "16"
    # How long it may take is not what the frames are made from.
    before = bench.contents()
    bench.run(FrameOptions(short_side=12, timeout_seconds=99))
    assert bench.contents() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_are_kept_when_the_video_is_gone(
    bench: Bench, clips: Path, layout: FileType
) -> None:
    video = bench.add_video("a", clips / "clip.mp4")
    options = FrameOptions(file_type=layout, short_side=24)
    first = bench.run(options)
    video.unlink()
    assert bench.run(options).equals(first)
    other = bench.run(FrameOptions(file_type=layout, short_side=12)).loc["a"]
    assert tuple(other[["status", "frames", "width"]]) == ("ok", "20", "32")
    assert other["reason"] == "made with other options, and cannot be made anew: no file a.mp4"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keep", [True, False])
def test_frames_of_the_reference_are_adopted(
    bench: Bench, clips: Path, no_ffmpeg: Callable[[], None], layout: FileType, keep: bool
) -> None:
    video = bench.add_video("a", clips / "clip.avi")
    make_like_the_reference(bench, "a", layout)
    no_ffmpeg()
    if not keep:
        video.unlink()
    for _ in range(2):
        row = bench.run(FrameOptions(file_type=layout, short_side=48)).loc["a"]
        assert tuple(row[["status", "reason", "frames"]]) == ("ok", "", "20")
        assert row["fps"] == ("10" if keep else "")  # nothing says it without the video


@pytest.mark.parametrize(
    "options", [("-vf", "scale=-1:24"), ("-frames:v", "9"), ("-r", "25")], ids=["size", "n", "fps"]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_that_do_not_fit_are_made_anew(
    bench: Bench, clips: Path, layout: FileType, options: tuple[str, ...]
) -> None:
    bench.add_video("a", clips / "clip.avi")
    make_like_the_reference(bench, "a", layout, *options)
    row = bench.run(FrameOptions(file_type=layout, short_side=48)).loc["a"]
    assert tuple(row[["status", "frames", "width"]]) == ("ok", "20", "64")


def test_a_gap_in_the_frames_is_mended_or_named(bench: Bench, clips: Path) -> None:
    for name in ("a", "b"):
        bench.add_video(name, clips / "clip.avi")
        make_like_the_reference(bench, name, "jpg")
        (bench.frames / f"a b/{name}/image_00007.jpg").unlink()
    (bench.videos / "b.avi").unlink()
    table = bench.run()
    assert tuple(table.loc["a", ["status", "frames"]]) == ("ok", "20")
    assert tuple(table.loc["b", ["status", "reason", "frames"]]) == (
        *("corrupt", "image_00007.jpg is missing; the video: no file b.avi", "0"),
    )


@pytest.fixture(scope="session")
def hd_clip(clips: Path) -> Path:
    """A clip that states the colours of BT.709."""
    path = clips / "hd.mp4"
    command = [ffmpeg_binary(), "-loglevel", "error", "-i", str(clips / "clip.mp4")]
    command += ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", str(path)]
    subprocess.run(command, check=True)
    return path


def test_the_store_says_whose_colours_it_has(bench: Bench, clips: Path, hd_clip: Path) -> None:
    bench.add_video("hd", hd_clip)
    bench.add_video("sd", clips / "clip.mp4")
    bench.run()
    store = open_store(bench.frames, "jpg")
    made = [record.made_from for record in map(store.record, ("a b/hd", "a b/sd")) if record]
    assert [each and each["colour"] for each in made] == ["converted", "same"]
    before = bench.contents()
    bench.run(FrameOptions(short_side=0, colour="as_reference"))
    after = bench.contents()
    changed = {name.rpartition("/")[0] for name in before if before[name] != after[name]}
    assert changed == {"a b/hd"}  # the other one is the same either way


def test_frames_of_before_the_choice_of_colours_are_kept(
    bench: Bench, hd_clip: Path, no_ffmpeg: Callable[[], None]
) -> None:
    bench.add_video("hd", hd_clip)
    bench.run(FrameOptions(short_side=0, colour="as_reference"))
    made_from = rewrite_record(bench, "hd")["made_from"]
    rewrite_record(bench, "hd", made_from={k: v for k, v in made_from.items() if k != "colour"})
    no_ffmpeg()
    for colour in ("converted", "as_reference"):
        row = bench.run(FrameOptions(short_side=0, colour=colour)).loc["hd"]
        assert tuple(row[["status", "reason", "frames"]]) == ("ok", "", "20")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_frames_are_made_again(bench: Bench, clips: Path, layout: FileType) -> None:
    """Those that a reader has met, and with `verify` those that nobody has."""
    for name in ("met", "unseen", "whole"):
        bench.add_video(name, clips / "clip.mp4")
    options = FrameOptions(file_type=layout, short_side=0)
    table = bench.run(options)
    contents = bench.contents()
    store = open_store(bench.frames, layout)
    for name in ("met", "unseen"):
        path = store.path(f"a b/{name}")
        before = store.read(f"a b/{name}", [7])[0]
        if layout == "jpg":
            path /= "image_00007.jpg"
        data = path.read_bytes()
        at = data.index(before) + 50
        path.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
        os.utime(path, ns=(10**18, 10**18))
    if layout == "jpg":  # those who read these find it when they decode
        store.damaged(store.path("a b/met"), "frame 7 does not decode")
    else:
        with pytest.raises(InputError, match="frame 7 is damaged"):
            store.read("a b/met", [7])
    whole = store.path("a b/whole").stat().st_mtime_ns
    assert bench.run(options).equals(table)
    after = bench.contents()
    assert after.keys() == contents.keys()
    assert {name for name in after if after[name] != contents[name]} == {
        name for name in contents if "unseen" in name and ("00007" in name or layout == "hdf5")
    } - {"a b/unseen.hdf5 record"}
    assert bench.run(options, verify=True).equals(table)
    assert bench.contents() == contents
    assert store.path("a b/whole").stat().st_mtime_ns == whole


def test_damaged_frames_of_a_video_that_is_gone_are_a_row(bench: Bench, clips: Path) -> None:
    bench.add_video("a", clips / "clip.mp4")
    bench.run()
    (bench.videos / "a.mp4").unlink()
    (bench.frames / "a b/a/image_00003.jpg").unlink()
    assert tuple(bench.run().loc["a", ["status", "reason", "frames"]]) == (
        *("corrupt", "image_00003.jpg is missing; the video: no file a.mp4", "0"),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_complete_frames_are_used_where_nothing_can_be_written(
    bench: Bench, clips: Path, layout: FileType
) -> None:
    """A file in the place of the partial folder stands in for a disk that is read-only."""
    bench.add_video("a", clips / "clip.mp4")
    options = FrameOptions(file_type=layout, short_side=0)
    table = bench.run(options)
    (bench.frames / ".partial").rmdir()
    (bench.frames / ".partial").write_text("in the way")
    assert bench.run(options).equals(table)
    bench.add_video("b", clips / "clip.mp4")
    with pytest.raises(InputError, match="frames cannot be written to"):
        bench.run(options)


def test_the_command_verifies_when_told(bench: Bench, clips: Path) -> None:
    bench.add_video("a", clips / "clip.mp4")
    bench.run()
    frame = bench.frames / "a b/a/image_00007.jpg"
    before = frame.read_bytes()
    frame.write_bytes(before[::-1])
    os.utime(frame, ns=(10**18, 10**18))
    places = (bench.write_shard(), bench.videos, bench.frames, bench.manifest)
    command = [sys.executable, "-m", "r3d", "frames", *map(str, places), "--short_side", "0"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert frame.read_bytes() != before
    subprocess.run([*command, "--verify"], check=True, stderr=subprocess.DEVNULL)
    assert frame.read_bytes() == before
