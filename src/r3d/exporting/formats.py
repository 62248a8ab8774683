"""The formats of exported models: how each is written, and computed with again."""

import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from r3d.clips.transforms import to_model_input
from r3d.errors import InputError
from r3d.exporting.graph import INPUT, OUTPUT, as_texts
from r3d.models.building import build_model
from r3d.models.checkpoint import as_checkpoint, load_weights
from r3d.models.safetensorfiles import read_model_files

Run = Callable[[Tensor], Tensor]
"""Takes pixels (b, t, h, w, c) to class scores before the softmax (b, classes)."""

PT2_METADATA = "r3d.json"
"""The extra file of a .pt2 that holds its metadata."""

_TALKATIVE = ("onnxscript", "onnx_ir")
"""Packages that log each thing that they do."""
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PROTOBUF_BYTES = 2**31 - 2**20  # that a file of it may have, less what is no weight


def write_pt2(program: ExportedProgram, known: dict[str, Any], path: Path) -> None:
    """Write a graph for `torch.export.load`, its metadata in the extra file `r3d.json`."""
    # In memory first, for torch tells of a full disk in words of its own.
    written = io.BytesIO()
    torch.export.save(program, written, extra_files={PT2_METADATA: json.dumps(known, indent=1)})
    path.write_bytes(written.getbuffer())


def run_pt2(path: Path) -> Run:
    """What computes with a .pt2 file."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return torch.no_grad()(module)


def need_onnx(program: ExportedProgram | None = None) -> None:
    """Check that ONNX can be written and computed with, and that a graph fits into a file.

    Raises:
        InputError: if a package is missing, or the graph is too large.
    """
    for name in _ONNX_PACKAGES:
        try:
            import_module(name)
        except ModuleNotFoundError:
            raise InputError(f"ONNX needs the package {name}: pip install 'r3d[export]'") from None
    if program is None:
        return
    n_bytes = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if n_bytes > _PROTOBUF_BYTES:
        raise InputError(
            f"ONNX: its files hold 2 GB at most, and this network has {n_bytes / 1e9:.1f} GB of "
            "weights; accepted for it: .pt2, or a folder for model.safetensors"
        )


def write_onnx(program: ExportedProgram, known: dict[str, Any], path: Path) -> None:
    """Write a graph as ONNX, its metadata in `metadata_props`."""
    need_onnx(program)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    assert onnx_program is not None
    onnx_program.model.metadata_props.update(as_texts(known))
    path.write_bytes(onnx_program.model_proto.SerializeToString())


def run_onnx(path: Path) -> Run:
    """What computes with an ONNX file: ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )

    def run(pixels: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: pixels.numpy()})
        return torch.from_numpy(logits)

    return run


def run_model_files(weights: Path, config: Path) -> Run:
    """What computes with the files of a model folder, by nothing but what they say."""
    checkpoint = as_checkpoint(read_model_files(weights, config), weights)
    architecture, normalisation = checkpoint.architecture, checkpoint.normalisation
    assert architecture is not None
    assert normalisation is not None
    network = build_model(**asdict(architecture)).eval()
    load_weights(network, checkpoint.state_dict, weights, architecture=architecture)
    frozen = bool((checkpoint.config or {}).get("frozen"))

    @torch.no_grad()
    def run(pixels: Tensor) -> Tensor:
        if frozen:
            pixels = pixels[:, :1].expand(pixels.shape)
        flips = torch.zeros(len(pixels), dtype=torch.bool)
        return network(to_model_input(pixels, flips, device=torch.device("cpu"), **normalisation))

    return run
