"""ONNX files: written from a graph, and computed with by ONNX Runtime."""

import logging
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from r3d.engines.graph import INPUT, OUTPUT
from r3d.errors import InputError

_TALKATIVE = ("onnxscript", "onnx_ir")
"""Packages that log each thing that they do."""
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PROTOBUF_BYTES = 2**31 - 2**20  # that a file of it may have, less what is no weight


def need_onnx(
    program: ExportedProgram | None = None, *, what: str = "ONNX", extra: str = "export"
) -> None:
    """Check that ONNX can be written and computed with, and that a graph fits into a file.

    Args:
        what, extra: who needs it and what brings it, for the message.

    Raises:
        InputError: if a package is missing, or the graph is too large.
    """
    for name in _ONNX_PACKAGES:
        try:
            import_module(name)
        except ModuleNotFoundError:
            raise InputError(
                f"{what} needs the package {name}: pip install 'r3d[{extra}]'"
            ) from None
    if program is None:
        return
    n_bytes = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if n_bytes > _PROTOBUF_BYTES:
        raise InputError(
            f"ONNX: its files hold 2 GB at most, and this network has {n_bytes / 1e9:.1f} GB of "
            "weights; accepted for it: .pt2, or a folder for model.safetensors"
        )


def write_onnx(program: ExportedProgram, known: dict[str, str], path: Path) -> None:
    """Write a graph as ONNX, what is known of it in `metadata_props`."""
    need_onnx(program)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert onnx_program is not None
    graph = onnx_program.model.graph
    for value in (*graph.inputs, *graph.outputs):
        if value.shape is not None:
            value.shape[0] = "batch"  # torch has a name of its own for it
    onnx_program.model.metadata_props.update(known)
    path.write_bytes(onnx_program.model_proto.SerializeToString())


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """What computes with an ONNX file, on the CPU with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait by computing would take cores from the processes that load clips.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )

    def run(pixels: Tensor) -> Tensor:
        (outputs,) = session.run([OUTPUT], {INPUT: pixels.numpy()})
        return torch.from_numpy(outputs)

    return run
