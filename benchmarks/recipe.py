"""The plain recipe that the others are measured against.

What 3D-ResNets-PyTorch does, as its users run it, in small independent code: ffprobe and ffmpeg for
each video, Pillow frame by frame, batches of floats, fp32, whole videos at once in inference.

With R3D_REFERENCE pointing to a checkout of 3D-ResNets-PyTorch, that does the extraction and makes
the clips instead.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as pixels

from r3d.models.building import build_model

CHECKOUT = os.environ.get("R3D_REFERENCE")
NAME = "3D-ResNets-PyTorch" if CHECKOUT else "recipe"

MEAN, STD = (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)


def extract(
    videos: Sequence[Path],
    folder: Path,
    *,
    ffmpeg: str,
    ffprobe: str,
    n_jobs: int,
) -> None:
    """The frames of videos as JPEGs with a short side of 240, `n_jobs` videos at a time.

    Args:
        videos: in class folders of one folder.
        ffmpeg, ffprobe: the programs; an empty ffprobe is left out.
    """
    if CHECKOUT:
        _extract_by_checkout(videos, folder, ffmpeg, ffprobe, n_jobs)
        return

    def run(command: list[str]) -> str:
        done = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return done.stdout.decode()

    def one(video: Path) -> None:
        target = folder / video.parent.name / video.stem
        target.mkdir(parents=True, exist_ok=True)
        wide = True
        if ffprobe:
            shown = "stream=width,height,avg_frame_rate,duration"
            options = ["-v", "error", "-select_streams", "v:0", "-of", "json"]
            stated = run([ffprobe, *options, "-show_entries", shown, str(video)])
            stream = json.loads(stated)["streams"][0]
            wide = stream["width"] > stream["height"]
        scale = "scale=-1:240" if wide else "scale=240:-1"
        pattern = str(target / "image_%05d.jpg")
        run([ffmpeg, "-i", str(video), "-vf", scale, "-threads", "1", pattern])

    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(one, videos))


def _extract_by_checkout(
    videos: Sequence[Path], folder: Path, ffmpeg: str, ffprobe: str, n_jobs: int
) -> None:
    """Run the original script, which calls its programs by their names.

    It works on `n_jobs` classes at a time. The dataset tells it the suffix of the videos: it leaves
    out all others without a word, so what it made is looked at.
    """
    dataset = "kinetics" if videos[0].suffix == ".mp4" else "ucf101"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as programs:
        for name, program in (("ffmpeg", ffmpeg), ("ffprobe", ffprobe)):
            if program:
                (Path(programs) / name).symlink_to(Path(program).resolve())
        script = ["-m", "util_scripts.generate_video_jpgs", videos[0].parents[1], folder, dataset]
        done = subprocess.run(
            [sys.executable, *map(str, script), "--n_jobs", str(n_jobs)],
            check=False,
            cwd=CHECKOUT,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    made = [folder / video.parent.name / video.stem / "image_00001.jpg" for video in videos]
    n_missing = sum(not path.exists() for path in made)
    if done.returncode or n_missing:
        sys.exit(
            f"{done.stderr.decode(errors='replace')[-2000:]}\n"
            f"error: {CHECKOUT}: no frames of {n_missing} of {len(videos)} videos"
        )


@cache
def _checkout() -> Any:
    """The checkout's modules, as the differential tests use them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/differential"))
    from checkout import Reference

    return Reference(Path(CHECKOUT or ""))


def _checkout_options(annotation: Path, frames: Path, *arguments: object) -> Any:
    paths = ("--annotation_path", annotation, "--video_path", frames)
    return _checkout().options(
        Path(tempfile.gettempdir()) / "r3d-benchmark", "--dataset", "kinetics", *paths, *arguments
    )


def training_clips(annotation: Path, frames: Path) -> Dataset[Any]:
    """The training clips of an annotation, with random crops, as (clip, class)."""
    if not CHECKOUT:
        return Clips(frame_folders(annotation, frames, "training"), duration=16, size=112)
    options = _checkout_options(annotation, frames)
    weight = nn.Parameter(torch.zeros(1))
    found: Dataset[Any] = _checkout().module("main").get_train_utils(options, [weight])[0].dataset
    return found


def inference_batches(annotation: Path, frames: Path, *, n_workers: int) -> Iterable[Tensor]:
    """The windows of each validation video, (clips, c, t, h, w)."""
    if not CHECKOUT:
        folders = [path for path, _ in frame_folders(annotation, frames, "validation")]
        windows = Windows(folders, duration=16, size=112)
        return DataLoader(windows, batch_size=None, num_workers=n_workers)
    arguments = ("--inference_subset", "val", "--inference_batch_size", 1)
    options = _checkout_options(annotation, frames, *arguments)
    options.n_threads = n_workers
    loader, _ = _checkout().module("main").get_inference_utils(options)
    return (clips for clips, _ in loader)


