"""A corpus of odd, broken and hostile video files, each made in some milliseconds.

The sound ones show their frames' numbers in binary, so that not only their count can be compared.
"""

import gzip
import io
import json
import os
import random
import socket
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from r3d.frames.ffmpeg import ffmpeg_binary

WIDTH, HEIGHT, BITS = 80, 48, 10
FRAMES, RATE = 20, 10

_X264 = ("-c:v", "libx264", "-preset", "ultrafast")
_H264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2")
_HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime")
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
_AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1")
_MPEG1 = ("-c:v", "mpeg1video", "-q:v", "2", "-r", "25")
_MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-r", "25")
_MPEG4 = ("-c:v", "mpeg4", "-q:v", "2")
_QCIF = ("-s", "176x144", "-sws_flags", "neighbor", "-q:v", "2")
_MJPEG = ("-c:v", "mjpeg", "-q:v", "2")


def _scaled(size: str, *filters: str) -> tuple[str, ...]:
    return ("-vf", ",".join((f"scale={size}:flags=neighbor", *filters)))


# How each is made of the numbered pictures.
SOUND: dict[str, tuple[str, ...]] = {
    # MP4 and what became of it
    "plain.mp4": _H264,
    "moov_first.mp4": (*_H264, "-movflags", "faststart"),
    "fragmented.mp4": (*_H264, "-movflags", "frag_keyframe+empty_moov", "-g", "5"),
    "fragment_a_frame.mp4": (*_H264, "-movflags", "frag_every_frame+empty_moov"),
    "segment_index.mp4": (*_H264, "-movflags", "dash+frag_keyframe+global_sidx", "-g", "5"),
    "smooth.ismv": _H264,
    "negative_offsets.mp4": (*_H264, "-movflags", "negative_cts_offsets"),
    "no_edit_list.mp4": (*_H264, "-use_editlist", "0"),
    "late.mp4": (*_H264, "-output_ts_offset", "7"),
    "coarse_clock.mp4": (*_H264, "-video_track_timescale", "10"),
    "fine_clock.mp4": (*_H264, "-video_track_timescale", "2000000000"),
    "one_frame.mp4": (*_H264, "-frames:v", "1"),
    "two_frames.mp4": (*_H264, "-frames:v", "2"),
    "long_gop.mp4": (*_H264, "-g", "9999", "-bf", "3"),
    "key_frames_only.mp4": (*_H264, "-g", "1"),
    "open_gop.mp4": (*_X264, "-x264-params", "open-gop=1:keyint=6:bframes=3:b-adapt=0"),
    "many_b_frames.mp4": ("-c:v", "libx264", "-bf", "16", "-x264-params", "b-adapt=0"),
    "intra_refresh.mp4": ("-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=8"),
    "slices.mp4": (*_X264, "-x264-params", "slices=3"),
    "lossless.mp4": (*_X264, "-qp", "0"),
    "monochrome.mp4": (*_X264, "-pix_fmt", "gray"),
    "hevc.mp4": _HEVC,
    "hevc_open_gop.mp4": (*_HEVC[:-1], "log-level=none:open-gop=1:keyint=6:bframes=3"),
    "av1.mp4": _AV1,
    "vp9.mp4": _VP9,
    "mpeg4.mp4": (*_MPEG4, "-bf", "2"),
    "mjpeg.mp4": _MJPEG,
    "phone.3gp": ("-c:v", "h263", *_QCIF),
    "phone.3g2": _H264,
    "apple.m4v": (*_H264, "-f", "ipod"),
    "flash.f4v": _H264,
    # other containers
    "h264.mkv": _H264,
    "hevc.mkv": _HEVC,
    "av1.mkv": ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"),
    "late.mkv": (*_H264, "-output_ts_offset", "7"),
    "no_duration.mkv": (*_H264, "-live", "1"),
    "cluster_a_frame.mkv": (*_H264, "-cluster_time_limit", "1"),
    "vp8.webm": _VP8,
    "vp8_hidden_frames.webm": (*_VP8[:2], "-auto-alt-ref", "1", "-lag-in-frames", "16"),
    "vp9.webm": _VP9,
    "vp9_hidden_frames.webm": (*_VP9[:2], "-cpu-used", "8", "-auto-alt-ref", "1"),
    "av1.webm": _AV1,
    "mjpeg.avi": _MJPEG,
    "xvid.avi": (*_MPEG4, "-bf", "2", "-vtag", "XVID"),
    "h264.avi": _H264,
    "msmpeg4.avi": ("-c:v", "msmpeg4", "-q:v", "2"),
    "msmpeg4v2.avi": ("-c:v", "msmpeg4v2", "-q:v", "2"),
    "huffyuv.avi": ("-c:v", "huffyuv", "-pix_fmt", "yuv422p"),
    "ffvhuff.avi": ("-c:v", "ffvhuff"),
    "utvideo.avi": ("-c:v", "utvideo"),
    "cinepak.avi": ("-c:v", "cinepak"),
    "raw.avi": ("-c:v", "rawvideo"),
    "palette.avi": ("-c:v", "rawvideo", "-pix_fmt", "pal8"),
    "run_length.avi": ("-c:v", "msrle"),
    "screen.avi": ("-c:v", "zmbv"),
    "snow.avi": ("-c:v", "snow", "-strict", "-2"),
    "wmv1.asf": ("-c:v", "wmv1", "-q:v", "2"),
    "wmv2.wmv": ("-c:v", "wmv2", "-q:v", "2"),
    "h264.flv": _H264,
    "hevc.flv": _HEVC,
    "sorenson.flv": ("-c:v", "flv", "-q:v", "2"),
    "screen.flv": ("-c:v", "flashsv"),
    "flash.swf": ("-c:v", "flv", "-q:v", "2"),
    "h264.ts": _H264,
    "hevc.ts": _HEVC,
    "mpeg2.ts": _MPEG2,
    "bluray.m2ts": _H264,
    "far.ts": (*_H264, "-output_ts_offset", "90000"),
    "clock_wraps.ts": (*_H264, "-output_ts_offset", "95442.7"),
    "mpeg1.mpg": _MPEG1,
    "mpeg2.mpg": (*_MPEG2, "-bf", "2"),
    "dvd.vob": (*_MPEG2, "-bf", "2"),
    "svcd.mpg": (*_MPEG2, "-f", "svcd"),
    "h264.vob": _H264,
    "clock_wraps.mpg": (*_MPEG2, "-output_ts_offset", "95442.7"),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", "8"),
    "vp8.ogv": (*_VP8, "-f", "ogg"),
    "prores.mov": ("-c:v", "prores_ks"),
    "png.mov": ("-c:v", "png"),
    "jpeg2000.mov": ("-c:v", "jpeg2000"),
    "animation.mov": ("-c:v", "qtrle"),
    "graphics.mov": ("-c:v", "rpza"),
    "sorenson.mov": ("-c:v", "svq1", "-q:v", "2"),
    "v210.mov": ("-c:v", "v210"),
    "dnxhr.mov": ("-c:v", "dnxhd", "-profile:v", "dnxhr_lb", *_scaled("320:192"), "-pix_fmt",
                  "yuv422p"),
    "cineform.mov": ("-c:v", "cfhd", *_scaled("320:192"), "-pix_fmt", "yuv422p10le"),
    "hap.mov": ("-c:v", "hap", *_scaled("320:192")),
    "mpeg2.mxf": (*_MPEG2, "-bf", "2"),
    "h264.mxf": (*_H264, "-r", "25"),
    "tape.dv": ("-c:v", "dvvideo", "-r", "25", *_scaled("720:576"), "-pix_fmt", "yuv420p"),
    "mpeg4.nut": (*_MPEG4, "-bf", "2"),
    "real.rm": ("-c:v", "rv20", *_QCIF),
    "tv.wtv": _MPEG2,
    "vp8.ivf": _VP8,
    "av1.ivf": _AV1,
    "ffv1.mkv": ("-c:v", "ffv1"),
    "vc2.mkv": ("-c:v", "vc2", "-pix_fmt", "yuv422p"),
    "picture.gif": (),
    "picture.apng": ("-f", "apng"),
    # streams without a container
    "raw.h264": (*_H264, "-r", "25"),
    "raw.hevc": (*_HEVC, "-r", "25"),
    "raw.obu": (*_AV1, "-r", "25"),
    "raw.m1v": _MPEG1,
    "raw.m2v": (*_MPEG2, "-bf", "2"),
    "raw.m4v": (*_MPEG4, "-f", "m4v", "-r", "25"),
    "raw.h261": ("-c:v", "h261", *_QCIF, "-r", "25"),
    "raw.h263": ("-c:v", "h263", *_QCIF, "-r", "25"),
    "raw.mjpeg": (*_MJPEG, "-f", "mjpeg", "-r", "25"),
    "raw.y4m": (),
    # pictures of other kinds
    "tiny.mp4": (*_X264, *_scaled("2:2")),
    "one_pixel.mkv": ("-c:v", "ffv1", *_scaled("1:1"), "-pix_fmt", "yuv444p"),
    "one_macroblock.mp4": (*_X264, *_scaled("16:16")),
    "odd.mkv": (*_X264, *_scaled("161:97"), "-pix_fmt", "yuv444p"),
    "odd.mp4": (*_MPEG4, *_scaled("161:97")),
    "wide.mp4": (*_X264, *_scaled("2048:16")),
    "tall.mp4": (*_X264, *_scaled("16:2048")),
    "strip.mkv": ("-c:v", "ffv1", *_scaled("4000:1"), "-pix_fmt", "yuv444p"),
    "hd.mp4": (*_X264, *_scaled("1920:1080"), "-frames:v", "3"),
    "4k.mp4": (*_X264, *_scaled("3840:2160"), "-frames:v", "2"),
    "4k.webm": (*_VP9, *_scaled("4096:2160"), "-frames:v", "1"),
    "long_pixels.mp4": (*_X264, *_scaled("80:48", "setsar=4/3")),
    "absurd_pixels.mkv": (*_X264, *_scaled("80:48", "setsar=1000/1")),
    "interlaced.mp4": ("-c:v", "libx264", "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    "interlaced.mpg": (*_MPEG2, "-flags", "+ildct+ilme"),
    "10_bit.mkv": (*_X264, "-pix_fmt", "yuv420p10le"),
    "10_bit_hevc.mp4": (*_HEVC, "-pix_fmt", "yuv420p10le"),
    "12_bit.mkv": (*_HEVC, "-pix_fmt", "yuv420p12le"),
    "10_bit_vp9.webm": (*_VP9, "-pix_fmt", "yuv420p10le"),
    "16_bit_gray.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray16le"),
    "full_chroma.mkv": (*_X264, "-pix_fmt", "yuv444p"),
    "half_chroma.mkv": (*_X264, "-pix_fmt", "yuv422p"),
    "rgb.mkv": ("-c:v", "libx264rgb", "-preset", "ultrafast"),
    "full_range.mp4": (*_X264, *_scaled("80:48:out_range=pc"), "-color_range", "pc"),
    "alpha.webm": (*_VP9, "-pix_fmt", "yuva420p"),
    "alpha_vp8.webm": (*_VP8, "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
    "alpha.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
    # rates
    "film.mp4": (*_X264, "-r", "24000/1001"),
    "fast.mp4": (*_X264, "-r", "240"),
    "one_a_second.mp4": (*_X264, "-r", "1"),
    "two_a_minute.mkv": (*_X264, "-vf", "setpts=N*30/TB", "-r", "1/30", "-frames:v", "4"),
}  # fmt: skip

_SOUND = ("-f", "lavfi", "-i", "sine=d=2")
_RED = ("-f", "lavfi", "-i", "color=red:size=64x32:rate=10:d=2")
_COVER = ("-f", "lavfi", "-i", "color=red:size=640x480:d=1", "-frames:v", "1")

# Other inputs beside the pictures, and how the file is made of both.
MIXED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "with_sound.mp4": (_SOUND, (*_H264, "-c:a", "aac")),
    "with_sound.mkv": (_SOUND, (*_H264, "-c:a", "libopus")),
    "with_sound.avi": (_SOUND, (*_MPEG4, "-c:a", "pcm_s16le")),
    "with_sound.ts": (_SOUND, (*_H264, "-c:a", "aac")),
    "with_sound.flv": (_SOUND, (*_H264, "-c:a", "aac")),
    "sound_first.mkv": (_SOUND, ("-map", "0:a", "-map", "1:v", *_H264, "-c:a", "libopus")),
    "two_videos.mp4": (_RED, ("-map", "0", "-map", "1", *_X264, "-disposition:v", "0")),
    "two_videos.mkv": (_RED, ("-map", "0", "-map", "1", *_X264, "-disposition:v", "0")),
    "two_programs.ts": (
        _RED,
        ("-map", "0", "-map", "1", *_X264, "-program", "st=0", "-program", "st=1"),
    ),
}  # fmt: skip

