"""What benchmarks/gpu.py measures of r3d itself: loading, determinism, processes and resuming."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import TrainingClips
from r3d.clips.loader import ClipBatch, EpochSampler, make_loader
from r3d.compute.device import same_bits
from r3d.compute.distributed import World
from r3d.config.options import RunOptions, TrainingOptions
from r3d.frames.stores import open_store
from r3d.models.building import build_model
from r3d.models.checkpoint import read_checkpoint
from r3d.training.state import TrainState
from r3d.training.step import TrainStep
from r3d.training.train import train

_PROCESSES_SECONDS = 600

SecondsAStep = Callable[[Callable[[], Tensor], torch.device, float], float]
Timed = Callable[[Callable[[], Tensor], int, torch.device], float]


@dataclass(frozen=True)
class Shape:
    """Network and clips."""

    depth: int = 50
    widen: float = 1.0
    frames: int = 16
    size: int = 112

    def options(self, **more: Any) -> TrainingOptions:
        """Of a training of it."""
        return TrainingOptions(
            model_depth=self.depth,
            resnet_widen_factor=self.widen,
            sample_duration=self.frames,
            sample_size=self.size,
            **more,
        )


def measure(
    shape: Shape, options: argparse.Namespace, seconds_a_step: SecondsAStep, timed: Timed
) -> list[str]:
    """All of it, as text."""
    device = torch.device(options.device)
    measuring = (shape, options, device, seconds_a_step)
    return [
        waiting(*measuring, timed),
        deterministic_cost(*measuring),
        processes(*measuring),
        resuming(shape, options, device),
    ]


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# --- waiting for data


def waiting(
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    seconds_a_step: SecondsAStep,
    timed: Timed,
) -> str:
    """How long a training waits for its loader: the same steps on one batch take less."""
    rows: list[list[object]] = []
    sources = []
    with tempfile.TemporaryDirectory() as name:
        for side in options.short_sides:
            annotation, frames, file_type = options.annotation, options.frames, options.file_type
            source = str(frames)
            if not annotation:
                folder = Path(name, str(side))
                source = write_noise(folder, side, n_samples=4 * options.batch_sizes[-1])
                annotation, frames, file_type = folder / "annotation.json", folder / "jpg", "jpg"
            sources.append(source)
            data = (annotation, frames, file_type)
            for n_workers in options.workers:
                rates = _rates(shape, options, device, data, n_workers, seconds_a_step, timed)
                share = max(0.0, 1 - rates[1] / rates[0])
                cells = [f"{rate:.4g}" for rate in rates]
                kind = side if not options.annotation else "own"
                rows.append([kind, n_workers, options.batch_sizes[-1], *cells, f"{share:.1%}"])
            if options.annotation:
                break
    columns = [
        *("short_side", "workers", "batch", "clips/s computed", "clips/s with loading"),
        "waiting for data",
    ]
    cores = len(os.sched_getaffinity(0))
    title = f"Training by r3d, {cores} cores, frames: {'; '.join(sources)}."
    return f"{title}\n\n{table(columns, rows)}"


def _rates(
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    data: tuple[Path, Path, Any],
    n_workers: int,
    seconds_a_step: SecondsAStep,
    timed: Timed,
) -> tuple[float, float]:
    """Clips a second of steps on one batch, and of steps on batches as they are loaded."""
    annotation, frames, file_type = data
    batch_size = options.batch_sizes[-1]
    chosen = shape.options(batch_size=batch_size)
    run = RunOptions(n_threads=n_workers, compile=not options.no_compile)
    samples = read_annotation(Path(annotation), subset="training")
    clips = TrainingClips(samples, open_store(Path(frames), file_type), chosen)
    if len(clips) < batch_size:
        raise SystemExit(f"{annotation} has {len(clips)} training clips, less than a batch")
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

    def endless() -> Iterator[ClipBatch]:
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
    return batch_size / computing, batch_size / whole


def write_noise(
    folder: Path, side: int, *, n_samples: int, n_videos: int = 8, n_frames: int = 40
) -> str:
    """A jpg store of some videos of smooth noise, 4 : 3, and an annotation with `n_samples`.

    Returns:
        What it is, in words.
    """
    generator = torch.Generator().manual_seed(0)
    n_bytes = 0
    width = side * 4 // 3
    for video in range(n_videos):
        path = folder / "jpg/noise" / str(video)
        path.mkdir(parents=True)
        small = torch.rand(1, 3, 24, 32 + n_frames, generator=generator)
        size = (side, width + 10 * n_frames)
        wide = functional.interpolate(small, size, mode="bicubic").clamp(0, 1)[0]
        for frame in range(n_frames):
            view = (255 * wide[:, :, 10 * frame : 10 * frame + width]).to(torch.uint8).contiguous()
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
    kilobytes = n_bytes / n_videos / n_frames / 1000
    return f"smooth noise, {width} x {side}, {kilobytes:.1f} kB a frame, cached"


# --- the same bits in each run


def deterministic_cost(
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    seconds_a_step: SecondsAStep,
) -> str:
    """The steps of a training by r3d with and without `deterministic: true`."""
    rates = [
        _alone(device, _clips_a_second, shape, options, device, seconds_a_step, deterministic)
        for deterministic in (False, True)
    ]
    rows: list[list[object]] = [
        [name, f"{rate:.4g}", f"{rate / rates[0]:.2f}"]
        for name, rate in zip(("false", "true"), rates, strict=True)
    ]
    columns = ["deterministic", "clips/s", "x without"]
    return f"Training steps by r3d, without compiling.\n\n{table(columns, rows)}"


def _alone(device: torch.device, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own on a GPU: the switches have to be set before CUDA is used."""
    if device.type != "cuda":
        return function(*arguments)
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _clips_a_second(
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    seconds_a_step: SecondsAStep,
    deterministic: bool,
) -> float:
    """Clips a second of r3d's training step on one batch of noise, of the largest batch size."""
    n_classes, batch_size = 10, options.batch_sizes[-1]
    run = RunOptions(deterministic=deterministic)
    with same_bits(run.deterministic):
        labels = [f"class {number}" for number in range(n_classes)]
        state = TrainState(shape.options(batch_size=batch_size), labels, None, device)
        train_step = TrainStep(state, run=run, device=device, world=World())
        state.network.train()
        size = (batch_size, shape.frames, shape.size, shape.size, 3)
        batch = ClipBatch(
            clips=torch.randint(256, size, dtype=torch.uint8),
            labels=torch.randint(n_classes, (batch_size,)),
            flips=torch.zeros(batch_size, dtype=torch.bool),
            videos=torch.arange(batch_size),
            segments=torch.zeros(batch_size, 2, dtype=torch.int64),
        )
        step = partial(train_step, batch, number=1, n_clips=batch_size)
        return batch_size / seconds_a_step(step, device, options.seconds)


