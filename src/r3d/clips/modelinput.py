"""From batches of bytes to what a network takes, as the options of a clip say."""

import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.clips.transforms import to_model_input
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, TrainingOptions


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
