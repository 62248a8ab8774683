"""A trained network as one graph: what is exported, and what it says of itself."""

import json
from importlib.metadata import version
from typing import Any

from torch.export import ExportedProgram

from r3d.config.normalisation import input_normalisation
from r3d.engines.graph import INPUT, OUTPUT, Pixels, export_graph
from r3d.inference.trained import TrainedModel


def clip_shape(model: TrainedModel) -> tuple[int, int, int, int]:
    """The shape of a clip that the exported network takes: (t, h, w, c)."""
    options = model.options
    size = options.sample_size
    return options.sample_duration, size, size, options.n_input_channels


def exported_program(model: TrainedModel, pixels: Pixels) -> ExportedProgram:
    """The graph of a model, with batch norms folded into convolutions; any number of clips."""
    return export_graph(
        model.network,
        input_normalisation(model.options),
        clip_shape=clip_shape(model),
        pixels=pixels,
        frozen=model.options.frozen,
    )


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
