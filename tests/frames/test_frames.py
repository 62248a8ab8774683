"""Extraction of a shard: every video a row, nothing half done, nothing done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from r3d.errors import InputError
from r3d.frames import decoding
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import open_store
from r3d.tables import read_columns

SHARD_COLUMNS = ["id", "label", "key", "path", "start", "end"]
LAYOUTS: list[FileType] = ["jpg", "hdf5"]

ODD_NAMES = [
    *("v_%05d_100%", "two  spaces ", 'it\'s "quoted"', "#hash;$(x)&~@!+[1](2)", "-dash", "é😀"),
    *("back\\slash", "a:b", "file", "null"),
]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small videos: clip.avi and clip.mp4 of 20 frames, sound.mp4, long.mp4."""
    folder = tmp_path_factory.mktemp("clips")
    command = [ffmpeg_binary(), "-loglevel", "error"]
    noise = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2,noise=alls=9:allf=t"]
    tone = ["-f", "lavfi", "-i", "sine=d=1"]
    subprocess.run([*command, *noise, str(folder / "clip.avi")], check=True)
    subprocess.run([*command, *noise, str(folder / "clip.mp4")], check=True)
    subprocess.run([*command, *tone, str(folder / "sound.mp4")], check=True)
    longer = [noise[0], noise[1], noise[2], noise[3].replace("duration=2", "duration=30")]
    subprocess.run([*command, *longer, str(folder / "long.mp4")], check=True)
    return folder


class Bench:
    """A shard, its videos and its frames in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos = folder / "videos"
        self.frames = folder / "frames"
        self.manifest = folder / "manifest.tsv"
        self.videos.mkdir()
        self.rows: list[tuple[str, ...]] = []

    def add(self, name: str, path: str, start: str = "", end: str = "") -> None:
        self.rows.append((name, "a b", f"a b/{name}", path, start, end))

    def add_video(self, name: str, source: Path) -> Path:
        path = self.videos / f"{name}{source.suffix}"
        shutil.copy(source, path)
        self.add(name, path.name)
        return path

    def write_shard(self) -> Path:
        path = self.folder / "000.tsv"
        pd.DataFrame(self.rows, columns=SHARD_COLUMNS).to_csv(path, sep="\t", index=False)
        return path

    def run(
        self, options: FrameOptions | None = None, threads: int = 2, verify: bool = False
    ) -> pd.DataFrame:
        shard = self.write_shard()
        options = options or FrameOptions(short_side=0)
        arguments = (shard, self.videos, self.frames, self.manifest, options)
        extract_shard(*arguments, threads=threads, verify=verify, progress=False)
        table = read_columns(self.manifest, MANIFEST_COLUMNS)
        assert table["id"].tolist() == [row[0] for row in self.rows]
        return table.set_index("id")

    def contents(self) -> dict[str, bytes]:
        """All bytes of the store; of an hdf5 file its frames and record."""
        found: dict[str, bytes] = {}
        for path in sorted(self.frames.rglob("*")):
            name = str(path.relative_to(self.frames))
            if path.suffix == ".hdf5":
                with h5py.File(path, locking=False) as file:
                    found[name] = b"".join(frame.tobytes() for frame in file["video"])
                    found[f"{name} record"] = file.attrs["record"].encode()
            elif path.is_file():
                found[name] = path.read_bytes()
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have every later start of ffmpeg fail."""

    def forbid() -> None:
        path = tmp_path / "no ffmpeg"
        path.write_text("#!/bin/sh\necho ffmpeg was started >&2\nexit 1\n")
        path.chmod(0o755)
        monkeypatch.setenv("R3D_FFMPEG", str(path))

    return forbid


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


def make_like_the_reference(bench: Bench, name: str, layout: FileType, *options: str) -> None:
    """Frames without a record, made by the plain recipe."""
    folder = bench.folder / "jpg"
    folder.mkdir(exist_ok=True)
    video = next(bench.videos.glob(f"{name}.*"))
    command = [ffmpeg_binary(), "-loglevel", "error", "-i", str(video), *options]
    subprocess.run([*command, "image_%05d.jpg"], cwd=folder, check=True)
    target = open_store(bench.frames, layout).path(f"a b/{name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if layout == "jpg":
        folder.rename(target)
        return
    jpegs = [path.read_bytes() for path in sorted(folder.iterdir())]
    with h5py.File(target, "w") as file:
        vector = file.create_dataset("video", (len(jpegs),), dtype=h5py.vlen_dtype(np.uint8))
        for i, jpeg in enumerate(jpegs):
            vector[i] = np.frombuffer(jpeg, np.uint8)


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


def rewrite_record(bench: Bench, name: str, **changes: object) -> dict[str, Any]:
    """Change what is remembered of the frames of a video; return what was before."""
    (path,) = (path for path in (bench.frames / "a b" / name).iterdir() if path.suffix != ".jpg")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))
    return record


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
