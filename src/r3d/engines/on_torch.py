"""Torch as an engine: on any device, for any network."""

import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.clips.modelinput import model_input
from r3d.compute.device import Layout, autocast, memory_format
from r3d.config.options import InferenceOptions
from r3d.models.base import VideoModel
from r3d.models.folding import fold_batch_norms


class OnTorch:
    """A network in the form that torch computes fastest.

    Args:
        network: is folded and moved in place.
        dtype: what convolutions compute in.
        layout: of clips and weights.

    Attributes:
        layout: what that is here.
    """

    def __init__(
        self,
        network: VideoModel,
        options: InferenceOptions,
        device: torch.device,
        dtype: torch.dtype,
        layout: Layout,
    ) -> None:
        self._options, self._device, self._dtype = options, device, dtype
        self.layout = memory_format(device, dtype, layout, training=False)
        fold_batch_norms(network)
        self._network = network.to(device).to(memory_format=self.layout)
        precision = "fp32" if dtype is torch.float32 else "bf16"
        self.name = f"torch {torch.__version__} in {precision}"

    @torch.inference_mode()
    def __call__(self, batch: ClipBatch) -> Tensor:
        inputs = model_input(batch, self._options, self._device, self.layout)
        with autocast(self._device, self._dtype):
            outputs = self._network(inputs)
        return outputs.float().cpu()
