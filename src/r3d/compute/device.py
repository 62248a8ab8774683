"""Where and in which precision a network runs."""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, cast

import torch
from torch import distributed as dist
from torch import nn

from r3d.compute.cards import give_back_cards, n_taken, take_cards, visible_cards
from r3d.compute.machine import keep_memory
from r3d.compute.precision import CLEARLY_FASTER, bf16_speedup
from r3d.errors import InputError

_log = logging.getLogger(__name__)

Layout = Literal["auto", "contiguous", "channels_last"]
Precision = Literal["auto", "bf16", "fp32"]
_Chosen = TypeVar("_Chosen")

# By default cuBLAS has several workspaces and takes one that is free, so sums may differ.
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED_WORKSPACES = (":4096:8", ":16:8")


def choose_device(*, no_cuda: bool = False) -> torch.device:
    """The CUDA device if there is one and it is wanted, else the CPU.

    Of several it is one that is this process's own (`r3d.compute.cards`), which may mean to wait.
    """
    if no_cuda:
        return torch.device("cpu")
    own_gpus()
    if not torch.cuda.is_available():
        return torch.device("cpu")
    _say_if_others_are_seen()
    return torch.device("cuda")


def _say_if_others_are_seen() -> None:
    """Warn where CUDA had read which cards are visible before some were taken: it does so once.

    It is the driver that is asked, again, as `is_available` just did: a process that is forked is
    not worse off for it. `device_count` may read the variable itself, and a card's name (UUID),
    which would tell more, starts CUDA. So it is not noticed where there is one instance (MIG) for
    another.
    """
    taken = n_taken()
    if taken and not torch.cuda.is_initialized() and torch._C._cuda_getDeviceCount() > taken:
        _log.warning(
            "CUDA was asked for its GPUs before this process took one, and computes on the first, "
            "which others may use, too; call r3d before torch.cuda, or choose the GPU yourself by "
            "CUDA_VISIBLE_DEVICES"
        )


def expected_device(*, no_cuda: bool = False) -> torch.device:
    """What `choose_device` gives, as far as that is known without waiting for a free GPU."""
    # torch itself is not asked: from then on it would see the same cards, whichever are taken.
    found = not no_cuda and torch.version.cuda and visible_cards()
    return torch.device("cuda" if found else "cpu")


def own_gpus(n: int = 1, what: str = "GPUs of a job") -> None:
    """Take GPUs for this process and those that it starts, unless CUDA is already in use.

    Args:
        what: who asks for them, for the message.

    Raises:
        InputError: if there are some, but fewer.
    """
    if torch.version.cuda and not torch.cuda.is_initialized():
        take_cards(n, what)
        if not torch.cuda.is_available():  # a driver that is too old for this torch
            give_back_cards()


def need_gpus(wanted: int, what: str) -> None:
    """Check that this machine has so many GPUs; with none at all the CPU computes, which is said.

    Args:
        what: who asks for them, for the message.

    Raises:
        InputError: if it has some, but fewer.
    """
    found = torch.cuda.device_count()
    if wanted and not found:
        _log.warning("%s: %d, but torch finds no GPU (CUDA) here: the CPU computes", what, wanted)
    elif wanted > found:
        raise InputError(
            f"{what}: {wanted}, but this machine has {found} for this process (CUDA_VISIBLE_DEVICES"
            f" may hide some); accepted: up to {found}, or 0"
        )


def choose_dtype(
    precision: Precision, device: torch.device, layout: Layout = "auto", *, training: bool = False
) -> torch.dtype:
    """The type that convolutions compute in; what `auto` is, is said in the log.

    On a GPU `auto` is bf16 where the hardware multiplies in it. On a CPU it is what a measurement
    of both says (`r3d.compute.precision`). Processes that work together take the choice of the
    first one.

    Args:
        layout: as of `memory_format`.
        training: whether gradients are computed.
    """
    if precision == "auto":
        precision = same_everywhere(lambda: _choice(device, layout, training=training))
    return torch.bfloat16 if precision == "bf16" else torch.float32


