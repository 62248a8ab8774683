"""What is known of a model: what its file says, and what is known of files of its name and shape.

Known without torch and without loading weights, so that a workflow can look before any job.
"""

import os
from dataclasses import dataclass
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
from r3d.models.header import Shape, read_header
from r3d.models.released import KINETICS_400, released_weights, weights_of_2018

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
        frames: the frames that it was trained on (`r3d.frames.form`), if the file states them.
        epoch: how many epochs it was trained for.
        version: the version of this package that wrote the file, None if another program did.
        title: what a file of this name and shape is, such as `the released resnet-50 of
            Kinetics-700`; "" if nothing is known of it.
    """

    file: Path
    architecture: Architecture
    states_architecture: bool
    labels: list[str] | None
    states_labels: bool
    config: dict[str, Any]
    assumed: dict[str, Any]
    normalisation: dict[str, Any] | None
    frames: dict[str, Any] | None
    epoch: int
    version: str | None
    title: str


def read_known(path: AnyPath) -> Known:
    """What is known of a checkpoint, of which names and shapes are read and no weights.

    Raises:
        InputError: if it is no checkpoint, or holds no network of the families.
    """
    content, weights = parts_of(read_header(path), path)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Shape):
            raise no_weights(path, name, value)
    return known_of(checkpoint_of(content, plain_names(weights), path), path)


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
    labels, assumed, title = checkpoint.labels, {}, ""
    released = released_weights(path)
    if labels is not None and len(labels) != n_classes:
        raise InputError(
            f"checkpoint {path}: has {n_classes} outputs, and names {len(labels)} classes"
        )
    if released is not None and released.architecture == architecture:
        labels = labels or released.labels
        title = str(released)
    elif _is_of_2018(checkpoint, architecture, path):
        named = weights_of_2018(path)
        assumed = {**OPTIONS_2018, "sample_duration": named.sample_duration if named else 16}
        title = f"a {architecture.name} of 2018"
        if n_classes == KINETICS_400.n_classes:
            labels = labels or KINETICS_400.labels(merged=False)
            title += f", of {KINETICS_400.name}"
    return Known(
        file=Path(path),
        architecture=architecture,
        states_architecture=checkpoint.architecture is not None,
        labels=labels,
        states_labels=checkpoint.labels is not None,
        config=checkpoint.config or {},
        assumed=assumed,
        normalisation=checkpoint.normalisation,
        frames=checkpoint.frames,
        epoch=checkpoint.epoch,
        version=checkpoint.version,
        title=title,
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
