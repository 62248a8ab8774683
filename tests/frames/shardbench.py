"""A shard, its videos and its frames, for tests of extraction."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import open_store
from r3d.tables import read_columns

SHARD_COLUMNS = ["id", "label", "key", "path", "start", "end"]


class Bench:
    """A shard, its videos and its frames in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos = folder / "videos"
        self.frames = folder / "frames"
        self.manifest = folder / "manifest.tsv"
        self.videos.mkdir()
        self.rows: list[tuple[str, ...]] = []

    def add(self, name: str, path: str, start: str = "", end: str = "") -> None:
        self.rows.append((name, "a b", f"a b/{name}", path, start, end))

    def add_video(self, name: str, source: Path) -> Path:
        path = self.videos / f"{name}{source.suffix}"
        shutil.copy(source, path)
        self.add(name, path.name)
        return path

    def write_shard(self) -> Path:
        path = self.folder / "000.tsv"
        pd.DataFrame(self.rows, columns=SHARD_COLUMNS).to_csv(path, sep="\t", index=False)
        return path

    def run(
        self, options: FrameOptions | None = None, threads: int = 2, verify: bool = False
    ) -> pd.DataFrame:
        shard = self.write_shard()
        options = options or FrameOptions(short_side=0)
        arguments = (shard, self.videos, self.frames, self.manifest, options)
        extract_shard(*arguments, threads=threads, verify=verify, progress=False)
        table = read_columns(self.manifest, MANIFEST_COLUMNS)
        assert table["id"].tolist() == [row[0] for row in self.rows]
        return table.set_index("id")

    def contents(self) -> dict[str, bytes]:
        """All bytes of the store; of an hdf5 file its frames and record."""
        found: dict[str, bytes] = {}
        for path in sorted(self.frames.rglob("*")):
            name = str(path.relative_to(self.frames))
            if path.suffix == ".hdf5":
                with h5py.File(path, locking=False) as file:
                    found[name] = b"".join(frame.tobytes() for frame in file["video"])
                    found[f"{name} record"] = file.attrs["record"].encode()
            elif path.is_file():
                found[name] = path.read_bytes()
        return found


def make_like_the_reference(bench: Bench, name: str, layout: FileType, *options: str) -> None:
    """Frames without a record, made by the plain recipe."""
    folder = bench.folder / "jpg"
    folder.mkdir(exist_ok=True)
    video = next(bench.videos.glob(f"{name}.*"))
    command = [ffmpeg_binary(), "-loglevel", "error", "-i", str(video), *options]
    subprocess.run([*command, "image_%05d.jpg"], cwd=folder, check=True)
    target = open_store(bench.frames, layout).path(f"a b/{name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if layout == "jpg":
        folder.rename(target)
        return
    jpegs = [path.read_bytes() for path in sorted(folder.iterdir())]
    with h5py.File(target, "w") as file:
        vector = file.create_dataset("video", (len(jpegs),), dtype=h5py.vlen_dtype(np.uint8))
        for i, jpeg in enumerate(jpegs):
            vector[i] = np.frombuffer(jpeg, np.uint8)


def rewrite_record(bench: Bench, name: str, **changes: object) -> dict[str, Any]:
    """Change what is remembered of the frames of a video; return what was before."""
    (path,) = (path for path in (bench.frames / "a b" / name).iterdir() if path.suffix != ".jpg")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))
    return record