def precision_begun_with(config: dict[str, Any] | None, device: torch.device) -> Precision:
    """The precision of a training by the options in its checkpoint; `auto` if they do not say.

    Earlier versions noted `auto` itself, and meant bf16 where the device multiplies in it, of CPUs
    only those with tiles (AMX).
    """
    noted = (config or {}).get("precision", "auto")
    if noted in ("bf16", "fp32"):
        return cast(Precision, noted)
    if config is None or "precision" not in config:
        return "auto"
    if device.type == "cuda":
        return "bf16" if multiplies_bf16(device) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware does: without it a CPU is slow and a GPU may refuse."""
    return device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)


def _choice(device: torch.device, layout: Layout, *, training: bool) -> Precision:
    step = "training" if training else "inference"
    if device.type != "cpu":
        chosen: Precision = "bf16" if multiplies_bf16(device) else "fp32"
        _say_once(f"precision: auto is {chosen} in {step} on this GPU")
        return chosen
    formats = {
        dtype: memory_format(device, dtype, layout, training=training)
        for dtype in (torch.float32, torch.bfloat16)
    }
    speedup = bf16_speedup(formats, training=training)
    chosen = "bf16" if speedup >= CLEARLY_FASTER else "fp32"
    result = f"is {speedup:.2f} times as fast as fp32" if speedup else "gives other results"
    _say_once(f"precision: auto is {chosen} in {step}: bf16 {result} on this processor")
    return chosen


@cache  # a tuning asks often
def _say_once(message: str) -> None:
    _log.info(message)


def same_everywhere(choose: Callable[[], _Chosen]) -> _Chosen:
    """What the first of the processes that work together chooses; each other waits for it."""
    if not (dist.is_available() and dist.is_initialized()):
        return choose()
    chosen = [choose() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(chosen, 0)
    return cast(_Chosen, chosen[0])


@contextlib.contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Say in one line that the GPU's memory does not suffice, and what to do.

    Raises:
        InputError: if the block runs out of it.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(f"the GPU has not enough memory for this; {remedy}") from None


@contextlib.contextmanager
def same_bits(wanted: bool) -> Iterator[None]:
    """If wanted, compute in the block to the same bits in each run, also on CUDA.

    Raises:
        InputError: if the block needs what torch cannot compute so; if it is too late for it, or
            the environment says otherwise.
    """
    if not wanted:
        yield
        return
    given = os.environ.get(_WORKSPACE)
    if given not in (None, *_FIXED_WORKSPACES) or (given is None and torch.cuda.is_initialized()):
        raise InputError(
            f"deterministic: true needs {_WORKSPACE}={_FIXED_WORKSPACES[0]} in the environment "
            f"before CUDA is used; here it is {given or 'not set, and CUDA is in use'}; set it "
            "before the program starts"
        )
    os.environ.setdefault(_WORKSPACE, _FIXED_WORKSPACES[0])
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
    )
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    except RuntimeError as error:
        found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise InputError(
            f"deterministic: true: torch {torch.__version__} has no form of {found[1]} that gives "
            "the same bits in each run on this device; set deterministic: false, or no_cuda: true"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic = before[2]


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """A context in which the forward pass computes in `dtype`; weights stay in fp32."""
    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)


def memory_format(
    device: torch.device, dtype: torch.dtype, layout: Layout = "auto", *, training: bool = True
) -> torch.memory_format:
    """The layout of clips and weights; `auto` is channels last but for bf16 on a CPU in training.

    There channels last is guarded (`may_spoil_gradients`), and taken where it is asked for.

    Args:
        dtype: what convolutions compute in.
        training: whether gradients are computed.
    """
    if layout == "auto":
        unsafe = training and device.type == "cpu" and dtype == torch.bfloat16
        layout = "contiguous" if unsafe else "channels_last"
    return torch.channels_last_3d if layout == "channels_last" else torch.contiguous_format


def may_spoil_gradients(
    device: torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> bool:
    """Whether a gradient was seen to be NaN now and then in training so, on several threads."""
    return device.type == "cpu" and dtype == torch.bfloat16 and layout == torch.channels_last_3d


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with its computation compiled, for each size of batch anew.

    It shares the weights of `network`, which stays what it is: its names go into checkpoints.

    Raises:
        InputError: if there is nothing to compile with.
    """
    names = ["cc", "gcc", "clang"] if device.type == "cuda" else ["g++"]
    variable = "CC" if device.type == "cuda" else "CXX"
    candidates = [os.environ[variable]] if variable in os.environ else names
    if not any(map(shutil.which, candidates)):
        raise InputError(
            f"compile: true needs a compiler ({' or '.join(candidates)}) in the PATH, or its name "
            f"in {variable}; accepted without: false"
        )
    if device.type == "cuda" and not find_spec("triton"):
        raise InputError(
            "compile: true needs the package triton on a GPU, which is not installed; accepted "
            "without: false"
        )
    # Inductor prefers channels last on CPUs, where that and bf16 make NaNs (see `memory_format`).
    options: dict[str, Any] = {"layout_optimization": False} if device.type == "cpu" else {}
    # Without symbolic sizes: besides the whole batch only the last one of an epoch has its own.
    return cast(nn.Module, torch.compile(network, dynamic=False, options=options))


def use_cores(n_cores: int | None = None) -> None:
    """Let torch compute on so many cores, by default on all that this process may use.

    And let it keep the memory that it computes in (`keep_memory`).

    The loader's workers have one thread each and need far less than a core beside a network on the
    CPU. Cores left to them would lie idle: a ResNet-18 on one of two cores trains half as fast.
    """
    torch.set_num_threads(n_cores or len(os.sched_getaffinity(0)))
    keep_memory()
