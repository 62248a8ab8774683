"""Inference: clips per second with the loader included, and memory on a video of an hour."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import recipe
import torch
from realclips import copies, extract_all, real_clip
from sidebyside import compare, n_cores, parse, publish, rates_table, table

from r3d.config.options import InferenceOptions, RunOptions
from r3d.inference.infer import infer
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

CLIPS = ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4")
LABELS = sorted(f"{Path(name).stem}_0" for name in CLIPS)
FPS = 25


def main() -> None:
    """Measure r3d18 and r3d50 on real clips, and a small network on a minute and an hour."""
    options = parse(__doc__, rounds=3, copies=1, workers=1)
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in CLIPS:
            copies(real_clip(clip), folder / "videos", options.copies)
        annotation = extract_all(
            folder / "videos", folder, "jpg", threads=n_cores(), validation=0.0
        )
        annotation = _all_validation(annotation)
        for depth in (18, 50):
            variants = _variants(folder, annotation, depth, options.workers)
            rates = compare(variants, rounds=options.rounds)
            rows = rates_table(rates, "clips", baselines=[recipe.NAME])
            texts.append(f"**r3d{depth}**\n\n{rows}")
        texts.append(_memory(folder))
    publish("inference", "\n\n".join(texts), packages=("torch",))


def _all_validation(annotation: Path) -> Path:
    content = json.loads(annotation.read_text())
    for entry in content["database"].values():
        entry["subset"] = "validation"
    path = annotation.with_name("validation.json")
    path.write_text(json.dumps(content))
    return path


def _variants(
    folder: Path, annotation: Path, depth: int, workers: int
) -> dict[str, Callable[[], float]]:
    shape = {"model": "resnet", "model_depth": depth, "n_classes": len(LABELS)}
    network = recipe.network(**shape).eval()
    model = _checkpoint(folder / f"r3d{depth}.pth", **shape)
    frames = folder / "jpg/frames"
    entries = json.loads(annotation.read_text())["database"].values()
    lengths = [np.diff(entry["annotations"]["segment"])[0] for entry in entries]
    n_clips = int(sum(-(-length // 16) for length in lengths))

    def plain() -> float:
        torch.set_num_threads(n_cores())
        recipe.infer(network, recipe.inference_batches(annotation, frames, n_workers=workers))
        return n_clips

    def ours() -> float:
        infer(
            InferenceOptions(model_depth=depth),
            annotation=annotation,
            subset="val",
            frames=frames,
            file_type="jpg",
            model=model,
            output=folder / "val.json",
            run=RunOptions(n_threads=workers),
            batch_size=16,
        )
        return n_clips

    return {recipe.NAME: plain, "r3d infer": ours}


def _checkpoint(path: Path, **shape: object) -> Path:
    torch.manual_seed(1)
    network = build_model(**shape)  # type: ignore[arg-type]
    state = Checkpoint(state_dict=network.state_dict(), epoch=1, labels=LABELS)
    write_checkpoint(path, state)
    return path


def _memory(folder: Path) -> str:
    """The most memory that an inference and its loaders hold on a long and on a short video."""
    shape = {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.25}
    model = _checkpoint(folder / "small.pth", n_classes=len(LABELS), **shape)
    jpegs = [path.read_bytes() for path in sorted((folder / "jpg/frames").glob("ucf*/*/*.jpg"))]
    rows = []
    for title, seconds in (("a second", 1), ("a minute", 60), ("an hour", 3600)):
        n_frames = seconds * FPS
        store = folder / f"long{seconds}"
        annotation = _long_video(store, jpegs, n_frames)
        begin = time.perf_counter()
        peak = _peak_memory(
            [
                *(sys.executable, "-m", "r3d", "infer", "--annotation_path", str(annotation)),
                *("--video_path", str(store), "--file_type", "hdf5", "--n_threads", "1"),
                *("--model_path", str(model), "--result_path", str(store / "val.json")),
                *("--model_depth", "10", "--resnet_widen_factor", "0.25"),
                *("--inference_batch_size", "16"),
            ]
        )
        passed = time.perf_counter() - begin
        rows.append([title, n_frames, f"{peak / 2**20:.0f} MiB", f"{passed:.0f} s"])
    return table(["a video of", "frames", "most memory, all processes", "time"], rows)


def _long_video(store: Path, jpegs: list[bytes], n_frames: int) -> Path:
    """Real frames, repeated to a video of any length."""
    path = store / LABELS[0] / "long.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        video = file.create_dataset(
            "video", (n_frames,), chunks=(min(128, n_frames),), dtype=h5py.vlen_dtype(np.uint8)
        )
        for index in range(n_frames):
            video[index] = np.frombuffer(jpegs[index % len(jpegs)], np.uint8)
    entry = {
        "subset": "validation",
        "annotations": {"label": LABELS[0], "segment": [0, n_frames]},
    }
    annotation = store / "annotation.json"
    annotation.write_text(json.dumps({"labels": LABELS, "database": {"long": entry}}))
    return annotation


def _peak_memory(command: list[str]) -> int:
    """The largest sum of the proportional memory of a command and its children, in bytes."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        tree, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                family = [tree, *tree.children(recursive=True)]
                peak = max(peak, sum(one.memory_full_info().pss for one in family))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.2)
        if process.returncode:
            assert process.stderr is not None
            sys.exit(process.stderr.read())
    return peak


if __name__ == "__main__":
    main()
