"""The two layouts of frames on disk: written whole, read back, counted when others made them."""

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from storing import LAYOUTS, RECORD, files, first, jpegs, write, write_like_the_reference

from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.frames.stores import (
    FrameStore,
    Hdf5Store,
    NameRefused,
    VideoRecord,
    filling,
    open_store,
    partial_folder,
)


def test_the_layouts_are_those_of_the_reference(tmp_path: Path) -> None:
    frames = jpegs(3)
    for layout in LAYOUTS:
        write(open_store(tmp_path, layout), "a b/v_1.x", frames)
    names = [
        f"a b/v_1.x/{name}" for name in (".video.json", *(f"image_0000{i}.jpg" for i in "123"))
    ]
    assert files(tmp_path) == sorted([*names, "a b/v_1.x.hdf5"])
    assert (tmp_path / "a b/v_1.x/image_00003.jpg").read_bytes() == frames[2]
    with h5py.File(tmp_path / "a b/v_1.x.hdf5") as file:
        assert file["video"].dtype == object
        assert [frame.tobytes() for frame in file["video"]] == frames
        assert file["video"][1].dtype == np.uint8


@pytest.mark.parametrize("n", [1, 5, 300])
def test_frames_come_back_in_any_order(store: FrameStore, n: int) -> None:
    frames = jpegs(n, size=(8, 8))
    write(store, "a/v", frames)
    for indices in ([0], [n - 1, 0, n - 1], list(range(n)), list(range(0, n, 97)), []):
        numbers = [first(store) + i for i in indices]
        assert store.read("a/v", numbers) == [frames[i] for i in indices]
        assert store.read_at(str(store.path("a/v")), numbers) == [frames[i] for i in indices]


def test_the_record_comes_back(store: FrameStore) -> None:
    assert store.record("a/v") is None
    write(store, "a/v", jpegs(3))
    assert store.record("a/v") == RECORD


def test_the_writer_knows_number_and_size(store: FrameStore) -> None:
    with partial_folder(store.folder) as partial, store.writer(partial / "0") as writer:
        for jpeg in jpegs(2):
            writer.append(jpeg)
        assert (writer.frames, writer.width, writer.height) == (2, 20, 16)


def test_frames_of_equal_length(store: FrameStore) -> None:
    write(store, "a/v", jpegs(1) * 5)
    assert store.read("a/v", [first(store) + 4]) == jpegs(1)


def test_new_frames_replace_all_old_ones(store: FrameStore) -> None:
    write(store, "a/v", jpegs(5))
    write(store, "a/v", jpegs(2, seed=1))
    assert store.read("a/v", [first(store), first(store) + 1]) == jpegs(2, seed=1)
    with pytest.raises(InputError):
        store.read("a/v", [first(store) + 2])


def test_nothing_is_left_of_what_was_not_committed(store: FrameStore) -> None:
    def fail() -> None:
        with partial_folder(store.folder) as partial, store.writer(partial / "0") as writer:
            for jpeg in jpegs(200, size=(8, 8)):
                writer.append(jpeg)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(store.folder) == []
    assert list((store.folder / ".partial").iterdir()) == []


@pytest.mark.parametrize("key", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/.", ".partial/x"])
def test_a_key_stays_in_the_store(store: FrameStore, key: str) -> None:
    for use in (store.path, store.record, lambda key: store.read(key, [1])):
        with pytest.raises(InputError, match="is no place in the store"):
            use(key)


def test_frames_of_the_reference_are_counted(store: FrameStore) -> None:
    write_like_the_reference(store, "a/v", jpegs(4))
    expected = VideoRecord("ok", "", 4, None, 20, 16, None)
    assert store.record("a/v") == expected
    assert store.record("a/v") == expected
    assert store.read("a/v", [first(store) + 3]) == jpegs(4)[3:]


def test_frames_of_the_reference_are_counted_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, "jpg")
    write_like_the_reference(store, "a/v", jpegs(3))
    found = store.record("a/v")
    assert found is not None
    assert (tmp_path / "a/v/.video.json").exists()
    store.adopt("a/v", RECORD)
    assert store.record("a/v") == RECORD


@pytest.mark.parametrize(
    ("layout", "absent", "reason"),
    [
        ("jpg", 0, "image_00001.jpg is missing"),
        ("jpg", 2, "image_00003.jpg is missing"),
        ("hdf5", 4, "v.hdf5: the last frames are missing"),
    ],
)
def test_a_missing_frame_is_named(
    tmp_path: Path, layout: FileType, absent: int, reason: str
) -> None:
    store = open_store(tmp_path, layout)
    frames = jpegs(5)
    frames[absent] = b""
    write_like_the_reference(store, "a/v", frames)
    record = store.record("a/v")
    assert record is not None
    assert (record.status, record.frames, record.reason) == ("corrupt", 0, reason)


