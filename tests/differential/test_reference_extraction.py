"""Frames of the same videos: the reference's scripts run for real, and ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from deviations import DEVIATIONS
from scripts import Scripts

from r3d.annotations.writing import write_activitynet
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.tables import read_columns

pytestmark = pytest.mark.differential

SIDE = 50
LABEL = "making tea"
B_FRAMES = ["-bf", "2", "-g", "12"]
SOUND = ["-f", "lavfi", "-i", "sine=d=1.2"]

# A constant rate, and each frame as long as it says: every frame once, on both sides.
PLAIN: dict[str, list[str]] = {
    "h264.mp4": ["-pix_fmt", "yuv420p"],
    "b_frames.mp4": ["-pix_fmt", "yuv420p", *B_FRAMES],
    "ntsc.mp4": ["-pix_fmt", "yuv420p", "-r", "30000/1001"],
    "upright.mp4": ["-pix_fmt", "yuv420p", "-vf", "scale=48:80"],
    "square.mp4": ["-pix_fmt", "yuv420p", "-vf", "scale=60:60"],
    "smaller.mp4": ["-pix_fmt", "yuv420p", "-vf", "scale=40:30"],
    "full_chroma.mp4": ["-pix_fmt", "yuv444p"],
    "bt709.mp4": ["-pix_fmt", "yuv420p", "-vf", "setparams=colorspace=bt709"],
    "with_sound.mp4": ["-pix_fmt", "yuv420p", *B_FRAMES],
    "xvid.avi": ["-c:v", "mpeg4", "-vtag", "xvid", "-q:v", "4"],
    "xvid_b_frames.avi": ["-c:v", "mpeg4", "-vtag", "xvid", "-q:v", "4", *B_FRAMES],
    "with_sound.avi": ["-c:v", "mpeg4", "-vtag", "xvid", "-q:v", "4", *B_FRAMES],
    "odd.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-q:v", "3", "-vf", "scale=75:61"],
}


def encode(path: Path, options: list[str], *, picture: str = "testsrc2") -> None:
    source = f"{picture}=size=96x72:rate=25:duration=1.2"
    sound = SOUND if "sound" in path.stem else []
    command = [ffmpeg_binary(), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *sound, *options, str(path)], check=True)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos by label, as both sides want them."""
    folder = tmp_path_factory.mktemp("plain") / "videos"
    (folder / LABEL).mkdir(parents=True)
    for name, options in PLAIN.items():
        encode(folder / LABEL / name, options)
    return folder


def theirs(scripts: Scripts, videos: Path, output: Path, *options: object) -> None:
    """Have the reference extract the MP4 and the AVI files of a folder."""
    output.mkdir()
    for data_set in ("kinetics", "ucf101"):
        done = scripts.run("generate_video_jpgs", videos, output, data_set, *options)
        assert done.returncode == 0, done.stderr


def ours(videos: Path, folder: Path, **options: Any) -> pd.DataFrame:
    """Extract the videos of a folder into `folder`/frames; the manifest by id."""
    folder.mkdir()
    files = sorted(path for path in videos.glob("*/*") if path.is_file())
    rows = [
        (f.stem, f.parent.name, f"{f.parent.name}/{f.stem}", f.relative_to(videos), "", "")
        for f in files
    ]
    shard, manifest = folder / "000.tsv", folder / "manifest.tsv"
    columns = ["id", "label", "key", "path", "start", "end"]
    pd.DataFrame(rows, columns=columns).to_csv(shard, sep="\t", index=False)
    chosen = FrameOptions(**{"short_side": SIDE, "colour": "as_reference", **options})
    extract_shard(shard, videos, folder / "frames", manifest, chosen, threads=2, progress=False)
    return read_columns(manifest, MANIFEST_COLUMNS).set_index("id")


