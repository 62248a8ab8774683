"""Training steps of 3D networks on a GPU: the fp32 recipe, and what makes it faster.

Needs torch (2.8 or newer), nothing else: copy gpu.py and gpunetworks.py to any
machine with a GPU.

    python gpu.py                                   # all of it, some 20 minutes
    python gpu.py --batch-sizes 8 64 --clip 32x112  # others
    python gpu.py --networks r3d50 --no-compile     # less
    python gpu.py --device cpu --small              # only to see that it runs

Where r3d is installed and gpur3d.py beside it, it also measures how long the GPU waits for r3d's
loader, what `deterministic: true` costs, and whether two processes and a training that was stopped
come to the weights that they should.

Clips are noise: the time of a step does not depend on what they show. The variants are cumulative,
each adds to the one before; each is measured by itself, as the median of several groups of steps.
The share of the card's bf16 peak is given twice: of what a large matrix multiplication reaches in
the same run, and of the data sheet (dense), where the card is known.
"""

import argparse
import contextlib
import gc
import importlib.util
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
from gpunetworks import NETWORKS, STEMS, Stem
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

    name: str = "r3d50"
    n_classes: int = 700
    frames: int = 16
    size: int = 112

    def network(self, stem: str = "plain") -> nn.Module:
        """A new network, with a form of the stem if it is one of `NETWORKS`."""
        torch.manual_seed(0)
        if self.name in NETWORKS:
            return NETWORKS[self.name](n_classes=self.n_classes, stem=stem)
        from r3d.models.building import build_model

        family, depth = re.fullmatch(r"(\D+)(\d+)", self.name).groups()
        return build_model(model=family, model_depth=int(depth), n_classes=self.n_classes)

    def is_there(self) -> bool:
        """Whether it is one of `NETWORKS`, or of a family of the r3d that is installed."""
        if self.name in NETWORKS:
            return True
        return has_r3d() and bool(
            importlib.util.find_spec(f"r3d.models.families.{self.name.rstrip('0123456789')}")
        )

    def clips(self, n: int, device: torch.device) -> Tensor:
        """Noise of unit variance."""
        return torch.randn(n, 3, self.frames, self.size, self.size, device=device)


def has_r3d() -> bool:
    """Whether r3d is installed here."""
    return importlib.util.find_spec("r3d") is not None


def make_step(
    shape: Shape, variant: Variant, batch_size: int, device: torch.device, stem: str = "plain"
) -> Callable[[], Tensor]:
    """A function that trains on one and the same batch and returns the loss, not waited for."""
    torch.backends.cudnn.allow_tf32 = variant.tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = variant.tried_algorithms
    layout = torch.channels_last_3d if variant.channels_last else torch.contiguous_format
    network = shape.network(stem).to(device).to(memory_format=layout)
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
        network = shape.network()
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


@dataclass(frozen=True)
class Measured:
    """What came out of a variant.

    Attributes:
        batch_size: the largest that fits, up to the one asked for; 0 if none does.
        rate: clips a second with it.
        memory: GB that the GPU held at most.
    """

    batch_size: int = 0
    rate: float = 0.0
    memory: float = 0.0


def measure(
    shape: Shape,
    variant: Variant,
    batch_size: int,
    device: torch.device,
    seconds: float,
    stem: str = "plain",
) -> Measured:
    """Measure a step with the largest batch up to `batch_size` that fits, halving it."""
    while batch_size >= 2:  # batch norm needs two
        try:
            with freed(device):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                step = make_step(shape, variant, batch_size, device, stem)
                rate = batch_size / seconds_a_step(step, device, seconds)
                del step
                held = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
                return Measured(batch_size, rate, held / 1e9)
        except torch.OutOfMemoryError:
            batch_size //= 2
    return Measured()


# --- tables


