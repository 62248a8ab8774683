"""Training steps on the CPU: clips per second of a step, and whether its loss falls the same way.

Every variant trains the same network from the same weights on the same batches of real clips. The
one that `r3d train` uses here is marked; layouts and precisions beside it show what else there is.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import recipe
import torch
from realclips import cuts, extract_all, real_clip
from sidebyside import compare_apart, n_cores, parse, publish, rates_table, table
from torch import Tensor, nn
from torch.nn import functional

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import TrainingClips
from r3d.clips.loader import EpochSampler, make_loader
from r3d.clips.modelinput import model_input
from r3d.compute.device import autocast, choose_dtype, memory_format, use_cores
from r3d.config.options import TrainingOptions
from r3d.frames.stores import open_store
from r3d.models.building import build_model

CPU = torch.device("cpu")
CLIPS = ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4")
# At a higher rate a difference in rounding grows to another course within some steps.
OPTIONS = TrainingOptions(learning_rate=0.001)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

Step = Callable[[Tensor, Tensor], float]


def main() -> None:
    """Measure steps of r3d18 and r3d50, and train r3d18 for some steps with each variant."""
    options = parse(__doc__, rounds=5, batch=8, steps=30)
    with tempfile.TemporaryDirectory() as name:
        batches = _batches(Path(name), options.batch, options.steps)
    texts = []
    # What other work on the machine disturbs less, where one thread does all of it.
    clock = time.perf_counter if torch.get_num_threads() > 1 else time.thread_time
    for depth in (18, 50):
        names = _names()
        variants = {name: partial(_turn, depth, name, batches[0]) for name in names}
        rates = compare_apart(variants, rounds=options.rounds, clock=clock)
        (contiguous,) = [name for name in names if name.startswith("bf16, contiguous")]
        found = rates_table(rates, "clips", baselines=[recipe.NAME, contiguous])
        texts.append(f"**r3d{depth}**, threads: {torch.get_num_threads()}\n\n{found}")
    texts.append(_curves(batches))
    publish("training", "\n\n".join(texts), packages=("torch",))


def _batches(folder: Path, size: int, n: int) -> list[tuple[Tensor, Tensor]]:
    """Clips of three classes: pieces of three real clips."""
    for clip in CLIPS:
        cuts(real_clip(clip), folder / "videos", 24, seconds=1, step=0.2)
    annotation = extract_all(folder / "videos", folder, "jpg", threads=n_cores(), validation=0)
    samples = read_annotation(annotation, subset="training")
    clips = TrainingClips(samples, open_store(folder / "jpg/frames", "jpg"), OPTIONS)
    order = EpochSampler(len(clips), seed=1)
    batches: list[tuple[Tensor, Tensor]] = []
    for epoch in range(n):
        order.set_epoch(epoch)
        for batch in make_loader(clips, order, batch_size=size):
            batches.append((model_input(batch, OPTIONS, CPU), batch.labels))
    return batches[:n]


def _names() -> list[str]:
    """The recipe, and each precision and layout."""
    dtype = choose_dtype("auto", CPU, training=True)
    used = (dtype, memory_format(CPU, dtype))
    marks = {
        (precision, layout): ", as r3d trains here" if (dtype, format) == used else ""
        for layout, format in LAYOUTS.items()
        for precision, dtype in PRECISIONS.items()
    }
    ours = [f"{precision}, {layout}{mark}" for (precision, layout), mark in marks.items()]
    return [recipe.NAME, *ours]


def _variant(depth: int, name: str) -> Step:
    """A step of a network, from the same weights for each name."""
    torch.manual_seed(1)
    shape = {"model": "resnet", "model_depth": depth, "n_classes": len(CLIPS)}
    network = build_model(**shape)
    if name == recipe.NAME:
        plain = recipe.network(**shape)
        plain.load_state_dict(network.state_dict())
        sgd = recipe.optimizer(plain, OPTIONS.learning_rate)
        return lambda clips, labels: recipe.train_step(plain, sgd, clips, labels)
    use_cores(torch.get_num_threads())
    precision, layout = name.split(", ")[:2]
    return _step(network, PRECISIONS[precision], LAYOUTS[layout])


def _step(network: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> Step:
    network.to(memory_format=layout).train()
    sgd = torch.optim.SGD(
        network.parameters(), lr=OPTIONS.learning_rate, momentum=0.9, weight_decay=1e-3
    )

    def step(clips: Tensor, labels: Tensor) -> float:
        sgd.zero_grad(set_to_none=True)
        with autocast(CPU, dtype):
            scores = network(clips.contiguous(memory_format=layout)).float()
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        sgd.step()
        return float(loss.detach())

    return step


def _turn(depth: int, name: str, batch: tuple[Tensor, Tensor]) -> Callable[[], float]:
    step = _variant(depth, name)
    clips, labels = batch

    def run() -> float:
        step(clips, labels)
        return len(clips)

    return run


def _curves(batches: list[tuple[Tensor, Tensor]]) -> str:
    """The loss of each variant over the same steps, as means of fifths."""
    losses = {}
    for name in _names():
        step = _variant(18, name)
        losses[name] = np.array([step(clips, labels) for clips, labels in batches])
    rows = [
        [name, *(f"{part.mean():.3f}" for part in np.array_split(values, 5))]
        for name, values in losses.items()
    ]
    fifth = len(batches) // 5
    columns = ["loss of r3d18", *(f"to step {fifth * i}" for i in range(1, 6))]
    finite = all(np.isfinite(values).all() for values in losses.values())
    return f"{table(columns, rows)}\n\n{'No' if finite else 'SOME'} loss was NaN or infinite."


if __name__ == "__main__":
    main()
