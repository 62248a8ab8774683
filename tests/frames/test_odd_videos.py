"""Odd, broken and hostile files: each ends as a row that a person understands, within bounds."""

import ctypes
import hashlib
import io
import os
import resource
import select
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import av
import numpy as np
import odd_videos
import pandas as pd
import pytest
from av.stream import Disposition
from odd_videos import number
from PIL import Image

from r3d.frames import probing
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.ledger import MANIFEST_COLUMNS, USED
from r3d.frames.probing import VideoError, probe
from r3d.frames.stores import open_store
from r3d.tables import read_columns

SEGMENT = (0.45, 1.15)  # between two frames at 10 and at 25 a second
_IN_OPEN = 0x20


def ffmpeg(*arguments: str) -> None:
    subprocess.run([ffmpeg_binary(), "-loglevel", "error", "-y", *arguments], check=True)


def extract(
    folder: Path, names: list[str], parts: list[str] | None = None, timeout_seconds: float = 20
) -> pd.DataFrame:
    """The manifest of files of a folder, and of segments of some, all in one shard."""
    rows = [(name, "c", f"c/{n}", name, "", "") for n, name in enumerate(names)]
    rows += [
        (f"part of {name}", "p", f"p/{n}", name, *map(str, SEGMENT))
        for n, name in enumerate(parts or [])
    ]
    columns = ["id", "label", "key", "path", "start", "end"]
    shard = folder / "shard.tsv"
    pd.DataFrame(rows, columns=columns).to_csv(shard, sep="\t", index=False)
    options = FrameOptions(short_side=0, quality=2, timeout_seconds=timeout_seconds)
    outputs = (folder / "frames", folder / "manifest.tsv")
    extract_shard(shard, folder, *outputs, options, threads=2, progress=False)
    return read_columns(outputs[1], MANIFEST_COLUMNS).set_index("id")