# Copies of the first one with something beside it; rotations, which ffmpeg carries out.
COPIED = (
    *("cover.mp4", "cover_first.mp4", "cover.mkv", "titles_within.mp4", "chapters.mp4"),
    *("size_changes.ts", "size_changes.webm", "size_changes.avi", "size_changes.mp4"),
)
TURNED = {"turned_90.mp4": "90", "turned_180.mp4": "180", "turned_270.mp4": "-90"}

# Where joined, both parts are decoded.
JOINED = ("xvid.avi", "h264.mkv", "vp8.webm", "h264.ts", "raw.h264", "picture.gif")
# Where joined, the second part is not, and that is told.
PARTED = ("plain.mp4", "moov_first.mp4", "prores.mov", "h264.flv", "wmv2.wmv", "picture.apng")

_DAMAGED = (
    *("plain.mp4", "moov_first.mp4", "fragmented.mp4", "xvid.avi", "vp9.webm", "h264.ts"),
    *("h264.flv", "mpeg2.mpg", "wmv2.wmv", "theora.ogv", "h264.mkv"),
)
_CUTS = (1, 10, 50, 75, 90, 99)
_PLACES = (3, 30, 60)


def make_sound(folder: Path) -> None:
    """Write the files of `SOUND`, `MIXED` and `TURNED`, two at a time."""
    raw = numbered()
    jobs: list[tuple[str, Sequence[str], Sequence[str]]] = [
        *((name, (), options) for name, options in SOUND.items()),
        *((name, *parts) for name, parts in MIXED.items()),
    ]

    def make(job: tuple[str, Sequence[str], Sequence[str]]) -> None:
        name, before, options = job
        source = ["-f", "rawvideo", "-s", f"{WIDTH}x{HEIGHT}", "-pix_fmt", "yuv420p"]
        source += ["-framerate", str(RATE), "-i", "pipe:0"]
        ffmpeg(*before, *source, *options, str(folder / name), data=raw)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, jobs))
    source = str(folder / "plain.mp4")
    Image.new("RGB", (640, 480), "red").save(folder / "cover.jpg")
    both = ("-i", source, "-i", str(folder / "cover.jpg"), "-c", "copy", "-map")
    picture = ("-disposition:v:0", "0", "-disposition:v:1", "attached_pic")
    ffmpeg(*both, "0", "-map", "1", *picture, str(folder / "cover.mp4"))
    first = ("-disposition:v:0", "attached_pic", "-disposition:v:1", "default")
    ffmpeg(*both, "1", "-map", "0", *first, str(folder / "cover_first.mp4"))
    attached = ("-attach", str(folder / "cover.jpg"), "-metadata:s:t", "mimetype=image/jpeg")
    ffmpeg("-i", source, *attached, "-c", "copy", str(folder / "cover.mkv"))
    (folder / "titles.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nwords\n")
    titles = ("-i", source, "-i", str(folder / "titles.srt"), "-c", "copy", "-c:s", "mov_text")
    ffmpeg(*titles, str(folder / "titles_within.mp4"))
    (folder / "chapters.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=a\n"
    )
    chapters = ("-i", source, "-i", str(folder / "chapters.txt"), "-map_metadata", "1")
    ffmpeg(*chapters, "-c", "copy", str(folder / "chapters.mp4"))
    for name in ("h264.ts", "vp8.webm", "mjpeg.avi", "av1.mp4"):
        larger = folder / f"larger_{name}"
        ffmpeg("-i", str(folder / name), *SOUND[name], *_scaled("160:96"), str(larger))
        (folder / "parts.txt").write_text(f"file '{folder / name}'\nfile '{larger}'\n")
        parts = ("-f", "concat", "-safe", "0", "-i", str(folder / "parts.txt"), "-c", "copy")
        ffmpeg(*parts, str(folder / f"size_changes.{name.rpartition('.')[2]}"))
    for name, angle in TURNED.items():
        plain = ("-display_rotation", angle, "-i", str(folder / "plain.mp4"))
        ffmpeg(*plain, "-c", "copy", str(folder / name))


