"""What is known of a model: what its file says, and what is known of files of its name and shape.

Known without torch and without loading weights, so that a workflow can look before any job.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.models.architectures import Architecture
from r3d.models.contents import (
    NORMALISATION_2018,
    Checkpoint,
    checkpoint_of,
    no_weights,
    parts_of,
    plain_names,
)
from r3d.models.describing import describe
from r3d.models.header import Shape
from r3d.models.headercache import cached_header
from r3d.models.modelfolder import is_safetensors, read_model_header
from r3d.models.released import FRAMES_OF_RELEASED, KINETICS_400, released_weights, weights_of_2018
from r3d.models.torchvision_names import (
    CLIPS,
    FRAMES,
    NETWORKS,
    NORMALISATION,
    PREFIX,
    torchvision_file,
)

OPTIONS_2018: dict[str, Any] = {
    "mean_dataset": "hara2018",
    "no_mean_norm": False,
    "no_std_norm": True,
    "value_scale": 255,
}
"""The options that stand for `NORMALISATION_2018`."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a model.

    Attributes:
        file: where it lies.
        architecture: its network. Of a file that does not state it, `conv1_t_stride` and
            `no_max_pool`, which leave no trace in weights, are at their defaults.
        states_architecture: whether the file states it.
        labels: the classes in the order of the outputs; None if nothing tells.
        states_labels: whether they stand in the file, not in this package for files of its name.
        config: the options that the file states.
        assumed: options that go with files of its name and shape, and that it does not state.
        normalisation: what inputs were normalised with, if the file states it or its weights show.
        frames: the frames that it was trained on (`r3d.frames.form`), if the file states them, or
            its name and shape tell.
        epoch: how many epochs it was trained for.
        version: the version of this package that wrote the file, None if another program did.
        title: what a file of this name and shape is, such as `the released resnet-50 of
            Kinetics-700`; "" if nothing is known of it.
    """

    file: Path
    architecture: Architecture
    states_architecture: bool
    labels: list[str] | None = None
    states_labels: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    normalisation: dict[str, Any] | None = None
    frames: dict[str, Any] | None = None
    epoch: int = 0
    version: str | None = None
    title: str = ""


def read_known(path: AnyPath) -> Known:
    """What is known of a checkpoint, of which names and shapes are read and no weights.

    Raises:
        InputError: if it is no checkpoint, or holds no network of the families.
    """
    return known_of(read_outline(path), path)


def read_outline(path: AnyPath) -> Checkpoint:
    """A checkpoint with a `Shape` in place of each tensor.

    Raises:
        InputError: if it is no checkpoint, or what it says of itself is broken.
    """
    # Two files, of which the cache sees one; they are read as fast as it is.
    header = read_model_header(path) if is_safetensors(path) else cached_header(path)
    content, weights = parts_of(header, path)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Shape):
            raise no_weights(path, name, value)
    return checkpoint_of(content, plain_names(weights), path)


def known_of(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> Known:
    """What is known of a checkpoint that was read from a file.

    Raises:
        InputError: if it holds no network of the families.
    """
    try:
        architecture = checkpoint.architecture or describe(checkpoint.state_dict)
    except InputError as error:
        raise InputError(f"checkpoint {path}: {error}") from None
    n_classes = architecture.n_classes
    labels, title, frames = checkpoint.labels, "", checkpoint.frames
    assumed: dict[str, Any] = {}
    released = released_weights(path)
    if labels is not None and len(labels) != n_classes:
        raise InputError(
            f"checkpoint {path}: has {n_classes} outputs, and names {len(labels)} classes"
        )
    if released is not None and released.architecture == architecture:
        labels, title = labels or released.labels, str(released)
        assumed = {"sample_size": 112, "sample_duration": 16, "sample_t_stride": 1}
        frames = frames or FRAMES_OF_RELEASED
    elif _is_of_2018(checkpoint, architecture, path):
        named = weights_of_2018(path)
        assumed = {**OPTIONS_2018, "sample_size": 112, "sample_t_stride": 1}
        assumed["sample_duration"] = named.sample_duration if named else 16
        frames = frames or FRAMES_OF_RELEASED
        title = f"a {architecture.name} of 2018"
        if n_classes == KINETICS_400.n_classes:
            labels = labels or KINETICS_400.labels(merged=False)
            title += f", of {KINETICS_400.name}"
    elif checkpoint.config is None and checkpoint.normalisation == NORMALISATION:
        assumed, frames = CLIPS, frames or FRAMES
        title = "a r3d_18 of torchvision"
        if n_classes == KINETICS_400.n_classes:
            labels = labels or KINETICS_400.labels(merged=False)
            title += f", of {KINETICS_400.name} unless it was trained further"
    return Known(
        file=Path(path),
        architecture=architecture,
        states_architecture=checkpoint.architecture is not None,
        labels=labels,
        states_labels=checkpoint.labels is not None,
        config=checkpoint.config or {},
        assumed=assumed,
        normalisation=checkpoint.normalisation,
        frames=frames,
        epoch=checkpoint.epoch,
        version=checkpoint.version,
        title=title,
    )


def known_of_torchvision(network: str) -> Known:
    """What is known of a network of torchvision's before it was fetched."""
    return Known(
        file=torchvision_file(network),
        architecture=NETWORKS[network],
        states_architecture=True,
        config=CLIPS,
        normalisation=NORMALISATION,
        frames=FRAMES,
        title=f"{PREFIX}{network}",
    )


def _is_of_2018(
    checkpoint: Checkpoint, architecture: Architecture, path: str | os.PathLike[str]
) -> bool:
    """Whether weights are of the code of 2018, by their shapes, their name, or what they lack."""
    if checkpoint.architecture is not None or architecture.n_input_channels != 3:
        return False
    if checkpoint.normalisation is not None:
        return checkpoint.normalisation == NORMALISATION_2018
    named = weights_of_2018(path)
    if named is not None:
        return (named.model, named.model_depth) == (architecture.model, architecture.model_depth)
    # Torch has counted batches since May 2018.
    counted = any(name.endswith(".num_batches_tracked") for name in checkpoint.state_dict)
    return not counted and architecture.n_classes == KINETICS_400.n_classes
