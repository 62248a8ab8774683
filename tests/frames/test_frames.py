"""Extraction of a shard: every video a row, nothing half done, nothing done twice."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from pathlib import Path

import pytest
from shardbench import Bench, make_like_the_reference, rewrite_record
from storing import LAYOUTS

from r3d.errors import InputError
from r3d.frames import decoding
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import open_store

ODD_NAMES = [
    *("v_%05d_100%", "two  spaces ", 'it\'s "quoted"', "#hash;$(x)&~@!+[1](2)", "-dash", "é😀"),
    *("back\\slash", "a:b", "file", "null"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_clips(shared: Path, tmp_path: Path, layout: FileType) -> None:
    bench = Bench(tmp_path)
    bench.videos = shared / "data/videos"
    expected = {
        "ucf101_clip.avi": ("ok", 165, "25", 320, 240),  # as ffmpeg counts it; 164 are stated
        "kinetics_clip.mp4": ("ok", 280, "28", 319, 240),
        "kinetics_no_duration.mkv": ("ok", 310, "30", 426, 240),
        "nasa_320x180.mp4": ("ok", 390, "29.97002997", 427, 240),  # the larger of two
        "rotated_90.mov": ("ok", 3, "30", 240, 426),
        "corrupted.mp4": ("truncated", 50, "10", 427, 240),
    }
    for name in expected:
        bench.add(name, name)
    table = bench.run(FrameOptions(file_type=layout))
    store = open_store(bench.frames, layout)
    for name, (status, frames, fps, width, height) in expected.items():
        row = table.loc[name]
        assert tuple(row[["status", "frames", "fps", "width", "height"]]) == (
            *(status, str(frames), fps, str(width), str(height)),
        )
        first = {"jpg": 1, "hdf5": 0}[layout]
        assert len(store.read(f"a b/{name}", range(first, first + frames))) == frames
    assert table.loc["corrupted.mp4", "reason"].startswith("50 of 50 frames: [")


def test_every_bad_video_is_a_row_with_its_reason(bench: Bench, clips: Path) -> None:
    bench.add_video("good", clips / "clip.mp4")
    bench.add("gone", "gone.avi")
    bench.add("gone_too", "folder/gone")
    bench.add("below_a_file", "good.mp4/clip.mp4")
    (bench.videos / "folder.mp4").mkdir()
    bench.add("folder", "folder.mp4")
    (bench.videos / "bytes.mp4").touch()
    bench.add("bytes", "bytes.mp4")
    (bench.videos / "text.mp4").write_text("<html>\tnot found</html>\n" * 99)
    bench.add("text", "text.mp4")
    bench.add_video("sound", clips / "sound.mp4")
    cut = bench.add_video("cut", clips / "clip.avi")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    headless = bench.add_video("headless", clips / "clip.mp4")
    headless.write_bytes(headless.read_bytes()[: headless.stat().st_size // 2])
    bench.add("late", "good.mp4", "7", "9.5")
    bench.add("long_name", "x" * 300)
    table = bench.run()
    assert table["status"].to_dict() == {
        "good": "ok",
        "gone": "missing",
        "gone_too": "missing",
        "below_a_file": "missing",
        "folder": "missing",
        "bytes": "empty",
        "text": "corrupt",
        "sound": "empty",
        "cut": "truncated",
        "headless": "corrupt",
        "late": "empty",
        "long_name": "corrupt",
    }
    assert table["reason"].to_dict() == {
        "good": "",
        "gone": "no file gone.avi",
        "gone_too": "no file folder/gone, nor with a usual extension",
        "below_a_file": "no file good.mp4/clip.mp4",
        "folder": "no file folder.mp4",
        "bytes": "the file has no bytes",
        "text": "cannot be opened: it is a text that begins with "
        "'<html> not found</html> <html> not found'",
        "sound": "no video stream",
        "cut": table.loc["cut", "reason"],
        "headless": "cannot be opened: its index (moov) is lacking, as in a file that was cut; "
        "fetch it again",
        "late": "no frame from 7 s to 9.5 s",
        "long_name": "cannot be read: File name too long",
    }
    frames = int(table.loc["cut", "frames"])
    assert 5 < frames < 20
    assert table.loc["cut", "reason"].startswith(f"{frames} of 20 frames")
    used = table["status"].isin(["ok", "truncated"])
    assert (table["frames"][~used] == "0").all()
    assert (table[["fps", "width", "height"]][~used] == "").all(axis=None)
    assert sorted(path.name for path in (bench.frames / "a b").iterdir()) == ["cut", "good"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name(tmp_path: Path, clips: Path, name: str, layout: FileType) -> None:
    bench = Bench(tmp_path)
    bench.videos = tmp_path / f"my {name}"
    bench.videos.mkdir()
    bench.frames = tmp_path / f"frames {name}"
    bench.add_video(name, clips / "clip.mp4")
    row = bench.run(FrameOptions(file_type=layout, short_side=0)).loc[name]
    assert tuple(row[["status", "frames", "fps"]]) == ("ok", "20", "10")
    store = open_store(bench.frames, layout)
    assert len(store.read(f"a b/{name}", [1, 19])) == 2


def test_names_may_be_relative(bench: Bench, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add_video("-y", clips / "clip.mp4")
    monkeypatch.chdir(bench.videos)
    bench.videos, bench.frames = Path(), Path("-frames")
    assert bench.run().loc["-y", "status"] == "ok"


def test_the_usual_extensions_are_tried_in_order(bench: Bench, clips: Path) -> None:
    shutil.copy(clips / "clip.avi", bench.videos / "v.1.avi")
    bench.add("v.1", "v.1")
    assert bench.run().loc["v.1", "status"] == "ok"
    shutil.copy(clips / "sound.mp4", bench.videos / "v.1.mp4")
    assert bench.run().loc["v.1", "reason"] == "no video stream"


def test_options_and_segments(bench: Bench, clips: Path) -> None:
    shutil.copy(clips / "clip.mp4", bench.videos)
    bench.add("whole", "clip.mp4")
    bench.add("part", "clip.mp4", "0.5", "1.5")
    bench.add("rest", "clip.mp4", "1", "")
    table = bench.run(FrameOptions(short_side=24, fps=5, quality=5))
    assert table["frames"].to_dict() == {"whole": "10", "part": "5", "rest": "5"}
    assert set(table["fps"]) == {"5"}
    assert set(table["width"] + "x" + table["height"]) == {"32x24"}
    assert bench.run(FrameOptions(fps=99)).loc["whole", "fps"] == "10"


def test_a_hanging_video_is_a_row(
    bench: Bench, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "slow", "b"):
        bench.add_video(name, clips / "clip.mp4")
    script = bench.folder / "ffmpeg.sh"
    real = ffmpeg_binary()
    script.write_text(f'#!/bin/sh\ncase "$*" in *slow*) exec sleep 60;; esac\nexec "{real}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("R3D_FFMPEG", str(script))
    begin = time.monotonic()
    table = bench.run(FrameOptions(short_side=0, timeout_seconds=3))
    assert time.monotonic() - begin < 20
    assert table["status"].to_dict() == {"a": "ok", "slow": "corrupt", "b": "ok"}
    assert table.loc["slow", "reason"] == "not decoded within 3 s, the timeout"


def killed_at_first(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have ffmpeg killed in the middle of a video, as for lack of memory, so many times."""
    script = bench.folder / "ffmpeg.sh"
    script.write_text(
        f"""#!/bin/sh
        echo x >> "{bench.folder}/starts"
        [ "$(wc -l < "{bench.folder}/starts")" -le {times} ] || exec "{ffmpeg_binary()}" "$@"
        "{ffmpeg_binary()}" "$@" | head -c 9000
        kill -9 $$
        """
    )
    script.chmod(0o755)
    monkeypatch.setenv("R3D_FFMPEG", str(script))
    monkeypatch.setattr(decoding, "_WAITS_SECONDS", (0.01, 0.01))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_ffmpeg_is_started_again(
    bench: Bench, clips: Path, monkeypatch: pytest.MonkeyPatch, layout: FileType
) -> None:
    bench.add_video("a", clips / "clip.mp4")
    killed_at_first(bench, monkeypatch, 2)
    row = bench.run(FrameOptions(file_type=layout)).loc["a"]
    assert tuple(row[["status", "reason", "frames"]]) == ("ok", "", "20")


