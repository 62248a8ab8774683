"""Odd, broken and hostile files: each ends as a row that a person understands, within bounds."""

import os
import resource
import struct
import subprocess
import threading
import time
from pathlib import Path

import av
import pandas as pd
import pytest

from r3d.frames import probing
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.ledger import MANIFEST_COLUMNS, USED
from r3d.frames.probing import VideoError, probe
from r3d.tables import read_columns


def ffmpeg(*arguments: str) -> None:
    subprocess.run([ffmpeg_binary(), "-loglevel", "error", "-y", *arguments], check=True)


def extract(folder: Path, names: list[str]) -> pd.DataFrame:
    """The manifest of files of a folder, all in one shard."""
    rows = [(name, "c", f"c/{number}", name, "", "") for number, name in enumerate(names)]
    columns = ["id", "label", "key", "path", "start", "end"]
    shard = folder / "shard.tsv"
    pd.DataFrame(rows, columns=columns).to_csv(shard, sep="\t", index=False)
    options = FrameOptions(short_side=0, timeout_seconds=20)
    outputs = (folder / "frames", folder / "manifest.tsv")
    extract_shard(shard, folder, *outputs, options, threads=2, progress=False)
    return read_columns(outputs[1], MANIFEST_COLUMNS).set_index("id")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound videos of 20 frames in several forms."""
    folder = tmp_path_factory.mktemp("base")
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2")
    h264 = ("-c:v", "libx264", "-preset", "ultrafast")
    forms: dict[str, tuple[str, ...]] = {
        "plain.mp4": h264,
        "fragmented.mp4": (*h264, "-movflags", "frag_keyframe+empty_moov", "-g", "5"),
        "moov_first.mp4": (*h264, "-movflags", "faststart"),
        "ten_bit.mkv": (*h264, "-pix_fmt", "yuv420p10le"),
        "full_chroma.mkv": (*h264, "-pix_fmt", "yuv444p"),
        "interlaced.mpg": ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-r", "25"),
        "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
        "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
        "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
        "alpha.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-cpu-used", "8"),
        "theora.ogv": ("-c:v", "libtheora",),
        "mjpeg.avi": ("-c:v", "mjpeg",),
        "xvid.avi": ("-c:v", "mpeg4", "-bf", "2", "-vtag", "XVID"),
        "h264.ts": h264,
        "h264.flv": h264,
        "raw.h264": (*h264, "-r", "25"),
        "wmv.wmv": ("-c:v", "wmv2",),
        "picture.gif": (),
        "one_frame.mp4": (*h264, "-frames:v", "1"),
        "tiny.mp4": (*h264, "-vf", "scale=2:2"),
        "odd.mkv": (*h264, "-vf", "scale=63:47", "-pix_fmt", "yuv444p"),
        "wide.mp4": (*h264, "-vf", "scale=1024:16"),
        "4k.mp4": (*h264, "-vf", "scale=3840:2160", "-frames:v", "2"),
        "sar.mp4": (*h264, "-vf", "setsar=4/3"),
        "long_gop.mp4": (*h264, "-g", "9999", "-bf", "3"),
        "late.ts": (*h264, "-output_ts_offset", "90000"),
    }  # fmt: skip
    for name, options in forms.items():
        ffmpeg(*source, *options, str(folder / name))
    return folder


def test_sound_videos_have_the_frames_that_a_decoder_shows(base: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in base.iterdir())
    for name in names:
        (tmp_path / name).symlink_to(base / name)
    table = extract(tmp_path, names)
    for name in names:
        with av.open(str(base / name)) as container:
            shown = sum(1 for _ in container.decode(video=0))
        assert tuple(table.loc[name, ["status", "reason"]]) == ("ok", ""), name
        assert int(table.loc[name, "frames"]) == shown, name


def damaged(base: Path, folder: Path) -> list[str]:
    """Files cut and spoilt in many places."""
    names = []
    for name in ("plain.mp4", "moov_first.mp4", "xvid.avi", "vp9.webm", "h264.ts", "h264.flv"):
        data = (base / name).read_bytes()
        for percent in (1, 10, 50, 90):
            names.append(f"cut_{percent}_{name}")
            (folder / names[-1]).write_bytes(data[: max(1, len(data) * percent // 100)])
        for percent in (3, 30, 60):
            at = len(data) * percent // 100
            names.append(f"zeroed_{percent}_{name}")
            (folder / names[-1]).write_bytes(data[:at] + bytes(200) + data[at + 200 :])
            names.append(f"flipped_{percent}_{name}")
            flipped = bytes(byte ^ 0x55 for byte in data[at : at + 5])
            (folder / names[-1]).write_bytes(data[:at] + flipped + data[at + 5 :])
        names.append(f"joined_{name}")
        (folder / names[-1]).write_bytes(data + data)
    return names


def test_damaged_files_are_rows(base: Path, tmp_path: Path) -> None:
    names = damaged(base, tmp_path)
    table = extract(tmp_path, names)
    assert len(table) == len(names) == 66
    for name, row in table.iterrows():
        assert row["status"] in (*USED, "empty", "corrupt"), name
        assert (int(row["frames"]) > 0) == (row["status"] in USED), name
        assert int(row["frames"]) <= 60, name
        assert row["reason"] or row["status"] == "ok", name
        assert "Traceback" not in row["reason"]
        assert "@ 0x" not in row["reason"]


def test_what_is_no_video_is_named(base: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes((base / "h264.ts").read_bytes())
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n"
    texts = {
        "hls.m3u8": playlist,
        "hls.mp4": playlist,
        "concat.mp4": "ffconcat version 1.0\nfile secret.ts\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "text.mp4": "not found\n" * 999,
        "page.mp4": "<html><body>403</body></html>",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    for kind in ("png", "jpg", "bmp"):
        source = "testsrc=size=64x48:duration=1"
        ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "1", str(tmp_path / f"%d_{kind}.{kind}"))
        (tmp_path / f"1_{kind}.{kind}").rename(tmp_path / f"{kind}.mp4")
        (tmp_path / f"%d_{kind}.{kind}").touch()
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "sound.wav"))
    (tmp_path / "noise.mp4").write_bytes(os.urandom(5000))
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    pictures = [f"{kind}.mp4" for kind in ("png", "jpg", "bmp")]
    others = ["%d_png.png", "sound.wav", "noise.mp4", "fifo.mp4", "folder.mp4", "device.mp4"]
    names = [*texts, *pictures, *others, "loop.mp4"]
    table = extract(tmp_path, names)
    assert not table["status"].isin(USED).any()
    assert (table["reason"] != "").all()
    for name, format_name in (("hls.m3u8", "hls"), ("concat.mp4", "concat"), ("jpg.mp4", "jpeg")):
        assert table.loc[name, "reason"].startswith(format_name)
        assert "is no format of a video file" in table.loc[name, "reason"]


def test_absurd_durations_are_not_followed(base: Path, tmp_path: Path) -> None:
    """A tag of a Matroska file that a person or a bug wrote."""
    names = []
    for number, tag in enumerate(("9" * 400 + ":00:00.0", "00:00:" + "9" * 400, "9" * 5000, "-1")):
        names.append(f"{number}.mkv")
        tagged = ("-metadata:s:v", f"DURATION={tag}", str(tmp_path / names[-1]))
        ffmpeg("-i", str(base / "plain.mp4"), "-c", "copy", "-live", "1", *tagged)
    table = extract(tmp_path, names)
    assert (table["frames"] == "20").all()
    assert (table["status"] == "ok").all()


def test_an_index_of_millions_takes_no_gigabytes(base: Path, tmp_path: Path) -> None:
    data = bytearray((base / "moov_first.mp4").read_bytes())
    samples = 60_000_000
    for box, offset, values in (
        (b"stts", 12, (samples,)),
        (b"stsz", 8, (1, samples)),
        (b"stsc", 8, (1, 1, samples, 1)),
    ):
        at = data.index(box) + offset
        data[at : at + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    (tmp_path / "millions.mp4").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    row = extract(tmp_path, ["millions.mp4"]).loc["millions.mp4"]
    assert row["status"] not in USED
    assert row["reason"]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 1_000_000)


def test_opening_is_bounded_in_time(base: Path, tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for a disk that does not answer."""
    os.mkfifo(tmp_path / "pipe.mp4")
    begin = time.monotonic()
    with pytest.raises(VideoError, match=r"not opened within 0\.5 s, the timeout") as caught:
        probe(tmp_path / "pipe.mp4", timeout_seconds=0.5)
    assert caught.value.status == "corrupt"
    assert time.monotonic() - begin < 5
    assert probe(base / "plain.mp4").coded == 20


@pytest.mark.parametrize("whole", [True, False])
def test_probing_goes_on_when_its_process_is_killed(base: Path, whole: bool) -> None:
    probe(base / "plain.mp4")
    pid = probing._server._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in [*children, *([str(pid)] if whole else [])]:
        os.kill(int(each), 9)
    found: list[int] = []

    def ask() -> None:
        found.append(probe(base / "plain.mp4").coded)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 4


@pytest.mark.parametrize(
    "name",
    [
        "%05d" * 49 + "x" + ".mp4",
        "new\nline.mp4",
        "-i ; & # ' \".mp4",
        "[a](b){c}.mp4",
        "concat:a|b.mp4",
        "é ü 你好 😀.mp4",
    ],
)
def test_names_of_any_kind_are_opened(base: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((base / "plain.mp4").read_bytes())
    assert probe(path).coded == 20
