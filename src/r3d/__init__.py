"""3D convolutional networks for action recognition: from official lists to accuracy.

What a notebook or another program needs has its name here. A name is imported when it is first
used, so that `import r3d` itself takes no time. docs/library.md shows them at work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r3d.annotations.reading import Annotation, read_annotation
    from r3d.clips.datasets import InferenceClips, TrainingClips, ValidationClips
    from r3d.clips.loader import EpochSampler, collate_clips
    from r3d.clips.modelinput import model_input
    from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
    from r3d.errors import InputError
    from r3d.evaluation.evaluate import evaluate
    from r3d.exporting.export import export
    from r3d.frames.stores import open_store
    from r3d.inference.features import features
    from r3d.inference.infer import infer
    from r3d.inference.trained import TrainedModel, load_model
    from r3d.inference.videofeatures import video_features
    from r3d.models.building import create_model
    from r3d.training.train import train

__version__: str

_MODULES = {
    "Annotation": "annotations.reading",
    "EpochSampler": "clips.loader",
    "InferenceClips": "clips.datasets",
    "InferenceOptions": "config.options",
    "InputError": "errors",
    "RunOptions": "config.options",
    "TrainedModel": "inference.trained",
    "TrainingClips": "clips.datasets",
    "TrainingOptions": "config.options",
    "ValidationClips": "clips.datasets",
    "collate_clips": "clips.loader",
    "create_model": "models.building",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.export",
    "features": "inference.features",
    "infer": "inference.infer",
    "load_model": "inference.trained",
    "model_input": "clips.modelinput",
    "open_store": "frames.stores",
    "read_annotation": "annotations.reading",
    "train": "training.train",
    "video_features": "inference.videofeatures",
}

__all__ = [
    "Annotation",
    "EpochSampler",
    "InferenceClips",
    "InferenceOptions",
    "InputError",
    "RunOptions",
    "TrainedModel",
    "TrainingClips",
    "TrainingOptions",
    "ValidationClips",
    "__version__",
    "collate_clips",
    "create_model",
    "evaluate",
    "export",
    "features",
    "infer",
    "load_model",
    "model_input",
    "open_store",
    "read_annotation",
    "train",
    "video_features",
]


if not TYPE_CHECKING:  # which would take it for an answer to any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # a fifth of the time of a help

            value = version("r3d")
        elif name in _MODULES:
            value = getattr(import_module(f"r3d.{_MODULES[name]}"), name)
        else:
            raise AttributeError(f"module 'r3d' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
