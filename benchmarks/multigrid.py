"""Multigrid training: the accuracy of the plain schedule, and the time that it takes.

Small networks are trained on two small data sets with each schedule in turn, from several seeds:
the embedded motions under noise, and tiles of real clips, trained on their beginnings and tried on
their ends. What counts is the time of one core that the steps take; loading of clips, which is the
work of other processes, and validation are not counted. The plain schedule is also cut to a third
of its epochs.

What is trained is kept in a folder, if one is given: then a run that was stopped goes on.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from realclips import real_clip
from sidebyside import PAGE, parse, publish, table

from r3d.clips.loader import ClipBatch
from r3d.config.options import RunOptions, TrainingOptions
from r3d.evaluation.statistics import trainings_interval
from r3d.motion import CLASSES, render_clips
from r3d.tables import read_columns
from r3d.training import train as train_module
from r3d.training.train import Training, train

CURVES = PAGE.with_name("pictures") / "multigrid.png"
CLIPS = ("ucf101_clip.avi", "kinetics_clip.mp4", "kinetics_no_duration.mkv", "nasa_320x180.mp4")
N_FRAMES, HEIGHT, WIDTH = 32, 40, 52
PLAIN = {
    "sample_size": 32,
    "batch_size": 8,
    "learning_rate": 0.02,
    "n_epochs": 15,
    "multistep_milestones": [11],
    "warmup_epochs": 2,
    "no_hflip": True,
    "n_val_samples": 1,
    "precision": "fp32",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "r3d10": {"model_depth": 10, "resnet_widen_factor": 0.25},
    "r3d18": {"model_depth": 18, "resnet_widen_factor": 0.25},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "both": {"multigrid": "both"},
    "a third": {"n_epochs": 5, "multistep_milestones": [4], "warmup_epochs": 1},
}
COLUMNS = [
    *("", "schedule", "top-1 by seed, in percent", "mean (95 %)", "difference to plain (95 %)"),
    *("time of a core", "x plain", "as good at"),
]
RUN = RunOptions(n_threads=0, no_cuda=True, checkpoint=10**6)
Videos = Iterator[tuple[str, str, NDArray[np.uint8]]]  # label, subset, frames
Curve = list[tuple[float, float]]  # after each epoch: seconds of a core, accuracy


def main() -> None:
    """Train, and write the table and the picture."""
    options = parse(__doc__, seeds=3, folder="")
    rows, curves = [], {}
    with tempfile.TemporaryDirectory() as name:
        for data, videos in SETS.items():
            folder = Path(options.folder or name) / data
            if not (folder / "annotation.json").is_file():
                write_frames(folder, videos())
            for network, of_network in NETWORKS.items():
                runs: dict[str, list[Curve]] = {kind: [] for kind in SCHEDULES}
                for seed in range(1, options.seeds + 1):
                    for kind, of_kind in SCHEDULES.items():
                        chosen = {**PLAIN, **of_network, **of_kind, "manual_seed": seed}
                        runs[kind].append(kept(folder, chosen))
                        print(data, network, kind, seed, runs[kind][-1][-1], flush=True)
                rows += [row(data, network, kind, runs) for kind in SCHEDULES]
                curves[data, network] = runs
    publish("multigrid", table(COLUMNS, rows), packages=("torch",))
    draw(curves, CURVES)


def motions() -> Videos:
    """The embedded motions under noise."""
    clips = render_clips(80 * len(CLASSES), n_frames=N_FRAMES, size=(WIDTH, HEIGHT))
    for number, clip in enumerate(clips):
        yield (
            CLASSES[number % len(CLASSES)],
            "training" if number // len(CLASSES) < 60 else "validation",
            (clip + noise(np.random.default_rng(number), 40)).clip(0, 255).astype(np.uint8),
        )


def tiles() -> Videos:
    """Six tiles of each of four clips: which is it? In the dark, and under noise."""
    rng = np.random.default_rng(0)
    for name in CLIPS:
        with av.open(str(real_clip(name))) as container:
            frames = np.stack(
                [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            )
        height, width = frames.shape[1] // 2, frames.shape[2] // 3
        last = len(frames) - N_FRAMES
        for tile in range(6):
            top, left = tile // 3 * height, tile % 3 * width
            part = torch.from_numpy(frames[:, top : top + height, left : left + width])
            small = torch.nn.functional.interpolate(
                part.permute(0, 3, 1, 2), (HEIGHT, WIDTH), mode="bilinear", antialias=True
            ).permute(0, 2, 3, 1)
            # What is trained on ends before what is tried begins.
            for number in range(30):
                training = number < 20
                low, high = (0, last // 2) if training else (last // 2 + N_FRAMES, last)
                start = int(rng.integers(low, max(low, high) + 1))
                clip = small[start : start + N_FRAMES].numpy().astype(np.float32)
                clip = 127 + (clip - clip.mean()) * 0.4 + noise(rng, 18)
                label = f"{Path(name).stem}_{tile}"
                subset = "training" if training else "validation"
                yield label, subset, clip.clip(0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Noise of a video's frames (t, h, w, 3), by its standard deviation.

    Alike at all sizes, as pictures are: that of single pixels would be gone from smaller clips.
    """
    whole = np.zeros((N_FRAMES, HEIGHT, WIDTH, 3), np.float32)
    for side in (1, 2, 4, 8):
        shape = (N_FRAMES, -(-HEIGHT // side), -(-WIDTH // side), 3)
        blocks = rng.normal(0, strength / 2, shape).astype(np.float32)
        whole += blocks.repeat(side, axis=1).repeat(side, axis=2)[:, :HEIGHT, :WIDTH]
    return whole


SETS: dict[str, Callable[[], Videos]] = {"motions": motions, "tiles": tiles}


def write_frames(folder: Path, videos: Videos) -> None:
    """A store of frames and its annotation."""
    database, labels = {}, set()
    for number, (label, subset, frames) in enumerate(videos):
        labels.add(label)
        video = folder / "jpg" / label / f"v{number:04d}"
        video.mkdir(parents=True)
        for position, frame in enumerate(frames, start=1):
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=90)
            (video / f"image_{position:05d}.jpg").write_bytes(jpeg)
        entry = {"label": label, "segment": [1, len(frames) + 1]}
        database[video.name] = {"subset": subset, "annotations": entry}
    content = {"labels": sorted(labels), "database": database}
    (folder / "annotation.json").write_text(json.dumps(content))


class Timed(Training):
    """A training that knows what the steps of each epoch took of a core."""

    taken: list[float]
    loading: float

    def _train_epoch(self) -> None:
        begun, Timed.loading = time.process_time(), 0.0
        super()._train_epoch()
        Timed.taken.append(time.process_time() - begun - Timed.loading)

    def _waited_for(self, batches: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
        while True:
            begun = time.process_time()
            batch = next(batches, None)
            Timed.loading += time.process_time() - begun
            if batch is None:
                return
            yield batch


def kept(folder: Path, options: dict[str, Any]) -> Curve:
    """Train, unless that is done."""
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
    store = folder / "results" / f"{key}.json"
    if not store.is_file():
        store.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            curve = trained(folder, Path(work), options)
        store.write_text(json.dumps(curve))
    return [(taken, accuracy) for taken, accuracy in json.loads(store.read_text())]


def trained(folder: Path, work: Path, options: dict[str, Any]) -> Curve:
    """Train; after each epoch the seconds of a core until then, and the accuracy."""
    Timed.taken = []
    train_module.Training = Timed  # type: ignore[misc]
    train(
        TrainingOptions(**options),
        annotation=folder / "annotation.json",
        frames=folder / "jpg",
        checkpoints=work / "checkpoints",
        model=work / "model.pth",
        train_log=work / "train.log",
        val_log=work / "val.log",
        run=RUN,
        n_cores=1,
    )
    accuracies = read_columns(work / "val.log", ("epoch", "acc"))["acc"].astype(float)
    return list(zip(np.cumsum(Timed.taken).tolist(), accuracies.tolist(), strict=True))


def row(data: str, network: str, kind: str, runs: dict[str, list[Curve]]) -> list[str]:
    """What a schedule reached and took, and when it was as good as the plain one at its end."""
    last = [run[-1] for run in runs[kind]]
    plain = [run[-1] for run in runs["plain"]]
    goal = float(np.mean([accuracy for _, accuracy in plain]))
    ratios = [took / there for (took, _), (there, _) in zip(last, plain, strict=True)]
    differences = [here - there for (_, here), (_, there) in zip(last, plain, strict=True)]
    reached = []
    for run, (there, _) in zip(runs[kind], plain, strict=True):
        when = next((took for took, accuracy in run if accuracy >= goal), None)
        reached.append("-" if when is None else f"{when / there:.2f}")
    return [
        f"{data}, {network}",
        kind,
        ", ".join(f"{100 * accuracy:.1f}" for _, accuracy in last),
        with_interval([accuracy for _, accuracy in last], "{:.1f}", lowest=0),
        "" if kind == "plain" else with_interval(differences, "{:+.1f}", lowest=-1),
        f"{np.mean([took for took, _ in last]):.0f} s",
        f"{np.median(ratios):.2f}",
        ", ".join(reached),
    ]


def with_interval(values: list[float], form: str, *, lowest: float) -> str:
    """The mean of values from `lowest` to 1, in percent, and Student's interval over the seeds."""
    mean = form.format(100 * np.mean(values))
    wide = 1 - lowest
    shares = [(value - lowest) / wide for value in values]  # from 0 to 1, as accuracies are
    interval = trainings_interval([shares], test_share=0)
    if interval is None:
        return mean
    low, high = (form.format(100 * (lowest + wide * bound)) for bound in interval)
    return f"{mean} ({low} to {high})"


def draw(curves: dict[tuple[str, str], dict[str, list[Curve]]], output: Path) -> None:
    """Accuracy over the time of a core, a panel for each data set and network."""
    from matplotlib.figure import Figure

    colours = {"plain": "#0072B2", "both": "#D55E00", "a third": "0.6"}
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 2, sharey="row").flat
    for axes, ((data, network), runs) in zip(panels, curves.items(), strict=True):
        for kind, of_seeds in runs.items():
            for number, run in enumerate(of_seeds):
                label = kind if not number else None
                axes.plot(*zip(*run, strict=True), color=colours[kind], lw=1, label=label)
        axes.set_title(f"{data}, {network}", fontsize=10)
        axes.set_xlabel("seconds of a core")
        axes.set_ylabel("top-1")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()
