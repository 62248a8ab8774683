"""Finding ffmpeg, probing containers, decoding videos to JPEGs."""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from r3d.errors import InputError
from r3d.frames import ffmpeg
from r3d.frames.decoding import Decoded, decode
from r3d.frames.ffmpeg import JpegStream, KilledError, ffmpeg_binary
from r3d.frames.layouts import Colour
from r3d.frames.probing import VideoError, VideoInfo, probe
from r3d.frames.selection import Selection, plan

Render = Callable[..., Path]


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """A function that makes a video of a moving test picture."""
    folder = tmp_path_factory.mktemp("rendered")

    def make(name: str, *options: str, size: str = "80x60", rate: str = "25", s: float = 2) -> Path:
        path = folder / name
        if not path.exists():
            source = f"testsrc=size={size}:rate={rate}:duration={s},noise=alls=20:allf=t"
            command = [ffmpeg_binary(), "-loglevel", "error", "-f", "lavfi", "-i", source]
            subprocess.run([*command, *options, f"file:{path}"], check=True)
        return path

    return make


def extract(path: Path, **options: Any) -> list[bytes]:
    frames, decoded = extract_with_verdict(path, **options)
    assert decoded.complaint == ""
    return frames


def extract_with_verdict(
    path: Path,
    *,
    short_side: int = 0,
    quality: int | None = 2,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    colour: Colour = "converted",
) -> tuple[list[bytes], Decoded]:
    selection = Selection(short_side, quality, fps, start, end, colour)
    return decode(
        path,
        probe(path, start=start, end=end),
        selection,
        binary=ffmpeg_binary(),
        timeout_seconds=60,
        is_cancelled=lambda: False,
        new_sink=lambda _: nullcontext([]),
        finish=lambda frames, decoded: (frames, decoded),
    )


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), dtype=float)


def size(jpeg: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(jpeg)).size


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_binary_of_the_variable_goes_before_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = script(tmp_path / "ffmpeg", "true")
    own = script(tmp_path / "my ffmpeg", "true")
    monkeypatch.delenv("R3D_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ffmpeg_binary() == str(on_path)
    monkeypatch.setenv("R3D_FFMPEG", str(own))
    assert ffmpeg_binary() == str(own)
    monkeypatch.setenv("R3D_FFMPEG", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"R3D_FFMPEG: .*absent"):
        ffmpeg_binary()


def test_without_ffmpeg_the_wheel_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R3D_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(ffmpeg_binary()).is_file()

    def nothing() -> str:
        raise RuntimeError

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    with pytest.raises(InputError, match="no ffmpeg found; install it"):
        ffmpeg_binary()


@pytest.mark.parametrize(
    ("name", "rate", "seconds", "frames"),
    [
        ("ucf101_clip.avi", 25, 6.56, 164),
        ("kinetics_clip.mp4", 28, 10.0, 280),
        ("kinetics_no_duration.mkv", 30, 10.333, 310),
        ("nasa_320x180.mp4", Fraction(30000, 1001), 13.013, 390),  # the larger of two
        ("rotated_90.mov", 30, 0.1, 3),
        ("corrupted.mp4", 10, 5.0, 50),
    ],
)
def test_probe_of_real_clips(
    shared: Path, name: str, rate: int | Fraction, seconds: float, frames: int
) -> None:
    info = probe(shared / "data/videos" / name)
    assert (info.rate, info.seconds, info.frames) == (rate, pytest.approx(seconds), frames)
    assert info.coded == frames


def test_hidden_frames_are_not_stated(render: Render, tmp_path: Path) -> None:
    """A cut without encoding keeps frames from the last key frame on, and hides them."""
    whole = render("hidden.mp4")
    cut = tmp_path / "cut.mp4"
    command = [ffmpeg_binary(), "-loglevel", "error", "-ss", "1.2", "-i", whole, "-c", "copy", cut]
    subprocess.run(command, check=True)
    stated = probe(cut).frames
    assert stated is not None
    assert abs(stated - len(extract(cut))) <= 2


@pytest.mark.parametrize(("content", "status"), [(b"no video", "corrupt"), (b"", "corrupt")])
def test_what_cannot_be_opened(tmp_path: Path, content: bytes, status: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"^cannot be opened: [^/]*$") as caught:
        probe(path)
    assert caught.value.status == status


def test_sound_with_a_cover_picture_is_no_video(render: Render, tmp_path: Path) -> None:
    cover = render("cover.jpg", "-frames:v", "1", "-update", "1")
    song = tmp_path / "song.mp4"
    options = ["-f", "lavfi", "-i", "sine=d=1", "-map", "0:a", "-map", "1:v"]
    command = [ffmpeg_binary(), "-loglevel", "error", *options[:4], "-i", str(cover), *options[4:]]
    picture = ["-c:v", "copy", "-disposition:v", "attached_pic"]
    subprocess.run([*command, *picture, str(song)], check=True)
    with pytest.raises(VideoError, match="no video stream") as caught:
        probe(song)
    assert caught.value.status == "empty"


@pytest.mark.parametrize(
    "name", ["ucf101_clip.avi", "kinetics_clip.mp4", "kinetics_no_duration.mkv"]
)
def test_frames_are_those_of_the_plain_recipe(shared: Path, tmp_path: Path, name: str) -> None:
    video = shared / "data/videos" / name
    command = [ffmpeg_binary(), "-loglevel", "error", "-i", str(video), "-vf", "scale=-1:240"]
    subprocess.run([*command, "image_%05d.jpg"], cwd=tmp_path, check=True)
    plain = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    frames = extract(video, short_side=240, quality=None)
    assert len(frames) == len(plain)
    for ours, theirs in list(zip(frames, plain, strict=True))[::20]:
        assert np.abs(pixels(ours) - pixels(theirs)).mean() < 0.1


def test_rotation_is_honoured(shared: Path) -> None:
    frames = extract(shared / "data/videos/rotated_90.mov", short_side=240)
    assert [size(jpeg) for jpeg in frames] == [(240, 426)] * 3


@pytest.mark.parametrize(
    ("given", "short_side", "expected"),
    [
        ("80x60", 240, (320, 240)),
        ("60x80", 30, (30, 40)),
        ("64x64", 32, (32, 32)),
        ("80x60", 0, (80, 60)),
        ("81x61", 0, (81, 61)),
        ("101x61", 30, (50, 30)),
    ],
)
def test_short_side(render: Render, given: str, short_side: int, expected: tuple[int, int]) -> None:
    # 4:4:4 allows odd sizes.
    path = render(f"{given}.mp4", "-pix_fmt", "yuv444p", size=given, s=0.2)
    assert {size(jpeg) for jpeg in extract(path, short_side=short_side)} == {expected}


def test_quality(render: Render) -> None:
    path = render("quality.mp4", s=0.4)
    sizes = [sum(map(len, extract(path, quality=quality))) for quality in (2, 8, 31)]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]


