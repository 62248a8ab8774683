"""How cost grows: with the listed videos, with clip length, batch and workers, and in memory.

The loader reads frames of real clips (`R3D_SHARED`, see docs/testing.md) from a jpg store that lies
in the page cache, so what counts is the computing.

    python benchmarks/growth.py
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from largelists import Cost, ListedData
from sidebyside import compare, publish, table

from r3d.annotations.reading import Annotation
from r3d.clips.datasets import TrainingClipOptions, TrainingClips
from r3d.clips.loader import EpochSampler, make_loader
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.shards import SHARD_COLUMNS
from r3d.frames.stores import FrameStore, open_store
from r3d.tables import write_table

SHARED = Path(os.environ.get("R3D_SHARED", Path(__file__).parents[2] / "shared"))
CLIPS = ("kinetics_clip.mp4", "ucf101_clip.avi")

N_VIDEOS = (1_000, 10_000, 100_000, 650_000)
N_SHARDS = 256
N_FRAMES_A_TURN = 4096  # of a loader, in each round


def main() -> None:
    """Measure all tables; they go into one section."""
    parts = [
        f"Videos listed ({N_SHARDS} shards; seconds of a core, peak memory)",
        lists_table(),
    ]
    with tempfile.TemporaryDirectory() as folder:
        store, keys = real_frames(Path(folder))
        parts += [
            "Training clips of 112 x 112 from 240p jpg, where nothing else is said of 16 frames in "
            "batches of 32 with 2 workers",
            loader_table(store, keys),
            "Memory of the loader's workers, with as many samples, after some batches",
            memory_table(store, keys),
        ]
    packages = ["snakemake", "pandas", "torch", "simplejpeg"]
    publish("growth", "\n\n".join(parts), packages=packages)


# --- lists


def lists_table() -> str:
    """A row a number of videos, a column a step."""
    steps: dict[str, Callable[[ListedData], Cost]] = {
        "lists": ListedData.parse_lists,
        "shards": ListedData.divide,
        "dry run": ListedData.dry_run,
        "ledger": ListedData.gather,
        "annotation JSON": ListedData.annotate,
    }
    rows = []
    for n_videos in N_VIDEOS:
        with tempfile.TemporaryDirectory() as folder:
            data = ListedData(Path(folder), n_videos, shards=N_SHARDS)
            cells = [f"{n_videos:,}"]
            for name, step in steps.items():
                if name == "ledger":
                    data.pretend_extraction()
                cost = step(data)
                cells.append(f"{cost.core_seconds:.1f} s, {cost.megabytes:.0f} MB")
            rows.append(cells)
    return table(["videos", *steps], rows)


# --- loader


class Setting(NamedTuple):
    """One way to load."""

    frames: int = 16
    batch_size: int = 32
    n_workers: int = 2


def loader_table(store: FrameStore, keys: dict[str, int]) -> str:
    """Clips a second, with one setting changed at a time."""
    settings = [Setting(frames=n) for n in (16, 32, 64)]
    settings += [Setting(batch_size=n) for n in (8, 128)]
    settings += [Setting(n_workers=n) for n in (0, 1, 4)]
    variants = {setting: _turn(store, keys, setting) for setting in settings}
    rates = compare({str(tuple(setting)): run for setting, run in variants.items()}, rounds=5)
    rows = []
    for setting in settings:
        clips = rates[str(tuple(setting))]
        ratios = clips / rates[str(tuple(Setting()))]
        row = (*setting, f"{np.median(clips):.0f}", f"{np.median(clips) * setting.frames:.0f}")
        rows.append([*row, f"{np.median(ratios):.2f}"])
    columns = ["frames", "batch", "workers", "clips/s", "frames/s", "clips/s, x the first row"]
    return table(columns, rows)


def _turn(store: FrameStore, keys: dict[str, int], setting: Setting) -> Callable[[], float]:
    """A function that loads some clips and returns how many."""
    n = max(setting.batch_size, N_FRAMES_A_TURN // setting.frames)
    options = TrainingClipOptions(sample_duration=setting.frames)
    sampler = EpochSampler(n, seed=1)
    loader = make_loader(
        TrainingClips(annotation(keys, n), store, options),
        sampler,
        batch_size=setting.batch_size,
        n_workers=setting.n_workers,
    )

    def run() -> float:
        return sum(len(batch.clips) for batch in loader)

    return run


# --- memory


def memory_table(store: FrameStore, keys: dict[str, int]) -> str:
    """What workers hold: together, each page divided by those that share it, and each for itself.

    The second is what would grow if a worker had a copy of the lists.
    """
    rows = []
    for n_workers in (1, 2, 4):
        cells: list[object] = [n_workers]
        for n_videos in (1_000, 650_000):
            n, own = _worker_memory(store, keys, n_videos, n_workers)
            cells += [f"{n:.0f} MB", f"{own:.0f} MB"]
        rows.append(cells)
    columns = ["workers"]
    for n_videos in ("1,000", "650,000"):
        columns += [f"{n_videos} samples, together", "one's own"]
    return table(columns, rows)


def _worker_memory(
    store: FrameStore, keys: dict[str, int], n_videos: int, n_workers: int
) -> tuple[float, float]:
    """Proportional memory of all workers, and the largest private memory of one, in 2^20 bytes."""
    gc.collect()  # the workers before these end with their loader
    others = set(psutil.Process().children())
    loader = make_loader(
        TrainingClips(annotation(keys, n_videos), store, TrainingClipOptions()),
        EpochSampler(n_videos, seed=1),
        batch_size=8,
        n_workers=n_workers,
    )
    batches = iter(loader)
    for _ in range(8 * n_workers):
        next(batches)
    workers = set(psutil.Process().children()) - others
    memory = [worker.memory_full_info() for worker in workers]
    return sum(m.pss for m in memory) / 2**20, max(m.uss for m in memory) / 2**20


# --- data


def real_frames(folder: Path) -> tuple[FrameStore, dict[str, int]]:
    """A jpg store of the real clips, and how many frames there are under each key."""
    videos = folder / "videos"
    videos.mkdir()
    rows = []
    for name in CLIPS:
        shutil.copy(SHARED / "data/videos" / name, videos)
        key = f"real/{Path(name).stem}"
        row = {"id": Path(name).stem, "label": "real", "path": name, "key": key}
        rows.append([row.get(column, "") for column in SHARD_COLUMNS])
    write_table(pd.DataFrame(rows, columns=list(SHARD_COLUMNS)), folder / "shard.tsv")
    manifest = folder / "manifest.tsv"
    paths = (folder / "shard.tsv", videos, folder / "frames", manifest)
    extract_shard(*paths, FrameOptions(), threads=2, progress=False)
    counts = pd.read_csv(manifest, sep="\t").set_index("key")["frames"].to_dict()
    return open_store(folder / "frames", "jpg"), counts


def annotation(keys: dict[str, int], n_videos: int) -> Annotation:
    """So many videos with ids of their own and the frames of these keys in turn."""
    text = np.dtypes.StringDType()
    turn = np.arange(n_videos) % len(keys)
    begins = np.ones(n_videos, np.int32)
    return Annotation(
        labels=["real"],
        ids=np.array([f"abcdefghijk_{i:06}_{i + 10:06}" for i in range(n_videos)], dtype=text),
        keys=np.array(list(keys), dtype=text)[turn],
        video_paths=np.array([""] * n_videos, dtype=text),
        targets=np.zeros(n_videos, np.int32),
        begins=begins,
        ends=begins + np.array(list(keys.values()), np.int32)[turn],
        n_without_frames=0,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
