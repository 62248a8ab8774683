"""From batches of bytes to what a network takes, as the options of a clip say."""

from typing import Any

import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.clips.transforms import normalisation, to_model_input
from r3d.config.options import InferenceOptions, TrainingOptions


def input_normalisation(options: TrainingOptions | InferenceOptions) -> dict[str, Any]:
    """Mean and standard deviation per channel, and the value scale, as checkpoints state them."""
    mean, std = normalisation(
        options.mean_dataset,
        n_channels=options.n_input_channels,
        value_scale=options.value_scale,
        no_mean_norm=options.no_mean_norm,
        no_std_norm=options.no_std_norm,
    )
    return {"mean": list(mean), "std": list(std), "value_scale": options.value_scale}


def model_input(
    batch: ClipBatch,
    options: TrainingOptions | InferenceOptions,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The clips of a batch on the device, flipped and normalised: (b, c, t, h, w), fp32."""
    return to_model_input(
        batch.clips,
        batch.flips,
        device=device,
        memory_format=memory_format,
        **input_normalisation(options),
    )
