"""A folder with the files that the examples of docstrings and docs read."""

import shutil
from pathlib import Path

import torch
from miniatures import Videos

from r3d.annotations.writing import write_annotation
from r3d.config.normalisation import input_normalisation
from r3d.config.options import RunOptions, TrainingOptions
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ledger import write_ledger
from r3d.frames.shards import write_shards
from r3d.inference.infer import infer
from r3d.inference.trained import load_model
from r3d.lists import SplitOptions, read_list, save_list
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint
from r3d.motion import render_motion


def annotate(
    folder: Path,
    lists: Path,
    videos: Path,
    frames: Path,
    output: Path,
    *,
    split: str,
    short_side: int,
) -> list[str]:
    """Extract the frames of a split in UCF-101's layout and write its annotation; its classes."""
    video_list = read_list("ucf101", lists, split, SplitOptions())
    save_list(video_list, folder / "list.tsv", folder / "labels.txt")
    (shard,) = write_shards([folder / "list.tsv"], folder / "shards", 1)
    options = FrameOptions(short_side=short_side, quality=2)
    extract_shard(
        shard, videos, frames, folder / "manifest.tsv", options, threads=2, progress=False
    )
    write_ledger(
        [folder / "manifest.tsv"],
        {split: folder / "list.tsv"},
        folder / "ledger.tsv",
        max_failure_rate=0,
        refused=folder / "refused.tsv",
    )
    write_annotation(
        folder / "list.tsv", folder / "labels.txt", folder / "ledger.tsv", output, file_type="jpg"
    )
    return video_list.labels


def write_model(path: Path, labels: list[str], **options: object) -> None:
    """A network that was never trained, as a training would hand it on."""
    torch.manual_seed(1)
    chosen = TrainingOptions(model_depth=10, resnet_widen_factor=0.25, **options)
    network = build_model(n_classes=len(labels), **chosen.network())
    write_checkpoint(
        path,
        Checkpoint(
            state_dict=network.state_dict(),
            epoch=1,
            architecture=network.architecture,
            config=chosen.model_dump(),
            labels=labels,
            normalisation=input_normalisation(chosen),
        ),
    )


def docstring_folder(folder: Path) -> None:
    """Two classes: annotation.json, frames, model.pth, video.avi and result.json."""
    videos = Videos(folder / "kinds")
    lists = folder / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 left\n2 right\n")
    names = {
        (label, group): f"{label}/v_{label}_g{group:02d}_c01.avi"
        for label in ("left", "right")
        for group in (1, 2, 3)
    }
    for (label, group), name in names.items():
        videos.put(folder / "videos" / name, kind=int(label == "right"), seconds=3.2)
        file = lists / ("testlist01.txt" if group == 1 else "trainlist01.txt")
        number = "" if group == 1 else f" {1 + (label == 'right')}"
        with file.open("a") as lines:
            lines.write(f"{name}{number}\n")
    output = folder / "annotation.json"
    labels = annotate(
        folder, lists, folder / "videos", folder / "frames", output, split="01", short_side=36
    )
    write_model(folder / "model.pth", labels, sample_size=32)
    shutil.copy(folder / "videos/left/v_left_g01_c01.avi", folder / "video.avi")
    infer(
        load_model(folder / "model.pth").options,
        annotation=output,
        frames=folder / "frames",
        model=folder / "model.pth",
        output=folder / "result.json",
        run=RunOptions(n_threads=0),
    )


def demo_folder(folder: Path) -> None:
    """The files of `make demo` that docs/library.md reads, of fewer videos and less training."""
    videos, lists = folder / "data/motion/videos", folder / "data/motion/lists"
    render_motion(videos, lists, videos_per_class=4, n_frames=24)
    output = folder / "results/datasets/motion/annotations/motion_01.json"
    labels = annotate(
        folder, lists, videos, folder / "data/motion/jpg", output, split="01", short_side=72
    )
    write_model(folder / "results/experiments/scratch/01/model.pth", labels, sample_size=64)
