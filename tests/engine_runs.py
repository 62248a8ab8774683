"""Small networks, their clips and their scores, for the tests of what computes them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import LABELS, write_frames
from torch import Tensor, nn

from r3d.clips.loader import ClipBatch
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.inference.infer import infer
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

CPU = torch.device("cpu")
CLIPS = {"sample_size": 32, "sample_duration": 8, "inference_stride": 8, "precision": "fp32"}
NETWORK = {"model_depth": 10, "resnet_widen_factor": 0.0625}
TINY: dict[str, Any] = {**NETWORK, **CLIPS}


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keep what is converted in a folder, and compute on one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield
    torch.set_num_threads(n_threads)


def write_data(folder: Path) -> Path:
    """Frames of 5 videos of 20 frames in each class, and a model."""
    write_frames(folder, n_training=2, n_validation=3, n_frames=20)
    write_checkpoint(
        folder / "model.pth",
        Checkpoint(
            state_dict=network().state_dict(),
            labels=LABELS,
            config=InferenceOptions(**TINY).model_dump(),
            normalisation=input_normalisation(InferenceOptions(**TINY)),
        ),
    )
    return folder


def network(n_classes: int = 2, **options: Any) -> Any:
    """An untrained network of which batch norms do something."""
    torch.manual_seed(0)
    made = build_model(
        n_classes=n_classes, **InferenceOptions(**(options or NETWORK)).network()
    ).eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return made


class _Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def unconvertible() -> Any:
    """A network that torch computes and OpenVINO does not know."""
    made = network()
    made.fc = nn.Sequential(made.fc, _Bessel())
    return made


def batch_of(shape: Sequence[int]) -> ClipBatch:
    """Clips (b, t, h, w, c) of noise."""
    n = shape[0]
    rng = torch.Generator().manual_seed(n)
    return ClipBatch(
        clips=torch.randint(0, 256, tuple(shape), dtype=torch.uint8, generator=rng),
        labels=torch.zeros(n, dtype=torch.long),
        flips=torch.zeros(n, dtype=torch.bool),
        videos=torch.zeros(n, dtype=torch.long),
        segments=torch.zeros(n, 2, dtype=torch.long),
    )


def run_options(engine: str, **more: Any) -> RunOptions:
    return RunOptions(engine=engine, no_cuda=True, n_threads=0, **more)  # type: ignore[arg-type]


def assert_near(found: Tensor, expected: Tensor, part: float) -> None:
    """Within a part of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= part * float(expected.abs().max())


def scores(data: Path, output: Path, engine: str, **options: Any) -> np.ndarray:
    """The scores of all videos or clips of the subset, by `r3d infer`."""
    infer(
        InferenceOptions(**{**TINY, "output_topk": 0, **options}),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        model=data / "model.pth",
        output=output,
        batch_size=4,
        run=run_options(engine),
        n_cores=1,
    )
    results = json.loads(output.read_text())["results"].values()
    return np.array(
        [[entry["score"] for entry in sorted(best, key=lambda e: e["label"])] for best in results]
    )
