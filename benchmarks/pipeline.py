"""From raw clips to accuracy: the whole workflow beside the plain recipe, for the same epochs.

Pieces of four real clips are four classes. The recipe runs in one process and does what its scripts
do one after the other: extraction, training with a validation after each epoch, inference on all
windows, accuracy. The workflow is `snakemake --cores N`, start-up and report included. So small a
set shows what start-up costs, most of all with the small network.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import recipe
import torch
import yaml
from realclips import cuts, real_clip
from sidebyside import compare, n_cores, parse, publish, table
from torch.nn import functional

from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.lists import SplitOptions, read_list

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4", "kinetics_no_duration.mkv")
NETWORKS: dict[str, dict[str, Any]] = {
    "r3d18": {"model_depth": 18},
    "r3d10 of a quarter of the width": {"model_depth": 10, "resnet_widen_factor": 0.25},
}
BATCH, LEARNING_RATE = 8, 0.01
WORKFLOWS: dict[str, dict[str, Any]] = {
    "r3d": {},
    "r3d, multigrid: both": {"multigrid": "both"},
}


def main() -> None:
    """Measure both from the same videos."""
    options = parse(
        __doc__,
        plain="",
        network="",
        videos=24,
        epochs=8,
        rounds=1,
        ffprobe=shutil.which("ffprobe") or "",
    )
    if options.plain:
        _plain(Path(options.plain), options.network, options.epochs, options.ffprobe)
        return
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in CLIPS:
            cuts(real_clip(clip), folder / "videos", options.videos, seconds=1.6, step=0.1)
        n_videos = len(CLIPS) * options.videos
        for network in [options.network] if options.network else NETWORKS:
            accuracies: dict[str, float] = {}
            variants = {
                recipe.NAME: _run_plain(
                    folder, network, options.epochs, options.ffprobe, accuracies
                ),
                **{
                    name: _run_workflow(folder, network, options.epochs, changes, name, accuracies)
                    for name, changes in WORKFLOWS.items()
                },
            }
            rates = compare(variants, rounds=options.rounds, warm_up=False)
            rows = [
                [
                    name,
                    f"{n_videos / np.median(values):.0f} s",
                    f"{np.median(values / rates[recipe.NAME]):.2f}",
                    f"{accuracies[name]:.3f}",
                ]
                for name, values in rates.items()
            ]
            columns = ["", "time", f"times as fast as {recipe.NAME}", "top-1 accuracy"]
            texts.append(f"**{network}**\n\n{table(columns, rows)}")
    what = f"{n_videos} videos, {options.epochs} epochs of clips of 16 x 112 x 112."
    publish("pipeline", "\n\n".join([what, *texts]), packages=("torch", "snakemake"))


def _run_plain(
    folder: Path, network: str, epochs: int, ffprobe: str, accuracies: dict[str, float]
) -> Callable[[], float]:
    def run() -> float:
        work = folder / "plain"
        shutil.rmtree(work, ignore_errors=True)
        options = ["--plain", str(folder), "--network", network]
        options += ["--epochs", str(epochs), "--ffprobe", ffprobe]
        subprocess.run([sys.executable, __file__, *options], check=True)
        result = json.loads((work / "accuracy.json").read_text())
        accuracies[recipe.NAME] = result["accuracy"]
        return float(result["videos"])

    return run


def _plain(folder: Path, name: str, epochs: int, ffprobe: str) -> None:
    """The recipe, in a process of its own."""
    videos, work = folder / "videos", folder / "plain"
    frames = work / "jpg"
    paths = sorted(videos.glob("*/*"))
    recipe.extract(paths, frames, ffmpeg=ffmpeg_binary(), ffprobe=ffprobe, n_jobs=n_cores())
    annotation = _annotate(videos, frames, work / "annotation.json")
    labels = json.loads(annotation.read_text())["labels"]

    torch.manual_seed(1)
    network = recipe.network(model="resnet", n_classes=len(labels), **NETWORKS[name])
    sgd = recipe.optimizer(network, LEARNING_RATE)
    clips = recipe.training_clips(annotation, frames)
    batches = recipe.make_loader(clips, batch_size=BATCH, n_workers=4)
    truth = [label for _, label in recipe.frame_folders(annotation, frames, "validation")]
    for _ in range(epochs):
        network.train()
        for inputs, targets in batches:
            recipe.train_step(network, sgd, inputs, targets)
        network.eval()
        with torch.no_grad():
            windows = recipe.inference_batches(annotation, frames, n_workers=4)
            for video, label in zip(windows, truth, strict=True):
                scores = network(video[:3])
                functional.cross_entropy(scores, torch.full((len(scores),), label))
    scores = recipe.infer(network, recipe.inference_batches(annotation, frames, n_workers=4))
    result = {"accuracy": recipe.accuracy(scores, truth), "videos": len(paths)}
    (work / "accuracy.json").write_text(json.dumps(result))


def _annotate(videos: Path, frames: Path, path: Path) -> Path:
    """The annotation JSON, its segments from listing the frames; the same split on both sides."""
    listed = read_list("folders", videos, "all", SplitOptions())
    database = {}
    for row in listed.videos.itertuples():
        n_frames = len(list((frames / row.label / row.id).glob("*.jpg")))
        entry = {"label": row.label, "segment": [1, n_frames + 1]}
        database[row.id] = {"subset": row.subset, "annotations": entry}
    path.write_text(json.dumps({"labels": listed.labels, "database": database}))
    return path


def _run_workflow(
    folder: Path,
    network: str,
    epochs: int,
    changes: dict[str, Any],
    name: str,
    accuracies: dict[str, float],
) -> Callable[[], float]:
    work = folder / "workflow"
    config = {
        "datasets": {
            "real": {
                "format": "folders",
                "lists": str(folder / "videos"),
                "videos": str(folder / "videos"),
                "frames": "frames",
                "shards": 1,
            }
        },
        "experiments": {
            "real": {
                "dataset": "real",
                **NETWORKS[network],
                "batch_size": BATCH,
                "learning_rate": LEARNING_RATE,
                "n_epochs": epochs,
                "n_threads": 1,
                **changes,
            }
        },
    }

    def run() -> float:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        path = work / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--cores", str(n_cores()), "--configfile", str(path), "--quiet", "all"]
        subprocess.run(command, check=True, cwd=work)
        table = pd.read_csv(work / "results/summary.tsv", sep="\t")
        (accuracies[name],) = table["top1"]
        return float(len(list((folder / "videos").glob("*/*"))))

    return run


if __name__ == "__main__":
    main()
