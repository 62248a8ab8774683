"""HDF5 files of ours by their index, those of others by another process; none hangs a reader."""

import signal
import struct
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import simplejpeg

from r3d.errors import InputError
from r3d.frames.stores import FrameStore, VideoRecord, open_store, partial_folder
from r3d.frames.stores.frameindex import frame_index, read_indexed

RECORD = VideoRecord("ok", "", 5, 25.0, 20, 16, {"size": 1})


def frames_of_sizes(sizes: list[int]) -> list[bytes]:
    """JPEGs with noise of these sizes behind their end: a store does not look there."""
    rng = np.random.default_rng(0)
    jpeg = simplejpeg.encode_jpeg(rng.integers(256, size=(16, 20, 3), dtype=np.uint8))
    return [jpeg + rng.bytes(size) for size in sizes]


def write(folder: Path, frames: list[bytes]) -> Path:
    store = open_store(folder, "hdf5")
    with partial_folder(store.folder) as partial, store.writer(partial / "0") as writer:
        for frame in frames:
            writer.append(frame)
        writer.commit(store.path("v"), replace(RECORD, frames=len(frames)))
    return store.path("v")


def by_hdf5(path: Path) -> list[bytes]:
    with h5py.File(path, "r") as file:
        return [frame.tobytes() for frame in file["video"]]


@pytest.mark.parametrize(
    "sizes",
    [[0], [5] * 9, [100] * 127, [100] * 128, [1, 7, 8, 9] * 75, [70_000, 3, 200_000, 4_000_000, 8]],
    ids=["one", "equal", "under a chunk", "a chunk", "many", "large"],
)
def test_it_leads_to_the_frames(tmp_path: Path, sizes: list[int]) -> None:
    frames = frames_of_sizes(sizes)
    path = write(tmp_path, frames)
    n = len(frames)
    for indices in (range(n), range(n - 1, -1, -1), [n - 1], [0, n - 1, 0], range(0, n, 3)):
        assert read_indexed(path, list(indices)) == [frames[i] for i in indices]
    assert by_hdf5(path) == frames


@pytest.mark.parametrize("indices", [[-1], [3], [0, 3], [-1, 0]])
def test_no_frame_outside(tmp_path: Path, indices: list[int]) -> None:
    assert read_indexed(write(tmp_path, frames_of_sizes([9, 9, 9])), indices) is None


@pytest.mark.parametrize("change", ["a frame", "a data set", "an attribute"])
def test_hdf5_removes_it_when_it_writes(tmp_path: Path, change: str) -> None:
    """So an index that no longer holds is not there, rather than wrong."""
    frames = frames_of_sizes([3_000] * 5)
    path = write(tmp_path, frames)
    other = frames_of_sizes([4_000])[0]
    with h5py.File(path, "r+") as file:
        if change == "a frame":
            file["video"][2] = np.frombuffer(other, np.uint8)
            frames[2] = other
        elif change == "a data set":
            file["more"] = np.arange(100)
        else:
            file.attrs["note"] = "hand-made"
    assert read_indexed(path, [2]) is None
    assert open_store(tmp_path, "hdf5").read("v", [0, 2, 4]) == [frames[i] for i in (0, 2, 4)]


def index_bytes(path: Path, n: int) -> int:
    """How long the index of a file of n frames is."""
    n_record = struct.unpack("<I", path.read_bytes()[-16:-12])[0]
    return n * 16 + n_record + 32