@pytest.mark.parametrize(
    ("fps", "expected"), [(12.5, 25), (10, 20), (1, 2), (0.2, 1), (25, 50), (60, 50)]
)
def test_fps_selects_frames_and_invents_none(render: Render, fps: float, expected: int) -> None:
    path = render("fps.mp4")
    every = extract(path)
    selected = extract(path, fps=fps)
    assert len(every) == 50
    assert len(selected) == len(set(selected)) == expected
    positions = [every.index(jpeg) for jpeg in selected]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0.4, 1.6, slice(10, 40)), (None, 1.0, slice(0, 25)), (1.52, None, slice(38, 50))],
)
@pytest.mark.parametrize("name", ["trim.mp4", "trim.mkv", "trim.avi"])
def test_start_and_end_are_accurate(
    render: Render, name: str, start: float | None, end: float | None, expected: slice
) -> None:
    path = render(name)
    every = extract(path)
    assert len(every) == 50
    assert extract(path, start=start, end=end) == every[expected]


def test_a_variable_rate_becomes_constant(render: Render) -> None:
    dropping = ("-vf", "select='lt(n,30)+not(mod(n,3))'", "-fps_mode", "vfr")
    path = render("variable.mkv", *dropping, rate="30", s=4)
    info = probe(path)
    assert info.rate == 30
    assert info.frames is not None
    assert abs(len(extract(path)) - info.frames) <= 1


def test_no_duration_stated(render: Render) -> None:
    path = render("live.mkv", "-live", "1")
    info = probe(path)
    assert (info.rate, info.seconds, info.frames) == (25, None, None)
    assert len(extract(path)) == 50


