"""Exporting a trained model: to .pt2, to ONNX, or to a folder in timm's convention."""

import copy
import dataclasses
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from r3d.config.normalisation import input_normalisation
from r3d.engines.graph import Pixels
from r3d.engines.onnxfiles import need_onnx, open_onnx, write_onnx
from r3d.exporting.checking import Sample, draw_sample, need_agreement
from r3d.exporting.formats import (
    Run,
    run_model_files,
    run_pt2,
    write_pt2,
)
from r3d.exporting.graph import as_texts, clip_shape, exported_program, metadata
from r3d.exporting.outputs import Format, need_output
from r3d.files import AnyPath, atomic_path
from r3d.inference.trained import TrainedModel
from r3d.models.base import head_name
from r3d.models.checkpoint import Checkpoint
from r3d.models.modelfolder import CONFIG, WEIGHTS
from r3d.models.safetensorfiles import safetensors, write_model_files

_log = logging.getLogger(__name__)


def export(
    model: TrainedModel,
    output: AnyPath,
    *,
    videos: Iterable[AnyPath] = (),
    pixels: Pixels = "uint8",
    checkpoint: Checkpoint | None = None,
) -> str:
    """Write a trained model for other programs, if what is written computes what the model does.

    `NAME.pt2` (for `torch.export.load`) and `NAME.onnx` take pixels (b, t, h, w, c) from 0 to 255,
    any number of clips at a time, to class scores before the softmax (b, classes). A folder gets
    `model.safetensors` and `config.json` in timm's convention, which `r3d.load_model` reads.

    >>> import r3d
    >>> model = r3d.load_model("model.pth")
    >>> r3d.export(model, "model.pt2", videos=["video.avi"]).split(";")[0]
    'model.pt2: resnet-10 of 2 classes, takes uint8 pixels (b, 16, 32, 32, 3)'

    Args:
        model: as `r3d.load_model` gives it.
        output: file or folder to write.
        videos: files whose first seconds are compared on; rendered clips by default.
        pixels: the type of the pixels that a .pt2 or .onnx takes.
        checkpoint: what else a folder is to say of the model: epochs, options of its training.

    Returns:
        What was made, in a line.

    Raises:
        InputError: if a package is missing, the output cannot be written, or its scores differ.
    """
    kind = need_output(output)
    path = Path(output)
    if model.labels is None:
        _log.warning(
            "model: does not name its classes, and so does not what is written; class_order: a "
            "file that lists them, one a line, gives their names"
        )
    if kind == "onnx":
        need_onnx()
    elif kind == "folder":
        safetensors()
    if next(model.network.parameters()).device.type != "cpu":
        model = dataclasses.replace(model, network=copy.deepcopy(model.network).cpu())
    sample = draw_sample(model, map(Path, videos))
    if kind == "folder":
        agreement = _write_folder(model, path, sample, checkpoint)
    else:
        agreement = _write_graph(model, path, sample, pixels, kind)
    return f"{output}: {_what(model, kind, pixels)}; {agreement}"


def _write_graph(
    model: TrainedModel, path: Path, sample: Sample, pixels: Pixels, kind: Format
) -> str:
    program, known = exported_program(model, pixels), metadata(model, pixels)
    with atomic_path(path) as partial:
        run: Run
        if kind == "onnx":
            write_onnx(program, as_texts(known), partial)
            run = open_onnx(partial)
        else:
            write_pt2(program, known, partial)
            run = run_pt2(partial)
        return need_agreement(run, sample, str(path), as_floats=pixels == "float32")


def _write_folder(
    model: TrainedModel, folder: Path, sample: Sample, checkpoint: Checkpoint | None
) -> str:
    head = model.network.get_submodule(head_name(model.network))
    assert isinstance(head, torch.nn.Linear)
    said = checkpoint or Checkpoint(state_dict={})
    said = dataclasses.replace(
        said,
        state_dict=model.network.state_dict(),
        architecture=model.network.architecture,
        config=said.config or model.options.model_dump(),
        labels=model.labels,
        normalisation=input_normalisation(model.options),
    )
    was_there = folder.is_dir()
    try:
        with (
            atomic_path(folder / WEIGHTS, durable=True) as weights,
            atomic_path(folder / CONFIG, durable=True) as config,
        ):
            write_model_files(weights, config, said, n_features=head.in_features)
            return need_agreement(run_model_files(weights, config), sample, str(folder))
    finally:
        if not was_there:
            with suppress(OSError):  # it is not empty: all went well
                folder.rmdir()


def _what(model: TrainedModel, kind: Format, pixels: Pixels) -> str:
    architecture = model.network.architecture
    what = f"{architecture.name} of {architecture.n_classes} classes"
    if kind == "folder":
        return f"{what} as {WEIGHTS} and {CONFIG}"
    return f"{what}, takes {pixels} pixels (b, {', '.join(map(str, clip_shape(model)))})"
