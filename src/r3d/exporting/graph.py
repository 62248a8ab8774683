"""A trained network as one graph from pixels to class scores, normalisation included."""

import copy
import json
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from r3d.config.normalisation import input_normalisation
from r3d.inference.trained import TrainedModel
from r3d.models.base import VideoModel
from r3d.models.folding import fold_batch_norms

Pixels = Literal["uint8", "float32"]
"""The type of the pixels that an exported graph takes."""

INPUT, OUTPUT = "pixels", "logits"
"""The names of a graph's input and output."""


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


def clip_shape(model: TrainedModel) -> tuple[int, int, int, int]:
    """The shape of a clip that the exported network takes: (t, h, w, c)."""
    options = model.options
    size = options.sample_size
    return options.sample_duration, size, size, options.n_input_channels


@torch.no_grad()
def exported_program(model: TrainedModel, pixels: Pixels) -> ExportedProgram:
    """The graph of a model, with batch norms folded into convolutions; any number of clips."""
    network = copy.deepcopy(model.network).cpu()
    fold_batch_norms(network)
    options = model.options
    graph = PixelNetwork(network, input_normalisation(options), frozen=options.frozen).eval()
    # Two clips, as sizes of one are taken for constants.
    example = torch.zeros((2, *clip_shape(model)), dtype=getattr(torch, pixels))
    batch = Dim("batch", min=1)
    return torch.export.export(graph, (example,), dynamic_shapes={INPUT: {0: batch}})


def metadata(model: TrainedModel, pixels: Pixels) -> dict[str, Any]:
    """What a graph says of itself: what it takes and gives, and what its outputs are called."""
    options = model.options
    time, height, width, channels = clip_shape(model)
    known = {
        "network": model.network.architecture.name,
        "input": f"{INPUT}: {pixels} from 0 to 255, (batch, {time}, {height}, {width}, {channels})"
        f": time, height, width, {'RGB' if channels == 3 else 'flow u and v'}",
        "output": f"{OUTPUT}: before the softmax, (batch, {model.network.architecture.n_classes})",
        "sample_duration": options.sample_duration,
        "sample_t_stride": options.sample_t_stride,
        "sample_size": options.sample_size,
        "labels": model.labels,
        "normalisation": {**input_normalisation(options), "inside": True},
        "version": version("r3d"),
    }
    return {name: value for name, value in known.items() if value is not None}


def as_texts(known: dict[str, Any]) -> dict[str, str]:
    """Metadata for formats that hold texts only: what is no text is JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in known.items()
    }