@pytest.mark.parametrize(
    "name", ["-y.mp4", "a b%05d'\"#.mp4", "http:x.mp4", "é😀;$(x)&[~]@!+(1).mp4", "back\\slash.mp4"]
)
def test_any_file_name(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(render("name.mp4", s=0.2).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(extract(Path(name))) == 5


@pytest.mark.parametrize(
    ("selection", "info", "expected"),
    [
        (Selection(0, None, None, None, None), VideoInfo(Fraction(25), 4.0, 99), 99),
        (Selection(0, None, 5, None, None), VideoInfo(Fraction(25), 4.0, 100), 20),
        (Selection(0, None, 50, None, None), VideoInfo(Fraction(25), 4.0, 100), 100),
        (Selection(0, None, None, 1.0, 9.0), VideoInfo(Fraction(25), 4.0, 100), 75),
        (Selection(0, None, None, 5.0, None), VideoInfo(Fraction(25), 4.0, 100), 0),
        (Selection(0, None, None, None, 2.0), VideoInfo(Fraction(25), None, None), None),
        (Selection(0, None, None, None, None), VideoInfo(None, 2.0, 50), 50),
    ],
)
def test_expected_frames(selection: Selection, info: VideoInfo, expected: float | None) -> None:
    assert plan(info, selection).stated == expected


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_jpegs_are_cut_at_their_ends_only(tmp_path: Path, chunk: int) -> None:
    """Neither a comment that holds an end marker nor a chunk that ends anywhere misleads."""
    jpegs = []
    for shade in (0, 200):
        file = io.BytesIO()
        noise = np.random.default_rng(shade).integers(shade, shade + 50, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(file, "jpeg", comment=b"\xff\xd9\xff\xda\xff\xd8", quality=100)
        jpegs.append(file.getvalue())
    path = tmp_path / "stream"
    path.write_bytes(b"".join(jpegs) + jpegs[0][:-5])  # the last is not complete
    command = ["dd", f"if={path}", f"bs={chunk}", "status=none"]
    with JpegStream(command, timeout_seconds=60, is_cancelled=lambda: False) as stream:
        assert list(stream) == jpegs


def test_many_complaints_do_not_block_and_the_first_is_told() -> None:
    shout = "echo '[h264 @ 0x55d1a0] a\tb' >&2; head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 3"
    with JpegStream(["sh", "-c", shout], timeout_seconds=60, is_cancelled=lambda: False) as stream:
        assert list(stream) == []
        assert stream.complaint == "[h264] a b"


def test_a_failure_without_words_is_told() -> None:
    with JpegStream(["false"], timeout_seconds=60, is_cancelled=lambda: False) as stream:
        assert list(stream) == []
        assert stream.complaint == "ffmpeg ended with status 1"


def test_a_crash_is_of_the_video_and_a_kill_is_not() -> None:
    for number, name in ((11, "SIGSEGV"), (6, "SIGABRT")):
        command = ["sh", "-c", f"kill -{number} $$"]
        with JpegStream(command, timeout_seconds=60, is_cancelled=lambda: False) as stream:
            assert list(stream) == []
            assert stream.complaint == f"ffmpeg crashed ({name})"
    for command in (["sh", "-c", "kill -9 $$"], ["sh", "-c", "exit 137"]):
        with (
            pytest.raises(KilledError, match="signal 9"),
            JpegStream(command, timeout_seconds=60, is_cancelled=lambda: False) as stream,
        ):
            list(stream)


def test_ffmpeg_is_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "MEMORY_BYTES", 1 << 29)
    program = "import time; time.sleep(0.2); print(len(bytearray(1 << 30)))"
    command = [sys.executable, "-c", program]
    with JpegStream(command, timeout_seconds=60, is_cancelled=lambda: False) as stream:
        assert list(stream) == []
        assert "Traceback" in stream.complaint


def test_what_is_said_of_a_run_up_is_not_told() -> None:
    jpeg = io.BytesIO()
    Image.new("L", (8, 8)).save(jpeg, "jpeg")
    octal = "".join(f"\\{byte:03o}" for byte in jpeg.getvalue())
    command = ["sh", "-c", f"echo before >&2; sleep 0.2; printf '{octal}'; sleep 0.2; {{}}"]
    for after, told in (("true", ""), ("echo after >&2", "after")):
        run = [*command[:2], command[2].replace("{}", after)]
        with JpegStream(run, timeout_seconds=60, is_cancelled=lambda: False, run_up=True) as stream:
            assert list(stream) == [jpeg.getvalue()]
            assert stream.complaint == told


def test_a_hanging_process_is_killed() -> None:
    begin = time.monotonic()
    with (
        pytest.raises(VideoError, match=r"not decoded within 0\.3 s"),
        JpegStream(["sleep", "60"], timeout_seconds=0.3, is_cancelled=lambda: False) as stream,
    ):
        list(stream)
    assert time.monotonic() - begin < 10


def test_what_is_done_with_frames_does_not_count_as_decoding(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "frame.jpg")
    command = ["sh", "-c", "cat $0; sleep 0.1; cat $0", str(tmp_path / "frame.jpg")]
    with JpegStream(command, timeout_seconds=0.5, is_cancelled=lambda: False) as stream:
        for _ in stream:
            time.sleep(0.6)


def test_a_cancelled_process_is_killed() -> None:
    cancelled = Event()
    with JpegStream(["sleep", "60"], timeout_seconds=60, is_cancelled=cancelled.is_set) as stream:
        begin = time.monotonic()
        cancelled.set()
        assert list(stream) == []
    assert time.monotonic() - begin < 10
