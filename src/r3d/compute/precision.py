"""How fast this CPU computes in bf16, which no flag of it tells: measured once, and kept.

A CPU with bf16 instructions may be twice as fast with them or slower than without
(docs/benchmarks.md). The convolutions of a small network, of a training step or of an inference,
are timed in fp32 and in bf16, and what came out is kept in the cache of the user, which may go at
any time.
"""

import copy
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from r3d.compute.machine import processor
from r3d.files import alone, atomic_path
from r3d.paths import cache_folder

CLEARLY_FASTER = 1.2
"""What is less is not worth the rounding."""

_FORMAT = 2
_SECONDS = 0.7  # of the measurement, about; whatever it takes, each is timed twice
_MOST_ROUNDS = 12
_WAIT_SECONDS = 10  # for a process that measures just now
# Of two timings of the same by so much, something else was at work: that is not kept.
_SPREAD = 1.25
_NEAR = 0.5  # what rounding may change of features and gradients, by their norms; garbage is far

Formats = Mapping[torch.dtype, torch.memory_format]


def bf16_speedup(formats: Formats, *, training: bool) -> float:
    """How many times as fast as fp32; 0 where its results are not near those of fp32.

    By the time of one thread on its core, which other work on the machine hardly changes: what
    several threads take by the clock says nothing there. Takes a second at most, the first time on
    a machine.

    Args:
        formats: the layout of clips and weights in each of both precisions.
        training: whether gradients are computed, too.
    """
    about = {
        "format": _FORMAT,
        "processor": processor(),
        "instructions": instructions(),
        "torch": torch.__version__,
        "training": training,
        "layouts": [str(formats[dtype]) for dtype in (torch.float32, torch.bfloat16)],
    }
    entry = _entry(about)
    kept = _read(entry, about)
    if kept is not None:
        return kept
    with alone(entry.parent / ".lock", wait_seconds=_WAIT_SECONDS):
        kept = _read(entry, about)  # of the process that was waited for
        if kept is not None:
            return kept
        speedup, is_sure = _measured(formats, training=training)
        if is_sure:
            with suppress(OSError), atomic_path(entry) as new:
                new.write_text(json.dumps([about, speedup]), encoding="utf-8")
    return speedup


def instructions() -> list[str]:
    """What the processor computes with: its name may be that of a whole family, or made up.

    How wide its vectors are, and what it has for bf16.
    """
    # Not in all versions of torch, of which each has entries of its own anyway.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    flags = [flag for flag, has in known.items() if has and re.search("bf16|amx|sve|sme", flag)]
    amx = ["amx"] if torch.cpu._is_amx_tile_supported() else []
    return [torch.backends.cpu.get_cpu_capability(), *amx, *sorted(flags)]


def _entry(about: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    return cache_folder("precision") / f"{digest}.json"


def _read(entry: Path, about: dict[str, Any]) -> float | None:
    with suppress(OSError, ValueError, TypeError, RecursionError):
        there, speedup = json.loads(entry.read_bytes())
        if there == about and isinstance(speedup, float) and math.isfinite(speedup):
            return speedup
    return None


def _measured(formats: Formats, *, training: bool) -> tuple[float, bool]:
    """The speed-up, and whether the timings were steady enough to be kept."""
    begin = time.perf_counter()
    with _one_thread():
        steps = _steps(formats, training=training)
        # These are slow, for kernels are made now, and do not count.
        exact, rounded = (steps[dtype]() for dtype in (torch.float32, torch.bfloat16))
        if not all(map(_is_near, rounded, exact)):
            return 0.0, True
        seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in steps}
        for n_rounds in range(_MOST_ROUNDS):
            if n_rounds >= 2 and time.perf_counter() - begin > _SECONDS:
                break
            # In turns, so that what else runs on this machine slows both.
            for dtype, step in steps.items():
                started = time.thread_time()
                step()
                seconds[dtype].append(time.thread_time() - started)
    best = {dtype: sorted(values)[:2] for dtype, values in seconds.items()}
    is_sure = all(second <= _SPREAD * first for first, second in best.values())
    return best[torch.float32][0] / best[torch.bfloat16][0], is_sure


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread only, and leave its random numbers alone."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(1)
            yield
    finally:
        torch.set_num_threads(n_threads)


def _steps(formats: Formats, *, training: bool) -> dict[torch.dtype, Callable[[], list[Tensor]]]:
    """For each precision, what computes features and, in training, gradients once."""
    network, clips = _network(), torch.randn(1, 3, 8, 56, 56)
    steps: dict[torch.dtype, Callable[[], list[Tensor]]] = {}
    for dtype, layout in formats.items():
        own = copy.deepcopy(network).to(memory_format=layout).train(training)
        steps[dtype] = partial(_step, own, clips.contiguous(memory_format=layout), dtype)
    return steps


def _network() -> nn.Module:
    """The stem of a 3D ResNet and convolutions of its blocks, (b, 3, t, h, w) to (b, 256, ...)."""
    return nn.Sequential(
        *(nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False), nn.BatchNorm3d(64), nn.ReLU()),
        nn.MaxPool3d(3, 2, 1),
        *(nn.Conv3d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm3d(64), nn.ReLU()),
        *(nn.Conv3d(64, 128, 3, 2, 1, bias=False), nn.BatchNorm3d(128), nn.ReLU()),
        # The gap has oneDNN compute it, as it does a network's (`r3d.models.base.Conv3d`).
        *(nn.Conv3d(128, 256, 1, dilation=(1, 1, 2), bias=False), nn.BatchNorm3d(256), nn.ReLU()),
    )


def _step(network: nn.Module, clips: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.set_grad_enabled(network.training):
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            features = network(clips).float()
        if not network.training:
            return [features]
        network.zero_grad(set_to_none=True)
        # Some weighted sum: batch norm makes nearly nothing of the gradient of a mean.
        signs = torch.arange(features.numel()).reshape(features.shape).cos()
        (features * signs).sum().backward()
    gradients = [weight.grad for weight in network.parameters() if weight.dim() > 1]
    return [features.detach(), *(gradient for gradient in gradients if gradient is not None)]


def _is_near(rounded: Tensor, exact: Tensor) -> bool:
    return bool((rounded - exact).norm() <= _NEAR * exact.norm())  # not so with a NaN
