"""Whether an exported model computes what its checkpoint does, on clips of videos."""

import dataclasses
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from r3d.config.normalisation import input_normalisation
from r3d.errors import InputError
from r3d.exporting.formats import Run
from r3d.inference.trained import TrainedModel
from r3d.motion import render_clips

TOLERANCE = 1e-4
"""By how much scores may differ, as a part of the largest score before the softmax (1 or more)."""

_CLIPS_OF_A_VIDEO = 8
_RENDERED_CLIPS = 4
_CHOSEN_VIDEOS, _MOST_TRIED = 2, 8
_BATCH = 3  # another size than the one that graphs are made with, and a rest of another one
_SECONDS = 10.0


class Sample(NamedTuple):
    """Clips, and what the checkpoint's own network says of them.

    Attributes:
        pixels: (b, t, h, w, c), uint8.
        logits: (b, classes).
        origin: where the clips come from, for people.
    """

    pixels: Tensor
    logits: Tensor
    origin: str


def draw_sample(model: TrainedModel, videos: Iterable[Path] = ()) -> Sample:
    """Clips to compare on: of the first seconds of videos, else of rendered ones.

    Raises:
        InputError: if a video cannot be decoded, the network takes no videos, or its scores are no
            finite numbers.
    """
    options = model.options.model_copy(update={"inference_crop": "center", "inference_clips": 0})
    model = dataclasses.replace(model, options=options)
    videos = list(videos)
    if videos:
        parts = [model.video_input(video, end=_SECONDS) for video in videos]
        origin = f"clips of {len(videos)} video{'s' * (len(videos) > 1)}"
    else:
        parts = [model.frames_input(frames) for frames in _rendered(model)]
        origin = "rendered clips (no video is given)"
    inputs = torch.cat([_some(part) for part in parts])
    with torch.no_grad():
        logits = torch.cat([model.network(part) for part in inputs.split(_BATCH)])
    if not logits.isfinite().all():
        raise InputError(
            f"model: its scores of {origin} are not finite; accepted: weights of a training "
            "that did not diverge"
        )
    return Sample(_pixels(inputs, model), logits, f"{len(inputs)} {origin}")


def decodable(model: TrainedModel, videos: Iterable[Path]) -> tuple[Path, ...]:
    """The first few of videos that a model can be asked about."""
    found: list[Path] = []
    for video in islice(videos, _MOST_TRIED):
        with suppress(InputError):
            model.video_input(video, end=_SECONDS)
            found.append(video)
        if len(found) == _CHOSEN_VIDEOS:
            break
    return tuple(found)


def need_agreement(run: Run, sample: Sample, what: str, *, as_floats: bool = False) -> str:
    """Check that scores are those of the checkpoint; say on what and how well they agree.

    Args:
        as_floats: whether `run` takes the pixels as fp32.

    Raises:
        InputError: if they differ by more than the tolerance.
    """
    pixels = sample.pixels.float() if as_floats else sample.pixels
    logits = torch.cat([run(part) for part in pixels.split(_BATCH)])
    difference = float((logits.double() - sample.logits.double()).abs().max())
    largest = max(1.0, float(sample.logits.abs().max()))
    if not difference <= TOLERANCE * largest:  # nor NaN
        raise InputError(
            f"{what}: is not handed over, and nothing was written: its scores of {sample.origin} "
            f"differ from those of the checkpoint by {difference / largest:.0e} of the largest; "
            f"accepted: up to {TOLERANCE:.0e}"
        )
    return (
        f"its scores of {sample.origin} are the checkpoint's to {difference / largest:.0e} of the "
        f"largest (accepted: {TOLERANCE:.0e})"
    )


def _rendered(model: TrainedModel) -> list[np.ndarray]:
    """Frames of moving textures; for a network of optical flow two of their colours."""
    options = model.options
    n_frames = options.sample_duration * options.sample_t_stride
    size = (options.sample_size * 4 // 3, options.sample_size)
    clips = render_clips(_RENDERED_CLIPS, n_frames=n_frames, size=size)
    return [clip[..., : options.n_input_channels] for clip in clips]


def _some(clips: Tensor) -> Tensor:
    """Some of the clips of a video, evenly."""
    step = -(-len(clips) // _CLIPS_OF_A_VIDEO)
    return clips[::step]


def _pixels(inputs: Tensor, model: TrainedModel) -> Tensor:
    """The bytes (b, t, h, w, c) that normalised inputs (b, c, t, h, w) were made of."""
    normalisation = input_normalisation(model.options)
    mean, std = (torch.tensor(normalisation[name]).view(-1, 1, 1, 1) for name in ("mean", "std"))
    pixels = (inputs * std + mean) * (255 / normalisation["value_scale"])
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
