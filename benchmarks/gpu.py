"""A training step of a 3D ResNet-50 on a GPU: the fp32 recipe, and what makes it faster.

Needs torch (2.8 or newer) and torchvision, nothing else: copy the file to any machine with a GPU.

    python gpu.py                                   # training steps
    python gpu.py --batch-sizes 8 64 --clip 32x112  # others
    python gpu.py --device cpu --small              # only to see that it runs

Where r3d is installed, too, it also measures how long the GPU waits for r3d's loader, and what
`deterministic: true` costs.

Clips are noise: the time of a step does not depend on what they show. The variants are cumulative,
each adds to the one before; each is measured by itself, as the median of several groups of steps.
The share of the card's bf16 peak is given twice: of what a large matrix multiplication reaches in
the same run, and of the data sheet (dense), where the card is known.
"""

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

PAGE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"

# Dense bf16 TFLOP/s by data sheet; the first name that is part of the card's.
DATA_SHEET = {
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "A100": 312,
    "A30": 165,
    "A10": 125,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
}


# --- network: the 3D ResNet of Hara et al., as the reference and r3d build it


class Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 3 and 1 x 1 x 1 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            shortcut = nn.Conv3d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """From clips (b, 3, t, h, w) to scores (b, n_classes)."""

    def __init__(self, blocks: tuple[int, ...], width: int, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, 7, (1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        stages, channels = [], width
        for stage, n in enumerate(blocks):
            for block in range(n):
                stride = 2 if stage and not block else 1
                stages.append(Bottleneck(channels, width << stage, stride))
                channels = 4 * (width << stage)
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(self.stages(x).mean((2, 3, 4)))


# --- training step


@dataclass(frozen=True)
class Variant:
    """One way to compute a training step."""

    name: str
    tf32: bool = False
    bf16: bool = False
    channels_last: bool = False
    tried_algorithms: bool = False
    fused: bool = False
    compile: bool = False


def variants(*, compile: bool) -> list[Variant]:
    """From the recipe on, each with one thing more than the one before."""
    found = [Variant("fp32 recipe: contiguous, no TF32")]
    for name, change in (
        ("TF32 in convolutions, torch's default", "tf32"),
        ("+ bf16 autocast", "bf16"),
        ("+ channels_last_3d", "channels_last"),
        ("+ cudnn.benchmark", "tried_algorithms"),
        ("+ fused SGD", "fused"),
        ("+ torch.compile", "compile"),
    ):
        if change != "compile" or compile:
            found.append(replace(found[-1], name=name, **{change: True}))
    return found


@dataclass(frozen=True)
class Shape:
    """Network and clips."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    n_classes: int = 700
    frames: int = 16
    size: int = 112

    def network(self) -> ResNet:
        """A new network."""
        torch.manual_seed(0)
        return ResNet(self.blocks, self.width, self.n_classes)

    def clips(self, n: int, device: torch.device) -> Tensor:
        """Noise of unit variance."""
        return torch.randn(n, 3, self.frames, self.size, self.size, device=device)


def make_step(
    shape: Shape, variant: Variant, batch_size: int, device: torch.device
) -> Callable[[], Tensor]:
    """A function that trains on one and the same batch and returns the loss, not waited for."""
    torch.backends.cudnn.allow_tf32 = variant.tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = variant.tried_algorithms
    layout = torch.channels_last_3d if variant.channels_last else torch.contiguous_format
    network = shape.network().to(device).to(memory_format=layout)
    clips = shape.clips(batch_size, device).to(memory_format=layout)
    labels = torch.randint(shape.n_classes, (batch_size,), device=device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3, fused=variant.fused or None
    )
    forward = torch.compile(network, dynamic=False) if variant.compile else network

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bf16):
            scores = forward(clips)
        loss = functional.cross_entropy(scores.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def seconds_a_step(step: Callable[[], Tensor], device: torch.device, seconds: float) -> float:
    """The median over groups of steps that together last about so long; the first do not count."""
    for _ in range(3):
        loss = step()
    synchronize(device)
    if not torch.isfinite(loss).all():
        raise RuntimeError(f"the loss is {loss.tolist()}")
    n_steps, elapsed = 1, timed(step, 1, device)
    n_steps = max(1, round(seconds / 5 / elapsed))
    return statistics.median(timed(step, n_steps, device) / n_steps for _ in range(5))


def timed(step: Callable[[], Tensor], n: int, device: torch.device) -> float:
    """Seconds until n steps are computed."""
    begin = time.perf_counter()
    for _ in range(n):
        step()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_a_clip(shape: Shape) -> float:
    """Of a training step, forward and backward, a multiplication and an addition each counted."""
    with torch.device("meta"):
        network = ResNet(shape.blocks, shape.width, shape.n_classes)
        clips = torch.empty(2, 3, shape.frames, shape.size, shape.size)
    with FlopCounterMode(display=False) as counter:
        network(clips).sum().backward()
    return counter.get_total_flops() / len(clips)


def matmul_tflops(device: torch.device, size: int, seconds: float) -> float:
    """What a large bf16 matrix multiplication reaches."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_a_step(lambda: (a @ b)[0, 0], device, seconds) / 1e12


@contextlib.contextmanager
def freed(device: torch.device) -> Iterator[None]:
    """Give back all memory afterwards."""
    try:
        yield
    finally:
        gc.collect()
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure(
    shape: Shape, variant: Variant, batch_size: int, device: torch.device, seconds: float
) -> tuple[int, float]:
    """The largest batch up to `batch_size` that fits, halving it, and clips a second with it."""
    while batch_size >= 2:  # batch norm needs two
        try:
            with freed(device):
                step = make_step(shape, variant, batch_size, device)
                rate = batch_size / seconds_a_step(step, device, seconds)
                del step
                return batch_size, rate
        except torch.OutOfMemoryError:
            batch_size //= 2
    return 0, 0.0


# --- tables


def step_tables(options: argparse.Namespace, shape: Shape, device: torch.device) -> str:
    """A table a batch size."""
    flops = flops_a_clip(shape)
    size = 1024 if options.small else 8192
    with freed(device):
        matmul = matmul_tflops(device, size, options.seconds)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sheet = next((peak for name, peak in DATA_SHEET.items() if name in card), None)
    parts = [
        f"{flops / 1e9:.1f} GFLOP a clip and step; bf16 peak: {matmul:.4g} TFLOP/s by a "
        f"matrix multiplication of {size}, {sheet or 'unknown'} by data sheet."
    ]
    for batch_size in options.batch_sizes:
        rows: list[list[object]] = []
        recipe = 0.0
        for variant in variants(compile=not options.no_compile):
            fits, rate = measure(shape, variant, batch_size, device, options.seconds)
            if not fits:
                rows.append([variant.name, "does not fit", "", "", "", "", ""])
                continue
            recipe = recipe or rate
            tflops = rate * flops / 1e12
            share = f"{tflops / sheet:.1%}" if sheet else ""
            cells = (f"{rate:.4g}", f"{rate / recipe:.2f}", f"{tflops:.4g}")
            rows.append([variant.name, fits, *cells, f"{tflops / matmul:.1%}", share])
        columns = ["", "batch", "clips/s", "x recipe", "TFLOP/s", "of matmul", "of data sheet"]
        parts.append(table(columns, rows))
    return "\n\n".join(parts)


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# --- waiting for data


def waiting(options: argparse.Namespace, shape: Shape, device: torch.device) -> str:
    """How long a training by r3d waits for its loader: the same steps on one batch take less."""
    if not importlib.util.find_spec("r3d"):
        return "Waiting for data: not measured, for r3d is not installed here."
    with tempfile.TemporaryDirectory() as folder, freed(device):
        return _waiting(options, shape, device, Path(folder))


def _waiting(options: argparse.Namespace, shape: Shape, device: torch.device, folder: Path) -> str:
    from r3d.annotations.reading import read_annotation
    from r3d.clips.datasets import TrainingClips
    from r3d.clips.loader import EpochSampler, make_loader
    from r3d.compute.distributed import World
    from r3d.config.options import RunOptions, TrainingOptions
    from r3d.frames.stores import open_store
    from r3d.training.state import TrainState
    from r3d.training.step import TrainStep

    annotation, frames, file_type = options.annotation, options.frames, options.file_type
    source = str(frames)
    if not annotation:
        source, file_type = write_noise(folder, n_samples=4 * options.batch_sizes[-1]), "jpg"
        annotation, frames = folder / "annotation.json", folder / "jpg"
    batch_size = options.batch_sizes[-1]
    chosen = TrainingOptions(
        **r3d_network(options),
        batch_size=batch_size,
        sample_size=shape.size,
        sample_duration=shape.frames,
    )
    run = RunOptions(n_threads=options.workers, compile=not options.no_compile)
    samples = read_annotation(Path(annotation), subset="training")
    if len(samples) < batch_size:
        return f"Waiting for data: not measured, for {annotation} has less than a batch."
    clips = TrainingClips(samples, open_store(Path(frames), file_type), chosen)
    order = EpochSampler(len(clips), seed=1)
    loader = make_loader(
        clips,
        order,
        batch_size=batch_size,
        n_workers=run.n_threads,
        pin_memory=device.type == "cuda",
    )
    state = TrainState(chosen, samples.labels, None, device)
    train_step = TrainStep(state, run=run, device=device, world=World())
    state.network.train()

    def endless() -> Iterator[object]:
        epoch = 0
        while True:
            order.set_epoch(epoch)
            for batch in loader:
                if len(batch.clips) == batch_size:
                    yield batch
            epoch += 1

    batches = endless()
    batch = next(batches)
    step = partial(train_step, batch, number=1, n_clips=batch_size)

    def load_and_step() -> Tensor:
        return train_step(next(batches), number=1, n_clips=batch_size)

    for _ in range(3):
        load_and_step()
    computing = seconds_a_step(step, device, options.seconds)
    n_steps = max(5, round(2 * options.seconds / computing))
    timed(load_and_step, 2 + 2 * run.n_threads, device)  # what was loaded ahead does not count
    whole = timed(load_and_step, n_steps, device) / n_steps
    share = max(0.0, 1 - computing / whole)
    rows: list[list[object]] = [
        [
            run.n_threads,
            batch_size,
            f"{batch_size / computing:.4g}",
            f"{batch_size / whole:.4g}",
            f"{share:.1%}",
        ]
    ]
    columns = ["workers", "batch", "clips/s computed", "clips/s with loading", "waiting for data"]
    cores = len(os.sched_getaffinity(0))
    return f"Training by r3d, {cores} cores, frames: {source}.\n\n{table(columns, rows)}"


# --- the same bits in each run


def deterministic_cost(options: argparse.Namespace, shape: Shape) -> str:
    """The steps of a training by r3d with and without `deterministic: true`.

    Each in a process of its own: the switches have to be set before CUDA is used.
    """
    if not importlib.util.find_spec("r3d"):
        return "deterministic: true: not measured, for r3d is not installed here."
    rates: list[float] = []
    for deterministic in (False, True):
        with get_context("spawn").Pool(1) as pool:
            rates.append(pool.apply(r3d_clips_a_second, (options, shape, deterministic)))
    rows: list[list[object]] = [
        [name, f"{rate:.4g}", f"{rate / rates[0]:.2f}"]
        for name, rate in zip(("false", "true"), rates, strict=True)
    ]
    columns = ["deterministic", "clips/s", "x without"]
    return f"Training steps by r3d, without compiling.\n\n{table(columns, rows)}"


def r3d_clips_a_second(options: argparse.Namespace, shape: Shape, deterministic: bool) -> float:
    """Clips a second of r3d's training step on one batch of noise, of the largest batch size."""
    from r3d.clips.loader import ClipBatch
    from r3d.compute.device import same_bits
    from r3d.compute.distributed import World
    from r3d.config.options import RunOptions, TrainingOptions
    from r3d.training.state import TrainState
    from r3d.training.step import TrainStep

    device, batch_size = torch.device(options.device), options.batch_sizes[-1]
    run = RunOptions(deterministic=deterministic)
    with same_bits(run.deterministic):
        state = TrainState(
            TrainingOptions(**r3d_network(options), batch_size=batch_size),
            [f"class {number}" for number in range(shape.n_classes)],
            None,
            device,
        )
        train_step = TrainStep(state, run=run, device=device, world=World())
        state.network.train()
        size = (batch_size, shape.frames, shape.size, shape.size, 3)
        batch = ClipBatch(
            clips=torch.randint(256, size, dtype=torch.uint8),
            labels=torch.randint(shape.n_classes, (batch_size,)),
            flips=torch.zeros(batch_size, dtype=torch.bool),
            videos=torch.arange(batch_size),
            segments=torch.zeros(batch_size, 2, dtype=torch.int64),
        )
        step = partial(train_step, batch, number=1, n_clips=batch_size)
        return batch_size / seconds_a_step(step, device, options.seconds)


def r3d_network(options: argparse.Namespace) -> dict[str, Any]:
    """The network of the measurements of r3d itself."""
    if options.small:
        return {"model_depth": 10, "resnet_widen_factor": 0.25}
    return {"model_depth": 50}


def write_noise(folder: Path, *, n_samples: int, n_videos: int = 8, n_frames: int = 40) -> str:
    """A jpg store of some videos of smooth noise, 320 x 240, and an annotation with `n_samples`.

    Returns:
        What it is, in words.
    """
    generator = torch.Generator().manual_seed(0)
    n_bytes = 0
    for video in range(n_videos):
        path = folder / "jpg/noise" / str(video)
        path.mkdir(parents=True)
        small = torch.rand(1, 3, 24, 32 + n_frames, generator=generator)
        wide = functional.interpolate(small, scale_factor=10, mode="bicubic").clamp(0, 1)[0]
        for frame in range(n_frames):
            view = (255 * wide[:, :, 10 * frame : 10 * frame + 320]).to(torch.uint8).contiguous()
            jpeg = torchvision.io.encode_jpeg(view, quality=85)
            n_bytes += len(jpeg)
            (path / f"image_{frame + 1:05d}.jpg").write_bytes(jpeg.numpy().tobytes())
    entry = {"subset": "training", "annotations": {"label": "noise", "segment": [1, n_frames + 1]}}
    database = {
        f"sample_{i}": {**entry, "video_path": str(folder / f"jpg/noise/{i % n_videos}")}
        for i in range(n_samples)
    }
    content = {"labels": ["noise", "none"], "database": database}
    (folder / "annotation.json").write_text(json.dumps(content))
    return f"smooth noise, 320 x 240, {n_bytes / n_videos / n_frames / 1000:.1f} kB a frame, cached"


def publish(text: str) -> None:
    """Put the result into docs/benchmarks.md, if this file lies in the repository."""
    if not PAGE.is_file():
        return
    page = PAGE.read_text(encoding="utf-8")
    pattern = r"(<!-- begin gpu -->\n).*?(<!-- end gpu -->)"
    page = re.sub(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Measure, print, and on a GPU publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--clip", default="16x112", help="frames x pixels")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--small", action="store_true", help="a tiny network, to see that it runs")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)) - 1)
    parser.add_argument("--annotation", type=Path, help="of your own data, to load from")
    parser.add_argument("--frames", type=Path, help="the frame store that goes with it")
    parser.add_argument("--file-type", default="jpg", choices=["jpg", "hdf5"])
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("Not measured: no CUDA device here; --device cpu --small shows that the script runs.")
        return
    frames, size = map(int, options.clip.split("x"))
    shape = Shape(frames=frames, size=size)
    if options.small:
        shape = Shape(blocks=(1, 1), width=8, n_classes=10, size=64)
        options.batch_sizes, options.seconds = [4], 0.2
    parts = [
        step_tables(options, shape, device),
        waiting(options, shape, device),
        deterministic_cost(options, shape),
    ]
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    parts.append(f"*{card}; {versions}; {date.today()}*")
    text = "\n\n".join(parts)
    print(text)
    if device.type == "cuda":
        publish(text)


if __name__ == "__main__":
    main()