def test_an_ffmpeg_that_is_killed_ever_again_is_blamed_on_no_video(
    bench: Bench, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add_video("a", clips / "clip.mp4")
    with monkeypatch.context() as patch:
        killed_at_first(bench, patch, 99)
        with pytest.raises(InputError, match=r"a\.mp4: ffmpeg was killed from outside 3 times"):
            bench.run()
    assert not bench.manifest.exists()
    assert tuple(bench.run().loc["a", ["status", "frames"]]) == ("ok", "20")


def test_what_a_killed_ffmpeg_once_left_is_made_anew(bench: Bench, clips: Path) -> None:
    bench.add_video("a", clips / "clip.mp4")
    bench.run()
    record = rewrite_record(bench, "a", reason="4 frames: ffmpeg ended with status -9", frames=4)
    assert record["status"] == "ok"
    assert tuple(bench.run().loc["a", ["reason", "frames"]]) == ("", "20")


PROGRAM = """
    import sys
    from pathlib import Path
    from r3d.frames.extract import FrameOptions, extract_shard
    folder = Path(sys.argv[1])
    names = ("000.tsv", "videos", "frames", "manifest.tsv")
    options = FrameOptions(file_type=sys.argv[2], short_side=96)
    extract_shard(*(folder / name for name in names), options, threads=2, progress=False)
"""


@pytest.mark.parametrize(
    ("signal_number", "layout"),
    [(signal.SIGKILL, "jpg"), (signal.SIGKILL, "hdf5"), (signal.SIGTERM, "jpg"),
     (signal.SIGINT, "jpg"), (signal.SIGINT, "hdf5")],
)  # fmt: skip
def test_a_killed_run_equals_an_undisturbed_one_once_repeated(
    tmp_path: Path, clips: Path, signal_number: signal.Signals, layout: FileType
) -> None:
    benches = []
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        for i in range(10):
            video = bench.add_video(f"v{i}", clips / "long.mp4")
            os.utime(video, ns=(10**18, 10**18))
        bench.add("gone", "gone.mp4")
        bench.write_shard()
        benches.append(bench)
    killed, whole = benches
    options = FrameOptions(file_type=layout, short_side=96)

    # A new session: like a terminal's, the signal goes to ffmpeg as well.
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(killed.folder), layout],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while len(list((killed.frames / "a b").glob("v*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    if signal_number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, signal_number)
    begin = time.monotonic()
    assert process.wait(timeout=30) != 0
    assert time.monotonic() - begin < 5

    assert not killed.manifest.exists()
    complete = list((killed.frames / "a b").glob("v*"))
    assert 2 <= len(complete) < 10
    store = open_store(killed.frames, layout)
    for path in complete:
        record = store.record(f"a b/{path.stem}")
        assert record is not None
        assert (record.status, record.frames) == ("ok", 300)
        assert store.read(f"a b/{path.stem}", range(1, 300))
    times = {path: path.stat().st_mtime_ns for path in complete}

    killed.run(options)
    whole.run(options)
    assert {path: path.stat().st_mtime_ns for path in complete} == times
    assert killed.manifest.read_bytes() == whole.manifest.read_bytes()
    assert killed.contents() == whole.contents()
    assert list((killed.frames / ".partial").iterdir()) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_disk_is_blamed_on_no_video(bench: Bench, clips: Path, layout: FileType) -> None:
    """A limit on the size of files stands in for the disk."""
    for i in range(3):
        bench.add_video(f"v{i}", clips / "long.mp4")
    bench.write_shard()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    program = limit + textwrap.dedent(PROGRAM)
    command = [sys.executable, "-c", program, str(bench.folder), layout]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("r3d.errors.InputError: frames cannot be written to ")
    assert "File too large" in last
    assert not bench.manifest.exists()
    assert bench.contents() == {}


def test_a_store_in_the_way_is_blamed_on_no_video(bench: Bench, clips: Path) -> None:
    bench.add_video("a", clips / "clip.mp4")
    bench.frames.write_text("a file")
    with pytest.raises(InputError, match="the frames cannot be read"):
        bench.run()
    with pytest.raises(InputError, match="frames cannot be written to"):
        bench.run(FrameOptions(file_type="hdf5"))
    assert not bench.manifest.exists()


def test_a_key_out_of_the_store_is_refused(bench: Bench, clips: Path) -> None:
    bench.add_video("../../a", clips / "clip.mp4")
    with pytest.raises(InputError, match="is no place in the store"):
        bench.run()


def test_an_empty_shard(bench: Bench) -> None:
    assert len(bench.run()) == 0
    assert bench.manifest.read_text() == "\t".join(MANIFEST_COLUMNS) + "\n"


def test_progress_is_shown_when_asked(
    bench: Bench, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.add_video("a", clips / "clip.mp4")
    bench.run()
    assert capsys.readouterr().err == ""
    arguments = (bench.write_shard(), bench.videos, bench.frames, bench.manifest, FrameOptions())
    extract_shard(*arguments, threads=1)
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {"file_type": "png"},
        {"short_side": -1},
        {"quality": 1},
        {"quality": 32},
        {"fps": 0},
        {"colour": "bt709"},
        {"timeout_seconds": 0},
    ],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}: .* is not accepted: "):
        FrameOptions(**options)


@pytest.mark.parametrize("frames", ["test", "run", None])
@pytest.mark.parametrize("video", ["test", "run", None])
def test_labelled_test_videos_may_lie_in_the_folder_of_their_label(
    bench: Bench, clips: Path, video: str | None, frames: str | None
) -> None:
    """Frames are made in `test`, and kept where they are."""
    source = clips / "clip.avi"
    if frames:
        (bench.videos / "t.avi").symlink_to(source)
        make_like_the_reference(bench, "t", "jpg")
        (bench.videos / "t.avi").unlink()
        (bench.frames / "a b").rename(bench.frames / frames)
    if video:
        (bench.videos / video).mkdir()
        shutil.copy(source, bench.videos / video / "t.avi")
    bench.rows.append(("t", "run", "test/t", "test/t", "", ""))
    row = bench.run().loc["t"]
    assert row["status"] == ("ok" if video or frames else "missing")
    assert row["key"] == f"{frames or 'test'}/t"
    kept = [path.parent.relative_to(bench.frames) for path in bench.frames.rglob("image_00001.jpg")]
    assert kept == [Path(row["key"])] * (row["status"] == "ok")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_that_cannot_be_is_a_row(bench: Bench, clips: Path, layout: FileType) -> None:
    shutil.copy(clips / "clip.mp4", bench.videos)
    for name in ("n" * 251, "n" * 300, "x/" + "/".join(["folder" * 40] * 20), "good"):
        bench.add(name, "clip.mp4")
    table = bench.run(FrameOptions(file_type=layout, short_side=0))
    assert table["status"].tolist() == ["ok", "ok", "corrupt", "ok"]
    assert table["reason"].iloc[2].startswith("no frames can be kept under the name ")
    assert table["reason"].iloc[2].endswith("File name too long; rename the video")


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_may_be_written_either_way(
    bench: Bench, clips: Path, listed: str, on_disk: str
) -> None:
    label, name = "Café", "Übung ñ"
    folder = bench.videos / unicodedata.normalize(on_disk, label)
    folder.mkdir()
    video = folder / f"{unicodedata.normalize(on_disk, name)}.mp4"
    shutil.copy(clips / "clip.mp4", video)
    key = unicodedata.normalize(listed, f"{label}/{name}")
    bench.rows.append((key.rpartition("/")[2], key.partition("/")[0], key, key, "", ""))
    row = bench.run().iloc[0]
    assert tuple(row[["status", "frames", "key"]]) == ("ok", "20", key)
    (bench.frames / key).parent.rename(bench.frames / "moved")
    (bench.frames / "moved" / key.rpartition("/")[2]).rename(
        bench.frames / "moved" / unicodedata.normalize(on_disk, name)
    )
    (bench.frames / "moved").rename(bench.frames / unicodedata.normalize(on_disk, label))
    video.unlink()
    row = bench.run().iloc[0]
    found = unicodedata.normalize(on_disk, f"{label}/{name}")
    assert tuple(row[["status", "frames", "key"]]) == ("ok", "20", found)


def test_a_manifest_is_on_the_disk_before_it_counts(bench: Bench, monkeypatch) -> None:
    """File, then its name, then the folder that has it: else power lost leaves an empty one."""
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        sync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        events.append(f"{path.name} to {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    bench.add("gone", "gone.mp4")
    bench.run()
    (named,) = [i for i, event in enumerate(events) if event.endswith(f" to {bench.manifest.name}")]
    partial = events[named].partition(" to ")[0]
    assert f"sync {partial}" in events[:named]
    assert f"sync {bench.manifest.parent.name}" in events[named:]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_long_video_takes_no_more_memory(tmp_path: Path, layout: FileType) -> None:
    """Frames of 25 MB and more go to the store as they come."""
    noise = ("-f", "lavfi", "-i", "color=gray:size=640x480:rate=25:d=0.4,noise=alls=90:allf=t")
    peaks = []
    for loops in (0, 14):
        folder = tmp_path / str(loops)
        folder.mkdir()
        bench = Bench(folder)
        command = [ffmpeg_binary(), "-loglevel", "error"]
        short = str(folder / "short.avi")
        subprocess.run([*command, *noise, "-c:v", "mjpeg", "-q:v", "2", short], check=True)
        repeated = ["-stream_loop", str(loops), "-i", short, "-c", "copy"]
        subprocess.run([*command, *repeated, str(bench.videos / "a.avi")], check=True)
        bench.add("a", "a.avi")
        bench.write_shard()
        measured = (
            f"{textwrap.dedent(PROGRAM).replace('short_side=96', 'short_side=0, quality=2')}\n"
            "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        arguments = [sys.executable, "-c", measured, str(folder), layout]
        peaks.append(int(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout))
        size = sum(path.stat().st_size for path in bench.frames.rglob("*") if path.is_file())
    assert size > 25_000_000
    assert peaks[1] - peaks[0] < 15_000
