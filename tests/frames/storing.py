"""Writing frames into a store, and making them."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import simplejpeg

from r3d.frames.layouts import FileType
from r3d.frames.stores import (
    FrameStore,
    VideoRecord,
    partial_folder,
)

RECORD = VideoRecord("ok", "", 3, 25.0, 20, 16, {"size": 5, "mtime_ns": 7, "fps": None})


LAYOUTS: list[FileType] = ["jpg", "hdf5"]


def jpegs(n: int, seed: int = 0, size: tuple[int, int] = (20, 16)) -> list[bytes]:
    images = np.random.default_rng(seed).integers(0, 255, (n, size[1], size[0], 3), np.uint8)
    return [simplejpeg.encode_jpeg(image) for image in images]


def write(store: FrameStore, key: str, frames: list[bytes], record: VideoRecord = RECORD) -> None:
    with partial_folder(store.folder) as partial, store.writer(partial / "0") as writer:
        for jpeg in frames:
            writer.append(jpeg)
        writer.commit(store.path(key), replace(record, frames=len(frames)))


def write_like_the_reference(store: FrameStore, key: str, frames: list[bytes]) -> None:
    """Without a record, as others made them; b"" is a frame that is not there."""
    path = store.path(key)
    if store.file_type == "jpg":
        path.mkdir(parents=True)
        for i, jpeg in enumerate(frames, start=1):
            if jpeg:
                (path / f"image_{i:05d}.jpg").write_bytes(jpeg)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        vector = file.create_dataset("video", (len(frames),), dtype=h5py.vlen_dtype(np.uint8))
        for i, jpeg in enumerate(frames):
            if jpeg:
                vector[i] = np.frombuffer(jpeg, np.uint8)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def first(store: FrameStore) -> int:
    return {"jpg": 1, "hdf5": 0}[store.file_type]
