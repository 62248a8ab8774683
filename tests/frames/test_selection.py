"""Which frames come out: segments by their times, rates by evidence, colours as JPEG means them."""

import io
import subprocess
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from r3d.frames.decoding import Decoded, decode
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import Colour
from r3d.frames.probing import VideoInfo, probe
from r3d.frames.selection import Plan, Selection, plan

WIDTH, HEIGHT, BITS = 80, 48, 10
FRAMES, RATE = 300, 25


def numbered(n: int) -> bytes:
    """Pictures that show their number in binary, as raw planes."""
    number = np.arange(n)[:, None] >> np.arange(BITS) & 1
    tiles = number.reshape(n, 2, 5).repeat(HEIGHT // 2, 1).repeat(WIDTH // 5, 2)
    luma = (16 + 219 * tiles).astype(np.uint8).reshape(n, -1)
    return np.concatenate([luma, np.full((n, WIDTH * HEIGHT // 2), 128, np.uint8)], 1).tobytes()


def numbers(jpegs: Sequence[bytes]) -> list[int]:
    """What pictures show."""
    found = []
    for jpeg in jpegs:
        luma = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))
        middles = luma[HEIGHT // 4 :: HEIGHT // 2, WIDTH // 10 :: WIDTH // 5] > 125
        found.append(int((middles.reshape(-1) << np.arange(BITS)).sum()))
    return found


Coded = Callable[..., Path]


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    """A function that makes a video of numbered frames with a key frame every two seconds."""
    folder = tmp_path_factory.mktemp("numbered")
    pictures = numbered(FRAMES)

    def make(name: str, *options: str, before: Sequence[str] = (), frames: int = FRAMES) -> Path:
        path = folder / name
        if not path.exists():
            raw = ["-f", "rawvideo", "-s", f"{WIDTH}x{HEIGHT}", "-pix_fmt", "yuv420p"]
            command = [
                ffmpeg_binary(),
                "-loglevel",
                "error",
                *before,
                *raw,
                "-framerate",
                str(RATE),
            ]
            command += ["-i", "pipe:0", "-g", "50", *options, str(path)]
            part = pictures[: len(pictures) // FRAMES * frames]
            subprocess.run(command, input=part, check=True)
        return path

    return make


def extract(
    path: Path,
    start: float | None = None,
    end: float | None = None,
    *,
    fps: float | None = None,
    colour: Colour = "converted",
) -> tuple[list[bytes], Decoded]:
    def new_list(_: Plan) -> nullcontext[list[bytes]]:
        return nullcontext([])

    return decode(
        path,
        probe(path, start=start, end=end),
        Selection(0, 2, fps, start, end, colour),
        binary=ffmpeg_binary(),
        timeout_seconds=30,
        is_cancelled=lambda: False,
        new_sink=new_list,
        finish=lambda jpegs, decoded: (jpegs, decoded),
    )


H264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2")
MPEG2 = ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "2")
MPEG4 = ("-c:v", "mpeg4", "-bf", "2", "-q:v", "2")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", H264),
        ("a.mkv", H264),
        ("a.ts", H264),
        ("a.m2ts", H264),
        ("a.flv", H264),
        ("a.avi", MPEG4),
        ("h264.avi", H264),
        ("a.mpg", (*MPEG2, "-muxrate", "2M")),
        ("a.webm", ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")),
        ("a.wmv", ("-c:v", "wmv2", "-q:v", "2")),
        ("later.ts", (*H264, "-output_ts_offset", "5000")),
    ],
)
def test_a_segment_holds_the_frames_of_its_time(
    coded: Coded, name: str, options: tuple[str, ...]
) -> None:
    path = coded(name, *options)
    for start, end in (
        (None, 0.52),
        (0.0, 1.0),
        (0.04, 0.6),
        (8.51, 9.13),  # between two frames
        (10.0, 10.8),
        (11.2, None),
    ):
        wanted = [
            number
            for number in range(FRAMES)
            if (start or 0) <= number / RATE and (end is None or number / RATE < end)
        ]
        jpegs, decoded = extract(path, start, end)
        assert numbers(jpegs) == wanted, (start, end)
        assert (decoded.status, decoded.reason) == ("ok", "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_late_segment_is_sought(coded: Coded, name: str) -> None:
    path = coded(name, *H264)
    assert (probe(path, start=10, end=11).seek or 0) > 5
    assert probe(path, start=1, end=2).seek is None


@pytest.mark.parametrize(
    ("name", "options"), [("silent.avi", MPEG4), ("silent_h264.avi", H264), ("plain.mp4", H264)]
)
def test_no_frame_of_a_silent_video_comes_twice(
    coded: Coded, name: str, options: tuple[str, ...]
) -> None:
    jpegs, decoded = extract(coded(name, *options, frames=60))
    assert numbers(jpegs) == list(range(60))
    assert (decoded.status, decoded.reason) == ("ok", "")


def restamped(source: Path, target: Path, stamp: Callable[[int], int]) -> Path:
    """A copy whose n-th packet has the time `stamp(n)`, in milliseconds."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for n, packet in enumerate(old.demux(video=0)):
            if packet.dts is None:
                continue
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = stamp(n)
            packet.duration = 0
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.mark.parametrize(
    ("stamp", "reason", "fps"),
    [
        # As a browser records a camera.
        (lambda n: n * 33 + n * n % 7, "leave room for 50 of 60 frames", 30),
        (lambda n: n * 40 + 3_600_000 * (n >= 20), "jump by 3600 s", 25),
        (lambda n: 0, "leave room for 1 of 60 frames", None),
        (lambda n: n * 40 if n < 5 else n * 900, "60 frames in 53.1", None),
    ],
    ids=["camera", "gap", "all 0", "slow"],
)
def test_each_frame_comes_once_where_the_stated_rate_is_not_true(
    coded: Coded, tmp_path: Path, stamp: Callable[[int], int], reason: str, fps: float | None
) -> None:
    source = coded("source.avi", "-c:v", "mpeg4", "-q:v", "2", frames=60)
    path = restamped(source, tmp_path / "video.mkv", stamp)
    jpegs, decoded = extract(path)
    assert numbers(jpegs) == list(range(60))
    assert decoded.status == "ok"
    assert reason in decoded.reason
    if fps is not None:
        assert decoded.plan.fps == pytest.approx(fps, rel=0.03)


def test_joined_files_lose_no_frame(coded: Coded, tmp_path: Path) -> None:
    for name, options in (("part.mkv", H264), ("part.ts", H264), ("part.mpg", MPEG2)):
        part = coded(name, *options, frames=50).read_bytes()
        (tmp_path / name).write_bytes(part + part)
        jpegs, decoded = extract(tmp_path / name)
        assert numbers(jpegs) == 2 * list(range(50))
        assert "leave room for 50 of 100 frames" in decoded.reason
        assert decoded.plan.fps == 25


def test_a_video_that_begins_after_its_sound(coded: Coded) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=4")
    for lead, whole in (("5", 50), ("0.2", 55)):
        path = coded(
            f"lead_{lead}.mp4", *H264, "-c:a", "aac", before=(*sound, "-itsoffset", lead), frames=50
        )
        jpegs, decoded = extract(path)
        assert len(jpegs) == whole
        assert decoded.status == "ok"
        jpegs, _ = extract(path, float(lead) + 0.4, float(lead) + 1)
        assert numbers(jpegs) == list(range(10, 25))


@pytest.mark.parametrize(
    ("info", "frames"),
    [
        (VideoInfo(Fraction(25), 4, 100, coded=100, first=0.0, last=3.96), 100),
        # One copy a frame is a rate that varies; more are not.
        (VideoInfo(Fraction(50), 4, 200, coded=100, first=0.0, last=3.96), 199),
        (VideoInfo(Fraction(90), 4, 360, coded=100, first=0.0, last=3.96, interval=0.04), 100),
        # A stated rate at which frames would be dropped.
        (VideoInfo(Fraction(1, 2), 4, 2, coded=100, first=0.0, last=3.96, interval=0.04), 3),
        # Slides: the pause is the rate.
        (VideoInfo(Fraction(1, 20), 80, 4, coded=4, first=0.0, last=60.0, pause=20.0), 4),
        # Nothing to go by but what is stated.
        (VideoInfo(Fraction(25), 4, 100, coded=99, unstamped=99), 100),
        (VideoInfo(None, None, None, coded=99, unstamped=99), None),
    ],
)
def test_frames_expected_by_evidence(info: VideoInfo, frames: float | None) -> None:
    assert plan(info, Selection(0, None, None, None, None)).expected == frames


def test_of_several_streams_it_is_the_one_that_ffmpeg_takes(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    sources = [
        f"testsrc=size={size}:rate={rate}:d=1" for size, rate in (("64x48", 10), ("96x72", 5))
    ]
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    command = [ffmpeg_binary(), "-loglevel", "error", *inputs, "-map", "0", "-map", "1"]
    subprocess.run([*command, "-disposition", "0", str(path)], check=True)
    plain = [ffmpeg_binary(), "-loglevel", "error", "-i", str(path), "-f", "image2pipe", "pipe:1"]
    theirs = subprocess.run(plain, stdout=subprocess.PIPE, check=True).stdout
    jpegs, _ = extract(path)
    assert probe(path).stream == 1
    assert len(jpegs) == 5
    assert Image.open(io.BytesIO(jpegs[0])).size == Image.open(io.BytesIO(theirs)).size == (96, 72)


COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (224, 172, 140)]


@pytest.mark.parametrize(
    ("matrix", "colour", "right"),
    [
        ("bt709", "converted", True),
        ("bt2020", "converted", True),
        ("bt601", "converted", True),
        ("bt601", "as_reference", True),
        ("bt709", "as_reference", False),
    ],
)
def test_colours_are_those_that_jpeg_means(
    tmp_path: Path, matrix: str, colour: Colour, right: bool
) -> None:
    path = tmp_path / "video.mp4"
    patches = np.array(COLOURS, np.uint8).repeat(32, 0)[None].repeat(64, 0)
    tags = {"bt709": "bt709", "bt2020": "bt2020nc", "bt601": "smpte170m"}[matrix]
    command = [ffmpeg_binary(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", "128x64", "-i", "pipe:0", "-pix_fmt", "yuv420p", "-colorspace", tags]
    command += ["-vf", f"scale=out_color_matrix={matrix}", "-c:v", "libx264", "-qp", "1", str(path)]
    subprocess.run(command, input=patches.tobytes(), check=True)
    jpegs, _ = extract(path, colour=colour)
    shown = np.asarray(Image.open(io.BytesIO(jpegs[0])).convert("RGB"), float)
    worst = max(
        np.abs(shown[24:40, 32 * i + 8 : 32 * i + 24].mean((0, 1)) - patch).max()
        for i, patch in enumerate(COLOURS)
    )
    assert (worst < 6) == right, worst