def frame_folders(annotation: Path, frames: Path, subset: str) -> list[tuple[Path, int]]:
    """The frame folder and the class of each video of a subset."""
    content = json.loads(annotation.read_text())
    entries = [
        (name, entry["annotations"]["label"])
        for name, entry in content["database"].items()
        if entry["subset"] == subset
    ]
    return [(frames / label / name, content["labels"].index(label)) for name, label in entries]


class Clips(Dataset[tuple[Tensor, int]]):
    """Training clips: one a video, a random window of frames, one random crop for all of them.

    Without `augment` the middle of the frame, never mirrored.
    """

    def __init__(
        self,
        folders: Sequence[tuple[Path, int]],
        *,
        duration: int,
        size: int,
        augment: bool = True,
    ) -> None:
        self._videos = [
            (folder, label, len(list(folder.glob("image_*.jpg")))) for folder, label in folders
        ]
        self._duration, self._size, self._augment = duration, size, augment

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        folder, label, n_frames = self._videos[index]
        start = int(torch.randint(max(1, n_frames - self._duration), ()))
        numbers = [start + (i % (n_frames - start)) for i in range(self._duration)]
        images = _read_images(folder, numbers)
        if not self._augment:
            return _middle(images, self._size), label
        width, height = images[0].size
        box = _random_box(height, width)
        flip = bool(torch.rand(()) < 0.5)
        frames = []
        for image in images:
            image = pixels.resized_crop(image, *box, [self._size, self._size])
            frames.append(_to_input(pixels.hflip(image) if flip else image))
        return torch.stack(frames, 0).permute(1, 0, 2, 3), label


class Windows(Dataset[Tensor]):
    """All windows of a video at once, their middle squares: (clips, c, t, h, w)."""

    def __init__(self, folders: Sequence[Path], *, duration: int, size: int) -> None:
        self._folders, self._duration, self._size = folders, duration, size

    def __len__(self) -> int:
        return len(self._folders)

    def __getitem__(self, index: int) -> Tensor:
        folder = self._folders[index]
        n_frames = len(list(folder.glob("image_*.jpg")))
        clips = []
        for start in range(0, n_frames, self._duration):
            numbers = [start + i % (n_frames - start) for i in range(self._duration)]
            clips.append(_middle(_read_images(folder, numbers), self._size))
        return torch.stack(clips)


def _middle(images: Sequence[Image.Image], size: int) -> Tensor:
    """The short side resized, the middle square cut out: (c, t, h, w)."""
    frames = [_to_input(pixels.center_crop(pixels.resize(image, size), size)) for image in images]
    return torch.stack(frames, 0).permute(1, 0, 2, 3)


def _read_images(folder: Path, numbers: Sequence[int]) -> list[Image.Image]:
    images = []
    for number in numbers:
        with (folder / f"image_{number + 1:05d}.jpg").open("rb") as file:
            images.append(Image.open(file).convert("RGB"))
    return images


def _random_box(height: int, width: int) -> tuple[int, int, int, int]:
    """A box of random area and shape: top, left, height, width."""
    while True:
        area = height * width * float(torch.empty(()).uniform_(0.25, 1))
        ratio = float(torch.empty(()).uniform_(np.log(3 / 4), np.log(4 / 3)).exp())
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if w <= width and h <= height:
            top = int(torch.randint(height - h + 1, ()))
            left = int(torch.randint(width - w + 1, ()))
            return top, left, h, w


def _to_input(image: Image.Image) -> Tensor:
    return pixels.normalize(pixels.to_tensor(image), MEAN, STD)


def make_loader(dataset: Dataset[Any], *, batch_size: int, n_workers: int) -> DataLoader[Any]:
    """Shuffled batches from worker processes that start anew in each epoch."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=n_workers)


def network(**options: Any) -> nn.Module:
    """A network in fp32 with torch's own convolutions."""
    model = build_model(**options)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.__class__ = nn.Conv3d
    return model


def optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """SGD as published."""
    return torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-3, foreach=False
    )


def train_step(
    model: nn.Module, sgd: torch.optim.Optimizer, clips: Tensor, labels: Tensor
) -> float:
    """One step, and its loss; the recipe logs it each time."""
    loss = functional.cross_entropy(model(clips), labels)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    return float(loss.detach())


@torch.no_grad()
def infer(model: nn.Module, windows: Iterable[Tensor]) -> list[Tensor]:
    """The mean softmax over the windows of each video, all windows of a video in one batch."""
    return [functional.softmax(model(clips), 1).mean(0) for clips in windows]


def accuracy(scores: Sequence[Tensor], labels: Sequence[int]) -> float:
    """Share of videos whose highest score is their label's."""
    hits = [int(score.argmax()) == label for score, label in zip(scores, labels, strict=True)]
    return sum(hits) / len(hits)