def test_what_is_no_jpeg_is_not_counted(store: FrameStore) -> None:
    write_like_the_reference(store, "a/v", [b"no picture", *jpegs(3)])
    record = store.record("a/v")
    assert record is not None
    assert (record.status, record.frames) == ("corrupt", 0)
    assert "is no JPEG" in record.reason


def test_a_broken_file_is_not_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path, "hdf5")
    write(store, "a/v", jpegs(3))
    path = store.path("a/v")
    path.write_bytes(path.read_bytes()[:1000])
    record = store.record("a/v")
    assert record is not None
    assert record.frames == 0
    assert record.reason.startswith("v.hdf5 cannot be read: ")


def test_other_files_are_no_frames(tmp_path: Path) -> None:
    store = open_store(tmp_path, "jpg")
    folder = tmp_path / "a/v"
    folder.mkdir(parents=True)
    (folder / "n_frames").write_text("3")
    assert store.record("a/v") is None


@pytest.mark.parametrize(
    ("layout", "index", "named"),
    [
        ("jpg", 4, r"v/image_00004\.jpg: the frame cannot be read \(No such file"),
        ("jpg", 0, r"v/image_00000\.jpg"),
        ("jpg", 2, r"v/image_00002\.jpg: the frame is empty"),
        ("hdf5", 3, r"v\.hdf5: no frame 3 in video; accepted are 0 to 2"),
        ("hdf5", -1, r"v\.hdf5: no frame -1 in video"),
        ("hdf5", 1, r"v\.hdf5: frame 1 of video is empty"),
    ],
)
def test_an_unreadable_frame_is_named(
    tmp_path: Path, layout: FileType, index: int, named: str
) -> None:
    store = open_store(tmp_path, layout)
    frames = jpegs(3)
    frames[1] = b""
    write_like_the_reference(store, "a/v", frames)
    if layout == "jpg":
        (store.path("a/v") / "image_00002.jpg").touch()
    with pytest.raises(InputError, match=named):
        store.read("a/v", [index])


def test_an_absent_video_is_named(store: FrameStore) -> None:
    with pytest.raises(InputError, match=r"a/gone.*cannot be read"):
        store.read("a/gone", [1])


def test_flow_is_read(tmp_path: Path) -> None:
    u, v = jpegs(4, seed=1), jpegs(4, seed=2)
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        for name, frames in (("video_u", u), ("video_v", v)):
            vector = file.create_dataset(name, (4,), dtype=h5py.vlen_dtype(np.uint8))
            for i, jpeg in enumerate(frames):
                vector[i] = np.frombuffer(jpeg, np.uint8)
    store = Hdf5Store(tmp_path)
    assert store.read_flow("v", [3, 1]) == ([u[3], u[1]], [v[3], v[1]])
    assert store.read_flow("v", []) == ([], [])
    assert store.record("v") == VideoRecord("ok", "", 4, None, 20, 16, None)
    with pytest.raises(InputError, match=r"v\.hdf5: has no video; .* optical flow"):
        store.read("v", [0])
    with pytest.raises(InputError, match="optical flow, which cannot"):
        write(store, "v", jpegs(2))
    assert store.read_flow("v", [0])[0] == u[:1]


def test_a_path_that_is_none_is_named(store: FrameStore) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        store.read_at("a\0b", [1])


@pytest.mark.parametrize("content", [np.zeros((3, 4), np.uint8), np.uint8(3), "text"])
def test_a_video_that_is_no_vector_of_jpegs_is_named(tmp_path: Path, content: object) -> None:
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file["video"] = content
    with pytest.raises(InputError, match=r"v\.hdf5: frames? .*video"):
        Hdf5Store(tmp_path).read("v", [0])


def test_flow_that_is_not_there_is_said(tmp_path: Path) -> None:
    store = Hdf5Store(tmp_path)
    write(store, "v", jpegs(2))
    with pytest.raises(InputError, match=r"v\.hdf5: has no video_u; .* r3d frames does not make"):
        store.read_flow("v", [0])