@dataclass
class Corpus:
    """The files, what became of them, and what was seen from outside meanwhile."""

    folder: Path
    sound: list[str]
    damaged: list[str]
    wordless: list[str]
    others: list[str]
    pointers: list[str]
    times: dict[str, int | None]
    no_files: list[str]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    opened: bytes = b""
    asked: bool = False
    memory_before_kb: int = 0
    memory_kb: int = 0

    @property
    def joined(self) -> list[str]:
        return [f"joined_{name}" for name in (*odd_videos.JOINED, *odd_videos.PARTED)]

    @property
    def files(self) -> list[str]:
        return [
            *(*self.sound, *self.damaged, *self.wordless, *self.others, *self.pointers),
            *(*self.times, *self.joined),
        ]

    def numbers(self, name: str) -> list[int]:
        """What the frames that were extracted show."""
        row = self.table.loc[name]
        store = open_store(self.folder / "frames", "jpg")
        jpegs = store.read(row["key"], range(1, int(row["frames"]) + 1))
        return [number(np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))) for jpeg in jpegs]

    def shown(self, name: str) -> list[int]:
        """What the frames show that a decoder gives."""
        with av.open(str(self.folder / name)) as container:
            streams = [
                s for s in container.streams.video if Disposition.attached_pic not in s.disposition
            ]
            default = Disposition.default
            stream = max(streams, key=lambda s: (default in s.disposition, s.width * s.height))
            return [number(f.to_ndarray(format="gray")) for f in container.decode(stream)]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    odd_videos.make_sound(folder)
    (folder / "elsewhere").mkdir()
    target = folder / "elsewhere/secret.ts"
    shutil.copy(folder / "h264.ts", target)
    odd_videos.make_joined(folder)
    for name in odd_videos.NAMES:
        shutil.copy(folder / "plain.mp4", folder / name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        sound = (odd_videos.SOUND, odd_videos.MIXED, odd_videos.COPIED, odd_videos.TURNED)
        made = Corpus(
            folder,
            sound=[name for names in sound for name in names],
            damaged=odd_videos.make_damaged(folder),
            wordless=odd_videos.make_wordless(folder),
            others=odd_videos.make_other_files(folder),
            pointers=odd_videos.make_pointers(folder, target, address),
            times=odd_videos.make_odd_times(folder),
            no_files=odd_videos.make_no_files(folder),
        )
        libc = ctypes.CDLL(None, use_errno=True)
        watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(watch, bytes(target.parent), _IN_OPEN) > 0
        try:
            names = [*made.files, *made.no_files, *odd_videos.NAMES]
            made.memory_before_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            made.memory_before_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            made.table = extract(folder, names, made.sound)
            made.memory_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            try:
                made.opened = os.read(watch, 4096)
            except BlockingIOError:
                made.opened = b""
            target.read_bytes()
            assert os.read(watch, 4096)  # it would have been noticed
        finally:
            os.close(watch)
        try:
            server.accept()
            made.asked = True
        except BlockingIOError:
            pass
    return made


def test_the_corpus_is_large(corpus: Corpus) -> None:
    """Files that differ, and kinds: those of damages count once, whatever the container."""
    contents = {
        hashlib.blake2b((corpus.folder / name).read_bytes()).digest()
        for name in corpus.files
        if name != "no_bytes.mp4"
    }
    assert len(contents) >= 450
    damages = {name.rpartition("_")[0] for name in corpus.damaged}
    kinds = (
        *(corpus.sound, damages, corpus.wordless, corpus.others, corpus.pointers, corpus.times),
        *(corpus.joined, corpus.no_files, odd_videos.NAMES),
    )
    assert sum(map(len, kinds)) >= 320


def test_sound_videos_have_the_frames_that_a_decoder_shows(corpus: Corpus) -> None:
    for name in corpus.sound:
        row = corpus.table.loc[name]
        assert tuple(row[["status", "reason"]]) == ("ok", ""), name
        shown = corpus.shown(name)
        assert int(row["frames"]) == len(shown) > 0, name
        if name not in odd_videos.TURNED and min(int(row["width"]), int(row["height"])) > 20:
            assert corpus.numbers(name) == shown, name


def test_segments_of_sound_videos_hold_the_frames_of_their_time(corpus: Corpus) -> None:
    for name in corpus.sound:
        row = corpus.table.loc[f"part of {name}"]
        fps = float(corpus.table.loc[name, "fps"])
        shown = corpus.shown(name)[ceil(SEGMENT[0] * fps) : ceil(SEGMENT[1] * fps)]
        assert int(row["frames"]) == len(shown), name
        if not shown:
            assert tuple(row[["status", "reason"]]) == ("empty", "no frame from 0.45 s to 1.15 s")
            continue
        assert tuple(row[["status", "reason"]]) == ("ok", ""), name
        if name not in odd_videos.TURNED and min(int(row["width"]), int(row["height"])) > 20:
            assert corpus.numbers(f"part of {name}") == shown, name


def test_turned_videos_are_upright(corpus: Corpus) -> None:
    sizes = corpus.table.loc[list(odd_videos.TURNED), ["width", "height"]].to_numpy().tolist()
    assert sizes == [["48", "80"], ["80", "48"], ["48", "80"]]


def test_damaged_files_are_rows(corpus: Corpus) -> None:
    for name in corpus.damaged:
        row = corpus.table.loc[name]
        assert row["status"] in (*USED, "empty", "corrupt"), name
        assert (int(row["frames"]) > 0) == (row["status"] in USED), name
        assert int(row["frames"]) <= 60, name
        assert row["reason"] or row["status"] == "ok", name
        if row["status"] == "ok":
            assert abs(int(row["frames"]) - len(corpus.shown(name))) <= 2, name


def test_damage_is_told_where_the_container_tells(corpus: Corpus) -> None:
    for name in ("moov_first.mp4", "vp9.webm", "h264.mkv", "h264.flv"):
        row = corpus.table.loc[f"cut_75_{name}"]
        assert row["status"] in ("truncated", "corrupt"), name
    assert corpus.table.loc["cut_75_h264.flv", "reason"] == "10 of 20 frames"
    assert "is not read" in corpus.table.loc["zeroed_60_fragmented.mp4", "reason"]
    for name, reason in (
        ("cut_50_plain.mp4", "its index (moov) is lacking"),
        ("cut_75_plain.mp4", "its index (moov) is damaged"),
        ("zeros.mp4", "it begins with zeros"),
        ("page.mp4", "it is a text that begins with '<!DOCTYPE html>"),
        ("cut_10_h264.mkv", "damaged, or of no format that ffmpeg knows; fetch it again"),
    ):
        assert corpus.table.loc[name, "reason"].startswith(f"cannot be opened: {reason}")


def test_joined_files_are_whole_or_told(corpus: Corpus) -> None:
    for name in odd_videos.JOINED:
        assert corpus.table.loc[f"joined_{name}", "status"] == "ok", name
        assert corpus.numbers(f"joined_{name}") == 2 * corpus.shown(name)
    for name in odd_videos.PARTED:
        row = corpus.table.loc[f"joined_{name}"]
        assert row["status"] == "truncated"
        assert "another video follows from byte" in row["reason"]
        assert corpus.numbers(f"joined_{name}") == corpus.shown(name)


def test_what_has_no_frame_is_named(corpus: Corpus) -> None:
    table = corpus.table.loc[[*corpus.wordless, *corpus.others, *corpus.pointers, *corpus.no_files]]
    assert not table["status"].isin(USED).drop(["data_elsewhere.mov"]).any()
    assert (table["reason"] != "").drop(["data_elsewhere.mov"]).all()
    for name, format_name in (
        *(("hls.m3u8", "hls"), ("concat.mp4", "concat"), ("jpeg.mp4", "jpeg"), ("png.mp4", "png")),
        *(("sound.mp3", "mp3"), ("titles.mp4", "srt"), ("session.mp4", "sdp")),
    ):
        reason = table.loc[name, "reason"]
        assert reason.startswith(f"{format_name} is no format of a video file"), name
    for name, reason in {
        "song_with_cover.m4a": "no video stream",
        "sound.m4a": "no video stream",
        "no_bytes.mp4": "the file has no bytes",
        "no_frames.avi": "no frame in the file",
        "unknown_code.avi": "its video is coded in a way that ffmpeg does not know",
        "unknown_code.mp4": "its video is coded in a way that ffmpeg does not know",
        "fifo.mp4": "no file fifo.mp4",
        "folder.mp4": "no file folder.mp4",
        "device.mp4": "no file device.mp4",
        "loop.mp4": "cannot be read: Too many levels of symbolic links",
    }.items():
        assert table.loc[name, "reason"] == reason


def test_no_file_makes_ffmpeg_open_another(corpus: Corpus) -> None:
    assert corpus.opened == b""
    assert not corpus.asked


def test_misleading_time_stamps_lose_and_invent_no_frame(corpus: Corpus) -> None:
    for name, frames in corpus.times.items():
        row = corpus.table.loc[name]
        assert row["status"] == "ok", name
        assert int(row["frames"]) == frames or (frames is None and 0 < int(row["frames"]) < 60)


def test_names_of_any_kind_are_extracted(corpus: Corpus) -> None:
    for name in odd_videos.NAMES:
        assert tuple(corpus.table.loc[name, ["status", "frames"]]) == ("ok", "20"), name


def test_every_reason_is_a_line_that_a_person_can_read(corpus: Corpus) -> None:
    for name, reason in corpus.table["reason"].items():
        assert reason.isprintable(), name
        assert len(reason) < 300, name
        assert reason == " ".join(reason.split()), name
        assert "@ 0x" not in reason
        assert "Error: " not in reason  # the name of an exception
        if name not in corpus.pointers:
            assert str(corpus.folder) not in reason


def test_the_corpus_is_bounded(corpus: Corpus) -> None:
    # Earlier tests of this process may have had a larger child.
    assert corpus.memory_kb <= max(corpus.memory_before_kb, 1_300_000)
    assert not corpus.table["reason"].str.contains("timeout").any()


def test_a_file_that_nobody_may_read_is_a_row(corpus: Corpus, tmp_path: Path) -> None:
    """Also where the tests run as root, by a process that may not read every file."""
    shutil.copy(corpus.folder / "plain.mp4", tmp_path / "a.mp4")
    (tmp_path / "a.mp4").chmod(0)
    program = """
        import ctypes, os, sys
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
        os.execv(sys.executable, [sys.executable, "-m", "r3d", *sys.argv[1:]])
    """
    extract(tmp_path, [])
    shard = tmp_path / "shard.tsv"
    shard.write_text(f"{shard.read_text()}a\tc\tc/a\ta.mp4\t\t\n")
    places = [shard, tmp_path, tmp_path / "frames", tmp_path / "manifest.tsv"]
    command = [sys.executable, "-c", textwrap.dedent(program), "frames", *map(str, places)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    row = read_columns(places[-1], MANIFEST_COLUMNS).iloc[0]
    assert tuple(row[["status", "reason"]]) == ("corrupt", "cannot be opened: Permission denied")


def test_a_small_file_that_takes_for_ever_is_ended_by_its_time_limit(tmp_path: Path) -> None:
    """Large black pictures, of which thousands take no room."""
    black = ("-f", "lavfi", "-i", "color=black:size=4096x4096:rate=100:duration=0.3")
    ffmpeg(*black, "-c:v", "libx264", "-preset", "ultrafast", str(tmp_path / "few.mp4"))
    many = ("-stream_loop", "300", "-i", str(tmp_path / "few.mp4"), "-c", "copy")
    ffmpeg(*many, str(tmp_path / "many.mp4"))
    begin = time.monotonic()
    row = extract(tmp_path, ["many.mp4"], timeout_seconds=1).loc["many.mp4"]
    assert time.monotonic() - begin < 15
    assert tuple(row[["status", "reason"]]) == ("corrupt", "not decoded within 1 s, the timeout")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound videos of 20 frames."""
    folder = tmp_path_factory.mktemp("base")
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2")
    h264 = ("-c:v", "libx264", "-preset", "ultrafast")
    ffmpeg(*source, *h264, str(folder / "plain.mp4"))
    ffmpeg(*source, *h264, "-movflags", "faststart", str(folder / "moov_first.mp4"))
    return folder


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
        with suppress(ProcessLookupError):
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


def test_processes_that_are_just_ending_are_not_asked_one_by_one(base: Path) -> None:
    """A process that is killed takes a moment to end, until which it seems to be there."""
    ours, theirs = zip(*(socket.socketpair() for _ in range(4)), strict=True)

    def end_when_asked() -> None:
        for connection in select.select(theirs, [], [], 30)[0]:
            connection.close()

    thread = threading.Thread(target=end_when_asked)
    thread.start()
    for connection in ours:
        connection.settimeout(0.1)
    probing._server._idle.extend(ours)
    assert probe(base / "plain.mp4", timeout_seconds=2).coded == 20
    thread.join()
    assert not set(probing._server._idle) & set(ours)
    for connection in theirs:
        connection.close()


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
