"""Checkpoint files with the names and shapes of real networks, and hardly a byte of weights."""

from pathlib import Path
from typing import Any

import torch

from r3d.models.building import build_model
from r3d.models.describing import describe


def hollow_weights(**options: Any) -> dict[str, torch.Tensor]:
    """The state dict of a network, each tensor of which is a single zero."""
    with torch.device("meta"):
        network = build_model(**{"model": "resnet", "model_depth": 18, "n_classes": 2, **options})
    return {
        name: torch.zeros((), dtype=value.dtype).expand(value.shape)
        for name, value in network.state_dict().items()
    }


def write_hollow(path: Path, content: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write a checkpoint as the reference does, with more of `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = hollow_weights(**options)
    about = {"epoch": 200, "arch": describe(weights).name, "state_dict": weights}
    torch.save({**about, **(content or {})}, path)
    return path
