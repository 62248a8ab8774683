"""Data sets for the benchmarks, cut from the real clips of R3D_SHARED."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from r3d.annotations.writing import write_annotation
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.layouts import FileType
from r3d.frames.ledger import write_ledger
from r3d.frames.shards import write_shards
from r3d.lists import SplitOptions, read_list, save_list


def real_clip(name: str) -> Path:
    """A clip of R3D_SHARED, by default the folder `shared` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("R3D_SHARED", default)) / "data/videos" / name
    if not path.is_file():
        sys.exit(f"error: {path} is no file; set R3D_SHARED to the folder of the real clips")
    return path


def copies(clip: Path, folder: Path, n: int, *, n_classes: int = 1) -> list[Path]:
    """`n` copies of a clip in class folders of its name."""
    folders = _class_folders(clip, folder, n, n_classes)
    return [
        Path(shutil.copy(clip, target / f"{clip.stem}_{i:04d}{clip.suffix}"))
        for i, target in enumerate(folders)
    ]


def cuts(
    clip: Path,
    folder: Path,
    n: int,
    *,
    n_classes: int = 1,
    seconds: float,
    step: float = 0.04,
    filters: str = "null",
    quality: int = 20,
) -> list[Path]:
    """`n` pieces of a clip, each beginning `step` seconds later, as H.264 in its class folders."""
    folders = _class_folders(clip, folder, n, n_classes)
    paths = [target / f"{clip.stem}_{i:04d}.mp4" for i, target in enumerate(folders)]
    for i, path in enumerate(paths):
        part = ["-ss", f"{i * step:.3f}", "-t", f"{seconds}"]
        coding = ["-vf", filters, "-c:v", "libx264", "-crf", str(quality), "-pix_fmt", "yuv420p"]
        source = ["-loglevel", "error", "-nostdin", *part, "-i", str(clip), "-an"]
        subprocess.run([ffmpeg_binary(), *source, *coding, str(path)], check=True)
    return paths


def _class_folders(clip: Path, folder: Path, n: int, n_classes: int) -> list[Path]:
    """A class folder for each of `n` videos, the classes in turns."""
    folders = [folder / f"{clip.stem}_{i % n_classes}" for i in range(n)]
    for target in folders:
        target.mkdir(parents=True, exist_ok=True)
    return folders


def extract_all(
    videos: Path,
    folder: Path,
    file_type: FileType,
    *,
    threads: int,
    validation: float,
    short_side: int = 240,
) -> Path:
    """Frames of a folder of class folders, by the steps of the workflow: the annotation JSON."""
    made = folder / (file_type if short_side == 240 else f"{file_type}{short_side}")
    table, labels = made / "list.tsv", made / "labels.txt"
    split = SplitOptions(validation_fraction=validation)
    made.mkdir(parents=True, exist_ok=True)
    save_list(read_list("folders", videos, "all", split), table, labels)
    (shard,) = write_shards([table], made / "shards", 1)
    manifest, ledger = made / "manifest.tsv", made / "ledger.tsv"
    options = FrameOptions(file_type=file_type, short_side=short_side)
    extract_shard(
        shard, videos, made / "frames", manifest, options, threads=threads, progress=False
    )
    refused = made / "refused.tsv"
    write_ledger([manifest], {"all": table}, ledger, max_failure_rate=0, refused=refused)
    annotation = made / "annotation.json"
    write_annotation(table, labels, ledger, annotation, file_type=file_type)
    return annotation