@pytest.mark.parametrize(
    "trailer",
    [
        b"",
        b"R3Dinde2",
        struct.pack("<QQII8s", 5, 0, 0, 0, b"R3Dother"),
        struct.pack("<QQII8s", 2**63, 0, 0, 0, b"R3Dinde2"),
        struct.pack("<QQII8s", 10**6, 0, 0, 0, b"R3Dinde2"),
        struct.pack("<QQII8s", 0, 2**63, 0, 0, b"R3Dinde2"),
        struct.pack("<QQII8s", 0, 0, 2**31, 0, b"R3Dinde2"),
        struct.pack("<QIIQQII8s", 2**63, 100, 0, 1, 0, 0, 0, b"R3Dinde2"),
        struct.pack("<QIIQQII8s", 0, 2**31, 0, 1, 0, 0, 0, b"R3Dinde2"),
        struct.pack("<QIIQQII8s", 500, 100, 0, 1, 0, 0, 0, b"R3Dinde2"),
        struct.pack("<QQII8s", 5, 0, 0, 0, b"R3Dinde2"),
        b"R3Dindex",
        struct.pack("<Q8s", 2**63, b"R3Dindex"),
        struct.pack("<Q8s", 10**6, b"R3Dindex"),
        struct.pack("<QIQ8s", 2**63, 100, 1, b"R3Dindex"),
        struct.pack("<QIQ8s", 0, 2**31, 1, b"R3Dindex"),
        struct.pack("<QIQ8s", 500, 100, 1, b"R3Dindex"),
        struct.pack("<QIQ8s", 0, 0, 1, b"R3Dindex"),
    ],
)
def test_a_damaged_index_leads_nowhere(tmp_path: Path, trailer: bytes) -> None:
    frames = frames_of_sizes([50] * 5)
    path = write(tmp_path, frames)
    path.write_bytes(path.read_bytes()[: -index_bytes(path, 5)] + trailer)
    assert by_hdf5(path) == frames
    assert read_indexed(path, [0]) is None
    store = open_store(tmp_path, "hdf5")
    assert store.read("v", [0]) == frames[:1]
    record = store.record("v")
    assert record is not None
    if trailer and len(trailer) != 28:
        assert record.reason == "v.hdf5: the index of its frames is damaged"
    else:  # nothing vouches for the places in an index of before, of one frame
        assert record == RECORD


def with_former_index(path: Path, n: int) -> None:
    """Give a file the index that it had before there were checksums and a record in it."""
    data = path.read_bytes()
    index = data[-index_bytes(path, n) :]
    places = b"".join(index[i * 16 : i * 16 + 12] for i in range(n))
    trailer = struct.pack("<Q8s", n, b"R3Dindex")
    path.write_bytes(data[: -len(index)] + places + trailer)


def test_files_of_before_are_read(tmp_path: Path) -> None:
    frames = frames_of_sizes([50] * 5)
    path = write(tmp_path, frames)
    with_former_index(path, 5)
    assert read_indexed(path, [4, 0]) == [frames[4], frames[0]]
    for verify in (False, True):
        assert open_store(tmp_path, "hdf5").record("v", verify=verify) == RECORD


def read_or_error(store: FrameStore, key: str, index: int) -> bytes | str:
    try:
        return store.read(key, [index])[0]
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("index", ["ours", "former", "none"])
def test_a_zeroed_block_ends_no_process_and_spoils_no_frame(tmp_path: Path, index: str) -> None:
    """Whichever block it is, a frame is right, or an error names it."""
    frames = frames_of_sizes([3_000] * 20)
    whole = write(tmp_path, frames)
    if index == "former":
        with_former_index(whole, 20)
    elif index == "none":
        whole.write_bytes(whole.read_bytes()[: -index_bytes(whole, 20)])
    data = whole.read_bytes()
    blocks = range(0, len(data), 4096)
    if index != "ours":  # HDF5 hangs on most of them, which takes seconds each
        blocks = blocks[3:5]
    store = open_store(tmp_path, "hdf5")
    named = 0
    for n, begin in enumerate(blocks):
        (tmp_path / f"b{n}.hdf5").write_bytes(
            data[:begin] + bytes(min(4096, len(data) - begin)) + data[begin + 4096 :]
        )
        store.record(f"b{n}")
        for i, frame in enumerate(frames):
            found = read_or_error(store, f"b{n}", i)
            if isinstance(found, str):
                assert "extract the video again" in found
                named += 1
            else:
                assert index != "ours" or found == frame  # else nothing vouches for it
        record = store.record(f"b{n}", verify=True)
        assert record is not None
        assert record.frames in (0, 20)
    assert named >= len(blocks) - 3


