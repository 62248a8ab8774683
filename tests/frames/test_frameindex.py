"""The index behind an HDF5 file: it leads to the frames, and never to anything else."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import simplejpeg

from r3d.frames.stores import VideoRecord, open_store, partial_folder
from r3d.frames.stores.frameindex import frame_index, read_indexed

RECORD = VideoRecord("ok", "", 0, 25.0, 20, 16, {"size": 1})


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
        writer.commit(store.path("v"), RECORD)
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


@pytest.mark.parametrize(
    "trailer",
    [
        b"",
        b"R3Dindex",
        struct.pack("<Q8s", 5, b"R3Dother"),
        struct.pack("<Q8s", 2**63, b"R3Dindex"),
        struct.pack("<Q8s", 10**6, b"R3Dindex"),
        struct.pack("<QIQ8s", 2**63, 100, 1, b"R3Dindex"),
        struct.pack("<QIQ8s", 0, 2**31, 1, b"R3Dindex"),
    ],
    ids=["none", "short", "other mark", "huge", "too many", "offset outside", "length outside"],
)
def test_a_damaged_index_leads_nowhere(tmp_path: Path, trailer: bytes) -> None:
    frames = frames_of_sizes([50] * 5)
    path = write(tmp_path, frames)
    index_bytes = len(frames) * 12 + 16
    path.write_bytes(path.read_bytes()[:-index_bytes] + trailer)
    assert by_hdf5(path) == frames
    assert read_indexed(path, [0]) is None
    assert open_store(tmp_path, "hdf5").read("v", [0]) == frames[:1]


@pytest.mark.parametrize("place", [(0, 10), (0, 0), (500, 100)])
def test_what_is_no_jpeg_is_left_to_hdf5(tmp_path: Path, place: tuple[int, int]) -> None:
    frames = frames_of_sizes([50] * 2)
    path = write(tmp_path, frames)
    trailer = struct.pack("<QIQIQ8s", *place, *place, 2, b"R3Dindex")
    path.write_bytes(path.read_bytes()[: -len(trailer)] + trailer)
    assert read_indexed(path, [1]) is None
    assert open_store(tmp_path, "hdf5").read("v", [1]) == frames[1:]


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