# --- two processes


def processes(
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    seconds_a_step: SecondsAStep,
) -> str:
    """Two processes that share each batch: how fast, and whether they come to one's weights.

    On GPUs with batch norm over both (SyncBN), and on one card if there is no other: what is
    measured then is that it works, and not how fast it can be.
    """
    measuring = (shape, options, device, seconds_a_step)
    rates = []
    changes = []
    backend = "nccl" if device.type == "cuda" else "gloo"
    for size in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            if size == 1:
                _rank(0, 1, backend, folder, *measuring)
            elif not _spawn(size, backend, folder, *measuring):
                return f"Two processes by {backend}: failed, see their messages above."
            found = torch.load(Path(folder, "result"), weights_only=True)
            rates.append(found["rate"])
            changes.append(found["change"])
    difference = (changes[1] - changes[0]).norm() / changes[0].norm()
    cards = min(2, torch.cuda.device_count()) if device.type == "cuda" else 0
    norm = "over both processes" if device.type == "cuda" else "fixed"
    row: list[object] = [backend, cards, norm, f"{rates[0]:.4g}", f"{rates[1]:.4g}"]
    columns = [
        "by",
        "GPUs",
        "batch norm",
        "clips/s of one",
        "of two",
        "changes of weights differ by",
    ]
    title = "Two processes that share each batch, in fp32, after three steps"
    return f"{title}.\n\n{table(columns, [[*row, f'{float(difference):.1e}']])}"