def pictures(folder: Path) -> list[bytes]:
    """The JPEGs of a video, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.glob("image_*.jpg"))]


def assert_same_frames(found: list[bytes], expected: list[bytes], name: str) -> None:
    """As many, of one size, and the same pixels."""
    assert len(found) == len(expected), name
    for one, other in zip(found, expected, strict=True):
        pixels = [simplejpeg.decode_jpeg(jpeg).astype(np.int16) for jpeg in (one, other)]
        assert pixels[0].shape == pixels[1].shape, name
        assert not np.any(pixels[0] - pixels[1]), name


def two_of_a_kind(folder: Path) -> None:
    """One id a file: the same stem with another extension is another video."""
    for path in sorted((folder / LABEL).iterdir()):
        path.rename(path.with_name(f"{path.stem}_{path.suffix[1:]}{path.suffix}"))


def test_generated_videos(scripts: Scripts, plain: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(plain, tmp_path / "videos"))
    two_of_a_kind(videos)
    theirs(scripts, videos, tmp_path / "theirs", "--size", SIDE)
    manifest = ours(videos, tmp_path / "ours")
    assert len(manifest) == len(PLAIN)
    assert set(manifest["status"]) == {"ok"}
    for name in manifest.index:
        expected = pictures(tmp_path / "theirs" / LABEL / name)
        assert int(manifest["frames"][name]) == len(expected) >= 29, name
        assert_same_frames(pictures(tmp_path / "ours/frames" / LABEL / name), expected, name)


def test_hdf5(scripts: Scripts, plain: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / LABEL).mkdir(parents=True)
    names = ("b_frames", "upright", "ntsc")
    for name in names:
        shutil.copy(plain / LABEL / f"{name}.mp4", videos / LABEL)
    (tmp_path / "theirs").mkdir()
    arguments = (videos, tmp_path / "theirs", "kinetics", "--size", SIDE)
    done = scripts.run("generate_video_hdf5", *arguments)
    assert done.returncode == 0, done.stderr
    ours(videos, tmp_path / "ours", file_type="hdf5")
    for name in names:
        both = []
        for folder in (tmp_path / "ours/frames", tmp_path / "theirs"):
            with h5py.File(folder / LABEL / f"{name}.hdf5") as file:
                assert h5py.check_vlen_dtype(file["video"].dtype) == np.uint8
                both.append([frame.tobytes() for frame in file["video"]])
        assert_same_frames(*both, name)


def test_real_videos(shared: Path, scripts: Scripts, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / LABEL).mkdir(parents=True)
    lengths = {"ucf101_clip.avi": 165, "kinetics_clip.mp4": 280, "nasa_320x180.mp4": 390}
    for file in lengths:
        shutil.copy(shared / "data/videos" / file, videos / LABEL)
    theirs(scripts, videos, tmp_path / "theirs")
    manifest = ours(videos, tmp_path / "ours", short_side=240)
    for file, length in lengths.items():
        name = Path(file).stem
        assert int(manifest["frames"][name]) == length
        both = [pictures(tmp_path / side / LABEL / name) for side in ("ours/frames", "theirs")]
        assert_same_frames(*both, name)


def one_of_each(
    scripts: Scripts, tmp_path: Path, path: Path, *options: object, **own: Any
) -> tuple[pd.Series, list[bytes], list[bytes]]:
    """The manifest's row of a video and the frames of both sides."""
    theirs(scripts, path.parent.parent, tmp_path / "theirs", "--size", SIDE, *options)
    manifest = ours(path.parent.parent, tmp_path / "ours", **own)
    places = [tmp_path / side / LABEL / path.stem for side in ("ours/frames", "theirs")]
    found, expected = map(pictures, places)
    return manifest.loc[path.stem], found, expected


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Where a test puts its one video."""
    path = tmp_path / "videos" / LABEL / "video.mp4"
    path.parent.mkdir(parents=True)
    return path


def size(jpeg: bytes) -> tuple[int, int]:
    """Height and width."""
    height, width, _ = simplejpeg.decode_jpeg(jpeg).shape
    return height, width


def test_colour(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    encode(video, PLAIN["bt709.mp4"], picture="smptehdbars")
    row, found, expected = one_of_each(scripts, tmp_path, video, colour="converted")
    assert row["status"] == "ok"
    assert len(found) == len(expected)
    one, other = (simplejpeg.decode_jpeg(jpegs[9]).astype(int) for jpegs in (found, expected))
    assert 10 < np.abs(one - other).max() < 60, DEVIATIONS["colour"]


def test_rotation(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat.mp4"
    encode(flat, PLAIN["h264.mp4"])
    command = [ffmpeg_binary(), "-nostdin", "-loglevel", "error", "-display_rotation", "90"]
    subprocess.run([*command, "-i", str(flat), "-c", "copy", str(video)], check=True)
    _, found, expected = one_of_each(scripts, tmp_path, video)
    assert len(found) == len(expected)
    assert size(expected[0])[0] == SIDE < size(found[0])[0], DEVIATIONS["rotation"]
    assert min(size(found[0])) == SIDE


def test_fps(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    encode(video, PLAIN["h264.mp4"])
    _, found, expected = one_of_each(scripts, tmp_path, video, "--fps", 40, fps=40)
    assert len(found) == 30 < 40 < len(expected), DEVIATIONS["interpolation"]


def test_gap(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    encode(
        video, ["-pix_fmt", "yuv420p", "-vf", "setpts=PTS+gte(N\\,10)*10/TB", "-fps_mode", "vfr"]
    )
    row, found, expected = one_of_each(scripts, tmp_path, video)
    assert len(expected) > 200
    assert len(found) == 30, DEVIATIONS["gap"]
    assert row["reason"]


def test_broken_videos(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    encode(video.with_name("sound.mp4"), ["-map", "1"])
    encode(video, PLAIN["h264.mp4"])
    video.with_name("cut.mp4").write_bytes(video.read_bytes()[:1000])
    video.with_name("text.mp4").write_text("not a video")
    row, found, expected = one_of_each(scripts, tmp_path, video)
    assert row["status"] == "ok"
    assert_same_frames(found, expected, "the sound one")
    manifest = read_columns(tmp_path / "ours/manifest.tsv", MANIFEST_COLUMNS).set_index("id")
    for name in ("sound", "cut", "text"):
        assert not pictures(tmp_path / "theirs" / LABEL / name)
        assert manifest["status"][name] != "ok", DEVIATIONS["broken video"]
        assert manifest["reason"][name]


def test_other_containers(scripts: Scripts, video: Path, tmp_path: Path) -> None:
    encode(video.with_suffix(".mkv"), PLAIN["b_frames.mp4"])
    row, found, expected = one_of_each(scripts, tmp_path, video.with_suffix(".mkv"))
    assert expected == []
    assert len(found) == 30, DEVIATIONS["extension"]
    assert row["status"] == "ok"


@pytest.mark.parametrize("rate", ["25", "30000/1001", "15"])
def test_rates_of_activitynet(scripts: Scripts, tmp_path: Path, rate: str) -> None:
    videos = tmp_path / "videos/activitynet"
    videos.mkdir(parents=True)
    encode(videos / "v_-aB_0000000.mp4", ["-pix_fmt", "yuv420p", "-r", rate])
    entry = {"subset": "training", "duration": 1.2, "annotations": []}
    official = tmp_path / "official.json"
    official.write_text(json.dumps({"database": {"-aB_0000000": entry}, "taxonomy": []}))
    done = scripts.run("add_fps_into_activitynet_json", videos, official, tmp_path / "theirs.json")
    assert done.returncode == 0, done.stderr
    manifest = ours(tmp_path / "videos", tmp_path / "ours").rename({"v_-aB_0000000": "-aB_0000000"})
    manifest.reset_index().to_csv(tmp_path / "ledger.tsv", sep="\t", index=False)
    write_activitynet(official, tmp_path / "ledger.tsv", tmp_path / "ours.json", file_type="jpg")
    both = [json.loads((tmp_path / f"{side}.json").read_text()) for side in ("ours", "theirs")]
    found, expected = (content["database"]["-aB_0000000"]["fps"] for content in both)
    assert found == pytest.approx(expected, abs=0.005)  # two digits there
