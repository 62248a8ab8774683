"""A network as one graph from pixels to what it gives, normalisation included."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from r3d.models.base import VideoModel
from r3d.models.folding import fold_batch_norms

Pixels = Literal["uint8", "float32"]
"""The type of the pixels that a graph takes."""

INPUT, OUTPUT = "pixels", "logits"
"""The names of a graph's input and output."""

_EXAMPLE_SIZE = (66, 90)  # any height and width that are not the same


class PixelNetwork(nn.Module):
    """Takes pixels (b, t, h, w, c) from 0 to 255 to class scores before the softmax (b, classes).

    Args:
        network: takes normalised clips (b, c, t, h, w).
        normalisation: mean and std per channel, for pixels from 0 to `value_scale`.
        frozen: whether each clip becomes copies of its first frame.
    """

    factor: Tensor
    shift: Tensor

    def __init__(
        self, network: VideoModel, normalisation: dict[str, Any], *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.frozen = frozen
        mean, std, scale = (normalisation[name] for name in ("mean", "std", "value_scale"))
        factor = torch.tensor([scale / 255 / s for s in std])
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        self.register_buffer("factor", factor.view(-1, 1, 1, 1))
        self.register_buffer("shift", shift.view(-1, 1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.frozen:
            pixels = pixels[:, :1].expand(pixels.shape)
        x = pixels.permute(0, 4, 1, 2, 3).float()  # (b, c, t, h, w)
        x = x * self.factor + self.shift
        return self.network(x)  # (b, classes)


@torch.no_grad()
def export_graph(
    network: VideoModel,
    normalisation: dict[str, Any],
    *,
    clip_shape: tuple[int, int, int, int],
    pixels: Pixels = "uint8",
    frozen: bool = False,
) -> ExportedProgram:
    """The graph of a network, with batch norms folded into convolutions; any number of clips.

    Args:
        clip_shape: (t, h, w, c); where h and w are 0, clips of any size are taken.
        frozen: whether each clip becomes copies of its first frame.
    """
    network = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    fold_batch_norms(network)
    graph = PixelNetwork(network, normalisation, frozen=frozen).eval()
    time, height, width, channels = clip_shape
    sizes: dict[int, Any] = {0: Dim("batch", min=1)}
    if not height:
        height, width = _EXAMPLE_SIZE
        sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # Two clips, as sizes of one are taken for constants.
    example = torch.zeros((2, time, height, width, channels), dtype=getattr(torch, pixels))
    return torch.export.export(graph, (example,), dynamic_shapes={INPUT: sizes})
