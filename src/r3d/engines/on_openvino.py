"""OpenVINO as an engine: on CPUs, in fp32, bf16 or, once it is calibrated, int8."""

import io
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.engines import stored
from r3d.engines.graph import export_graph
from r3d.errors import InputError
from r3d.models.base import VideoModel

_MODEL = "model.xml"
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_NAMES = {"f32": "fp32"}
_NO_REASON = re.compile(r"Exception from |Check '.*' failed at |FrontEnd API failed with |Summary:")
"""How lines begin in which OpenVINO tells of its own source files."""


def is_installed() -> bool:
    """Whether OpenVINO is."""
    return find_spec("openvino") is not None


def need_openvino(*, int8: bool = False) -> None:
    """Check that the packages are there.

    Args:
        int8: whether those that calibrate are needed.

    Raises:
        InputError: if one is missing.
    """
    for package in ("openvino", "nncf") if int8 else ("openvino",):
        if find_spec(package) is None:
            what = "int8: true" if package == "nncf" else "engine: openvino"
            raise InputError(
                f"{what} needs the package {package}: pip install 'r3d[openvino]'; accepted "
                f"without: {'int8: false' if package == 'nncf' else 'engine: torch, or auto'}"
            )


def failures() -> tuple[type[Exception], ...]:
    """What OpenVINO raises where it does not compute a network, or for want of memory."""
    return (RuntimeError, MemoryError, *_not_converted())


def reason_of(error: Exception) -> str:
    """What one of its failures says, in one line."""
    lines = [line for line in str(error).splitlines() if not _NO_REASON.match(line)]
    return " ".join(" ".join(lines).split()) or type(error).__name__


@contextmanager
def told_if_not_converted(asked: str, remedy: str) -> Iterator[None]:
    """Say in one line if OpenVINO cannot convert a network in the block.

    Args:
        asked, remedy: what asks for OpenVINO, and what is accepted in its place.

    Raises:
        InputError: in this case.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _not_converted()):
            raise
        raise InputError(
            f"{asked}: OpenVINO {_version()} cannot convert this network: {reason_of(error)}; "
            f"accepted for it: {remedy}"
        ) from None


class OnOpenVino:
    """A network as OpenVINO computes it, on as many threads as torch has.

    Args:
        graph: what `convert` or `quantize` made, or `open_stored` read.
        dtype: what convolutions compute in that are not in int8.
        int8: whether the graph was calibrated.
    """

    def __init__(self, graph: Any, dtype: torch.dtype, *, int8: bool = False) -> None:
        compiled = _core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[dtype],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                # Several processes on one machine would all choose its first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        precision = "int8" if int8 else _NAMES.get(used, used)
        self.name = f"openvino {_version()} in {precision}"
        self._request = compiled.create_infer_request()

    def __call__(self, batch: ClipBatch) -> Tensor:
        return self.outputs(batch.clips)

    def outputs(self, pixels: Tensor) -> Tensor:
        """What the network gives for pixels (b, t, h, w, c) from 0 to 255: (b, n)."""
        found = self._request.infer([pixels.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(np.array(found[0], np.float32))


def convert(network: VideoModel, normalisation: dict[str, Any], n_frames: int) -> Any:
    """The graph of a network as OpenVINO has it, for clips of any height and width."""
    n_channels = network.architecture.n_input_channels
    program = export_graph(network, normalisation, clip_shape=(n_frames, 0, 0, n_channels))
    with _logging_as_it_is():
        return _openvino().convert_model(program)


def save(graph: Any, folder: Path) -> None:
    """Write a graph into a folder, whole, for `OnOpenVino`."""
    try:
        _openvino().save_model(graph, folder / _MODEL, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(str(error)) from None  # as of a full disk


def open_stored(path: Path, dtype: torch.dtype, *, int8: bool = False) -> OnOpenVino | None:
    """The network of an entry; None where there is none, or it cannot be read.

    Only what cannot be read is removed: to compile it may fail for want of memory.
    """
    if not stored.use_entry(path):
        return None
    try:
        graph = _core().read_model(path / _MODEL)
    except RuntimeError:
        stored.remove_entry(path)
        return None
    return OnOpenVino(graph, dtype, int8=int8)


def open_openvino(
    network: VideoModel, normalisation: dict[str, Any], n_frames: int, dtype: torch.dtype
) -> OnOpenVino:
    """A network in OpenVINO: as it was kept, or converted and kept."""
    path = entry_of(stored.network_digest(network, normalisation), n_frames)
    found = open_stored(path, dtype)
    if found is not None:
        return found
    with stored.alone(path):
        found = open_stored(path, dtype)  # of who was faster
        if found is None:
            graph = convert(network, normalisation, n_frames)
            stored.write_entry(path, lambda folder: save(graph, folder))
            found = OnOpenVino(graph, dtype)
    return found


def entry_of(digest: str, n_frames: int, *more: str) -> Path:
    """Where a network is kept, be it a calibrated one."""
    return stored.entry(digest, str(n_frames), "openvino", _version(), *more)


def quantize(graph: Any, clips: Sequence[Tensor]) -> Any:
    """The graph with convolutions in int8, their ranges from clips (1, t, h, w, c)."""
    _openvino()
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # not of its handlers, which others may share
    data = nncf.Dataset([clip.contiguous().numpy() for clip in clips])
    with redirect_stdout(io.StringIO()):  # its bars
        return nncf.quantize(
            graph,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(clips),
            # The fast one leaves scores off by many times as much (docs/benchmarks.md).
            fast_bias_correction=False,
        )


def _openvino() -> Any:
    """The package, kept from telling its maker what it is used for, which nobody asked for."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """Keep a conversion that fails from leaving the log silent up to errors."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def _not_converted() -> tuple[type[Exception], ...]:
    """What is raised where a network cannot be converted: of no class in common but Exception."""
    _openvino()
    from openvino import frontend

    return (
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    )


@cache
def _core() -> Any:
    """The one of this process, which lasts.

    Each gives the thread that makes it a stack for signals, and gives back the one before as it
    goes: of several that go in any order, the last leaves a stack that is gone, and the next signal
    (Ctrl-C, say) ends the process.
    """
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # now, not after others
    return core


def _version() -> str:
    """Of the package, without its build, as 2026.4.1."""
    return str(_openvino().__version__).partition("-")[0]