def step_tables(options: argparse.Namespace, shapes: list[Shape], device: torch.device) -> str:
    """A table a network and batch size."""
    size = 1024 if options.small else 8192
    with freed(device):
        matmul = matmul_tflops(device, size, options.seconds)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sheet = next((peak for name, peak in DATA_SHEET.items() if name in card), None)
    parts = [
        f"bf16 peak: {matmul:.4g} TFLOP/s by a matrix multiplication of {size}, "
        f"{sheet or 'unknown'} by data sheet."
    ]
    for shape in shapes:
        if not shape.is_there():
            parts.append(f"**{shape.name}**: not measured, for no r3d that has it is installed.")
            continue
        flops = flops_a_clip(shape)
        parts.append(f"**{shape.name}**, {flops / 1e9:.1f} GFLOP a clip and step:")
        for batch_size in options.batch_sizes:
            rows: list[list[object]] = []
            recipe = 0.0
            for variant in variants(compile=not options.no_compile):
                found = measure(shape, variant, batch_size, device, options.seconds)
                if not found.batch_size:
                    rows.append([variant.name, "does not fit", *[""] * 6])
                    continue
                recipe = recipe or found.rate
                tflops = found.rate * flops / 1e12
                cells = (f"{found.rate:.4g}", f"{found.rate / recipe:.2f}", f"{tflops:.4g}")
                share = f"{tflops / sheet:.1%}" if sheet else ""
                memory = f"{found.memory:.1f}" if found.memory else ""
                cells += (f"{tflops / matmul:.1%}", share, memory)
                rows.append([variant.name, found.batch_size, *cells])
            columns = ["batch", "clips/s", "x recipe", "TFLOP/s", "of matmul", "of data sheet"]
            parts.append(table(["", *columns, "GB"], rows))
    return "\n\n".join(parts)


def stem_table(options: argparse.Namespace, shape: Shape, device: torch.device) -> str:
    """The forms of the stem: by itself, forward and its weight's gradient, and in a whole step."""
    variant = variants(compile=False)[-1]
    batch_size = options.batch_sizes[-1]
    # A batch with which all of them fit.
    batch_size = measure(shape, variant, batch_size, device, 0.0).batch_size // 2
    rows: list[list[object]] = []
    plain: list[float] = []
    for form in STEMS:
        with freed(device):
            step = make_stem_step(shape, form, batch_size, device)
            alone = batch_size / seconds_a_step(step, device, options.seconds)
            del step
        whole = measure(shape, variant, batch_size, device, options.seconds, form).rate
        rates = [alone, whole]
        plain = plain or rates
        cells = [
            cell
            for rate, first in zip(rates, plain, strict=True)
            for cell in (f"{rate:.4g}", f"{rate / first:.2f}")
        ]
        rows.append([form, *cells])
    columns = ["stem alone, clips/s", "x plain", f"step of {shape.name}, clips/s", "x plain"]
    title = f"The stem, 7 x 7 x 7 on three channels, in other forms, batch {batch_size}"
    return f"{title}: {variant.name}.\n\n{table(['form', *columns], rows)}"


def make_stem_step(
    shape: Shape, form: str, batch_size: int, device: torch.device
) -> Callable[[], Tensor]:
    """Forward and backward of the stem in bf16, channels last; clips need no gradient."""
    stem = Stem(64, form).to(device).to(memory_format=torch.channels_last_3d)
    clips = shape.clips(batch_size, device).to(memory_format=torch.channels_last_3d)

    def step() -> Tensor:
        stem.weight.grad = None
        with torch.autocast(device.type, torch.bfloat16):
            features = stem(clips)
        features.sum().backward()
        return features.detach()[0, 0, 0, 0]

    return step


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


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
    parser.add_argument(
        "--networks", nargs="+", default=["r3d18", "r3d50", "r(2+1)d50", "resnetrs50"]
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--clip", default="16x112", help="frames x pixels")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--small", action="store_true", help="a tiny network, to see that it runs")
    cores = len(os.sched_getaffinity(0))
    workers = sorted({1, max(1, cores // 4), max(1, cores // 2), max(1, cores - 1)})
    parser.add_argument("--workers", type=int, nargs="+", default=workers, help="for loading")
    parser.add_argument("--short-sides", type=int, nargs="+", default=[240, 128])
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
    shapes = [Shape(name, frames=frames, size=size) for name in options.networks]
    if options.small:
        shapes = [Shape("tiny", n_classes=10, size=64)]
        options.batch_sizes, options.seconds = [4], 0.05
        options.workers, options.short_sides = [1], [48]
    parts = [
        step_tables(options, shapes, device),
        stem_table(options, shapes[min(1, len(shapes) - 1)], device),
    ]
    if has_r3d():
        import gpur3d

        of_r3d = gpur3d.Shape(
            **({"depth": 10, "widen": 0.25} if options.small else {"depth": 50}),
            **{"frames": frames, "size": shapes[0].size},
        )
        parts += gpur3d.measure(of_r3d, options, seconds_a_step, timed)
    else:
        parts.append("Loading, several processes and resuming: not measured, r3d is not installed.")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    parts.append(f"*{card}; torch {torch.__version__}; {date.today()}*")
    text = "\n\n".join(parts)
    print(text)
    if device.type == "cuda":
        publish(text)


if __name__ == "__main__":
    main()
