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
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The clips of a batch on the device, flipped and normalised: (b, c, t, h, w), fp32.

    >>> import r3d
    >>> samples = r3d.read_annotation("annotation.json", subset="validation")
    >>> options = r3d.TrainingOptions(sample_size=32, n_val_samples=1)
    >>> clips = r3d.ValidationClips(samples, r3d.open_store("frames", "jpg"), options)
    >>> batch = r3d.collate_clips([clips[0], clips[1]])
    >>> r3d.model_input(batch, options).shape
    torch.Size([2, 3, 16, 32, 32])
    """
    return to_model_input(
        batch.clips,
        batch.flips,
        device=torch.device(device),
        memory_format=memory_format,
        **input_normalisation(options),
    )
