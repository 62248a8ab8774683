"""Inference: clips per second of each engine with the loader included, what each costs in accuracy,
the time to a first answer, and memory on a video of an hour."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import recipe
import torch
from accuracy import DEMO
from embedded import embedded
from realclips import copies, extract_all, real_clip
from sidebyside import compare_apart, machine, n_cores, parse, publish, rates_table, table

from r3d.config.loading import read_config
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.evaluation.evaluate import evaluate
from r3d.frames.extract import FrameOptions
from r3d.inference.infer import infer
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint
from r3d.training.train import train

CLIPS = ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4")
LABELS = sorted(f"{Path(name).stem}_0" for name in CLIPS)
FPS = 25
ENGINES: dict[str, dict[str, Any]] = {
    "torch, fp32": {"engine": "torch", "precision": "fp32"},
    "torch, bf16": {"engine": "torch", "precision": "bf16"},
    "onnxruntime, fp32": {"engine": "onnxruntime", "precision": "fp32"},
    "openvino, fp32": {"engine": "openvino", "precision": "fp32"},
    "openvino, bf16": {"engine": "openvino", "precision": "bf16"},
    "openvino, int8": {"engine": "openvino", "precision": "auto", "int8": True},
}


def main() -> None:
    """Measure r3d18 and r3d50 on real clips, and a small network on a minute and an hour."""
    options = parse(__doc__, rounds=3, copies=4, workers=1, parts="speed,accuracy,first,memory")
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in CLIPS:
            copies(real_clip(clip), folder / "videos", options.copies + 1)
        annotation = extract_all(
            folder / "videos", folder, "jpg", threads=n_cores(), validation=0.0
        )
        annotation = _first_copies_train(annotation)
        for depth in (18, 50):
            if "speed" in options.parts:
                variants = _variants(folder, annotation, depth, options.workers)
                rates = compare_apart(variants, rounds=options.rounds)
                rows = rates_table(rates, "clips", baselines=[recipe.NAME])
                texts.append(f"**r3d{depth}**\n\n{rows}")
            if "accuracy" in options.parts:
                texts.append(_accuracy(folder / f"motion{depth}", depth))
        if "first" in options.parts:
            texts.append(_first_answers(folder))
        if "memory" in options.parts:
            texts.append(_memory(folder))
    packages = ("torch", "openvino", "onnxruntime")
    if options.parts == "speed,accuracy,first,memory":
        publish("inference", "\n\n".join(texts), packages=packages)
    else:
        print("\n\n".join([*texts, machine()]))


def _first_copies_train(annotation: Path) -> Path:
    """The first copy of each clip is for training, from which int8 has its ranges."""
    content = json.loads(annotation.read_text())
    for name, entry in content["database"].items():
        entry["subset"] = "training" if name.endswith("_0000") else "validation"
    path = annotation.with_name("validation.json")
    path.write_text(json.dumps(content))
    return path


def _plain(
    annotation: Path, frames: Path, n_clips: int, workers: int, shape: dict[str, Any]
) -> Callable[[], float]:
    network = recipe.network(**shape).eval()

    def run() -> float:
        torch.set_num_threads(n_cores())
        recipe.infer(network, recipe.inference_batches(annotation, frames, n_workers=workers))
        return n_clips

    return run


def _ours(
    annotation: Path, frames: Path, n_clips: int, workers: int, model: Path, depth: int, engine: str
) -> Callable[[], float]:
    options = ENGINES[engine]
    output = model.with_name(f"{engine}.json")

    def run() -> float:
        infer(
            InferenceOptions(model_depth=depth, **_of_model(options)),
            annotation=annotation,
            subset="val",
            frames=frames,
            file_type="jpg",
            model=model,
            output=output,
            run=RunOptions(n_threads=workers, engine=options["engine"]),
            batch_size=16,
        )
        return n_clips

    return run


def _variants(
    folder: Path, annotation: Path, depth: int, workers: int
) -> dict[str, Callable[[], Callable[[], float]]]:
    shape = {"model": "resnet", "model_depth": depth, "n_classes": len(LABELS)}
    model = _checkpoint(folder / f"r3d{depth}.pth", **shape)
    entries = json.loads(annotation.read_text())["database"].values()
    lengths = [
        np.diff(entry["annotations"]["segment"])[0]
        for entry in entries
        if entry["subset"] == "validation"
    ]
    n_clips = int(sum(-(-length // 16) for length in lengths))
    about = (annotation, folder / "jpg/frames", n_clips, workers)
    ours = {name: partial(_ours, *about, model, depth, name) for name in ENGINES}
    return {recipe.NAME: partial(_plain, *about, shape), **ours}


def _of_model(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "engine"}


def _accuracy(folder: Path, depth: int) -> str:
    """Top-1 on the embedded data by each engine, of one training, and how scores differ."""
    demo = read_config(DEMO)
    experiment, dataset = demo.experiments["scratch"], demo.datasets["motion"]
    assert dataset.render is not None
    annotation = embedded(
        folder, FrameOptions(**dataset.frame_options), **dataset.render.model_dump()
    )
    changes = {"model_depth": depth}
    # With the 5 epochs of the demo, or its rate, so deep a network as r3d50 learns nothing.
    longer = {"n_epochs": 20, "multistep_milestones": [16], "learning_rate": 0.005}
    training = TrainingOptions(**{**experiment.options(TrainingOptions), **changes, **longer})
    applied = {**experiment.options(InferenceOptions), **changes, "output_topk": 0}
    files = {"annotation": annotation, "frames": folder / "frames", "file_type": "jpg"}
    train(
        training,
        **files,
        pretrained=None,
        checkpoints=folder / "checkpoints",
        model=folder / "model.pth",
        train_log=folder / "train.log",
        val_log=folder / "val.log",
        run=RunOptions(n_threads=1, no_cuda=True),
    )
    rows = []
    exact: np.ndarray | None = None
    for name, options in ENGINES.items():
        infer(
            InferenceOptions(**{**applied, **_of_model(options)}),
            **files,
            subset="val",
            model=folder / "model.pth",
            output=folder / "val.json",
            run=RunOptions(n_threads=1, no_cuda=True, engine=options["engine"]),
        )
        top1 = evaluate(annotation, folder / "val.json", subset="val", ks=[1]).accuracy(1)
        results = json.loads((folder / "val.json").read_text())["results"].values()
        scores = np.array(
            [[entry["score"] for entry in sorted(r, key=lambda e: e["label"])] for r in results]
        )
        exact = scores if exact is None else exact
        difference = np.abs(scores - exact)
        rows.append([name, f"{top1:.3f}", f"{difference.mean():.4f}", f"{difference.max():.4f}"])
    columns = ["", "top-1", "scores differ by, mean", "largest"]
    title = (
        f"r3d{depth} of a quarter of the width, trained on the embedded data; {len(results)} videos"
    )
    return f"{title}\n\n{table(columns, rows)}"


def _first_answers(folder: Path) -> str:
    """Seconds of `r3d predict` on a clip of 10 s, by the clock, without and with what is kept."""
    shape = {"model": "resnet", "model_depth": 18, "n_classes": len(LABELS)}
    model = _checkpoint(folder / "first.pth", **shape)
    command = [sys.executable, "-m", "r3d", "predict", str(model), str(real_clip(CLIPS[1]))]
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for title, engine in (
            ("torch", "torch"),
            ("openvino, converted now", "openvino"),
            ("openvino, converted before", "openvino"),
        ):
            begin = time.perf_counter()
            subprocess.run(
                [*command, "--engine", engine],
                check=True,
                capture_output=True,
                env={**os.environ, "XDG_CACHE_HOME": cache},
            )
            rows.append([title, f"{time.perf_counter() - begin:.1f} s"])
    return table(["r3d predict, r3d18, a video of 10 s", "from start to end"], rows)


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