def test_a_spoilt_byte_names_its_frame(tmp_path: Path) -> None:
    frames = frames_of_sizes([500] * 5)
    path = write(tmp_path, frames)
    data = bytearray(path.read_bytes())
    data[data.index(frames[3]) + 100] ^= 1
    path.write_bytes(data)
    store = open_store(tmp_path, "hdf5")
    assert store.read("v", [0, 1, 2, 4]) == [*frames[:3], frames[4]]
    with pytest.raises(InputError, match=r"v\.hdf5: frame 3 is damaged; extract the video again"):
        store.read("v", [2, 3])


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    data = write(tmp_path, frames_of_sizes([500] * 5)).read_bytes()
    store = open_store(tmp_path, "hdf5")
    for part in (0, 1, 10, 1000, len(data) // 2, len(data) - 300):
        (tmp_path / "cut.hdf5").write_bytes(data[:part])
        record = store.record("cut")
        assert record is not None
        if part < len(data) - 300:
            assert record.frames == 0
            with pytest.raises(InputError, match="extract the video again"):
                store.read("cut", [0])


def helped(folder: Path, frames: list[bytes]) -> tuple[FrameStore, psutil.Process]:
    """A store of a video without an index, and the process that reads it."""
    path = write(folder, frames)
    path.write_bytes(path.read_bytes()[: -index_bytes(path, len(frames))])
    store = open_store(folder, "hdf5")
    assert store.read("v", [0]) == frames[:1]
    (helper,) = (
        child
        for child in psutil.Process().children()
        if any("hdf5child" in argument for argument in child.cmdline())
    )
    return store, helper


def test_a_helper_that_is_ended_from_outside_is_replaced(tmp_path: Path) -> None:
    frames = frames_of_sizes([50] * 5)
    store, helper = helped(tmp_path, frames)
    helper.send_signal(signal.SIGTERM)  # as a batch system sends to all
    assert store.read("v", [1]) == frames[1:2]
    helper.kill()
    assert store.read("v", [2, 4]) == [frames[2], frames[4]]


def test_a_helper_has_no_limit_for_all_that_it_reads(tmp_path: Path) -> None:
    """On a busy machine the system's clock for that is seconds ahead: sound files were damaged."""
    _, helper = helped(tmp_path, frames_of_sizes([50] * 5))
    assert helper.rlimit(psutil.RLIMIT_CPU) == psutil.Process().rlimit(psutil.RLIMIT_CPU)


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual", "external storage"])
def test_frames_kept_elsewhere_are_refused(tmp_path: Path, kind: str) -> None:
    """A file from elsewhere must not make us read others."""
    other = write(tmp_path, frames_of_sizes([50] * 5)).rename(tmp_path / "other.hdf5")
    (tmp_path / "raw").write_bytes(bytes(100))
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        if kind == "external link":
            file["video"] = h5py.ExternalLink(str(other), "/video")
        elif kind == "soft link":
            file["video"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((5,), dtype=np.uint8)
            layout[:] = h5py.VirtualSource(str(other), "video", shape=(5,))
            file.create_virtual_dataset("video", layout)
        else:
            file.create_dataset("video", (5,), np.uint8, external=[(str(tmp_path / "raw"), 0, 5)])
    store = open_store(tmp_path, "hdf5")
    with pytest.raises(InputError, match="accepted are frames in the file itself"):
        store.read("v", [0])
    record = store.record("v")
    assert record is not None
    assert (record.status, record.frames) == ("corrupt", 0)


def test_a_file_with_a_user_block_put_before_it(tmp_path: Path) -> None:
    frames = frames_of_sizes([50] * 5)
    path = write(tmp_path, frames)
    path.write_bytes(bytes(512) + path.read_bytes())
    assert by_hdf5(path) == frames
    assert open_store(tmp_path, "hdf5").read("v", [0, 4]) == [frames[0], frames[4]]


def test_files_without_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_indexed(tmp_path / "empty", [0]) is None
    with h5py.File(tmp_path / "reference.hdf5", "w") as file:
        vector = file.create_dataset("video", (2,), dtype=h5py.vlen_dtype(np.uint8))
        vector[0] = vector[1] = np.frombuffer(b"jpeg", np.uint8)
    assert read_indexed(tmp_path / "reference.hdf5", [0]) is None
    with pytest.raises(FileNotFoundError):
        read_indexed(tmp_path / "absent", [0])


def test_frames_stored_in_another_way_get_none(tmp_path: Path) -> None:
    """Here a heap collection is not where the elements say."""
    path = write(tmp_path, frames_of_sizes([50] * 5))
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes().replace(b"GCOL", b"HEAP"))
    with h5py.File(path, "r") as file, other.open("rb") as image:
        assert frame_index(image.fileno(), file["video"], [0] * 5, "") == b""