def ffmpeg(*arguments: str, data: bytes = b"") -> None:
    """Run ffmpeg, one thread a stage, with raw pictures as its standard input."""
    command = [ffmpeg_binary(), "-loglevel", "error", "-y", "-threads", "1", *arguments]
    subprocess.run(command, input=data, check=True)


def numbered() -> bytes:
    """Raw pictures that show their number in binary."""
    number = np.arange(FRAMES)[:, None] >> np.arange(BITS) & 1
    tiles = number.reshape(FRAMES, 2, 5).repeat(HEIGHT // 2, 1).repeat(WIDTH // 5, 2)
    luma = (16 + 219 * tiles).astype(np.uint8).reshape(FRAMES, -1)
    grey = np.full((FRAMES, WIDTH * HEIGHT // 2), 128, np.uint8)
    return np.concatenate([luma, grey], 1).tobytes()


def number(luma: np.ndarray) -> int:
    """What a picture (h, w) shows, in whatever size."""
    height, width = luma.shape
    rows = [height // 4, 3 * height // 4]
    columns = [(2 * i + 1) * width // 10 for i in range(5)]
    shown = luma[np.ix_(rows, columns)].astype(int) > 125
    return int((shown.reshape(-1) << np.arange(BITS)).sum())


def make_damaged(folder: Path) -> list[str]:
    """Files of the folder cut, spoilt and mixed up in many places; their names."""
    names = []

    def write(name: str, data: bytes) -> None:
        names.append(name)
        (folder / name).write_bytes(data)

    for name in _DAMAGED:
        data = (folder / name).read_bytes()
        size = len(data)
        for percent in _CUTS:
            write(f"cut_{percent}_{name}", data[: max(1, size * percent // 100)])
        for percent in _PLACES:
            at = size * percent // 100
            write(f"zeroed_{percent}_{name}", data[:at] + bytes(200) + data[at + 200 :])
            flipped = bytes(byte ^ 0x55 for byte in data[at : at + 5])
            write(f"flipped_{percent}_{name}", data[:at] + flipped + data[at + 5 :])
        dice = random.Random(name)
        scattered = bytearray(data)
        for _ in range(20):
            scattered[dice.randrange(size)] ^= 1 << dice.randrange(8)
        write(f"scattered_{name}", bytes(scattered))
        write(f"no_beginning_{name}", data[size // 3 :])
        write(f"hole_{name}", data[: size // 3] + data[size // 2 :])
        write(f"exchanged_{name}", data[size // 2 :] + data[: size // 2])
        write(f"zeros_after_{name}", data + bytes(3000))
        write(f"noise_before_{name}", dice.randbytes(999) + data)
    for name in ("xvid.avi", "mjpeg.avi"):
        data = (folder / name).read_bytes()
        at = data.index(b"idx1")
        write(f"no_index_{name}", data[:at])
        write(f"broken_index_{name}", data[: at + 8] + data[:99:-1][: len(data) - at - 8])
    data = (folder / "moov_first.mp4").read_bytes()
    for box in (b"stco", b"stsz", b"stsc", b"stts", b"ctts", b"stss", b"mdhd", b"avcC", b"stsd"):
        at = data.index(box)
        write(f"absurd_{box.decode()}.mp4", data[: at + 8] + b"\xff" * 12 + data[at + 20 :])
        write(f"no_{box.decode()}.mp4", data[:at] + b"free" + data[at + 4 :])
    return names


def make_joined(folder: Path) -> None:
    """Files of `JOINED` and `PARTED` twice, byte by byte."""
    for name in (*JOINED, *PARTED):
        (folder / f"joined_{name}").write_bytes((folder / name).read_bytes() * 2)


def make_no_files(folder: Path) -> list[str]:
    """What has the name of a video, and is no file; the names."""
    os.mkfifo(folder / "fifo.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "terminal.mp4").symlink_to("/dev/tty")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.mp4"))
    names = ("fifo", "folder", "device", "terminal", "loop", "nowhere", "socket", "never_there")
    return [*(f"{name}.mp4" for name in names), "plain.mp4/below_a_file.mp4", "x" * 300 + ".mp4"]


NAMES = (
    *("two  spaces .mp4", 'it\'s "quoted".mp4', "%05d_100%.mp4", "#hash.mp4", "a&b.mp4", "a;b.mp4"),
    *(
        "[1](2){3}.mp4",
        "é ü ñ.mp4",
        "你好.mp4",
        "😀.mp4",
        "n" * 246 + ".mp4",
        "-dash.mp4",
        "-i.mp4",
    ),
    *("$HOME $(x) `x`.mp4", "~.mp4", "*?.mp4", "back\\slash.mp4", "http:x.mp4", "pipe:0.mp4"),
    *("concat:a|b.mp4", "a,b=c@d!+e^f.mp4", "<a>.mp4", "=1+1.mp4", "dots...mp4", "UPPER.MP4"),
    *("\u202eright to left.mp4", ".hidden.mp4", "none", "a.b.c.mp4"),
)
"""Names that somebody's shell, pattern or protocol would take for something else."""


def make_wordless(folder: Path) -> list[str]:
    """Files without a frame: sound, titles, nothing at all; their names."""
    source = str(folder / "plain.mp4")
    tone = ("-f", "lavfi", "-i", "sine=d=1")
    for name in ("sound.wav", "sound.mp3", "sound.m4a", "sound.ogg", "sound.flac", "sound.mkv"):
        ffmpeg(*tone, str(folder / name))
    song = ("-map", "0", "-map", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic")
    ffmpeg(*tone, *_COVER[:-2], *song, "-frames:v", "1", str(folder / "song_with_cover.m4a"))
    ffmpeg("-i", str(folder / "titles.srt"), str(folder / "titles.mkv"))
    ffmpeg("-i", source, "-c", "copy", "-frames:v", "0", str(folder / "no_frames.mp4"))
    ffmpeg("-i", source, "-c", "copy", "-frames:v", "0", str(folder / "no_frames.avi"))
    (folder / "no_bytes.mp4").touch()
    (folder / "one_byte.mp4").write_bytes(b"\0")
    (folder / "zeros.mp4").write_bytes(bytes(5000))
    (folder / "noise.mp4").write_bytes(random.Random(1).randbytes(5000))
    (folder / "head_only.mp4").write_bytes((folder / "plain.mp4").read_bytes()[:32])
    (folder / "unknown_code.avi").write_bytes(
        (folder / "xvid.avi").read_bytes().replace(b"XVID", b"ZZZZ")
    )
    (folder / "unknown_code.mp4").write_bytes(
        (folder / "plain.mp4").read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC")
    )
    return [
        *("sound.wav", "sound.mp3", "sound.m4a", "sound.ogg", "sound.flac", "sound.mkv"),
        *("song_with_cover.m4a", "titles.mkv", "no_frames.mp4", "no_frames.avi", "no_bytes.mp4"),
        *("one_byte.mp4", "zeros.mp4", "noise.mp4", "head_only.mp4", "unknown_code.avi"),
        "unknown_code.mp4",
    ]


def make_other_files(folder: Path) -> list[str]:
    """Texts, pictures, archives, named as videos; their names."""
    texts = {
        "text.mp4": "not found\n" * 999,
        "page.mp4": "<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        "error.mp4": json.dumps({"error": {"code": 403, "message": "quota"}}),
        "unicode.mp4": "視頻不存在 " * 99,
        "table.avi": "id,label\n1,run\n" * 50,
        "vector.mp4": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "script.mp4": "#!/bin/sh\nreboot\n",
        "pointer.mp4": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "paper.mp4": "%PDF-1.4\n%\u00e2\u00e3\n1 0 obj\n<<>>\nendobj\n",
        "titles.mp4": "1\n00:00:00,000 --> 00:00:01,000\nwords\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    names = list(texts)
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "TGA", "ICO"):
        if kind == "GIF":
            continue  # a video of one frame
        names.append(f"{kind.lower()}.mp4")
        Image.new("RGB", (64, 48), "red").save(folder / names[-1], kind)
    frame = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frame[0].save(folder / "animation.webp", save_all=True, append_images=frame[1:])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(folder / "plain.mp4", "plain.mp4")
    (folder / "zip.mp4").write_bytes(packed.getvalue())
    (folder / "gzip.mp4").write_bytes(gzip.compress((folder / "plain.mp4").read_bytes()))
    with tarfile.open(folder / "tar.mp4", "w") as archive:
        archive.add(folder / "plain.mp4", "plain.mp4")
    (folder / "program.mp4").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(500))
    np.save(folder / "array.npy", np.zeros((9, 9)))
    return [*names, "animation.webp", "zip.mp4", "gzip.mp4", "tar.mp4", "program.mp4", "array.npy"]


def make_pointers(folder: Path, target: Path, address: str) -> list[str]:
    """Files that make ffmpeg open others, were they followed; their names.

    Args:
        target: a video that none of them may open.
        address: of a server that none of them may ask.
    """
    near = f"elsewhere/{target.name}"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
    segment = f"<SegmentURL media='{target.name}'/>"
    texts = {
        "hls.m3u8": hls.format(near),
        "hls.mp4": hls.format(near),
        "hls_absolute.mp4": hls.format(target),
        "hls_file.mp4": hls.format(f"file://{target}"),
        "hls_address.mp4": hls.format(f"{address}/a.ts"),
        "hls_of_hls.mp4": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{address}/a.m3u8\n",
        "hls_key.mp4": hls.replace("{}", "#EXT-X-KEY:METHOD=AES-128,URI={}").format(target),
        "hls_subfile.mp4": hls.format(f"subfile,,start,0,end,0,,:{target}"),
        "concat.mp4": f"ffconcat version 1.0\nfile {near}\n",
        "concat_absolute.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat_address.mp4": f"ffconcat version 1.0\nfile '{address}/a.ts'\n",
        "concat.txt": f"file '{target}'\n",
        "dash.mpd": f"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' "
        f"type='static'><Period><BaseURL>{address}/</BaseURL><AdaptationSet mimeType='video/mp4'>"
        f"<Representation id='1'><SegmentList>{segment}</SegmentList></Representation>"
        "</AdaptationSet></Period></MPD>",
        "smil.mp4": f"<smil><body><video src='{target}'/></body></smil>",
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\n"
        "m=video 5004 RTP/AVP 96\n",
        "stream.ram": f"{address}/a.rm\n",
        "windows.asx": f"<asx version='3.0'><entry><ref href='{address}/a.wmv'/></entry></asx>",
        "windows.wmv": f"[Reference]\nRef1={address}/a.wmv\n",
        "list.pls": f"[playlist]\nFile1={target}\n",
        "avisynth.avs": f'AviSource("{target}")\n',
        "vapoursynth.vpy": f'core.lsmas.LibavSMASHSource("{target}")\n',
        "images.ffconcat": f"ffconcat version 1.0\nfile '{target.parent}/%d.png'\n",
        "metadata.mp4": f";FFMETADATA1\ntitle={target}\n",
        "imf.xml": f"<?xml version='1.0'?><CompositionPlaylist xmlns='http://www.smpte-ra.org/"
        f"schemas/2067-3/2016'><Id>{target}</Id></CompositionPlaylist>",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    names = list(texts)
    # A QuickTime file whose samples are said to be in another one.
    data = (folder / "moov_first.mp4").read_bytes()
    at = data.index(b"url \x00\x00\x00\x01")
    names.append("data_elsewhere.mov")
    (folder / names[-1]).write_bytes(data[: at + 7] + b"\x00" + data[at + 8 :])
    place = f"{target}".encode()
    alias = struct.pack(">I4sI", 12 + len(place), b"url ", 0) + place
    names.append("data_at_path.mov")
    (folder / names[-1]).write_bytes(_with_box(data, at - 4, 12, alias))
    return names


def _with_box(data: bytes, at: int, length: int, box: bytes) -> bytes:
    """An MP4, of which one box within `dref` is another; all boxes around it grow."""
    grown = bytearray(data[:at] + box + data[at + length :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(kind) - 4
        size = struct.unpack_from(">I", data, place)[0]
        struct.pack_into(">I", grown, place, size + len(box) - length)
    return bytes(grown)


def make_odd_times(folder: Path) -> dict[str, int | None]:
    """Videos of misleading time stamps; how many frames each has to have, None if that is open."""
    source = folder / "raw_source.avi"
    raw = ("-f", "rawvideo", "-s", f"{WIDTH}x{HEIGHT}", "-pix_fmt", "yuv420p", "-i", "pipe:0")
    ffmpeg(*raw, *_MPEG4, str(source), data=numbered())
    stamps = {
        "all_0.mkv": lambda n: 0,
        "gap_of_an_hour.mkv": lambda n: n * 40 + 3_600_000 * (n >= 9),
        "gap_of_a_year.mkv": lambda n: n * 40 + 31_536_000_000 * (n >= 9),
        "far.mkv": lambda n: n * 40 + 10**12,
        "camera.mkv": lambda n: n * 33 + n * n % 7,
        "slow.mkv": lambda n: n * 40 if n < 5 else n * 900,
        "slides.mkv": lambda n: n * 20_000,
        "twice.mkv": lambda n: n // 2 * 80,
        "zigzag.mp4": lambda n: n * 40 + n % 3 * 7,
        "gap_of_an_hour.mp4": lambda n: n * 40 + 3_600_000 * (n >= 9),
        "slow_end.mp4": lambda n: n * 40 + 8000 * (n == FRAMES - 1),
        "gap_of_an_hour.flv": lambda n: n * 40 + 3_600_000 * (n >= 9),
        "camera.webm": lambda n: n * 33 + n * n % 7,
    }  # fmt: skip
    for name, stamp in stamps.items():
        template = folder / ("vp8.webm" if name.endswith("webm") else "raw_source.avi")
        template = folder / "sorenson.flv" if name.endswith("flv") else template
        _restamp(template, folder / name, stamp)
    expected: dict[str, int | None] = dict.fromkeys(stamps, FRAMES)
    open_ones = ("slow_end.mp4", "zigzag.mp4", "camera.webm", "camera.mkv")
    expected |= dict.fromkeys(open_ones)
    tags = ("9" * 400 + ":00:00.0", "00:00:" + "9" * 400, "9" * 5000, "-1", "nan", "99:99:99.9")
    for number_, tag in enumerate(tags):
        name = f"duration_{number_}.mkv"
        tagged = ("-live", "1", "-metadata:s:v", f"DURATION={tag}", str(folder / name))
        ffmpeg("-i", str(folder / "plain.mp4"), "-c", "copy", *tagged)
        expected[name] = FRAMES
    late = (*_SOUND, "-itsoffset", "5", "-i", str(folder / "plain.mp4"), "-c:v", "copy")
    ffmpeg(*late, str(folder / "five_s_after_sound.mp4"))
    ffmpeg("-i", str(folder / "xvid.avi"), "-c", "copy", str(folder / "copied_from_avi.mp4"))
    cut = ("-ss", "1", "-i", str(folder / "long_gop.mp4"), "-c", "copy")
    ffmpeg(*cut, str(folder / "hidden_frames.mp4"))
    expected |= {"five_s_after_sound.mp4": FRAMES, "copied_from_avi.mp4": FRAMES}
    return expected | {"hidden_frames.mp4": None}


def _restamp(source: Path, target: Path, stamp) -> None:  # type: ignore[no-untyped-def]
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for n, packet in enumerate(p for p in old.demux(video=0) if p.size):
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = stamp(n)
            packet.duration = 0
            packet.stream = stream
            new.mux(packet)