def _read_in_child(store: FrameStore, results: "multiprocessing.Queue[bytes]") -> None:
    for i in range(50):
        results.put(store.read("a/v", [i % 5])[0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_works_in_workers(tmp_path: Path, method: str) -> None:
    store = open_store(tmp_path, "hdf5")
    frames = jpegs(5)
    write(store, "a/v", frames)
    assert store.read("a/v", [0]) == frames[:1]
    context = multiprocessing.get_context(method)
    results = context.Queue()
    children = [context.Process(target=_read_in_child, args=(store, results)) for _ in range(2)]
    for child in children:
        child.start()
    for i in range(50):
        assert store.read("a/v", [i % 5]) == [frames[i % 5]]
    got = [results.get(timeout=30) for _ in range(100)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(got) == sorted(frames * 20)


def test_a_store_is_pickled(store: FrameStore) -> None:
    write(store, "a/v", jpegs(2))
    store.read("a/v", [1])
    assert pickle.loads(pickle.dumps(store)).read("a/v", [1]) == store.read("a/v", [1])


def test_folders_of_dead_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from r3d.frames.stores import partial_folder
        with partial_folder(Path(sys.argv[1])) as folder:
            (folder / "half").mkdir()
            print(folder.name, flush=True)
            if sys.argv[2] == "dies":
                os._exit(1)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    dead = subprocess.run([*command, "dies"], stdout=subprocess.PIPE, text=True).stdout.strip()
    assert (tmp_path / ".partial" / dead / "half").is_dir()
    foreign = tmp_path / ".partial/1-ab@elsewhere"
    foreign.mkdir()
    foreign.with_name("1-ab@elsewhere.lock").touch()
    with subprocess.Popen(
        [*command, "lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as live:
        assert live.stdout is not None
        alive = live.stdout.readline().strip()
        with partial_folder(tmp_path) as folder:
            left = {path.name for path in folder.parent.iterdir() if path.is_dir()}
            assert left == {alive, folder.name, foreign.name}
        live.communicate()
    os.utime(foreign.with_name("1-ab@elsewhere.lock"), (0, 0))
    with partial_folder(tmp_path):
        pass
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_store_that_cannot_be_written_is_no_fault_of_a_video(
    tmp_path: Path, store: FrameStore
) -> None:
    store.folder.write_text("a file in the way")
    with pytest.raises(InputError, match=r"frames cannot be written to .*store"):
        write(store, "a/v", jpegs(1))


def test_frames_in_the_place_of_a_folder(tmp_path: Path) -> None:
    store = open_store(tmp_path, "jpg")
    (tmp_path / "v").write_text("a file in the way")
    with pytest.raises(InputError, match=r"v: the frames cannot be read \(Not a directory\)"):
        store.record("v")


def test_a_record_that_is_not_readable_does_not_count(tmp_path: Path) -> None:
    store = open_store(tmp_path, "jpg")
    write(store, "a/v", jpegs(2))
    path = tmp_path / "a/v/.video.json"
    right = json.loads(path.read_text())
    wrong = ({"frames": 0}, {"frames": "2"}, {"frames": 1e99}, {"fps": "25"}, {"made_from": 3})
    texts = [json.dumps(right | change) for change in (*wrong, {"frames": 10**30}, {"width": None})]
    for text in ("", "{", json.dumps({"frames": 2}), "[]", *texts):
        path.write_text(text)
        record = store.record("a/v")
        assert record is not None
        assert record.frames == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with partial_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert list((tmp_path / ".partial").iterdir()) == []


@pytest.mark.parametrize("claimed", [(60000, 60000), (65500, 1100)])
def test_frames_that_claim_an_absurd_size_do_not_count(
    store: FrameStore, claimed: tuple[int, int]
) -> None:
    write_like_the_reference(store, "a/v", [of_size(jpegs(1)[0], *claimed)] * 3)
    record = store.record("a/v")
    assert record is not None
    assert (record.status, record.frames) == ("corrupt", 0)
    assert f"claims {claimed[0]} x {claimed[1]} pixels" in record.reason


def of_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header states another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@pytest.mark.parametrize("name", ["n" * 251, "n" * 255, "n" * 400, "é" * 127 + "x", "日" * 100])
def test_long_names_find_a_place_of_their_own(store: FrameStore, name: str) -> None:
    keys = [f"a/{name}", f"a/{name}1", f"{name}/v"]
    for seed, key in enumerate(keys):
        write(store, key, jpegs(2, seed=seed))
    for seed, key in enumerate(keys):
        assert store.read(key, [first(store)]) == jpegs(1, seed=seed)
        assert store.record(key) == replace(RECORD, frames=2)
    with pytest.raises(InputError):
        store.read(keys[0], [first(store) + 2])


def test_names_that_fit_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("n" * 250, "é" * 125):
        assert open_store(tmp_path, "hdf5").path(f"a/{name}") == tmp_path / f"a/{name}.hdf5"
    for name in ("n" * 255, "é" * 127):
        assert open_store(tmp_path, "jpg").path(f"a/{name}") == tmp_path / f"a/{name}"


def test_a_name_that_the_system_refuses_is_a_matter_of_one_video(store: FrameStore) -> None:
    key = "/".join(["folder" * 40] * 20)  # longer than a path may be
    assert store.record(key) is None
    with pytest.raises(NameRefused, match="File name too long; rename the video"):
        write(store, key, jpegs(1))
    assert files(store.folder) == []


RACE = """
    import sys
    from pathlib import Path
    from r3d.frames.stores import VideoRecord, open_store, partial_folder
    folder, layout = Path(sys.argv[1]), sys.argv[2]
    store = open_store(folder / "store", layout)
    jpeg = (folder / "jpeg").read_bytes()
    with partial_folder(store.folder) as partial:
        for i in range(150):
            with store.writer(partial / str(i)) as writer:
                writer.append(jpeg)
                writer.commit(store.path("a/v"), VideoRecord("ok", "", 1, 25.0, 20, 16, {}))
"""


def test_processes_may_make_the_same_frames_at_the_same_time(
    tmp_path: Path, store: FrameStore
) -> None:
    (frame,) = jpegs(1)
    (tmp_path / "jpeg").write_bytes(frame)
    command = [sys.executable, "-c", textwrap.dedent(RACE), str(tmp_path), store.file_type]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert store.read("a/v", [first(store)]) == [frame]
    assert store.record("a/v") == VideoRecord("ok", "", 1, 25.0, 20, 16, {})
    assert list((store.folder / ".partial").iterdir()) == []


MEASURED = """
    import resource, sys
    from pathlib import Path
    from r3d.frames.stores import VideoRecord, open_store, partial_folder
    folder, layout = Path(sys.argv[1]), sys.argv[2]
    store = open_store(folder / "store", layout)
    jpeg = (folder / "jpeg").read_bytes()
    peaks = []
    with partial_folder(store.folder) as partial:
        for n in (20, 3000):
            with store.writer(partial / str(n)) as writer:
                for _ in range(n):
                    writer.append(jpeg)
                writer.commit(store.path("a/v"), VideoRecord("ok", "", n, 25.0, 20, 16, {}))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print((peaks[1] - peaks[0]) // 1024)
"""


def test_a_long_video_is_written_in_little_memory(tmp_path: Path, store: FrameStore) -> None:
    (tmp_path / "jpeg").write_bytes(jpegs(1, size=(240, 180))[0])  # 3000 of them: over 100 MB
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path), store.file_type]
    grown_mb = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert grown_mb < 40


FULL = """
    import resource, sys
    from pathlib import Path
    from r3d.errors import InputError
    from r3d.frames.stores import VideoRecord, open_store, partial_folder
    folder, layout = Path(sys.argv[1]), sys.argv[2]
    store = open_store(folder / "store", layout)
    jpeg = (folder / "jpeg").read_bytes()
    with partial_folder(store.folder) as partial:
        for limit in (10, 700, 2000, 5000, 10_000, 100_000, 300_000, 430_000, 10**9):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                with store.writer(partial / "0") as writer:
                    for _ in range(300):
                        writer.append(jpeg)
                    writer.commit(store.path("a/v"), VideoRecord("ok", "", 300, 25.0, 9, 9, {}))
                print("written")
            except InputError as error:
                print(error)
"""


def test_a_disk_that_is_full_at_any_moment(tmp_path: Path) -> None:
    """HDF5 goes on as if it had written, and the process is well after it."""
    (frame,) = jpegs(1)
    (tmp_path / "jpeg").write_bytes(frame)
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path), "hdf5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert all("File too large; make room" in line for line in lines[:-2])
    assert lines[-1] == "written"
    assert open_store(tmp_path / "store", "hdf5").read("a/v", [0, 299]) == [frame] * 2


def test_a_store_to_which_nothing_is_added_is_not_written(tmp_path: Path) -> None:
    with filling(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with filling(tmp_path) as partial:
        assert partial() == partial()
        assert partial().is_dir()
    assert list((tmp_path / ".partial").iterdir()) == []