def _spawn(size: int, backend: str, folder: str, *measuring: Any) -> bool:
    """Run so many processes to their end; whether all came to it."""
    context = get_context("spawn")
    ranks = [
        context.Process(target=_rank, args=(rank, size, backend, folder, *measuring))
        for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(_PROCESSES_SECONDS)
        rank.kill()  # if it is not at its end yet
        rank.join()
    return not any(rank.exitcode for rank in ranks)


def _rank(
    rank: int,
    size: int,
    backend: str,
    folder: str,
    shape: Shape,
    options: argparse.Namespace,
    device: torch.device,
    seconds_a_step: SecondsAStep,
) -> None:
    """One of the processes; the first writes what came out."""
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False
        if size > torch.cuda.device_count():
            # NCCL refuses two processes on a card, unless they seem to be on two machines.
            os.environ["NCCL_HOSTID"] = f"host{rank}"
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
            os.environ.setdefault("NCCL_IB_DISABLE", "1")
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    torch.manual_seed(0)
    network = build_model(n_classes=10, **shape.options().network()).to(device)
    before = nn.utils.parameters_to_vector(network.parameters()).detach().cpu()
    batch_size = options.batch_sizes[0]
    clips = torch.randn(batch_size, 3, shape.frames, shape.size, shape.size)
    labels = torch.randint(10, (batch_size,))
    clips, labels = clips[rank::size].to(device), labels[rank::size].to(device)
    world = World(rank, size, device.index or 0)
    parallel = world.wrap(network, device, batchnorm_sync=device.type == "cuda")
    # Without SyncBN, which CPUs have not, processes come to the weights of one with fixed norms.
    network.train(device.type == "cuda")
    sgd = torch.optim.SGD(network.parameters(), lr=1e-3)

    def step() -> Tensor:
        sgd.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(parallel(clips), labels)
        loss.backward()
        sgd.step()
        return loss.detach()

    for _ in range(3):
        step()
    change = nn.utils.parameters_to_vector(network.parameters()).detach().cpu() - before
    # So many steps in each process, or one would wait for what another never sends.
    n_steps = torch.tensor(max(1, round(options.seconds / seconds_a_step(step, device, 0.0))))
    n_steps = n_steps.to(device)
    dist.broadcast(n_steps, 0)
    from gpu import timed

    seconds = timed(step, int(n_steps), device) / int(n_steps)
    if rank == 0:
        torch.save({"rate": batch_size / seconds, "change": change}, f"{folder}/result")
    dist.barrier()
    dist.destroy_process_group()


# --- resuming


def resuming(shape: Shape, options: argparse.Namespace, device: torch.device) -> str:
    """Whether a training that is stopped after an epoch comes to the weights of one that is not."""
    rows: list[list[object]] = []
    for deterministic in (True,) if options.small else (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            batch_size = min(8, options.batch_sizes[0])
            write_noise(folder, 128, n_samples=3 * batch_size, n_videos=2)
            call = (shape, folder, batch_size, device.type == "cpu", deterministic)
            for run, n_epochs in (("whole", 2), ("stopped", 1), ("stopped", 2)):
                _alone(device, _train, *call, run, n_epochs)
            whole, stopped = (
                read_checkpoint(folder / f"{run}.pth").state_dict for run in ("whole", "stopped")
            )
        same = all(torch.equal(whole[key], stopped[key]) for key in whole)
        difference = max(
            float((whole[key] - stopped[key]).norm() / whole[key].norm().clamp_min(1e-12))
            for key in whole
            if whole[key].is_floating_point()
        )
        answers = ["false", "true"]
        rows.append([answers[deterministic], answers[same], f"{difference:.1e}"])
    columns = ["deterministic", "the same bits", "weights of a layer differ by"]
    return f"A training that is stopped and goes on, and one that is not.\n\n{table(columns, rows)}"


def _train(
    shape: Shape,
    folder: Path,
    batch_size: int,
    no_cuda: bool,
    deterministic: bool,
    run: str,
    n_epochs: int,
) -> None:
    train(
        shape.options(batch_size=batch_size, n_epochs=n_epochs, no_val=True),
        annotation=folder / "annotation.json",
        frames=folder / "jpg",
        checkpoints=folder / run,
        model=folder / f"{run}.pth",
        train_log=folder / f"{run}.log",
        val_log=folder / f"{run}.val.log",
        run=RunOptions(n_threads=0, no_cuda=no_cuda, deterministic=deterministic),
    )
