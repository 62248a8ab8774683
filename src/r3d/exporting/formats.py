"""The formats of exported models: how each is written, and computed with again."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from r3d.clips.transforms import to_model_input
from r3d.models.building import build_model
from r3d.models.checkpoint import as_checkpoint, load_weights
from r3d.models.safetensorfiles import read_model_files

Run = Callable[[Tensor], Tensor]
"""Takes pixels (b, t, h, w, c) to class scores before the softmax (b, classes)."""

PT2_METADATA = "r3d.json"
"""The extra file of a .pt2 that holds its metadata."""


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
