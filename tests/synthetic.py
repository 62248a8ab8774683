"""Tiny annotated frames for tests that train: two classes that drift in opposite directions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

LABELS = ["down", "up"]

# Options of a training of a second or so.
TINY: dict[str, Any] = {
    "model_depth": 10,
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "batch_size": 4,
    "n_epochs": 3,
    "learning_rate": 0.02,
    "no_hflip": True,
    "n_val_samples": 1,
    "precision": "fp32",
}


def write_frames(
    folder: Path, *, n_training: int = 9, n_validation: int = 4, n_frames: int = 12
) -> Path:
    """Write a jpg store `folder`/jpg and `folder`/annotation.json; return the latter."""
    rng = np.random.default_rng(0)
    database = {}
    for label, direction in zip(LABELS, (1, -1), strict=True):
        for number in range(n_training + n_validation):
            name = f"{label}_{number}"
            video = folder / "jpg" / label / name
            video.mkdir(parents=True)
            texture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
            for frame in range(n_frames):
                pixels = np.ascontiguousarray(np.roll(texture, 3 * direction * frame, 0))
                jpeg = simplejpeg.encode_jpeg(pixels, quality=90)
                (video / f"image_{frame + 1:05d}.jpg").write_bytes(jpeg)
            database[name] = {
                "subset": "training" if number < n_training else "validation",
                "annotations": {"label": label, "segment": [1, n_frames + 1]},
            }
    path = folder / "annotation.json"
    path.write_text(json.dumps({"labels": LABELS, "database": database}))
    return path


def assert_same_training(
    initial: dict[str, torch.Tensor],
    one: dict[str, torch.Tensor],
    other: dict[str, torch.Tensor],
) -> None:
    """Check that two trainings have changed the initial weights alike, but for rounding."""
    for name, value in one.items():
        if value.is_floating_point():
            change = (value - initial[name]).norm()
            assert change > 0, name
            assert (other[name] - value).norm() < 0.02 * change, name
